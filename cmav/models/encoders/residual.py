"""Residual networks of frames, R(2+1)D-18 and R3D-18, and the blocks of which they and others are made.

Tran et al., "A Closer Look at Spatiotemporal Convolutions for Action Recognition" (2018), layer by layer as
`torchvision.models.video` has them, with as many parameters: a stem, then four stages of two blocks. Padding is SAME as
everywhere here. In a strided layer of an even picture this is one zero less before than after, where torchvision has as
many: what a place of the map sees lies one pixel of that layer's input further down and right.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import flax.linen as nn
import jax
from ml_collections import FrozenConfigDict

from cmav.errors import UserError
from cmav.models.encoders.base import ConvLayer, Encoder
from cmav.models.encoders.video import VideoEncoder, scale_frames
from cmav.models.layers import Layer, field_centres, finer, parse

Part = tuple[tuple[Any, ...], ...]  # convolutions in a row, in a config's form: the stem's, or a block's


class Stem(nn.Module):
    """Convolutions in a row, each with BatchNorm and ReLU. `mask` is as in `ConvLayer`."""

    convolutions: tuple[Layer, ...]
    config: FrozenConfigDict

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, mask: jax.Array | None = None) -> jax.Array:
        for i, layer in enumerate(self.convolutions):
            x = ConvLayer(layer, self.config, name=f"conv_{i}")(x, train, mask)
        return x


class Block(nn.Module):
    """Convolutions, each with BatchNorm and ReLU, but the ReLU of the last is after the shortcut is added to it.

    The shortcut is the input where the convolutions' receptive fields have their centres, so that all of an output is
    of one place; a strided convolution with SAME padding would look beside it. Where channels or strides change, it is
    a convolution of kernel 1 and BatchNorm. `mask` is as in `ConvLayer`.
    """

    convolutions: tuple[Layer, ...]
    config: FrozenConfigDict

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, mask: jax.Array | None = None) -> jax.Array:
        y, last = x, len(self.convolutions) - 1
        for i, layer in enumerate(self.convolutions):
            y = ConvLayer(layer, self.config, relu=i < last, name=f"conv_{i}")(y, train, mask)
        shortcut = _at_centres(x, self.convolutions)
        if y.shape[-1] != x.shape[-1] or any(max(layer.strides) > 1 for layer in self.convolutions):
            ones = (1,) * (x.ndim - 2)
            layer = Layer("conv", y.shape[-1], kernel=ones, strides=ones, dilation=ones)
            shortcut = ConvLayer(layer, self.config, relu=False, name="shortcut")(shortcut, train, mask)
        return nn.relu(y + shortcut)


def _at_centres(x: jax.Array, convolutions: tuple[Layer, ...]) -> jax.Array:
    """x [N, *axes, C] at the centres of the convolutions' outputs."""
    written = [layer.to_config() for layer in convolutions]
    for axis, length in enumerate(x.shape[1:-1]):
        centres = field_centres(written, length, axis).astype(int)  # Whole numbers: kernels are odd.
        step = int(centres[1] - centres[0]) if len(centres) > 1 else 1
        x = jax.lax.slice_in_dim(x, int(centres[0]), int(centres[-1]) + 1, step, axis + 1)
    return x


class Residual(Encoder):
    """A stem, then blocks, as `parts` lists them."""

    @nn.nowrap
    def parts(self) -> Sequence[Part]:
        """The stem's convolutions, then each block's."""
        raise NotImplementedError

    def layers(self):
        for i, part in enumerate(self.parts()):
            yield self.with_remat(Block if i else Stem, i)(parse(part), self.config, name=f"layer_{i}")

    @nn.nowrap
    def geometry(self):
        return tuple(itertools.chain.from_iterable(self.parts()))


def blocks_of(
    settings: FrozenConfigDict, strides: Sequence[tuple[int, ...]]
) -> Iterator[tuple[int, int, tuple[int, ...]]]:
    """Yields (features in, features out, strides) of each block.

    Features start with `settings.width`, which is the stem's and the first stage's, and double from stage to stage.

    Args:
      settings: with `width`, and `blocks`, the number of each stage.
      strides: of each stage; its first block has them.
    """
    features_in = settings.width
    for stage, (num_blocks, stage_strides) in enumerate(zip(settings.blocks, strides, strict=True)):
        features = settings.width * 2**stage
        for block in range(num_blocks):
            yield features_in, features, stage_strides if block == 0 else (1,) * len(stage_strides)
            features_in = features


