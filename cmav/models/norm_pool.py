"""BatchNorm, ReLU and a pool in space, whose gradient takes no more memory than what comes in.

The first layer's output is by far the largest array of a network of videos. Differentiated by itself it is there three
times: as it was, as the gradient that comes back through the pool, and as the one that goes on through BatchNorm. Here
the backward pass takes some frames at a time, once for BatchNorm's sums and once for the gradient, which it writes over
what came in.
"""

import functools
import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

# Frames of a clip are taken in as many parts, or the next number that divides them; all at once where that is far off.
PARTS = 9

# Linear, and of each frame by itself: [N, T, H, W, C] -> [N, T, H', W', C].
Pool = Callable[[jax.Array], jax.Array]


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def norm_relu_pool(
    x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float, pool: Pool
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """pool(relu(norm(x))) of x [N, T, H, W, C], by the batch's statistics, and these: mean and variance, float32 [C].

    No gradient comes through the statistics that it returns. `scale` and `bias` are [C].
    """
    return _forward(x, scale, bias, epsilon, pool)[0]


def _forward(x, scale, bias, epsilon, pool):
    mean, var = statistics(x)
    factor = lax.rsqrt(var + epsilon) * scale

    def part(x_part):
        return pool(jax.nn.relu(((x_part - mean) * factor + bias).astype(x.dtype)))

    _, y = lax.scan(lambda _, i: (None, part(_take(x, i))), None, jnp.arange(_num_parts(x)))
    y = jnp.moveaxis(y, 0, 1)
    y = y.reshape(x.shape[0], x.shape[1], *y.shape[3:])
    return (y, mean, var), (x, scale, bias, mean, var)


def _backward(epsilon, pool, residuals, cotangents):
    x, scale, bias, mean, var = residuals
    dy, _, _ = cotangents
    inverse = lax.rsqrt(var + epsilon)
    count = math.prod(x.shape[:-1])

    _, unpool = jax.vjp(pool, jnp.zeros_like(_take(x, 0)))

    def at_norm(i, x):
        """The gradient at BatchNorm's output, of a part, and the part less its mean; float32."""
        centred = _take(x, i) - mean
        passes = centred * (inverse * scale) + bias > 0
        return jnp.where(passes, unpool(_take(dy, i))[0], 0).astype(jnp.float32), centred

    def add_sums(sums, i):
        gradient, centred = at_norm(i, x)
        # In one reduction, so that XLA need not keep the gradient for a second one.
        more = lax.reduce(
            (gradient, gradient * centred), (0.0, 0.0), lambda a, b: (a[0] + b[0], a[1] + b[1]), (0, 1, 2, 3)
        )
        return tuple(map(jnp.add, sums, more)), None

    zeros = jnp.zeros(x.shape[-1:], jnp.float32)
    (dbias, dscale), _ = lax.scan(add_sums, (zeros, zeros), jnp.arange(_num_parts(x)))
    dscale *= inverse

    def overwrite(x, i):
        gradient, centred = at_norm(i, x)
        dx = scale * inverse * (gradient - dbias / count - centred * (inverse * dscale / count))
        return _put(x, dx.astype(x.dtype), i), None

    dx, _ = lax.scan(overwrite, x, jnp.arange(_num_parts(x)))
    return dx, dscale, dbias


norm_relu_pool.defvjp(_forward, _backward)


def statistics(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean and variance of x [..., C] over all but the last axis, float32, as Flax's BatchNorm computes them."""
    x = x.astype(jnp.float32)
    axes = tuple(range(x.ndim - 1))
    mean = x.mean(axis=axes)
    return mean, jnp.maximum(0.0, lax.square(x).mean(axis=axes) - lax.square(mean))


def _num_parts(x: jax.Array) -> int:
    frames = x.shape[1]
    parts = next(parts for parts in range(min(PARTS, frames), frames + 1) if frames % parts == 0)
    return parts if parts <= 3 * PARTS else 1


def _take(x: jax.Array, i: jax.Array) -> jax.Array:
    size = x.shape[1] // _num_parts(x)
    return lax.dynamic_slice_in_dim(x, i * size, size, axis=1)


def _put(x: jax.Array, part: jax.Array, i: jax.Array) -> jax.Array:
    return lax.dynamic_update_slice_in_dim(x, part, i * part.shape[1], axis=1)


class NormReluPool(nn.BatchNorm):
    """BatchNorm with its parameters and statistics, of which ReLU and the pool come in one with it."""

    @nn.compact
    def __call__(self, x: jax.Array, *, use_running_average: bool, pool: Pool) -> tuple[jax.Array, jax.Array]:
        """Of x [N, T, H, W, C]: what goes into the pool, and what comes out of it.

        With the statistics that are stored, or else with the batch's, of which they then keep a share.
        """
        shape = x.shape[-1:]
        scale = self.param("scale", self.scale_init, shape, self.param_dtype)
        bias = self.param("bias", self.bias_init, shape, self.param_dtype)
        stored = {
            "mean": self.variable("batch_stats", "mean", jnp.zeros, shape, jnp.float32),
            "var": self.variable("batch_stats", "var", jnp.ones, shape, jnp.float32),
        }

        def before_pool(mean, var):
            return nn.relu(((x - mean) * (lax.rsqrt(var + self.epsilon) * scale) + bias).astype(x.dtype))

        if use_running_average:
            activated = before_pool(stored["mean"].value, stored["var"].value)
            return activated, pool(activated)
        pooled, mean, var = norm_relu_pool(x, scale, bias, self.epsilon, pool)
        if not self.is_initializing():
            for name, new in (("mean", mean), ("var", var)):
                stored[name].value = self.momentum * stored[name].value + (1 - self.momentum) * new
        # Where nobody asks for the first of these, it is not computed under jit.
        return before_pool(*statistics(x)), pooled
