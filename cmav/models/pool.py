"""Average pooling with SAME padding, whose gradient has a form of its own on CPU; and maxima."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from cmav.models import target
from cmav.models.conv import same_padding

Axis = tuple[int, int, int, int]  # length, kernel, stride and dilation


def average_pool(
    x: jax.Array, kernel: tuple[int, ...], strides: tuple[int, ...], dilation: tuple[int, ...] | None = None
) -> jax.Array:
    """Means over windows of x [N, *axes, C]. What lies outside of x does not count, in the sum or in the number.

    `dilation` is as a convolution's (see `conv`); None: 1 along all axes.
    """
    dilation = dilation or (1,) * len(kernel)
    axes = tuple(zip(x.shape[1:-1], kernel, strides, dilation, strict=True))
    has_own_gradient = target.backend() == "cpu" and max(dilation) == 1
    return _average_pool(x, axes) if has_own_gradient else _means(x, axes)


def _means(x: jax.Array, axes: tuple[Axis, ...]) -> jax.Array:
    """`axes` are those between the first and the last. The gradient is XLA's own."""
    _, kernel, strides, dilation = zip(*axes, strict=True)
    padding = ((0, 0), *(same_padding(*axis) for axis in axes), (0, 0))
    zero = np.zeros((), x.dtype)  # Not jnp's: under jit, JAX has a gradient only where it sees that this starts at 0.
    sums = lax.reduce_window(
        x, zero, lax.add, (1, *kernel, 1), (1, *strides, 1), padding, window_dilation=(1, *dilation, 1)
    )
    return _divide_by_counts(sums, axes)


_average_pool = jax.custom_vjp(_means, nondiff_argnums=(1,))


def _forward(x, axes):
    return _means(x, axes), None  # Linear: the gradient needs nothing of x.


def _backward(axes, _, dy):
    """One axis after the other: input q * stride + phase - before gets dy[q - m], where phase + m * stride < kernel.

    Phases are computed apart and interleaved. XLA's own gradient sums windows over dy with zeros between its elements,
    which takes 3 times (large images) to 9 times (small ones) as long on CPU. Compiled for TPU, the whole step has half
    as many cycles again with this one, and for GPU it moves a third more bytes.
    """
    dy = _divide_by_counts(dy, axes)
    for axis, (length, kernel, stride, _) in enumerate(axes, start=1):
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


def _divide_by_counts(y: jax.Array, axes: tuple[Axis, ...]) -> jax.Array:
    """Divides each output by the number of real inputs in its window."""
    counts = np.ones([1] * y.ndim)
    for axis, (length, kernel, stride, dilation) in enumerate(axes, start=1):
        before, _ = same_padding(length, kernel, stride, dilation)
        taps = np.arange(y.shape[axis])[:, None] * stride - before + np.arange(kernel) * dilation
        count = ((taps >= 0) & (taps < length)).sum(axis=1)
        counts = counts * np.expand_dims(count, [i for i in range(y.ndim) if i != axis])
    return y * jnp.asarray(1 / counts, y.dtype)


def max_pool(
    x: jax.Array, kernel: tuple[int, ...], strides: tuple[int, ...], dilation: tuple[int, ...] | None = None
) -> jax.Array:
    """Maxima over windows of x [N, *axes, C], SAME: what lies outside of x does not count. As `average_pool`."""
    dilation = dilation or (1,) * len(kernel)
    padding = ((0, 0), *map(same_padding, x.shape[1:-1], kernel, strides, dilation), (0, 0))
    least = np.array(-np.inf, x.dtype)
    return lax.reduce_window(
        x, least, lax.max, (1, *kernel, 1), (1, *strides, 1), padding, window_dilation=(1, *dilation, 1)
    )


def max_of_parts(x_NxMxC: jax.Array, num_parts: int) -> jax.Array:
    """Maxima over parts of the axis M, as many as asked for and as even as they go: [N, num_parts, C].

    Where there are more parts than steps, steps are repeated.
    """
    length = x_NxMxC.shape[1]
    starts = np.arange(num_parts) * length // num_parts
    ends = np.maximum(np.arange(1, num_parts + 1) * length // num_parts, starts + 1)
    # The shorter parts have their last step twice: neither the maximum nor its gradient is another.
    steps = np.minimum(starts[:, None] + np.arange((ends - starts).max()), ends[:, None] - 1)
    return x_NxMxC[:, steps].max(axis=2)
