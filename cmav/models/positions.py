"""When each token is, in seconds, and how the network is told.

The paper says nothing about positions. Seconds, rather than token numbers, give both streams and every frame rate one
clock: a video token spans 0.53 s at 29.97 Hz and 2.1 s at 7.5 Hz, an audio token 0.59 s.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import FrozenConfigDict

POSITIONS = ("seconds", "learned", "none")

# Seconds. From about two tokens, the shortest wave that tokens can follow, to four clips, which is nearly a ramp.
SHORTEST_WAVE, LONGEST_WAVE = 1.0, 16.0


def sinusoids(times_N: np.ndarray, size: int) -> np.ndarray:
    """float32 [N, size]: sines, then cosines, of each time, at wavelengths spaced geometrically."""
    num_waves = size // 2
    wavelengths = np.geomspace(SHORTEST_WAVE, LONGEST_WAVE, num_waves)
    angles = 2 * np.pi * np.asarray(times_N)[:, None] / wavelengths
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=-1).astype(np.float32)


class AddPositions(nn.Module):
    """Adds to each token what tells its time, as `config.positions` says.

    "seconds" adds sinusoids. "learned" adds a table of `fusion_tokens` rows that spans the clip, resized to the number
    of tokens, so that the warm-up at another frame rate trains the same table. "none" adds nothing.
    """

    config: FrozenConfigDict

    @nn.compact
    def __call__(self, tokens_BxNxD: jax.Array, times_N: np.ndarray) -> jax.Array:
        num_tokens, size = tokens_BxNxD.shape[1:]
        if self.config.positions == "seconds":
            positions_NxD = jnp.asarray(sinusoids(times_N, size))
        elif self.config.positions == "learned":
            shape = (self.config.fusion_tokens, size)
            table = self.param("table", nn.initializers.normal(0.02), shape, jnp.float32)
            positions_NxD = jax.image.resize(table, (num_tokens, size), "linear")
        else:
            return tokens_BxNxD
        return tokens_BxNxD + positions_NxD.astype(tokens_BxNxD.dtype)
