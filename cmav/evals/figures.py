"""The pictures of a run: training curves, accuracy by class, confusion."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.image import imsave

# A curve: steps and values.
Curve = tuple[Sequence[int], Sequence[float]]

_MOST_CLASSES_WITH_NUMBERS = 20  # More numbers than that squared nobody reads; the colours remain.


@dataclasses.dataclass(frozen=True)
class Panel:
    """One metric over the steps of a run, in training beside held out.

    Attributes:
      title: over the picture.
      train: name of the metric of training.
      held_out: name of the evaluator's; where `<name>_low` and `<name>_high` are curves too, they are drawn as its 95%
        interval. None: it is of training alone.
      chance: what somebody who knows nothing gets; None: not the same in training and held out.
      limits: of the vertical axis; None: as the curves need.
    """

    title: str
    train: str
    held_out: str | None
    chance: float | None
    limits: tuple[float | None, float | None] = (0, None)


def save_curves(panels: Sequence[Panel], curves: Mapping[str, Curve], path: epath.Path) -> None:
    """Draws panels side by side as a PNG.

    Args:
      panels: what to draw; a curve that is not there is left out.
      curves: by the names that the panels use.
      path: of the picture.
    """
    figure = Figure(figsize=(5 * len(panels), 4), layout="constrained")
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        _draw(axes, curves.get(panel.train), "training", "tab:blue", alpha=0.6)
        low, high = (curves.get(f"{panel.held_out}_{end}") for end in ("low", "high"))
        label = "held out, with 95% interval" if low and high else "held out"
        _draw(axes, curves.get(panel.held_out), label, "tab:orange", marker="o")
        if low and high:
            axes.fill_between(*low, high[1], color="tab:orange", alpha=0.2)
        if panel.chance is not None:
            axes.axhline(panel.chance, color="grey", linestyle=":", label="chance")
        axes.set(title=panel.title, xlabel="step", ylim=panel.limits)
        if axes.lines:
            axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    save(figure, path)


def save_confusion(confusion_CxC: np.ndarray, names: Sequence[str], title: str, path: epath.Path) -> None:
    """Draws a confusion matrix as a PNG: what share of each class's videos was taken for what.

    Args:
      confusion_CxC: counts; rows are the classes that the videos have, columns those that the network said. A row
        without videos is grey.
      names: of the classes, in order.
      title: over the picture.
      path: of the picture.
    """
    count = len(names)
    videos_C = confusion_CxC.sum(axis=1)
    share_CxC = np.ma.masked_invalid(confusion_CxC / np.where(videos_C, videos_C, np.nan)[:, None])
    side, font = (0.5 * count + 2.5, 9) if count <= _MOST_CLASSES_WITH_NUMBERS else (0.17 * count + 3, 7)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.subplots()
    axes.set_facecolor("lightgrey")
    # The square root of the share, so that one video of forty can be seen.
    image = axes.imshow(share_CxC, cmap="Blues", norm=PowerNorm(0.5, vmin=0, vmax=1))
    axes.set_xticks(range(count), names, rotation=90, fontsize=font)
    axes.set_yticks(range(count), [f"{name} ({n})" for name, n in zip(names, videos_C, strict=True)], fontsize=font)
    axes.set(title=title, xlabel="predicted", ylabel="true class (videos)")
    if count <= _MOST_CLASSES_WITH_NUMBERS:
        for row, column in np.argwhere(confusion_CxC):
            color = "white" if share_CxC[row, column] > 0.3 else "black"
            text = str(confusion_CxC[row, column])
            axes.text(column, row, text, ha="center", va="center", color=color, fontsize=font)
    figure.colorbar(image, ax=axes, label="share of the class's videos", shrink=0.6, aspect=30, pad=0.02)
    save(figure, path)


def save_per_label_accuracy(rows: Sequence[Mapping[str, Any]], path: epath.Path, title: str) -> None:
    """Draws accuracy by class, with intervals, as a PNG. Rows as `PretextEvaluator.per_label` gives them."""
    figure = Figure(figsize=(max(6, 0.35 * len(rows) + 2), 4.5), layout="constrained")
    axes = figure.subplots()
    accuracy = [row["accuracy"] for row in rows]
    errors = [
        [row["accuracy"] - row["low"] for row in rows],
        [row["high"] - row["accuracy"] for row in rows],
    ]
    names = [f"{row['label_name']} ({row['clips']})" for row in rows]
    axes.bar(names, accuracy, yerr=errors, color="tab:blue", ecolor="grey", capsize=2)
    axes.axhline(0.5, color="black", linestyle=":", linewidth=1)
    axes.set(ylabel="accuracy", ylim=(0, 1.02), title=title)
    axes.tick_params(axis="x", rotation=90)
    axes.spines[["top", "right"]].set_visible(False)
    save(figure, path)


def _draw(axes, curve: Curve | None, label: str, color: str, **style) -> None:
    if curve is not None:
        axes.plot(*curve, label=label, color=color, **style)


def save(figure: Figure, path: epath.Path) -> None:
    """Writes a figure as a PNG, without a display."""
    FigureCanvasAgg(figure)
    with path.open("wb") as file:
        figure.savefig(file, format="png", dpi=120)


def to_pixels(figure: Figure) -> np.ndarray:
    """A figure as a picture, uint8 [height, width, 3], without a display."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def save_pixels(picture: np.ndarray, path: epath.Path) -> None:
    """Writes such a picture as a PNG."""
    with path.open("wb") as file:
        imsave(file, picture, format="png")
