"""The network of "Audio-Visual Scene Analysis with Self-Supervised Multisensory Features" (Owens and Efros, 2018).

It fuses early. The sound has a few layers of its own (`MultisensoryAudio`), and so have the pictures, then both are
one map (`Fusion`), and most of the network is after that. So the encoder of frames is in two: what is done once for a
clip (`encode`), and what is done for each sound that it is paired with (`fuse`). Layer by layer as their code has it;
`docs/paper.md` says what is not. With `width` 64, of clips of 4.2 s:

| layer                         | kernel, stride                         | output            |
| ----------------------------- | -------------------------------------- | ----------------- |
| frames                        |                                        | 126 × 224 × 224   |
| `layer_0`                     | 5·7·7, 2·2·2                           | 63 × 112 × 112, 64 |
| `layer_1`                     | maximum of 1·3·3, 1·2·2                | 63 × 56 × 56, 64  |
| `layer_2`, `layer_3`: blocks  | 3·3·3; the second 2·2·2                | 32 × 28 × 28, 64  |
| samples                       |                                        | 88,200            |
| `layer_0`                     | 65, 4                                  | 22,050, 64        |
| `layer_1`                     | maximum of 4, 4                        | 5,512, 64         |
| `layer_2` to `layer_4`: blocks | 15, 4                                 | 1,378, 128; 345, 128; 87, 256 |
| the sound in the fusion       | maxima of even parts; 3                | 32, 256; 32, 128  |
| `merge`, of both              | 1·1·1, of 512 and 128                  | 32 × 28 × 28, 128 |
| `layer_0`, `layer_1`: blocks  | 3·3·3                                  | 32 × 28 × 28, 128 |
| `layer_2`, `layer_3`: blocks  | 3·3·3; the first 2·2·2                 | 16 × 14 × 14, 256 |
| `layer_4`, `layer_5`: blocks  | 3·3·3; the first 1·2·2                 | 16 × 7 × 7, 512   |

Shape suffixes: N pairs of frames and sound, T, H and W of a map, C channels of the frames' map, M and A those of the
sound's.
"""

import itertools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import FrozenConfigDict

from cmav.errors import UserError
from cmav.models.conv import same_padding
from cmav.models.encoders.base import ConvLayer, Encoder, normalised, remat
from cmav.models.encoders.layered import check_companding, scale_samples
from cmav.models.encoders.residual import Part, check_width, finer_parts
from cmav.models.encoders.video import VideoEncoder, scale_frames
from cmav.models.layers import Layer, field_centres, parse
from cmav.models.pool import max_of_parts, max_pool

_ONCE = 4  # of the parts of the frames' encoder, how many are before the fusion
_STRIDES = (2, 4, 8, 16, 32)  # pixels


class SumBlock(nn.Module):
    """Two convolutions and a shortcut, whose sum has BatchNorm and ReLU; so has the first convolution.

    The shortcut is what a window of one step has with the first convolution's strides and SAME padding. Where channels
    change, it is a convolution of kernel 1 and BatchNorm. `mask` is as in `ConvLayer`.
    """

    convolutions: tuple[Layer, Layer]
    config: FrozenConfigDict

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, mask: jax.Array | None = None) -> jax.Array:
        first, second = self.convolutions
        y = ConvLayer(first, self.config, name="conv_0")(x, train, mask)
        y = ConvLayer(second, self.config, relu=False, norm=False, name="conv_1")(y, train)
        shortcut = _shortcut(x, first, second)
        if y.shape[-1] != x.shape[-1]:
            pointwise = _pointwise(y.shape[-1], x.ndim - 2)
            shortcut = ConvLayer(pointwise, self.config, relu=False, name="shortcut")(shortcut, train, mask)
        return nn.relu(normalised(y + shortcut, self.config, train, mask))