def finer_parts(parts: Sequence[Part], stride: int) -> list[Part]:
    """As `layers.finer`, of layers that stand in parts."""
    layers = iter(finer(tuple(itertools.chain.from_iterable(parts)), stride))
    return [tuple(itertools.islice(layers, len(part))) for part in parts]


def check_size(key: str, settings: FrozenConfigDict) -> None:
    """Checks `width` and `blocks`.

    Args:
      key: "config.model.video" or "config.model.audio".

    Raises:
      UserError: names the key.
    """
    check_width(key, settings)
    if not settings.blocks or not all(map(_is_count, settings.blocks)):
        raise UserError(
            f"{key}.blocks={settings.blocks!r} must be the number of blocks of each stage, at least 1, for example "
            "(2, 2, 2, 2)."
        )


def check_width(key: str, settings: FrozenConfigDict) -> None:
    """Checks `width`; as `check_size`."""
    if not _is_count(settings.width):
        raise UserError(f"{key}.width={settings.width!r} must be a whole number of channels, at least 1.")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and value >= 1


class _VideoResidual(VideoEncoder, Residual):
    """Settings: `width` and `blocks` (`blocks_of`), and `stride`, pixels from one place of the map to the next.

    The network's own stride is twice as much with every stage: 16 for four. Smaller ones, to 2, are made of the same
    weights by dilation (`layers.finer`).
    """

    @staticmethod
    def check(settings: FrozenConfigDict) -> None:
        check_size("config.model.video", settings)
        _check_stride(f"config.model.video.stride={settings.stride!r}", settings, settings.stride)

    def front_end(self, x, rate, train):
        return scale_frames(x)

    @nn.nowrap
    def finer(self, stride):
        _check_stride(f"A stride of {stride} pixels", self.settings, stride)
        return FrozenConfigDict({**self.settings, "stride": stride})

    @nn.nowrap
    def parts(self):
        strides = ((1, 1, 1), *[(2, 2, 2)] * (len(self.settings.blocks) - 1))
        parts = [self._stem(), *(self._block(*block) for block in blocks_of(self.settings, strides))]
        return finer_parts(parts, self.settings.stride)

    @nn.nowrap
    def _stem(self) -> Part:
        raise NotImplementedError

    @nn.nowrap
    def _block(self, features_in: int, features: int, strides: tuple[int, int, int]) -> Part:
        raise NotImplementedError


class R2Plus1d(_VideoResidual):
    """R(2+1)D: each convolution is one of space, then one of time, with BatchNorm and ReLU between."""

    @nn.nowrap
    def _stem(self):
        width = self.settings.width
        between = max(1, 45 * width // 64)  # 45, where the network is as wide as theirs.
        return ("conv", between, (1, 7, 7), (1, 2, 2)), ("conv", width, (3, 1, 1), (1, 1, 1))

    @nn.nowrap
    def _block(self, features_in, features, strides):
        # As many parameters as a 3×3×3 convolution from `features_in` to `features` has (section 3.5), in both pairs.
        between = features_in * features * 27 // (features_in * 9 + 3 * features)
        time, height, width = strides
        return (
            ("conv", between, (1, 3, 3), (1, height, width)),
            ("conv", features, (3, 1, 1), (time, 1, 1)),
            ("conv", between, (1, 3, 3), (1, 1, 1)),
            ("conv", features, (3, 1, 1), (1, 1, 1)),
        )


class R3d(_VideoResidual):
    """R3D: convolutions of time and space at once."""

    @nn.nowrap
    def _stem(self):
        return (("conv", self.settings.width, (3, 7, 7), (1, 2, 2)),)

    @nn.nowrap
    def _block(self, features_in, features, strides):
        return ("conv", features, (3, 3, 3), strides), ("conv", features, (3, 3, 3), (1, 1, 1))


def _check_stride(what: str, settings: FrozenConfigDict, stride: int) -> None:
    known = [2 ** (stage + 1) for stage in range(len(settings.blocks))]
    if stride not in known:
        raise UserError(
            f"{what} is none that the video encoder {settings.name!r} can have: choose one of "
            f"{', '.join(map(str, known))} (config.model.video.blocks has {len(known)} stages)."
        )
