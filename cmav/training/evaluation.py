"""The evaluations of a run that trains: each that is due is made once, whatever interrupts the run."""

import json
from collections.abc import Mapping
from typing import Any

from absl import logging
from clu import metric_writers
from etils import epath
from ml_collections import ConfigDict

from cmav import processes
from cmav.data import storage
from cmav.evals.evaluators import Evaluator, run_evaluator


class Evaluations:
    """Runs evaluators, and knows which have been run at the step where training stands.

    That is kept in `evaluated.json` in the run's folder, with the metrics, until the run is over: a run that is stopped
    between two evaluators makes up only for the second. One that is stopped within an evaluator begins that anew. A run
    that is over has no such file, and started again it is evaluated again.

    All methods are called by all processes together.
    """

    def __init__(self, config: ConfigDict, workdir: epath.Path, total_steps: int, writer: metric_writers.MetricWriter):
        self._settings, self._total_steps, self._writer = config.evals, total_steps, writer
        self._split, self._workdir, self._path = config.data.eval_split, workdir, workdir / "evaluated.json"
        self._step = 0
        self._done: dict[str, dict[str, float]] = {}

    @property
    def metrics(self) -> dict[str, float]:
        """Of the last step that was evaluated, by `<evaluator>/<metric>`."""
        return {key: value for metrics in self._done.values() for key, value in metrics.items()}

    def resume(self, step: int) -> None:
        """Takes over what was evaluated at this step before the run was interrupted."""
        found = processes.from_lead(self._read() if processes.is_lead() else None)
        if found and found["step"] == step:
            self._step, self._done = step, found["done"]

    def due(self, evaluators: Mapping[str, Evaluator], step: int) -> list[str]:
        """Names of those to be run at this step, and not run yet. At the last step these are all."""
        done = self._done if step == self._step else {}
        is_last = step == self._total_steps
        return [name for name in evaluators if name not in done and (is_last or step % self._settings[name].every == 0)]

    def run(self, evaluators: Mapping[str, Evaluator], state: Any, step: int) -> None:
        """Runs those that are due, on a state that is saved.

        Raises:
          Preempted: where the job was asked to stop.
          Exception: of an evaluator, with a note that names it.
        """
        for name in self.due(evaluators, step):
            metrics, pictures = run_evaluator(name, evaluators[name], state)
            self._writer.write_scalars(step, metrics)
            self._writer.write_images(step, pictures)
            shown = "  ".join(f"{key} {value:.4g}" for key, value in metrics.items())
            logging.info("step %d, on %s: %s", step, self._split, shown)
            self._done = {**(self._done if step == self._step else {}), name: metrics}
            self._step = step
            if processes.is_lead():
                evaluators[name].write_report(self._workdir)
                self._writer.flush()  # What is told to be done is in TensorBoard.
                self._path.write_text(json.dumps({"step": step, "done": self._done}))

    def close(self) -> None:
        """The run is over."""
        if processes.is_lead():
            self._path.unlink(missing_ok=True)

    def _read(self) -> dict[str, Any] | None:
        try:
            return storage.read_json(self._path)
        except (FileNotFoundError, ValueError):  # None yet, or a kill cut off its writing: then all are run again.
            return None
