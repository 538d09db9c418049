"""A picture of some clips, a row each: the frame, and the same with the map of each method over it."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from cmav.evals import figures
from cmav.localization import heat
from cmav.models import maps

_SIDE = 192  # pixels that a frame has at least, so that the map over a small one is no mosaic
_INCHES = 1.7  # of a frame
_LONGEST_NAME = 34  # characters beside it


@dataclasses.dataclass(frozen=True)
class Example:
    """One clip.

    Attributes:
      file: name of the video.
      picture: the frame in its middle, uint8 [S, S, 3].
      boxes_Kx4: where the sound is, drawn in white; may be none.
      maps: by method, [H', W'].
    """

    file: str
    picture: np.ndarray
    boxes_Kx4: np.ndarray
    maps: Mapping[str, np.ndarray]


def draw(examples: Sequence[Example], centres: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Draws the examples, which have maps of the same methods: uint8 [height, width, 3].

    Colours are relative to each map, as in `cmav.localize`.

    Args:
      examples: at least one.
      centres: of the maps' rows and columns, as `VideoEncoder.places` gives them.
    """
    methods = list(examples[0].maps)
    size = (_INCHES * (1 + len(methods)), (_INCHES + 0.15) * len(examples) + 0.2)
    figure = Figure(figsize=size, layout="constrained", dpi=120)
    grid = figure.subplots(len(examples), 1 + len(methods), squeeze=False)
    for axes_row, example in zip(grid, examples, strict=True):
        enlarge = -(-_SIDE // len(example.picture))
        picture = example.picture.repeat(enlarge, axis=0).repeat(enlarge, axis=1)
        shown = [picture]
        for method in methods:
            map_HxW = np.asarray(maps.upsample(example.maps[method], picture.shape[:2], centres))
            shown.append(heat.paint(picture, map_HxW, heat.full(map_HxW)))
        for axes, one in zip(axes_row, shown, strict=True):
            axes.imshow(heat.draw_boxes(one, example.boxes_Kx4))
            axes.set(xticks=[], yticks=[])
        axes_row[0].set_ylabel(short_name(example.file), fontsize=6)
    for axes, title in zip(grid[0], ["clip", *methods], strict=True):
        axes.set_title(title, fontsize=9)
    return figures.to_pixels(figure)


def short_name(file: str) -> str:
    """A name that fits beside a frame: without folders, its end where it is still too long."""
    name = file.rpartition("/")[2]
    return name if len(name) <= _LONGEST_NAME else f"…{name[-_LONGEST_NAME + 1 :]}"
