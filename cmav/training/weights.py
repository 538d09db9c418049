"""Weights as others read them too: `model.safetensors`, beside a run's `config.json`.

Tensors have their paths' names, with dots: `params.backbone.video_encoder.fc.kernel`, `batch_stats.backbone.…`. The
file's own metadata has `step` and `task`. It is as good as a checkpoint wherever one is named, but to go on training.
"""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
import safetensors.numpy
from etils import epath
from flax import traverse_util

from cmav.data import storage
from cmav.errors import UserError

NAME = "model.safetensors"
SHIPPED = pathlib.Path(__file__).parent.parent / "weights"  # folders of networks that come with cmav
_TRAINING_ONLY = ("queue",)  # collections of the network's state


def shipped() -> list[str]:
    """Names of the networks that come with cmav."""
    return sorted(path.name for path in SHIPPED.iterdir() if path.is_dir())


def are_in(folder: epath.PathLike) -> bool:
    """Whether a folder holds such weights."""
    return storage.exists(str(epath.Path(folder) / NAME))


def write(folder: epath.PathLike, items: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
    """Writes a checkpoint's `params` and `model_state`, to the bit.

    Args:
      folder: that is there; local or gs://.
      items: as `Checkpoints.restore_as_saved` gives them.
      metadata: `step` and `task` of the checkpoint.
    """
    tree = {"params": items["params"], **items["model_state"]}
    tensors = {
        name: np.asarray(leaf, order="C")
        for name, leaf in traverse_util.flatten_dict(tree, sep=".").items()
        if name.partition(".")[0] not in _TRAINING_ONLY
    }
    content = safetensors.numpy.save(tensors, {name: str(metadata[name]) for name in ("step", "task")})
    (epath.Path(folder) / NAME).write_bytes(content)


def read_metadata(folder: epath.PathLike) -> dict[str, Any]:
    """`step` and `task` of the weights in a folder.

    Raises:
      UserError: where the file is damaged.
    """
    path = epath.Path(folder) / NAME

    def read_header() -> bytes:
        with path.open("rb") as file:
            return file.read(int.from_bytes(file.read(8), "little"))

    try:
        content = storage.patiently(read_header, str(path))
        header = json.loads(content)
        return {"step": int(header["__metadata__"]["step"]), "task": header["__metadata__"]["task"]}
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise _damaged(path) from error


def read(folder: epath.PathLike, names: Sequence[str], sharding: jax.sharding.Sharding) -> dict[str, Any]:
    """The items of these names, of `params` and `model_state`, each array with this sharding.

    Raises:
      UserError: where the file is damaged.
    """
    path = epath.Path(folder) / NAME
    content = storage.patiently(path.read_bytes, str(path))
    try:
        tree = traverse_util.unflatten_dict(safetensors.numpy.load(content), sep=".")
        items = {"params": tree.pop("params"), "model_state": tree}
    except (safetensors.SafetensorError, KeyError) as error:
        raise _damaged(path) from error
    return {name: jax.device_put(items[name], sharding) for name in names}


def _damaged(path: epath.Path) -> UserError:
    return UserError(f"{path} is damaged, or not what cmav writes: bring back a copy of it, or export it again.")
