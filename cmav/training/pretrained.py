"""Starting from a pretrained network: finding its run, and loading parts of its checkpoint.

A run's folder has `config.json` and `checkpoints/<step>`; that of an exported network has `config.json` and the weights
of one step (`cmav.training.weights`), and is taken wherever a run is. What its settings are: `inheritance.py`.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
from absl import logging
from etils import epath
from ml_collections import ConfigDict

from cmav import distributed
from cmav.config import trained_by
from cmav.errors import UserError, to_paste
from cmav.tasks import class_of
from cmav.training import run_config, weights
from cmav.training.checkpoint import Checkpoints, list_whole
from cmav.trees import flatten, heads, is_under

RUNS = "runs"  # where `--workdir` puts runs by default, and "newest" looks
NEWEST = "newest"
CHECKPOINTS = "checkpoints"  # folder in a run's
_LOADED = ("params", "model_state")  # items of a checkpoint


def locate(checkpoint: str) -> tuple[str, int | None]:
    """Finds what `config.init.checkpoint` means.

    Args:
      checkpoint: a run's folder, one of its folders `checkpoints/<step>`, the folder of an exported network, the
        name of one that comes with cmav, or "newest"; local or gs://.

    Returns:
      The run's folder, and the step; None is the newest.

    Raises:
      UserError: where there is no such run or checkpoint; says what to do.
    """
    if checkpoint == NEWEST:
        return _newest_run(), None
    match = re.fullmatch(r"(.*)/checkpoints(?:/(\d+))?/*", checkpoint)
    folder, step = match.groups() if match else (checkpoint.rstrip("/"), None)
    if not match:
        if folder in weights.shipped() and not epath.Path(folder).exists():
            folder = str(weights.SHIPPED / folder)
        if weights.are_in(folder):
            return folder, weights.read_metadata(folder)["step"]
    if not list_whole(folder):
        raise UserError(
            f"checkpoint {checkpoint!r}: there are no checkpoints in {folder}/checkpoints. Name the folder of a run "
            "(--workdir of python -m cmav.main), one of its folders checkpoints/<step>, that of an exported network, "
            f"or one that comes with cmav: {', '.join(weights.shipped())}."
        )
    return folder, int(step) if step else None


def name_of(run: str, step: int) -> str:
    """What names this one checkpoint of a run, or the exported network in its place."""
    return run if weights.are_in(run) else f"{run}/{CHECKPOINTS}/{step}"


def resolve(checkpoint: str) -> tuple[str, int]:
    """As `locate`, but with the step of the checkpoint that is really loaded: of a run's the newest that is whole.

    Raises:
      UserError: as `locate`, or where none is whole.
    """
    run, step = locate(checkpoint)
    if step is not None:
        return run, step
    _, metadata = restore(run, step, _LOADED, distributed.replicated(distributed.make_mesh()))
    return run, metadata["step"]


def restore(
    run: str, step: int | None, names: Sequence[str], sharding: jax.sharding.Sharding
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The items of these names, and the metadata with its `step` and `task`, of what `locate` has found.

    Raises:
      UserError: where it is damaged.
    """
    if weights.are_in(run):
        return weights.read(run, names, sharding), weights.read_metadata(run)
    checkpoints = Checkpoints(run)
    try:
        return checkpoints.restore_as_saved(names, sharding, step)
    finally:
        checkpoints.close()


def has_checkpoints(folder: str) -> bool:
    """Whether a folder is that of a run which has saved something."""
    return newest_step(folder) is not None


def newest_step(folder: str) -> int | None:
    """The step of the last checkpoint that a run has saved to its end, or of an exported network; None: of neither."""
    if weights.are_in(folder):
        return weights.read_metadata(folder)["step"]
    return max((int(path.name) for path in list_whole(folder)), default=None)


def is_wanted(config: ConfigDict) -> bool:
    """Whether a run of this config starts from a checkpoint of another."""
    return bool(config.init.checkpoint) and not class_of(config.task).starts_afresh(config)


