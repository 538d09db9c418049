"""Losses that are more than a line of optax."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cmav.models.precision import float32_einsum

NORM_EPSILON = 1e-6


def alignment_loss(
    video_tokens_BxNxD: jax.Array,
    audio_tokens_BxMxD: jax.Array,
    video_times_N: np.ndarray,
    audio_times_M: np.ndarray,
    temperature: float,
) -> jax.Array:
    """Contrast of moments within a clip: each token should be most like the other stream's token of the same time.

    Ours, not the paper's. Tokens are those of the encoders, before attention and without positions. They are
    normalised to length 1; similarities are divided by the temperature. The positive of a token is the other stream's
    token that is nearest in time, the negatives are the clip's other moments. The cross-entropies of both directions,
    each a mean over its tokens, are averaged. All of it is computed in float32.

    Returns:
      float32 [B], greater than 0.
    """
    video = normalise(video_tokens_BxNxD)
    audio = normalise(audio_tokens_BxMxD)
    logits_BxNxM = float32_einsum("bnd,bmd->bnm", video, audio) / temperature
    distance_NxM = jnp.abs(jnp.asarray(video_times_N)[:, None] - jnp.asarray(audio_times_M)[None, :])
    logits_BxMxN = logits_BxNxM.swapaxes(1, 2)
    video_loss_B = _cross_entropy(logits_BxNxM, distance_NxM.argmin(axis=1))
    audio_loss_B = _cross_entropy(logits_BxMxN, distance_NxM.argmin(axis=0))
    return (video_loss_B + audio_loss_B) / 2


def is_correct(logits_BxK: jax.Array, labels_BxK: jax.Array) -> jax.Array:
    """1 where the sign of the logit says what the label says, else 0. float32 [B, K]."""
    return ((logits_BxK > 0) == (labels_BxK > 0.5)).astype(jnp.float32)


def balanced(values_BxK: jax.Array) -> jax.Array:
    """[B, K] of an audio in sync and K - 1 shifted ones -> [B, 2]: of the one, and the mean of the others."""
    if values_BxK.shape[1] == 2:
        return values_BxK
    return jnp.stack([values_BxK[:, 0], values_BxK[:, 1:].mean(axis=1)], axis=1)


def normalise(x: jax.Array) -> jax.Array:
    """Vectors along the last axis at length 1, float32: x / sqrt(|x|² + 1e-6), so that one of length 0 stays 0."""
    x = x.astype(jnp.float32)
    return x / jnp.sqrt(jnp.sum(x**2, axis=-1, keepdims=True) + NORM_EPSILON)


def _cross_entropy(logits_BxQxK: jax.Array, positives_Q: jax.Array) -> jax.Array:
    labels = jnp.broadcast_to(positives_Q, logits_BxQxK.shape[:2])
    return optax.softmax_cross_entropy_with_integer_labels(logits_BxQxK, labels).mean(axis=-1)
