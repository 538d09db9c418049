"""Convolutions over time, space and frequency, with SAME padding, in the form that the backend runs fastest.

Kernels keep the shape `[kt, kh, kw, cin, cout]` (`[k, cin, cout]` for audio) whatever the lowering, so that a
checkpoint fits every backend. The lowerings of a 3-D convolution give the same numbers, to rounding:

| lowering        | what runs                                                                                      |
| --------------- | ---------------------------------------------------------------------------------------------- |
| `"native"`      | XLA's 3-D convolution                                                                          |
| `"folded"`      | one 2-D convolution: the taps in time are strided slices of the input, side by side as channels |
| `"folded_taps"` | the same, but the kernel's gradient is a sum of matrix products over bands of rows             |
| `"blocks"`      | one matrix product: a stride's pixels are folded into channels too, and the taps are summed last |

`"auto"` is `folded` on GPU, where 3-D convolutions get a slow memory layout, and on TPU, for which the compiler
estimates an eighth of the cycles. On CPU XLA's 3-D convolutions are up to 50 times slower than 2-D ones, its gradient
of a kernel uses one thread, and of few channels it takes longest to gather each output's inputs: `"auto"` is `blocks`
there where that multiplies what it keeps by no more than 4, and `folded_taps` elsewhere. `python -m
cmav.models.benchmark` measures all of them on the backend at hand.

A dilated convolution has gaps between its kernel's taps, and a stride of 1 along the axes that it is dilated in. It is
made for finer maps (`layers.finer`): its gradients are XLA's own, whatever the lowering.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax

from cmav.models import target

LOWERINGS = ("native", "folded", "folded_taps", "blocks")
LOWERING_BY_BACKEND = {"gpu": "folded", "tpu": "folded"}

# `blocks` on CPU: up to so many taps, each of which is a copy of the output, and less than so many input channels.
MOST_BLOCK_TAPS = 4
FEW_CHANNELS = 64

# Of the matrix that a band of rows becomes in the kernel's gradient: small enough to stay in a core's cache.
BAND_BYTES = 8 * 2**20


def same_padding(length: int, kernel: int, stride: int, dilation: int = 1) -> tuple[int, int]:
    """Zeros before and after an axis, such that the output has ceil(length / stride) steps (TensorFlow's SAME).

    With a dilation, as many times the zeros, so that each output is what the kernel makes of every `dilation`-th step
    alone. An even kernel is where this is not TensorFlow's.

    Raises:
      ValueError: where there is a dilation and a stride.
    """
    if dilation > 1 and stride > 1:
        raise ValueError(f"stride {stride} with dilation {dilation}: one of them must be 1.")
    total = max((-(-length // stride) - 1) * stride + kernel - length, 0)
    return dilation * (total // 2), dilation * (total - total // 2)


def conv1d(x: jax.Array, kernel: jax.Array, strides: tuple[int], dilation: tuple[int] = (1,)) -> jax.Array:
    """1-D convolution of x [N, S, cin] with a kernel [k, cin, cout], in the dtype of x.

    Written as an image of height 1: on CPU the kernel's gradient is 1.5 times faster than XLA's 1-D form, and on
    other backends XLA does the same by itself.
    """
    return _conv(x[:, None], kernel[None].astype(x.dtype), (1, *strides), (1, *dilation))[:, 0]


def conv2d(x: jax.Array, kernel: jax.Array, strides: tuple[int, int], lowering: str = "auto") -> jax.Array:
    """2-D convolution of x [N, A, B, cin] with a kernel [ka, kb, cin, cout], in the dtype of x.

    Written as frames of a single moment, which gives it the lowerings' gradients.
    """
    return conv3d(x[:, None], kernel[None], (1, *strides), lowering)[:, 0]


def conv3d(
    x: jax.Array,
    kernel: jax.Array,
    strides: tuple[int, int, int],
    lowering: str = "auto",
    dilation: tuple[int, int, int] = (1, 1, 1),
) -> jax.Array:
    """3-D convolution of x [N, T, H, W, cin] with a kernel [kt, kh, kw, cin, cout], in the dtype of x."""
    if lowering == "auto":
        lowering = _fastest(target.backend(), kernel.shape, strides)
    if lowering == "native":
        return _conv(x, kernel.astype(x.dtype), strides, dilation)
    if max(dilation) > 1:
        return _conv3d_as_2d(x, kernel, strides, dilation)
    if lowering == "blocks":
        return _conv3d_of_blocks(x, kernel, strides)
    return _folded_conv3d(x, kernel, strides, lowering == "folded_taps")


def _fastest(backend: str, kernel_shape: tuple[int, ...], strides: tuple[int, int, int]) -> str:
    if backend != "cpu":
        return LOWERING_BY_BACKEND.get(backend, "folded")
    few_taps = math.prod(_block_taps(kernel_shape, strides)) <= MOST_BLOCK_TAPS
    return "blocks" if few_taps and kernel_shape[3] < FEW_CHANNELS else "folded_taps"


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _folded_conv3d(x: jax.Array, kernel: jax.Array, strides: tuple[int, int, int], taps: bool) -> jax.Array:
    return _conv3d_as_2d(x, kernel, strides)


def _folded_forward(x, kernel, strides, taps):
    # Kept for the backward pass is x, not the folded x, which is kt / stride times as large.
    return _conv3d_as_2d(x, kernel, strides), (x, kernel)


def _folded_backward(strides, taps, residuals, dy):
    x, kernel = residuals
    (dx,) = jax.linear_transpose(lambda x: _conv3d_as_2d(x, kernel, strides), x)(dy)
    if taps:
        return dx, _kernel_gradient(x, dy, kernel.shape, strides).astype(kernel.dtype)
    (dkernel,) = jax.linear_transpose(lambda kernel: _conv3d_as_2d(x, kernel, strides), kernel)(dy)
    return dx, dkernel


_folded_conv3d.defvjp(_folded_forward, _folded_backward)


def _conv3d_as_2d(
    x: jax.Array, kernel: jax.Array, strides: tuple[int, int, int], dilation: tuple[int, int, int] = (1, 1, 1)
) -> jax.Array:
    kt, kh, kw, cin, cout = kernel.shape
    folded = _fold_time(x, kt, strides[0], dilation[0])
    kernel = kernel.transpose(1, 2, 0, 3, 4).reshape(kh, kw, kt * cin, cout).astype(x.dtype)
    y = _conv(folded.reshape(-1, *folded.shape[2:]), kernel, strides[1:], dilation[1:])
    return y.reshape(*folded.shape[:2], *y.shape[1:])


def _conv(x: jax.Array, kernel: jax.Array, strides: tuple[int, ...], dilation: tuple[int, ...]) -> jax.Array:
    """XLA's own, over two or three axes."""
    padding = list(map(same_padding, x.shape[1:-1], kernel.shape[:-2], strides, dilation))
    axes = "DHW"[-len(strides) :]
    dimensions = (f"N{axes}C", f"{axes}IO", f"N{axes}C")
    return lax.conv_general_dilated(x, kernel, strides, padding, rhs_dilation=dilation, dimension_numbers=dimensions)


def _fold_time(x: jax.Array, kernel: int, stride: int, dilation: int = 1) -> jax.Array:
    """[N, T, H, W, C] -> [N, ceil(T / stride), H, W, kernel * C]: the taps in time become channels."""
    num_outputs = -(-x.shape[1] // stride)
    x = jnp.pad(x, ((0, 0), same_padding(x.shape[1], kernel, stride, dilation), (0, 0), (0, 0), (0, 0)))
    return jnp.concatenate([_strided(x, i * dilation, num_outputs, stride, axis=1) for i in range(kernel)], axis=-1)


def _kernel_gradient(x: jax.Array, dy: jax.Array, kernel_shape: tuple[int, ...], strides: tuple[int, ...]) -> jax.Array:
    """Gradient of the kernel, float32: the sum of patches @ dy over bands of output rows.

    Channels go first, so that one tap of the kernel is one row of the matrix of patches, and rows are copied whole. A
    band is some rows of a large image or several small images: large enough for a fast matrix product, small enough
    that the patches are used while they are in the cache. Right on any mesh, but made for one CPU device: where the
    batch is sharded over several, each gathers all of it.
    """
    kt, kh, kw, cin, cout = kernel_shape
    _, stride_h, stride_w = strides
    height, width = dy.shape[2:4]
    channels = kt * cin
    rows_in_cache = max(1, BAND_BYTES // (4 * kh * kw * channels * width))

    images = _fold_time(x, kt, strides[0])
    images = images.reshape(-1, *images.shape[2:])
    dy = dy.reshape(-1, *dy.shape[2:])
    num_images = images.shape[0]
    num_bands, rows = _split(height, rows_in_cache)  # of each image
    num_groups, group = _split(num_images, rows_in_cache // height or 1)  # of images

    # The last band and the last group may stick out, where dy is 0.
    extra_rows, extra_images = num_bands * rows - height, num_groups * group - num_images
    top, bottom = same_padding(x.shape[2], kh, stride_h)
    padding_h, padding_w = (top, bottom + extra_rows * stride_h), same_padding(x.shape[3], kw, stride_w)
    images = jnp.pad(images, ((0, extra_images), padding_h, padding_w, (0, 0)))
    dy = jnp.pad(dy, ((0, extra_images), (0, extra_rows), (0, 0), (0, 0)))

    images = images.reshape(num_groups, group, *images.shape[1:]).transpose(0, 4, 1, 2, 3)
    starts = [band * rows * stride_h for band in range(num_bands)]
    band_height = (rows - 1) * stride_h + kh
    # [groups, bands, channels, group, height, width]
    bands = jnp.stack([images[:, :, :, start : start + band_height] for start in starts], axis=1)
    dy = dy.reshape(num_groups, group, num_bands, rows, width, cout).swapaxes(1, 2)

    def add_band(gradient, band_and_dy):
        band, dy_PxO = (a.astype(jnp.float32) for a in band_and_dy)
        columns = jnp.concatenate([_strided(band, j, width, stride_w, axis=3) for j in range(kw)])
        patches = jnp.concatenate([_strided(columns, i, rows, stride_h, axis=2) for i in range(kh)])
        return gradient + patches.reshape(kh * kw * channels, -1) @ dy_PxO, None

    gradient, _ = lax.scan(
        add_band,
        jnp.zeros((kh * kw * channels, cout), jnp.float32),
        (bands.reshape(-1, *bands.shape[2:]), dy.reshape(num_groups * num_bands, -1, cout)),
    )
    return gradient.reshape(kh, kw, kt, cin, cout).transpose(2, 0, 1, 3, 4)


def _conv3d_of_blocks(x: jax.Array, kernel: jax.Array, strides: tuple[int, int, int]) -> jax.Array:
    """Of blocks of `stride_h x stride_w` pixels the convolution has stride 1, and a few taps.

    Space to depth, then Vasudevan et al. (2017), "Parallel multi channel convolution using general matrix
    multiplication": the product with all taps first, and their sum, each where it belongs, after it.
    """
    kt, kh, kw, cin, cout = kernel.shape
    _, stride_h, stride_w = strides
    taps_h, taps_w = _block_taps(kernel.shape, strides)
    padding_h, blocks_h = _block_padding(x.shape[2], kh, stride_h, taps_h)
    padding_w, blocks_w = _block_padding(x.shape[3], kw, stride_w, taps_w)

    # A stride longer than the kernel leaves pixels out: the last padding is negative then.
    x = lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), (0, 0, 0), (*padding_h, 0), (*padding_w, 0), (0, 0, 0)))
    x = x.reshape(*x.shape[:2], blocks_h, stride_h, blocks_w, stride_w, cin).swapaxes(3, 4)
    x = _fold_time(x.reshape(*x.shape[:4], -1), kt, strides[0])

    kernel = jnp.pad(kernel, ((0, 0), (0, taps_h * stride_h - kh), (0, taps_w * stride_w - kw), (0, 0), (0, 0)))
    kernel = kernel.reshape(kt, taps_h, stride_h, taps_w, stride_w, cin, cout).transpose(1, 3, 0, 2, 4, 5, 6)
    return _sum_of_taps(x, kernel.reshape(taps_h, taps_w, -1, cout))


def _block_taps(kernel_shape: tuple[int, ...], strides: tuple[int, int, int]) -> tuple[int, int]:
    """Blocks that the kernel covers, along height and width."""
    return -(-kernel_shape[1] // strides[1]), -(-kernel_shape[2] // strides[2])


def _block_padding(length: int, kernel: int, stride: int, taps: int) -> tuple[tuple[int, int], int]:
    """Zeros before and after an axis, such that it has whole blocks, and the number of these."""
    blocks = -(-length // stride) + taps - 1
    before, _ = same_padding(length, kernel, stride)
    return (before, blocks * stride - length - before), blocks


@jax.custom_vjp
def _sum_of_taps(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolution without padding of x [N, T, A, B, cin] with a kernel [ka, kb, cin, cout] over A and B."""
    ka, kb, cin, _ = kernel.shape
    height, width = x.shape[2] - ka + 1, x.shape[3] - kb + 1
    kernel = kernel.transpose(2, 0, 1, 3).reshape(cin, -1).astype(x.dtype)
    products = jnp.matmul(x, kernel, preferred_element_type=jnp.float32)
    taps = jnp.split(products, ka * kb, axis=-1)
    y = sum(taps[i * kb + j][:, :, i : i + height, j : j + width] for i in range(ka) for j in range(kb))
    return y.astype(x.dtype)


def _sum_of_taps_forward(x, kernel):
    return _sum_of_taps(x, kernel), (x, kernel)


def _sum_of_taps_backward(residuals, dy):
    x, kernel = residuals
    ka, kb, cin, cout = kernel.shape
    around = [((i, ka - 1 - i), (j, kb - 1 - j)) for i in range(ka) for j in range(kb)]
    taps = jnp.concatenate([jnp.pad(dy, ((0, 0), (0, 0), *padding, (0, 0))) for padding in around], axis=-1)
    dx = taps @ kernel.swapaxes(2, 3).reshape(-1, cin).astype(x.dtype)
    rows = (a.reshape(-1, a.shape[-1]) for a in (x, taps))  # An einsum over all axes takes half as long again.
    dkernel = jnp.einsum("ri,ro->io", *rows, preferred_element_type=jnp.float32)
    return dx, dkernel.reshape(cin, ka, kb, cout).transpose(1, 2, 0, 3).astype(kernel.dtype)


_sum_of_taps.defvjp(_sum_of_taps_forward, _sum_of_taps_backward)


def _split(length: int, at_most: int) -> tuple[int, int]:
    """Number and length of the equal parts, none longer than `at_most`, that cover `length`; the last may stick out."""
    num_parts = -(-length // min(length, at_most))
    return num_parts, -(-length // num_parts)


def _strided(x: jax.Array, start: int, count: int, stride: int, axis: int) -> jax.Array:
    """`count` elements of an axis, from `start` on, `stride` apart."""
    return lax.slice_in_dim(x, start, start + (count - 1) * stride + 1, stride, axis)
