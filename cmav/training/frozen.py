"""A trained network as it is, for commands that only look at videos with it."""

import dataclasses
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from cmav.errors import UserError
from cmav.tasks.action import Action
from cmav.tasks.avs import Avs
from cmav.training import run_config
from cmav.trees import flatten, is_under


@dataclasses.dataclass(frozen=True)
class FrozenNetwork:
    """The network of a checkpoint.

    Attributes:
      task: of `load`, the action task, with a single, central view; its head is fresh and says nothing. Of `load_avs`,
        the task of synchronization.
      variables: of the network, on all devices of the mesh.
      mesh: all devices.
      run: folder of the run.
      step: of the checkpoint.
    """

    task: Action | Avs
    variables: Mapping[str, Any]
    mesh: jax.sharding.Mesh
    run: str
    step: int

    def checksum(self) -> str:
        """Eight hexadecimal digits of the backbone's numbers: the same network has the same, wherever it lies."""
        checksum = 0
        for path, leaf in sorted(flatten(self.variables).items()):
            if is_under(path.partition("/")[2], "backbone"):  # of params/backbone/… and batch_stats/backbone/…
                checksum = zlib.crc32(np.ascontiguousarray(leaf), zlib.crc32(path.encode(), checksum))
        return f"{checksum:08x}"


def load(checkpoint: str) -> FrozenNetwork:
    """Loads the backbone of any run's checkpoint, with the clip and the mode of the run, and the rates of its phase.

    Args:
      checkpoint: a run's folder, one of its folders `checkpoints/<step>`, or "newest"; local or gs://.

    Raises:
      UserError: where there is no such checkpoint, or its network sees no pictures.
    """
    from cmav import config as cmav_config
    from cmav.training import pretrained

    run, step, theirs = _read(checkpoint)
    config = pretrained.inherit(cmav_config.get_default("action"), run, step, {})
    config.data.clip_seconds = theirs.data.clip_seconds
    mode = _mode(theirs)
    if mode == "audio_only":
        raise UserError(f"--checkpoint={checkpoint}: the network of this run (mode {mode!r}) sees no pictures.")
    config.action.mode = "vision_only" if mode == "vision_only" else "full"  # What was once "scratch" is loaded here.
    config.action.num_classes = 1
    config.action.eval_clips = config.action.eval_crops = 1
    return _load(config, run, step, ("backbone",))


def load_avs(checkpoint: str, *, with_head: bool) -> FrozenNetwork:
    """Loads a network for the task of synchronization, with the clip of its run and the rates of its phase.

    Args:
      checkpoint: as `load` takes it.
      with_head: the head as well, which only a pretraining run has; without it the head is fresh and says nothing.

    Raises:
      UserError: where there is no such checkpoint, it has no such head, or its network does not see and hear.
    """
    from cmav import config as cmav_config
    from cmav.training import pretrained

    run, step, theirs = _read(checkpoint)
    if with_head and theirs.task != "avs":
        raise UserError(
            f"--checkpoint={checkpoint}: this is a run of the task {theirs.task!r}, whose network has no head of "
            "synchronization. Name the pretraining run that it started from."
        )
    mode = _mode(theirs)
    if mode in ("vision_only", "audio_only"):
        raise UserError(f"--checkpoint={checkpoint}: the network of this run (mode {mode!r}) does not see and hear.")
    config = pretrained.inherit(cmav_config.get_default("avs"), run, step, {})
    config.data.clip_seconds = theirs.data.clip_seconds
    return _load(config, run, step, ("backbone", "head") if with_head else ("backbone",))


def _read(checkpoint: str) -> tuple[str, int, ConfigDict]:
    """The run's folder, the checkpoint's step, and the run's config."""
    from cmav.training import (
        pretrained,  # It takes seconds, for which --help should not wait; so do other imports here.
    )

    run, step = pretrained.resolve(checkpoint)
    config = run_config.read(run)
    if config is None:
        path = run_config.path_of(run)
        raise UserError(f"--checkpoint={checkpoint}: {path} is not there, and without it the network is not known.")
    return run, step, config


def _mode(config: ConfigDict) -> str:
    return config.action.mode if config.task == "action" else "full"


def _load(config: ConfigDict, run: str, step: int, subtrees: Sequence[str]) -> FrozenNetwork:
    import optax

    from cmav import distributed
    from cmav.tasks import make_task
    from cmav.training import train

    config.init.checkpoint, config.init.load = f"{run}/checkpoints/{step}", tuple(subtrees)
    mesh = distributed.make_mesh()
    task = make_task(config, config.phases[0])  # All of them have the rate of the checkpoint's phase.
    state = train.create_state(config, task, optax.identity(), mesh)
    return FrozenNetwork(task, {"params": state.params, **state.model_state}, mesh, run, step)
