"""A trained network as it is, for commands that only look at videos with it."""

import dataclasses
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from cmav.errors import UserError
from cmav.tasks import Task, make_task
from cmav.training import run_config
from cmav.training.phases import phase_of
from cmav.trees import flatten, is_under


@dataclasses.dataclass(frozen=True)
class FrozenNetwork:
    """The network of a checkpoint.

    Attributes:
      task: of this network; it sees clips at the rate of the phase that the checkpoint is of.
      variables: of the network, on all devices of the mesh.
      mesh: all devices.
      run: folder of the run.
      step: of the checkpoint.
      loaded: subtrees of the parameters that are the checkpoint's; others are fresh.
    """

    task: Task
    variables: Mapping[str, Any]
    mesh: jax.sharding.Mesh
    run: str
    step: int
    loaded: tuple[str, ...]

    def checksum(self) -> str:
        """Eight hexadecimal digits of the numbers that were loaded: the same network has the same, wherever it lies."""
        checksum = 0
        for path, leaf in sorted(flatten(self.variables).items()):
            name = path.partition("/")[2]  # of params/backbone/… and batch_stats/backbone/…
            if any(is_under(name, subtree) for subtree in self.loaded):
                checksum = zlib.crc32(np.ascontiguousarray(leaf), zlib.crc32(path.encode(), checksum))
        return f"{checksum:08x}"


def load(checkpoint: str) -> FrozenNetwork:
    """Loads the network of any run's checkpoint, with what its maps are of (`maps_with` of its task).

    Args:
      checkpoint: a run's folder, one of its folders `checkpoints/<step>`, or "newest"; local or gs://.

    Raises:
      UserError: where there is no such checkpoint.
    """
    from cmav.tasks import TASKS

    run, step, theirs = _read(checkpoint)
    config, subtrees = _at_rate_of(theirs, step), TASKS[theirs.task].maps_with
    if config.action.mode == "scratch":
        config.action.mode = "full"  # Its own weights are loaded.
    if "head" not in subtrees:
        config.action.num_classes = 1  # The dataset, which would say how many, may be elsewhere.
    return _load(config, run, step, subtrees)


def load_to_embed(checkpoint: str) -> FrozenNetwork:
    """Loads the network that makes features of a run's backbone: of the task that the run's task `embeds_as`.

    Clip and mode are those of the run. Where that is another task, its head is fresh and says nothing.

    Args:
      checkpoint: as `load` takes it.

    Raises:
      UserError: where there is no such checkpoint, or its network sees no pictures.
    """
    from cmav import config as cmav_config
    from cmav.tasks import TASKS
    from cmav.training import pretrained

    run, step, theirs = _read(checkpoint)
    task = TASKS[theirs.task].embeds_as
    config = pretrained.inherit(cmav_config.get_default(task), run, step, {})
    config.data.clip_seconds = theirs.data.clip_seconds
    mode = theirs.action.mode if theirs.task == task else "full"
    if mode == "audio_only":
        raise UserError(f"--checkpoint={checkpoint}: the network of this run (mode {mode!r}) sees no pictures.")
    config.action.mode = "vision_only" if mode == "vision_only" else "full"  # What was once "scratch" is loaded here.
    config.action.num_classes = 1
    config.action.eval_clips = config.action.eval_crops = 1  # A single, central view.
    return _load(config, run, step, TASKS[task].embeds_with)


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


def _at_rate_of(config: ConfigDict, step: int) -> ConfigDict:
    """A copy whose phases all have the rate of the one that the checkpoint of this step is of."""
    config = config.copy_and_resolve_references()
    rate = phase_of(config, step).settings["frame_rate"]
    config.phases = tuple({**phase, "frame_rate": rate} for phase in config.phases)
    return config


def _load(config: ConfigDict, run: str, step: int, subtrees: Sequence[str]) -> FrozenNetwork:
    import optax

    from cmav import distributed
    from cmav.training import train

    config.init.checkpoint, config.init.load = f"{run}/checkpoints/{step}", tuple(subtrees)
    mesh = distributed.make_mesh()
    task = make_task(config, config.phases[0])  # All of them have the rate of the checkpoint's phase.
    state = train.create_state(config, task, optax.identity(), mesh)
    return FrozenNetwork(task, {"params": state.params, **state.model_state}, mesh, run, step, tuple(subtrees))
