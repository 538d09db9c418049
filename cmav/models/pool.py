"""Average pooling with SAME padding, and a gradient that is fast on CPU."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from cmav.models.conv import same_padding


def average_pool(x: jax.Array, kernel: tuple[int, ...], strides: tuple[int, ...]) -> jax.Array:
    """Means over windows of x [N, *axes, C]. What lies outside of x does not count, in the sum or in the number."""
    return _average_pool(x, tuple(zip(x.shape[1:-1], kernel, strides, strict=True)))


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _average_pool(x: jax.Array, axes: tuple[tuple[int, int, int], ...]) -> jax.Array:
    """`axes` holds (length, kernel, stride) for each axis between the first and the last."""
    _, kernel, strides = zip(*axes, strict=True)
    padding = ((0, 0), *(same_padding(*axis) for axis in axes), (0, 0))
    x = lax.reduce_window(x, jnp.zeros((), x.dtype), lax.add, (1, *kernel, 1), (1, *strides, 1), padding)
    return _divide_by_counts(x, axes)


def _forward(x, axes):
    return _average_pool(x, axes), None  # Linear: the gradient needs nothing of x.


def _backward(axes, _, dy):
    """One axis after the other: input q * stride + phase - before gets dy[q - m], where phase + m * stride < kernel.

    Phases are computed apart and interleaved. XLA's own gradient sums windows over dy with zeros between its elements,
    which takes 3 times (large images) to 9 times (small ones) as long on CPU.
    """
    dy = _divide_by_counts(dy, axes)
    for axis, (length, kernel, stride) in enumerate(axes, start=1):
        overlap = -(-kernel // stride) - 1
        num_steps = dy.shape[axis] + overlap
        padding = [(overlap, overlap, 0) if i == axis else (0, 0, 0) for i in range(dy.ndim)]
        padded = lax.pad(dy, jnp.zeros((), dy.dtype), padding)

        def delayed(m, padded=padded, axis=axis, overlap=overlap, num_steps=num_steps):
            return lax.slice_in_dim(padded, overlap - m, overlap - m + num_steps, axis=axis)

        zeros = jnp.zeros_like(delayed(0))
        phases = [sum(map(delayed, range(-(-(kernel - phase) // stride))), zeros) for phase in range(stride)]
        dx = jnp.stack(phases, axis + 1).reshape(*dy.shape[:axis], num_steps * stride, *dy.shape[axis + 1 :])
        before, _ = same_padding(length, kernel, stride)
        dy = lax.slice_in_dim(dx, before, before + length, axis=axis)
    return (dy,)


_average_pool.defvjp(_forward, _backward)


def _divide_by_counts(y: jax.Array, axes: tuple[tuple[int, int, int], ...]) -> jax.Array:
    """Divides each output by the number of real inputs in its window."""
    counts = np.ones([1] * y.ndim)
    for axis, (length, kernel, stride) in enumerate(axes, start=1):
        before, _ = same_padding(length, kernel, stride)
        starts = np.arange(y.shape[axis]) * stride - before
        count = np.minimum(starts + kernel, length) - np.maximum(starts, 0)
        counts = counts * np.expand_dims(count, [i for i in range(y.ndim) if i != axis])
    return y * jnp.asarray(1 / counts, y.dtype)
