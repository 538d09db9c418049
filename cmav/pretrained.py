"""Starting from a pretrained network: finding its run, taking its settings over, loading parts of its checkpoint.

A run's folder has `config.json` and `checkpoints/<step>`. Weights mean something only with the settings that they were
trained with, and not all of these show in the arrays' shapes: the number of heads, the companding, the strides. So the
run's own config gives the network, unless `config.init.inherit` is off.
"""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

import jax
from absl import logging
from etils import epath
from ml_collections import ConfigDict
from ml_collections.config_flags import config_path

from cmav.checkpoint import Checkpoints, list_whole
from cmav.errors import UserError
from cmav.trees import flatten, heads, is_under

RUNS = "runs"  # where `--workdir` puts runs by default, and "newest" looks
NEWEST = "newest"
INHERITED = {"data": ("stored_frame_rate", "sample_rate", "crop_size")}  # beside all of `model`
OWN = {"data": (*INHERITED["data"], "clip_seconds"), "action": ("mode", "num_classes", "hidden_size")}


def locate(checkpoint: str) -> tuple[str, int | None]:
    """Finds what `config.init.checkpoint` means.

    Args:
      checkpoint: a run's folder, one of its folders `checkpoints/<step>`, or "newest"; local or gs://.

    Returns:
      The run's folder, and the step; None is the newest.

    Raises:
      UserError: where there is no such run or checkpoint; says what to do.
    """
    if checkpoint == NEWEST:
        return _newest_run(), None
    match = re.fullmatch(r"(.*)/checkpoints(?:/(\d+))?/*", checkpoint)
    folder, step = match.groups() if match else (checkpoint.rstrip("/"), None)
    if not has_checkpoints(folder):
        raise UserError(
            f"checkpoint {checkpoint!r}: there are no checkpoints in {folder}/checkpoints. Name the "
            "folder of a run (--workdir of python -m cmav.main), or one of its folders checkpoints/<step>."
        )
    return folder, int(step) if step else None


def has_checkpoints(folder: str) -> bool:
    """Whether a folder is that of a run which has saved something."""
    return bool(list_whole(folder))


def is_wanted(config: ConfigDict) -> bool:
    """Whether a run of this config starts from a checkpoint of another."""
    return bool(config.init.checkpoint) and config.action.mode != "scratch"


def settle(config: ConfigDict, workdir: str, overrides: Mapping[str, Any]) -> ConfigDict:
    """The config of a run in `workdir`, with the network that it has or is to start from (see `inherit`).

    A run that has begun keeps its own network, wherever the one that it started from may be by now.

    Raises:
      UserError: where the checkpoint to start from is not there.
    """
    if not config.init.inherit:
        return config
    if has_checkpoints(workdir):
        return inherit(config, workdir, overrides, is_own=True)
    if not is_wanted(config):
        return config
    run, _ = locate(config.init.checkpoint)
    return inherit(config, run, overrides)


def inherit(config: ConfigDict, run: str, overrides: Mapping[str, Any], *, is_own: bool = False) -> ConfigDict:
    """A copy of a config with the network of a run: its `model`, its rates, and its crop.

    Args:
      config: what everything else comes from.
      run: folder of a run; a checkpoint that has lost its `config.json` changes nothing, and that is said.
      overrides: what the command line sets, by path ("model.dropout"): it counts for more than the run.
      is_own: the run is that of this very config: its clips, its head and the frame rate of each phase count as well.

    Raises:
      UserError: where the run's `config.json` cannot be read.
    """
    config = config.copy_and_resolve_references()
    path = epath.Path(run) / "config.json"
    if not path.exists():
        logging.warning("%s is not there: taking the network and the rates from this run's own config", path)
        return config
    try:
        theirs = json.loads(path.read_text())
        rates = [phase["frame_rate"] for phase in theirs["phases"]]
    except (ValueError, KeyError) as error:
        raise UserError(
            f"{path} cannot be read ({error}): bring it back, or set --config.init.inherit=False."
        ) from error
    before = flatten(_plain(config))
    sections = {"model": tuple(config.model.keys()), **(OWN if is_own else INHERITED)}
    inherited = [(section, key) for section, keys in sections.items() for key in keys]
    for section, key in inherited:
        if key in theirs.get(section, {}):
            config[section][key] = _tuples(theirs[section][key])
    if not is_own or len(rates) != len(config.phases):
        rates = [rates[-1]] * len(config.phases)
    config.phases = tuple({**phase, "frame_rate": rate} for phase, rate in zip(config.phases, rates, strict=True))
    # Only what is inherited is set again: the config may have been changed since the command line was read.
    touched = ("phases", *(f"{section}.{key}" for section, key in inherited))
    for key, value in overrides.items():
        if key.startswith(touched):
            config_path.set_value(key, config, value)
    changed = [key for key, value in flatten(_plain(config)).items() if before.get(key) != value]
    if changed:
        logging.info("from %s: %s", path, ", ".join(sorted(changed)))
    return config


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
    checkpoints = Checkpoints(run)
    saved, metadata = checkpoints.restore_as_saved(tuple(items), sharding, step)
    checkpoints.close()
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
    runs = []
    for path in epath.Path(RUNS).glob("*/config.json"):
        is_pretraining = json.loads(path.read_text()).get("task") != "action"
        saved = [folder.stat().mtime for folder in list_whole(str(path.parent))]
        if is_pretraining and saved:
            runs.append((max(saved), str(path.parent)))
    if not runs:
        raise UserError(
            f"no pretrained run in {RUNS}/ to start from. Pretrain first (python -m cmav.main "
            "--config=configs/avs_cma.py), name another run's folder (--config.init.checkpoint=FOLDER, local or gs://) "
            "or train from scratch (--config.action.mode=scratch)."
        )
    _, run = max(runs)
    logging.info("the newest pretrained run is %s", run)
    return run


def _plain(config: ConfigDict) -> dict[str, Any]:
    return {section: config[section].to_dict() for section in ("model", "data", "action")}


def _tuples(value: Any) -> Any:
    """JSON has lists where a config has tuples."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
