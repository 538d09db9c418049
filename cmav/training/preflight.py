"""What can be known to be wrong before the first step: every phase, split and evaluator is tried, and nothing computed.

A batch size of the second phase, or boxes of other videos, would otherwise stop a job after days.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import optax
from absl import logging
from jax.sharding import Mesh
from ml_collections import ConfigDict

from cmav import distributed
from cmav.data.index import SplitIndex, list_splits
from cmav.errors import UserError, to_paste, within
from cmav.evals.evaluators import Evaluator, make_evaluators
from cmav.tasks import Task, make_task
from cmav.training import pretrained, run_config, trackers, weights
from cmav.training.optim import Schedule, make_optimizer, make_schedule
from cmav.training.phases import Phase, list_phases
from cmav.trees import flatten


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a training is made of, checked.

    Attributes:
      phases: in order.
      tasks: of each phase.
      evaluators: of the task of each phase that is not behind, and of the last one; by name.
      schedule: learning rate by step.
      optimizer: made with it.
      index: of the training split.
    """

    phases: list[Phase]
    tasks: list[Task]
    evaluators: Mapping[Task, dict[str, Evaluator]]
    schedule: Schedule
    optimizer: optax.GradientTransformation
    index: SplitIndex

    @property
    def total_steps(self) -> int:
        return self.phases[-1].last_step


def plan(config: ConfigDict, workdir: str, mesh: Mesh) -> Plan:
    """Makes what a training in `workdir` needs. Nothing is written, no network is computed.

    Raises:
      UserError: where some step of the training, or some evaluation in it, could not be done; where `workdir` has a run
        that cannot go on with this config. Says which key, split or phase it is.
    """
    if weights.are_in(workdir):
        raise UserError(
            f"{workdir} is an exported network, which cannot go on: give another --workdir, and "
            f"--config.init.checkpoint={workdir} to start from it."
        )
    _check_numbers(config)
    trackers.check(config)
    phases = list_phases(config)
    schedule = make_schedule(config.optim, phases[-1].last_step)
    optimizer = make_optimizer(config.optim, schedule)
    saved_step = pretrained.newest_step(workdir)
    if saved_step is not None:
        run_config.check_can_go_on(config, workdir, saved_step)
    index = SplitIndex.load(config.data.dir, config.data.train_split)
    tasks = []
    for number, phase in enumerate(phases):
        with within(f"config.phases[{number}]"):
            distributed.local_rows(phase.settings["batch_size"], mesh)
            tasks.append(make_task(config, phase.settings))
            tasks[-1].usable_records(index, train=True)
    _check_networks(config, tasks, optimizer, is_fresh=saved_step is None)
    # Of the phase that has just ended too: an evaluation at its end may have been cut off.
    to_come = [task for task, phase in zip(tasks, phases, strict=True) if phase.last_step >= (saved_step or 0)]
    evaluators = _evaluators(config, dict.fromkeys([*to_come, tasks[-1]]), mesh)
    return Plan(phases, tasks, evaluators, schedule, optimizer, index)


def _check_numbers(config: ConfigDict) -> None:
    for key, least in (("log_every", 1), ("checkpoint.every", 1), ("checkpoint.keep", 0), ("data.max_videos", 0)):
        value = config
        for part in key.split("."):
            value = value[part]
        if not isinstance(value, int) or value < least:
            raise UserError(f"config.{key}={value!r} must be a whole number, at least {least}.")


def _check_networks(
    config: ConfigDict, tasks: list[Task], optimizer: optax.GradientTransformation, *, is_fresh: bool
) -> None:
    """All phases train one network; what `config.optim` and `config.init` name of it is there."""
    shapes = {task: jax.eval_shape(task.init, jax.random.key(0)) for task in dict.fromkeys(tasks)}
    first = shapes[tasks[0]]
    for number, task in enumerate(tasks):
        if _shapes(shapes[task]) != _shapes(first):
            raise UserError(
                f"config.phases[{number}]: with its clips the network's arrays have other shapes than in the first "
                "phase, so that their weights cannot go on."
            )
    jax.eval_shape(optimizer.init, first["params"])
    if is_fresh and pretrained.is_wanted(config):
        pretrained.locate(config.init.checkpoint)
        state = {name: tree for name, tree in first.items() if name != "params"}
        pretrained.check_names({"params": first["params"], "model_state": state}, config)


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    return {path: leaf.shape for path, leaf in flatten(tree).items()}


def _evaluators(config: ConfigDict, tasks: Mapping[Task, None], mesh: Mesh) -> dict[Task, dict[str, Evaluator]]:
    """Evaluators in training, of each task; none where there are no held-out clips, which is no reason not to train."""
    data = config.data
    splits = list_splits(data.dir)
    config = config.copy_and_resolve_references()
    with config.unlocked():
        config.evals = {name: settings for name, settings in config.evals.items() if settings.get("every") != 0}
    if data.eval_split in splits:
        return {task: make_evaluators(config, task, mesh) for task in tasks}
    logging.warning(
        "no split %r in %s, which has %s: training without evaluation. It is built, from other videos, by:%s",
        *(data.eval_split, data.dir, ", ".join(splits)),
        to_paste("cmav", "prep", "--videos", "DIR_OR_CSV", "--out", data.dir, "--split", data.eval_split),
    )
    return {task: {} for task in tasks}