def start_from(items: dict[str, Any], config: ConfigDict) -> dict[str, Any]:
    """Loads the subtrees `config.init.load` of a checkpoint into a fresh network.

    Args:
      items: `params` and `model_state`, fresh, on their devices.
      config: of the run that begins.

    Returns:
      The items with those subtrees loaded; the rest is as it was. What was loaded, what is fresh and what of the
      checkpoint is not used is logged.

    Raises:
      UserError: where an array of these subtrees is missing in the checkpoint or has another shape (names them), or
        where the network has no such subtree.
    """
    run, step = locate(config.init.checkpoint)
    sharding = jax.tree.leaves(items["params"])[0].sharding
    saved, metadata = restore(run, step, tuple(items), sharding)
    place = f"checkpoint {metadata['step']} of {run} (task {metadata.get('task')!r})"

    ours, theirs = flatten(items), flatten(saved)
    wanted = _choose(ours, config.init.load)
    _check_fit({path: ours[path] for path in wanted}, theirs, place)
    leaves = [theirs[path].astype(leaf.dtype) if path in wanted else leaf for path, leaf in ours.items()]
    logging.info(
        "starting from %s\n  loaded   %s\n  fresh    %s\n  not used %s",
        place,
        _count({path: ours[path] for path in wanted}),
        _count({path: leaf for path, leaf in ours.items() if path not in wanted}),
        _count({path: leaf for path, leaf in theirs.items() if path not in wanted}),
    )
    return jax.tree.unflatten(jax.tree.structure(items), leaves)


def check_names(items: Mapping[str, Any], config: ConfigDict) -> None:
    """Checks that a network has the subtrees `config.init.load`; `items` as in `start_from`, or their shapes.

    Raises:
      UserError: where it has not.
    """
    _choose(flatten(items), config.init.load)


def _choose(paths: Iterable[str], names: Iterable[str]) -> set[str]:
    """Paths of what belongs to the subtrees of these names, parameters and statistics alike."""
    chosen = set()
    for name in names:
        under = {path for path in paths if is_under(_name(path), name)}
        if not under:
            known = ", ".join(heads(map(_name, paths)))
            raise UserError(f"config.init.load: the network has no parameters {name!r}; it has {known}.")
        chosen |= under
    return chosen


def _name(path: str) -> str:
    """Of `params/backbone/…` and of `model_state/batch_stats/backbone/…`: `backbone/…`."""
    item, _, rest = path.partition("/")
    return rest if item == "params" else rest.partition("/")[2]


def _check_fit(wanted: Mapping[str, Any], saved: Mapping[str, Any], place: str) -> None:
    problems = [f"{path} is not in the checkpoint" for path in wanted if path not in saved]
    problems += [
        f"{path} is {saved[path].shape} in the checkpoint, {leaf.shape} here"
        for path, leaf in wanted.items()
        if path in saved and saved[path].shape != leaf.shape
    ]
    if problems:
        shown = "\n  ".join(problems[:10]) + (f"\n  … and {len(problems) - 10} more" if len(problems) > 10 else "")
        raise UserError(
            f"{place} does not fit this network:\n  {shown}\n"
            "Take the network from its run (--config.init.inherit=True), name other subtrees in config.init.load, or "
            "another --config.init.checkpoint."
        )


def _count(leaves: Mapping[str, Any]) -> str:
    if not leaves:
        return "nothing"
    millions = sum(leaf.size for leaf in leaves.values()) / 1e6
    return f"{len(leaves)} arrays, {millions:.3f}M numbers: {', '.join(heads(map(_name, leaves)))}"


def _newest_run() -> str:
    """The pretraining run in `runs/` that has saved last."""
    saved = {}
    for path in epath.Path(RUNS).glob(f"*/{run_config.NAME}"):
        if steps := list_whole(str(path.parent)):
            saved[str(path.parent)] = max(step.stat().mtime for step in steps)
    for run in sorted(saved, key=saved.__getitem__, reverse=True):
        if trained_by(run_config.read(run).task) == "cmav.main":
            logging.info("the newest pretrained run is %s", run)
            return run
    raise UserError(
        f"no pretrained run in {RUNS}/ to start from. Name another run's folder (--config.init.checkpoint=FOLDER, "
        "local or gs://), train from scratch (--config.action.mode=scratch), or pretrain first:"
        + to_paste("cmav", "train", "avs_cma")
    )
