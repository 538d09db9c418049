"""Evaluating a run that is over, or the network that one would start from. `python -m cmav.evaluate` is the command."""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import optax
from etils import epath
from ml_collections import ConfigDict

from cmav import distributed
from cmav.config import trained_by
from cmav.data import storage
from cmav.errors import UserError, to_paste, within
from cmav.evals.evaluators import EVALUATORS, make_evaluators, run_evaluator
from cmav.tasks import make_task
from cmav.training import inheritance, pretrained, splits, summary, train, weights
from cmav.training.checkpoint import Checkpoints
from cmav.training.phases import phase_of


def evaluate(
    config: ConfigDict,
    workdir: epath.Path,
    split: str | None = None,
    step: int | None = None,
    overrides: Mapping[str, Any] | None = None,
    *,
    keep_others: bool = False,
) -> dict[str, float]:
    """Runs every evaluator on a run's checkpoint, or on the network that a run would start from.

    Args:
      config: of the run.
      workdir: the run's folder. Gets the evaluators' reports, and the metrics as `eval_<split>_<step>.json`.
      split: instead of `config.data.eval_split`.
      step: of the checkpoint; None: the newest.
      overrides: what the command line sets of the config, by path, and the run's own config does not change.
      keep_others: the config has only some of the run's evaluators. What that file has of others stays in it.

    Returns:
      The metrics as in the file, `<evaluator>/<metric>`, and `step`, which is 0 where nothing was trained.

    Raises:
      UserError: where there is no such run, checkpoint or split, the checkpoint is of another network, or the file
        that is to be kept is damaged.
    """
    check_there_is_something(config, workdir)
    split = split or config.data.eval_split
    config = inheritance.resolve_config(config, str(workdir), overrides or {}, to_train=False)
    mesh = distributed.make_mesh()
    state, step = _load(config, workdir, step, mesh)
    evaluators = _make_evaluators(config, step, mesh, split)
    is_lead = jax.process_index() == 0
    if is_lead:
        workdir.mkdir(parents=True, exist_ok=True)
    path = workdir / f"eval_{split}_{step}.json"
    metrics = {"step": step, **(_of_others(path, evaluators) if keep_others else {})}
    for name, evaluator in evaluators.items():
        metrics |= run_evaluator(name, evaluator, state)[0]
        if is_lead:
            for report in evaluator.write_report(workdir):
                print(f"wrote {report}")
    if is_lead:
        path.write_text(json.dumps(metrics, indent=2))
        print(f"wrote {path}")
    return metrics


def evaluate_splits(
    config: ConfigDict,
    workdir: str,
    numbers: Sequence[int],
    step: int | None = None,
    overrides: Mapping[str, Any] | None = None,
    *,
    keep_others: bool = False,
) -> dict[int, dict[str, Any]]:
    """Evaluates the run of each official split, `<workdir>/split<n>`, and reports the mean (`splits.report`).

    Returns:
      The numbers by split, as `cmav.training.summary.flatten` gives them.

    Raises:
      UserError: as `evaluate`; before anything is evaluated where the run of a split is missing, or an evaluator does
        not fit.
    """
    runs = {number: splits.numbered(config, workdir, number) for number in numbers}
    mesh = distributed.make_mesh()
    for number, (split_config, folder) in runs.items():
        with within(f"split {number}"):
            check_there_is_something(split_config, epath.Path(folder))
            split_config = inheritance.resolve_config(split_config, folder, overrides or {}, to_train=False)
            _make_evaluators(split_config, step or pretrained.newest_step(folder) or 0, mesh)
            runs[number] = split_config, folder
    rows = {}
    settings = {"step": step, "overrides": overrides, "keep_others": keep_others}
    for number, (split_config, folder) in runs.items():
        rows[number] = summary.flatten(evaluate(split_config, epath.Path(folder), **settings))
    if jax.process_index() == 0:
        splits.report(rows, epath.Path(workdir))
    return rows


def check_there_is_something(config: ConfigDict, workdir: epath.Path) -> None:
    """A run without checkpoints can be judged by the features that it would start from, but not by a fresh head.

    With `init.load` () they are those of an untrained network, which must be asked for.

    Raises:
      UserError: where there is nothing to evaluate.
    """
    if pretrained.has_checkpoints(str(workdir)):
        return
    kinds = [EVALUATORS.get(settings.type) for settings in config.evals.values()]
    needs_head = any(kind is None or kind.needs_head for kind in kinds)
    has_features = pretrained.is_wanted(config) or not config.init.load
    if not has_features or (needs_head and "head" not in config.init.load):
        raise UserError(
            f"no checkpoints in {workdir}: name the run's --workdir, or train first:"
            + to_paste("python", "-m", trained_by(config.task), "--config=CONFIG", f"--workdir={workdir}")
        )


def _make_evaluators(config: ConfigDict, step: int, mesh: Any, split: str | None = None) -> dict[str, Any]:
    """Of a resolved config. Frames and tokens are those of the phase that the checkpoint of `step` comes from."""
    return make_evaluators(config, make_task(config, phase_of(config, step).settings), mesh, split)


def _of_others(path: epath.Path, names: Collection[str]) -> dict[str, float]:
    """The metrics in a file that are not of the evaluators of these names; none where there is no file."""
    if not path.exists():
        return {}
    try:
        return {key: value for key, value in storage.read_json(path).items() if key.partition("/")[0] not in names}
    except (ValueError, AttributeError) as error:
        raise UserError(f"{path} is damaged: remove it, and evaluate without --only.") from error


def _load(config: ConfigDict, workdir: epath.Path, step: int | None, mesh: Any) -> tuple[Any, int]:
    """The state of a checkpoint and its step; the state that a run would start from, and 0, where there is none."""
    is_fresh = not pretrained.has_checkpoints(str(workdir))
    task = make_task(config, config.phases[0])  # The parameters are those of any phase.
    state = train.create_state(config, task, optax.identity(), mesh, is_fresh=is_fresh)
    if is_fresh:
        if step:
            raise UserError(f"no checkpoint of step {step} in {workdir}: nothing was trained there.")
        return state, 0
    items = {"params": state.params, "model_state": state.model_state}
    if weights.are_in(workdir):
        if step not in (None, there := pretrained.newest_step(str(workdir))):
            raise UserError(f"no weights of step {step} in {workdir}, which is exported: they are of step {there}.")
        config = config.copy_and_resolve_references()
        config.init.checkpoint, config.init.load = str(workdir), tuple(state.params)
        loaded = pretrained.start_from(items, config)
        return state.replace(step=distributed.replicate(np.int32(there), mesh), **loaded), there
    checkpoints = Checkpoints(str(workdir))
    restored = checkpoints.restore(items, step)
    checkpoints.close()
    if restored is None:
        raise UserError(f"no whole checkpoint in {workdir} yet.")
    items, metadata = restored
    step = metadata["step"]
    return state.replace(step=distributed.replicate(np.int32(step), mesh), **items), step
