"""Evaluators. Each is built from `config.evals.<name>`, has a schedule of its own, and yields (metric name, value).

A value is a number, or a picture for TensorBoard: uint8 [height, width, 3]. The last partial
batch is padded and carries `mask`; padding never changes a metric.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any, ClassVar, Protocol

import numpy as np
from etils import epath
from jax.sharding import Mesh
from ml_collections import ConfigDict

from cmav.errors import Preempted, UserError, within
from cmav.evals import action, figures, pretext, retrieval
from cmav.evals.action import ActionEvaluator
from cmav.evals.frequencies import FrequencyEvaluator
from cmav.evals.localization_evaluator import LocalizationEvaluator
from cmav.evals.offset import OffsetEvaluator
from cmav.evals.pretext import PretextEvaluator
from cmav.evals.probe import ProbeEvaluator
from cmav.evals.retrieval import RetrievalEvaluator
from cmav.tasks import Task
from cmav.tasks.base import in_words


class Evaluator(Protocol):
    """Made of (settings, config.data, task, mesh, split), and checked then."""

    needs: ClassVar[type]  # what it asks of a task: an ability of `cmav.tasks.base`
    settings: ClassVar[tuple[str, ...]]  # that it must have, beside its type
    needs_head: ClassVar[bool]  # false: it looks at features alone, and can judge a network whose head is fresh

    def run(self, state: Any) -> Iterator[tuple[str, float | np.ndarray]]:
        """Yields (metric name, value) of a `cmav.training.train.TrainState`. Called by all processes together."""

    def write_report(self, folder: epath.Path) -> list[epath.Path]:
        """Writes tables and pictures of the last `run`; returns their paths."""


EVALUATORS = {
    "pretext": PretextEvaluator,
    "localization": LocalizationEvaluator,
    "action": ActionEvaluator,
    "probe": ProbeEvaluator,
    "retrieval": RetrievalEvaluator,
    "frequencies": FrequencyEvaluator,
    "offset": OffsetEvaluator,
}

_LEAST = {"every": 0, "batch_size": 1, "pairs_per_clip": 1, "clips": 0, "pictures": 0, "shifts": 2}

# What to draw of a run, from its task; of the evaluators whose metrics training is after.
_PANELS = {"pretext": pretext.panels, "action": action.panels, "retrieval": retrieval.panels}


def make_evaluators(config: ConfigDict, task: Task, mesh: Mesh, split: str | None = None) -> dict[str, Evaluator]:
    """Makes every evaluator of `config.evals`, by name. `split` replaces `config.data.eval_split`.

    Raises:
      UserError: where one of them could not run: its type, its settings, its batch size on these devices, its split.
    """
    evaluators = {}
    for name, settings in config.evals.items():
        with within(f"config.evals.{name}"):
            _check(settings, config.task, task)
            make = EVALUATORS[settings.type]
            evaluators[name] = make(settings, config.data, task, mesh, split or config.data.eval_split)
    return evaluators


def _check(settings: ConfigDict, name: str, task: Task) -> None:
    kind = settings.get("type")
    if kind not in EVALUATORS:
        raise UserError(f"type={kind!r}: choose one of {', '.join(EVALUATORS)}.")
    evaluator = EVALUATORS[kind]
    if evaluator.needs not in task.abilities:
        fitting = [other for other in EVALUATORS if EVALUATORS[other].needs in task.abilities]
        raise UserError(
            f"type {kind!r} needs {in_words(evaluator.needs)}. The task {name!r}, as it is set, has not that: choose "
            f"one of {', '.join(fitting)}."
        )
    if not isinstance(task, evaluator.needs):
        raise TypeError(f"{type(task).__name__} states the ability {evaluator.needs.__name__}, but has not all of it.")
    needed = evaluator.settings
    if missing := [key for key in needed if key not in settings]:
        raise UserError(f"type {kind!r} needs the settings {', '.join(needed)}; there is no {', '.join(missing)}.")
    for key, least in _LEAST.items():
        if key in needed and not (isinstance(settings[key], int) and settings[key] >= least):
            raise UserError(f"{key}={settings[key]!r} must be a whole number, at least {least}.")


def run_evaluator(name: str, evaluator: Evaluator, state: Any) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Runs an evaluator. Returns its numbers and its pictures, named `<name>/<metric>`.

    Raises:
      Preempted: where the job was asked to stop.
      Exception: of the evaluator; a note names it.
    """
    try:
        values = {f"{name}/{key}": value for key, value in evaluator.run(state)}
    except Preempted:
        raise
    except Exception as error:
        error.add_note(f"This is of the evaluator {name!r} (config.evals.{name}), at step {int(state.step)}.")
        raise
    pictures = {key: value for key, value in values.items() if isinstance(value, np.ndarray)}
    return {key: value for key, value in values.items() if key not in pictures}, pictures


def list_panels(config: ConfigDict, task: Task) -> list[figures.Panel]:
    """The curves that tell a run's story, by the names of its scalars in TensorBoard: `train/…`, `<evaluator>/…`."""
    return [
        dataclasses.replace(panel, train=f"train/{panel.train}", held_out=panel.held_out and f"{name}/{panel.held_out}")
        for name, settings in config.evals.items()
        if settings.type in _PANELS
        for panel in _PANELS[settings.type](task, settings)
    ]
