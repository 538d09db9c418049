"""A trained network as it is, for commands that only look at videos with it."""

import dataclasses
import json
import zlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from etils import epath

from cmav.errors import UserError
from cmav.tasks.action import Action
from cmav.trees import flatten, is_under


@dataclasses.dataclass(frozen=True)
class FrozenNetwork:
    """The backbone of a checkpoint.

    Attributes:
      task: the action task, with a single, central view; its head is fresh and says nothing.
      variables: of the network, on all devices of the mesh.
      mesh: all devices.
      run: folder of the run.
      step: of the checkpoint.
    """

    task: Action
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
    """Loads the backbone of any run's checkpoint, with the clip, the rates and the mode of the run.

    Args:
      checkpoint: a run's folder, one of its folders `checkpoints/<step>`, or "newest"; local or gs://.

    Raises:
      UserError: where there is no such checkpoint, or its network sees no pictures.
    """
    import optax  # With what follows it takes seconds, for which --help should not wait.

    from cmav import config as cmav_config
    from cmav import distributed, pretrained, train
    from cmav.tasks import make_task

    run, step = pretrained.locate(checkpoint)
    path = epath.Path(run) / "config.json"
    if not path.exists():
        raise UserError(f"--checkpoint={checkpoint}: {path} is not there, and without it the network is not known.")
    theirs = json.loads(path.read_text())
    config = pretrained.inherit(cmav_config.get_default("action"), run, {})
    config.data.clip_seconds = theirs["data"]["clip_seconds"]
    mode = theirs["action"]["mode"] if theirs["task"] == "action" else "full"
    if mode == "audio_only":
        raise UserError(f"--checkpoint={checkpoint}: the network of this run (mode {mode!r}) sees no pictures.")
    config.action.mode = "vision_only" if mode == "vision_only" else "full"  # What was once "scratch" is loaded here.
    config.action.num_classes = 1
    config.action.eval_clips = config.action.eval_crops = 1
    if step is None:
        step = _newest_step(run)
    config.init.checkpoint, config.init.load = f"{run}/checkpoints/{step}", ("backbone",)

    mesh = distributed.make_mesh()
    task = make_task(config, config.phases[-1])
    state = train.create_state(config, task, optax.identity(), mesh)
    return FrozenNetwork(task, {"params": state.params, **state.model_state}, mesh, run, step)


def _newest_step(run: str) -> int:
    from cmav.checkpoint import Checkpoints

    checkpoints = Checkpoints(run)
    try:
        return checkpoints.steps()[-1]
    finally:
        checkpoints.close()
