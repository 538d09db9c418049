"""Is each moment of the picture most like its own sound? Tokens of both streams compared moment by moment."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cmav.models.precision import float32_einsum

NORM_EPSILON = 1e-6


def alignment_loss(
    video_tokens_xNxD: jax.Array,
    audio_tokens_xMxD: jax.Array,
    video_times_N: np.ndarray,
    audio_times_M: np.ndarray,
    temperature: float,
) -> jax.Array:
    """Contrast of moments within a clip: each token should be most like the other stream's token of the same time.

    Ours, not the paper's. Tokens are those of the encoders, before attention and without positions. They are
    normalised to length 1; similarities are divided by the temperature. The positive of a token is the other stream's
    token that is nearest in time, the negatives are the clip's other moments. The cross-entropies of both directions,
    each a mean over its tokens, are averaged. All of it is computed in float32.

    Args:
      video_tokens_xNxD: [..., N, D], with any axes before these, which are broadcast with the audio's.
      audio_tokens_xMxD: [..., M, D].
      video_times_N: seconds.
      audio_times_M: seconds.
      temperature: greater than 0.

    Returns:
      float32 [...], greater than 0.
    """
    video = normalise(video_tokens_xNxD)
    audio = normalise(audio_tokens_xMxD)
    logits_xNxM = float32_einsum("...nd,...md->...nm", video, audio) / temperature
    distance_NxM = jnp.abs(jnp.asarray(video_times_N)[:, None] - jnp.asarray(audio_times_M)[None, :])
    video_loss_x = _cross_entropy(logits_xNxM, distance_NxM.argmin(axis=1))
    audio_loss_x = _cross_entropy(logits_xNxM.swapaxes(-1, -2), distance_NxM.argmin(axis=0))
    return (video_loss_x + audio_loss_x) / 2


def moment_evidence(
    video_tokens_xNxD: jax.Array,
    audio_tokens_xMxD: jax.Array,
    video_times_N: np.ndarray,
    audio_times_M: np.ndarray,
    temperature: float,
) -> jax.Array:
    """By how much likelier than by chance each moment's sound is told from the clip's others, float32 [...].

    In nats, the mean over moments: `alignment_loss` of tokens that are all alike, less what it is. Greater than 0 where
    sound and picture are in sync, and 0 where neither changes. Where only one of them does not, it is at most 0 if both
    have a token for each moment. The more tokens there are, the greater it can be: up to the mean of the logarithms of
    their numbers.
    """
    tokens = (video_tokens_xNxD, audio_tokens_xMxD)
    by_chance = sum(math.log(x.shape[-2]) for x in tokens) / 2
    return by_chance - alignment_loss(*tokens, video_times_N, audio_times_M, temperature)


def normalise(x: jax.Array) -> jax.Array:
    """Vectors along the last axis at length 1, float32: x / sqrt(|x|² + 1e-6), so that one of length 0 stays 0."""
    x = x.astype(jnp.float32)
    return x / jnp.sqrt(jnp.sum(x**2, axis=-1, keepdims=True) + NORM_EPSILON)


def _cross_entropy(logits_xQxC: jax.Array, positives_Q: jax.Array) -> jax.Array:
    labels = jnp.broadcast_to(positives_Q, logits_xQxC.shape[:-1])
    return optax.softmax_cross_entropy_with_integer_labels(logits_xQxC, labels).mean(axis=-1)
