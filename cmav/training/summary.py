"""What is left of a run when it is over: `summary.json` and `curves.png`."""

import collections
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util import tensor_util

from cmav.evals import figures


def make(steps: int, seconds: float, parameters: int, eval_metrics: Mapping[str, float]) -> dict[str, Any]:
    """Returns the numbers of a finished run.

    Args:
      steps: optimizer steps done.
      seconds: of wall clock, evaluation and earlier starts of the run counted in.
      parameters: how many numbers the network has, frozen ones too; the statistics of BatchNorm are none.
      eval_metrics: `<evaluator>/<metric>` to value. A metric that has `_low` and `_high` beside it gets `_interval`.
    """
    return {"steps": steps, "seconds": round(seconds, 1), "parameters": parameters, **flatten(eval_metrics)}


def flatten(eval_metrics: Mapping[str, float]) -> dict[str, Any]:
    """Metrics without their evaluators' names, which only those keep that several evaluators have.

    `_low` and `_high` of one become its `_interval`, [low, high].
    """
    names = {key: key.partition("/")[2] or key for key in eval_metrics}
    count = collections.Counter(names.values())
    metrics = {name if count[name] == 1 else key: eval_metrics[key] for key, name in names.items()}
    numbers: dict[str, Any] = {}
    for key, value in metrics.items():
        if key.endswith(("_low", "_high")):
            continue
        numbers[key] = value
        if f"{key}_low" in metrics:
            numbers[f"{key}_interval"] = [metrics[f"{key}_low"], metrics[f"{key}_high"]]
    return numbers


def leaving_chance(accuracy_low: figures.Curve, chance: float = 0.5) -> tuple[int, bool]:
    """From which evaluation on is the accuracy better than chance, and stays so?

    Args:
      accuracy_low: lower ends of the accuracy's interval, over steps.
      chance: what guessing gives.

    Returns:
      The step of the first evaluation from which on all of the interval lies above chance, and True; where there is
      none, the last step, and False.
    """
    steps, lows = accuracy_low
    at_chance = [number for number, low in enumerate(lows) if not low > chance]
    first = at_chance[-1] + 1 if at_chance else 0
    return (steps[first], True) if first < len(steps) else (steps[-1], False)


def save_curves(workdir: epath.Path, panels: Sequence[figures.Panel], path: epath.Path) -> None:
    """Draws the scalars that TensorBoard has of the run as a PNG. Panels as `cmav.evals.list_panels` gives them."""
    figures.save_curves(panels, read_scalars(workdir), path)


def read_scalars(workdir: epath.Path) -> dict[str, figures.Curve]:
    """All scalars of a run by tag, steps ascending. Where a step was written twice (a resumed run), the last counts."""
    events = EventAccumulator(str(workdir), size_guidance={"tensors": 0})
    events.Reload()
    curves = {}
    for tag in events.Tags()["tensors"]:
        if events.SummaryMetadata(tag).plugin_data.plugin_name != "scalars":
            continue  # a picture
        by_step = {event.step: float(tensor_util.make_ndarray(event.tensor_proto)) for event in events.Tensors(tag)}
        steps = sorted(by_step)
        curves[tag] = (steps, [by_step[step] for step in steps])
    return curves
