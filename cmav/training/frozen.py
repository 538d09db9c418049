"""A trained network as it is, for commands that only look at videos with it."""

import dataclasses
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
import optax
from absl import logging
from ml_collections import ConfigDict

from cmav import distributed
from cmav.config import get_default
from cmav.errors import UserError
from cmav.tasks import Task, class_of, make_task
from cmav.training import inheritance, pretrained, run_config, train
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
      checkpoint: a run's folder, one of its folders `checkpoints/<step>`, the folder of an exported network, the
        name of one that comes with cmav, or "newest"; local or gs://.

    Raises:
      UserError: where there is no such checkpoint.
    """
    run, step, theirs = _read(checkpoint)
    task = class_of(theirs.task)
    return _load(task.as_frozen(_at_rate_of(theirs, step)), run, step, task.maps_with)


def load_whole(checkpoint: str) -> FrozenNetwork:
    """As `load`, with all that was trained: the head, too."""
    run, step, theirs = _read(checkpoint)
    restored, _ = pretrained.restore(run, step, ("params",), distributed.replicated(distributed.make_mesh()))
    config = class_of(theirs.task).as_whole(_at_rate_of(theirs, step), restored["params"])
    return _load(config, run, step, tuple(restored["params"]))


def load_to_embed(checkpoint: str) -> FrozenNetwork:
    """Loads the network that makes features of a run's backbone: of the task that the run's task `embeds_as`.

    Clip and mode are those of the run. Where that is another task, its head is fresh and says nothing.

    Args:
      checkpoint: as `load` takes it.

    Raises:
      UserError: where there is no such checkpoint, or its network sees no pictures.
    """
    run, step, theirs = _read(checkpoint)
    name = class_of(theirs.task).embeds_as
    task = class_of(name)
    config = inheritance.inherit(get_default(name), run, step, {})
    config.data.clip_seconds = theirs.data.clip_seconds
    if name == theirs.task and task.section:
        config[task.section.name].update(theirs[task.section.name])
    config = task.as_frozen(config)
    if "video" not in make_task(config, config.phases[0]).batch_shapes(1):
        raise UserError(f"--checkpoint={checkpoint}: the network of this run sees no pictures.")
    return _load(config, run, step, task.embeds_with)


def _read(checkpoint: str) -> tuple[str, int, ConfigDict]:
    """The run's folder, the checkpoint's step, and the run's config."""
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
    config.init.checkpoint, config.init.load = pretrained.name_of(run, step), tuple(subtrees)
    mesh = distributed.make_mesh()
    task = make_task(config, config.phases[0])  # All of them have the rate of the checkpoint's phase.
    if task.cover:
        logging.warning(
            "the network of %s was trained on pictures of which a part was covered (%s): it sees these covered as well",
            *(run, task.cover),
        )
    state = train.create_state(config, task, optax.identity(), mesh)
    return FrozenNetwork(task, {"params": state.params, **state.model_state}, mesh, run, step, tuple(subtrees))
