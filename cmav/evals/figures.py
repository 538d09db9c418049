"""The pictures of a run: training curves, accuracy by class."""

from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# A curve: steps and values.
Curve = tuple[Sequence[int], Sequence[float]]


def save_curves(train: Mapping[str, Curve], held_out: Mapping[str, Curve], path: epath.Path) -> None:
    """Draws loss and accuracy over steps, training beside held-out, as a PNG.

    Args:
      train: curves of the training metrics; `loss` and `accuracy` are drawn.
      held_out: curves of an evaluator; `avs_loss`, `avs_accuracy` and its interval are drawn.
      path: of the picture.
    """
    figure = Figure(figsize=(10, 4), layout="constrained")
    loss_axes, accuracy_axes = figure.subplots(1, 2)
    _draw(loss_axes, train.get("sync_loss"), "training", "tab:blue", alpha=0.6)
    _draw(loss_axes, held_out.get("avs_loss"), "held out", "tab:orange", marker="o")
    loss_axes.axhline(0.693, color="grey", linestyle=":", label="chance")
    loss_axes.set(title="Cross-entropy", xlabel="step", ylim=(0, None))
    _draw(accuracy_axes, train.get("accuracy"), "training", "tab:blue", alpha=0.6)
    _draw(accuracy_axes, held_out.get("avs_accuracy"), "held out, with 95% interval", "tab:orange", marker="o")
    if "avs_accuracy_low" in held_out:
        steps, low = held_out["avs_accuracy_low"]
        accuracy_axes.fill_between(steps, low, held_out["avs_accuracy_high"][1], color="tab:orange", alpha=0.2)
    accuracy_axes.axhline(0.5, color="grey", linestyle=":", label="chance")
    accuracy_axes.set(title="Accuracy: in sync or shifted?", xlabel="step", ylim=(0.4, 1.01))
    for axes in (loss_axes, accuracy_axes):
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    _save(figure, path)


def save_per_label_accuracy(rows: Sequence[Mapping[str, Any]], path: epath.Path) -> None:
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
    axes.set(ylabel="accuracy", ylim=(0, 1.02), title="Synchronization accuracy by class (clips), 95% intervals")
    axes.tick_params(axis="x", rotation=90)
    axes.spines[["top", "right"]].set_visible(False)
    _save(figure, path)


def _draw(axes, curve: Curve | None, label: str, color: str, **style) -> None:
    if curve is not None:
        axes.plot(*curve, label=label, color=color, **style)


def _save(figure: Figure, path: epath.Path) -> None:
    FigureCanvasAgg(figure)
    with path.open("wb") as file:
        figure.savefig(file, format="png", dpi=120)
