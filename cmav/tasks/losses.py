"""What a judgement of pairs costs, and whether it is right."""

import jax
import jax.numpy as jnp


def is_correct(logits_BxK: jax.Array, labels_BxK: jax.Array) -> jax.Array:
    """1 where the sign of the logit says what the label says, else 0. float32 [B, K]."""
    return ((logits_BxK > 0) == (labels_BxK > 0.5)).astype(jnp.float32)


def balanced(values_BxK: jax.Array) -> jax.Array:
    """[B, K] of an audio in sync and K - 1 shifted ones -> [B, 2]: of the one, and the mean of the others."""
    if values_BxK.shape[1] == 2:
        return values_BxK
    return jnp.stack([values_BxK[:, 0], values_BxK[:, 1:].mean(axis=1)], axis=1)
