"""A contact sheet: some frames of a video in a row, and below each the same with the map of its sound."""

import dataclasses

import numpy as np
from etils import epath
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from cmav.evals.figures import save
from cmav.localization import heat

_INCHES = 2.2  # height of a row of landscape pictures
_MOST_PIXELS = 480  # of a picture's shorter side: more would not be seen


@dataclasses.dataclass(frozen=True)
class Sample:
    """One instant of a sheet.

    Attributes:
      seconds: from the video's first frame.
      rows: pictures, uint8 [H, W, 3], by what they show; the same names, in the same order, at every instant.
      is_silent: whether nothing can be heard then.
    """

    seconds: float
    rows: dict[str, np.ndarray]
    is_silent: bool


def shrunk(picture_HxWx3: np.ndarray) -> np.ndarray:
    """A picture of at most about the size at which the sheet shows it."""
    step = max(1, min(picture_HxWx3.shape[:2]) // _MOST_PIXELS)
    return picture_HxWx3[::step, ::step]


def save_sheet(path: str, samples: list[Sample], title: str, *, num_heads: int = 0) -> None:
    """Writes the sheet as a PNG. With `num_heads`, the heads' colours are explained."""
    names = list(samples[0].rows)
    height, width = samples[0].rows[names[0]].shape[:2]
    inches = _INCHES * min(max(width / height, 0.4), 2.5), _INCHES
    size = (max(inches[0] * len(samples) + 0.4, 6), inches[1] * len(names) + 0.9)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(names), len(samples), squeeze=False)
    for axes_row, name in zip(grid, names, strict=True):
        for axes, sample in zip(axes_row, samples, strict=True):
            axes.imshow(sample.rows[name])
            axes.set(xticks=[], yticks=[])
        axes_row[0].set_ylabel(name)
    for axes, sample in zip(grid[0], samples, strict=True):
        axes.set_title(f"{sample.seconds:.1f} s" + ", silent" * sample.is_silent, fontsize=9)
    figure.suptitle(title, fontsize=10)
    if num_heads:
        colours = heat.head_colours(num_heads)
        patches = [Patch(color=colour, label=f"head {number}") for number, colour in enumerate(colours)]
        figure.legend(handles=patches, loc="outside lower center", ncols=min(num_heads, 8), fontsize=8, frameon=False)
    save(figure, epath.Path(path))
