"""Evaluators. Each is built from `config.evals.<name>`, has a schedule of its own, and yields (metric name, value).

The last partial batch is padded and carries `mask`; padding never changes a metric.
"""

from collections.abc import Iterator
from typing import Any, Protocol

from etils import epath
from jax.sharding import Mesh
from ml_collections import ConfigDict

from cmav.errors import UserError
from cmav.evals.pretext import PretextEvaluator
from cmav.tasks import Task


class Evaluator(Protocol):
    def run(self, state: Any) -> Iterator[tuple[str, float]]:
        """Yields (metric name, value) of a `cmav.train.TrainState`. Called by all processes together."""

    def write_report(self, folder: epath.Path) -> list[epath.Path]:
        """Writes tables and pictures of the last `run`; returns their paths."""


EVALUATORS = {"pretext": PretextEvaluator}


def make_evaluators(config: ConfigDict, task: Task, mesh: Mesh, split: str | None = None) -> dict[str, Evaluator]:
    """Makes every evaluator of `config.evals`, by name. `split` replaces `config.data.eval_split`.

    Raises:
      UserError: for a type that is not in `EVALUATORS`, or a split that is not there.
    """
    evaluators = {}
    for name, settings in config.evals.items():
        if settings.type not in EVALUATORS:
            raise UserError(f"config.evals.{name}.type={settings.type!r}: choose one of {', '.join(EVALUATORS)}.")
        evaluators[name] = EVALUATORS[settings.type](settings, config.data, task, mesh, split or config.data.eval_split)
    return evaluators
