"""BatchNorm of which some elements do not count."""

import flax.linen as nn
import jax
import jax.numpy as jnp


class BatchNorm(nn.BatchNorm):
    """Flax's, and a channel of which nothing counts keeps its statistics.

    Over the global batch where the batch is sharded over devices (under jit).
    """

    def __call__(self, x: jax.Array, *, use_running_average: bool, mask: jax.Array | None = None) -> jax.Array:
        """Normalises x [..., C].

        Args:
          x: of which every element is normalised.
          use_running_average: with the statistics that are stored, which then stay; else with the batch's.
          mask: bool, broadcastable to x: what counts in the batch's statistics; None: all. A channel of which nothing
            does is normalised with the statistics of all that it has, so that it is finite, and they are not kept.
        """
        if mask is None or use_running_average:
            return super().__call__(x, use_running_average=use_running_average)
        counts = mask.any(axis=tuple(range(x.ndim - 1)), keepdims=True)
        before = {name: self.get_variable("batch_stats", name) for name in ("mean", "var")}
        y = super().__call__(x, use_running_average=use_running_average, mask=mask | ~counts)
        if not self.is_initializing():
            for name, old in before.items():
                new = self.get_variable("batch_stats", name)
                self.put_variable("batch_stats", name, jnp.where(counts.reshape(-1), new, old))
        return y
