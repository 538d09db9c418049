"""A network's layers as features: one vector for each clip.

A layer is any key of what `apply` of a task returns, such as "features", "video/map" or "audio/layer_4"; not the
logits, which belong to a head. Whatever lies between clip and channel (time, height, width, tokens) is averaged.

"log_mel" is of no network, but a baseline for sounds: for each band of the log-mel spectrogram, with the default
settings of the encoder "log_mel_2d", its mean and its standard deviation over the clip.
"""

import fnmatch
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import FrozenConfigDict

from cmav.config import ENCODERS
from cmav.errors import UserError
from cmav.models.encoders.log_mel import LogMel2d
from cmav.tasks import Task

LOG_MEL = "log_mel"
_NO_LAYERS = ("logits", "targets")


def compute(
    task: Task, variables: Mapping[str, Any], batch: Mapping[str, jax.Array], layers: Sequence[str]
) -> jax.Array:
    """Features of a batch, float32 [B, F]: layers, as `find_layers` gives them, of the task's network, side by side."""
    outputs, _ = task.apply(variables, batch, train=False)
    if LOG_MEL in layers:
        outputs = {**outputs, LOG_MEL: _log_mel_statistics(batch["audio"], task.clip.sample_rate)}
    return pooled(outputs, layers)


def pooled(outputs: Mapping[str, jax.Array], layers: Sequence[str]) -> jax.Array:
    """float32 [B, F]: each layer [B, ..., C] averaged over what lies between, and then side by side."""

    def pool(x: jax.Array) -> jax.Array:
        return x.astype(jnp.float32).mean(axis=tuple(range(1, x.ndim - 1)))

    return jnp.concatenate([pool(outputs[layer]) for layer in layers], axis=-1)


def find_layers(names: Sequence[str], task: Task, setting: str) -> tuple[str, ...]:
    """The layers that are meant, of a task's network or "log_mel". Nothing is computed.

    Args:
      names: at least one; "video/layer_*" is all layers of the video encoder. "log_mel", of no network, by this alone.
      task: whose network has them.
      setting: where they were chosen, for the error.

    Raises:
      UserError: where the network has no such layer; says which it has.
    """
    own, log_mel = list_layers(task), [LOG_MEL] * ("audio" in task.batch_shapes(1))
    found = {name: log_mel if name == LOG_MEL else fnmatch.filter(own, name) for name in names}
    unknown = [name for name, layers in found.items() if not layers]
    if unknown or not names:
        wrong = f"has no layer {', '.join(map(repr, unknown))}" if unknown else "was asked for none of its layers"
        raise UserError(f"{setting}: the network {wrong}; it has {', '.join(own + log_mel)}.")
    return tuple(layer for layers in found.values() for layer in layers)


def list_layers(task: Task) -> list[str]:
    """Names of the layers of a task's network, sorted."""

    def outputs(key: jax.Array) -> dict[str, Any]:
        batch = {name: jnp.zeros(x.shape, x.dtype) for name, x in task.batch_shapes(1).items()}
        return task.apply(task.init(key), batch, train=False)[0]

    shapes = jax.eval_shape(outputs, jax.random.key(0))
    return sorted(key for key, x in shapes.items() if key not in _NO_LAYERS and x.ndim > 1)


def _log_mel_statistics(audio_BxSx2: jax.Array, sample_rate: float) -> jax.Array:
    """Of each band first the means, then the standard deviations: float32 [B, 2 * mels]."""
    front_end = LogMel2d(FrozenConfigDict(ENCODERS["audio"]["log_mel_2d"]), FrozenConfigDict())
    mels_BxKxM = front_end.spectrogram(audio_BxSx2, sample_rate)
    return jnp.concatenate([mels_BxKxM.mean(axis=1), mels_BxKxM.std(axis=1)], axis=-1)