def _shortcut(x: jax.Array, first: Layer, second: Layer) -> jax.Array:
    """x [N, *axes, C] at each stride's first step: beside what the convolution is centred on, if the length is even.

    In a finer map a stride has become the second convolution's dilation (`layers.finer`). Then it is what lies as far
    beside the centre as it did, so that an output which is in both maps is the same.
    """
    for axis, length in enumerate(x.shape[1:-1]):
        stride, gap = first.strides[axis], first.dilation[axis]
        removed = second.dilation[axis] // gap
        if removed > 1:
            kernel = first.kernel[axis]
            before, _ = same_padding(-(-length // gap), kernel, removed)
            shift = gap * ((kernel - 1) // 2 - before)
            padding = [(shift, -shift, 0) if i == axis + 1 else (0, 0, 0) for i in range(x.ndim)]
            x = jax.lax.pad(x, jnp.zeros((), x.dtype), padding)
        else:
            x = jax.lax.slice_in_dim(x, 0, length, stride, axis + 1)
    return x


class Fusion(nn.Module):
    """The maps of frames and sound -> one map, and the blocks after that."""

    blocks: tuple[Part, ...]
    config: FrozenConfigDict

    @nn.compact
    def __call__(
        self, video_NxTxHxWxC: jax.Array, audio_NxMxA: jax.Array | None, train: bool, mask: jax.Array | None = None
    ) -> dict[str, jax.Array]:
        """Returns `merge`, `layer_<i>` of each block, and `map`, which is the last of them.

        Args:
          video_NxTxHxWxC: map of the frames.
          audio_NxMxA: map of the sound; None: there is none.
          train: whether BatchNorm uses the batch's statistics.
          mask: bool [N], which pairs have sound; of others it is not looked at. None: all.
        """
        width, shape = video_NxTxHxWxC.shape[-1], (*video_NxTxHxWxC.shape[:-1], 2 * video_NxTxHxWxC.shape[-1])
        if audio_NxMxA is None:
            heard = jnp.zeros(shape, video_NxTxHxWxC.dtype)
        else:
            steps = max_of_parts(audio_NxMxA, shape[1])
            convolution = Layer("conv", 2 * width, kernel=(3,), strides=(1,), dilation=(1,))
            steps = ConvLayer(convolution, self.config, name="sound")(steps, train, mask)
            if mask is not None:
                steps = jnp.where(mask[:, None, None], steps, 0)
            heard = jnp.broadcast_to(steps[:, :, None, None], shape)
        x = jnp.concatenate([video_NxTxHxWxC, heard], axis=-1)
        shortcut = jnp.concatenate([x[..., :width], x[..., -width:]], axis=-1)
        y = ConvLayer(_pointwise(8 * width, 3), self.config, name="merge_0")(x, train)
        y = ConvLayer(_pointwise(2 * width, 3), self.config, relu=False, norm=False, name="merge_1")(y, train)
        x = nn.relu(normalised(y + shortcut, self.config, train, name="merge_norm"))
        out = {"merge": x}
        block = nn.remat(SumBlock, static_argnums=(2,)) if remat(self.config) == "encoders" else SumBlock
        for i, part in enumerate(self.blocks):
            x = block(parse(part), self.config, name=f"layer_{i}")(x, train)
            out[f"layer_{i}"] = x
        return {**out, "map": x}


class MultisensoryVideo(VideoEncoder):
    """Settings: `width`, channels of the first layer, and `stride`, pixels from one place of the map to the next.

    `encode` is of frames alone, and its map that in the middle; `geometry` and all that rests on it, and `finer`, are
    of the map in the end, which `fuse` returns.
    """

    hears = True

    def setup(self):
        self.fusion = Fusion(tuple(self._parts()[_ONCE:]), self.config)

    def fuse(
        self, video_NxTxHxWxC: jax.Array, audio_NxMxA: jax.Array | None, *, train: bool, mask: jax.Array | None = None
    ) -> dict[str, jax.Array]:
        """See `Fusion`."""
        return self.fusion(video_NxTxHxWxC, audio_NxMxA, train, mask)

    @staticmethod
    def check(settings: FrozenConfigDict) -> None:
        check_width("config.model.video", settings)
        _check_stride(f"config.model.video.stride={settings.stride!r}", settings.stride)

    def front_end(self, x, rate, train):
        return scale_frames(x)

    def layers(self):
        yield from _layers(self, self._parts()[:_ONCE])

    @nn.nowrap
    def geometry(self):
        return tuple(itertools.chain.from_iterable(self._parts()))

    @nn.nowrap
    def finer(self, stride):
        _check_stride(f"A stride of {stride} pixels", stride)
        return FrozenConfigDict({**self.settings, "stride": stride})

    @nn.nowrap
    def _parts(self) -> list[Part]:
        width, one = self.settings.width, (1, 1, 1)
        stem = (("conv", width, (5, 7, 7), (2, 2, 2)),), (("pool", (1, 3, 3), (1, 2, 2)),)
        blocks = (
            *((width, one), (width, (2, 2, 2))),
            *((2 * width, one), (2 * width, one)),
            *((4 * width, (2, 2, 2)), (4 * width, one)),
            *((8 * width, (1, 2, 2)), (8 * width, one)),
        )
        return finer_parts(
            [*stem, *(_block(features, (3, 3, 3), strides) for features, strides in blocks)], self.settings.stride
        )


class MultisensoryAudio(Encoder):
    """Its map is [N, M, A]. Settings: `width`, channels of the first layer, and `companding`, as of `Conv1d`."""

    @staticmethod
    def check(settings: FrozenConfigDict) -> None:
        check_width("config.model.audio", settings)
        check_companding(settings)

    def front_end(self, x, rate, train):
        return scale_samples(x, self.settings.companding)

    def layers(self):
        yield from _layers(self, self._parts())

    @nn.nowrap
    def geometry(self):
        return tuple(itertools.chain.from_iterable(self._parts()))

    @nn.nowrap
    def times(self, length, rate):
        # The pool leaves out what does not fill its window, where `layers.field_centres` has all padding SAME.
        first, (pool,), *blocks = self._parts()
        centres = field_centres(first, length, axis=0)
        kernel = parse([pool])[0].kernel[0]
        pooled = centres[: len(centres) // kernel * kernel].reshape(-1, kernel).mean(axis=1)
        later = field_centres(tuple(itertools.chain.from_iterable(blocks)), len(pooled), axis=0)
        step = kernel * parse(first)[0].strides[0]  # samples, from one pooled to the next
        return (pooled[0] + step * later) / rate

    @nn.nowrap
    def _parts(self) -> list[Part]:
        width = self.settings.width
        stem = (("conv", width, (65,), (4,)),), (("pool", (4,), (4,)),)
        return [*stem, *(_block(times * width, (15,), (4,)) for times in (2, 2, 4))]


def _layers(encoder: Encoder, parts: list[Part]):
    for i, part in enumerate(map(parse, parts)):
        if len(part) == 2:
            yield encoder.with_remat(SumBlock, i)(part, encoder.config, name=f"layer_{i}")
        elif part[0].kind == "conv":
            yield encoder.with_remat(ConvLayer, i)(part[0], encoder.config, name=f"layer_{i}")
        else:
            yield _pool(part[0])


def _pool(layer: Layer):
    def pool(x, train, mask):
        if x.ndim == 3:  # Of the sound, what does not fill a window is left out.
            x = x[:, : x.shape[1] // layer.kernel[0] * layer.kernel[0]]
        return max_pool(x, layer.kernel, layer.strides, layer.dilation)

    return pool


def _block(features: int, kernel: tuple[int, ...], strides: tuple[int, ...]) -> Part:
    return ("conv", features, kernel, strides), ("conv", features, kernel, (1,) * len(kernel))


def _pointwise(features: int, num_axes: int) -> Layer:
    ones = (1,) * num_axes
    return Layer("conv", features, kernel=ones, strides=ones, dilation=ones)


def _check_stride(what: str, stride: Any) -> None:
    if stride not in _STRIDES:
        raise UserError(
            f"{what} is none that the video encoder 'multisensory' can have: choose one of "
            f"{', '.join(map(str, _STRIDES))}."
        )
