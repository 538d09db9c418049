"""Encoders whose layers a config lists: 3-D convolutions of frames, 1-D convolutions of samples.

"Look, Listen, and Attend" (2020), section 3.1. Layers are written in the config: `("conv", features, kernel, stride)`,
each followed by BatchNorm and ReLU, and `("pool", kernel, stride)`, an average. A last element, the dilation, is for
finer maps (`layers.finer`). All padding is SAME; an average counts only what is really there, not the padding.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import FrozenConfigDict

from cmav.errors import UserError
from cmav.models.encoders.base import ConvLayer, Encoder, remat
from cmav.models.encoders.video import VideoEncoder, scale_frames
from cmav.models.layers import Layer, finer, parse
from cmav.models.pool import average_pool

COMPANDINGS = ("mu_law", "none")


class _Layered(Encoder):
    """Layers as `settings.layers` lists them."""

    def layers(self):
        layers = parse(self.settings.layers)
        with_pool = remat(self.config) != "none" and len(layers) > 1 and _is_stem(*layers[:2])
        if with_pool:
            again = remat(self.config) == "encoders"
            conv = nn.remat(ConvLayer, static_argnums=(2,)) if again else ConvLayer
            yield conv(layers[0], self.config, pool=PoolInSpace(layers[1]), name="layer_0")
        for i, layer in enumerate(layers):
            if i > 1 or not with_pool:
                yield _pool(layer) if layer.kind == "pool" else self._conv_layer(i, layer)

    @nn.nowrap
    def geometry(self):
        return self.settings.layers

    def _conv_layer(self, index: int, layer: Layer) -> ConvLayer:
        return self.with_remat(ConvLayer, index)(layer, self.config, name=f"layer_{index}")


def _is_stem(conv: Layer, pool: Layer) -> bool:
    """Whether these are a convolution of frames and a pool of each frame by itself."""
    return (
        (conv.kind, pool.kind) == ("conv", "pool") and len(pool.kernel) == 3 and pool.kernel[0] == pool.strides[0] == 1
    )


@dataclasses.dataclass(frozen=True)
class PoolInSpace:
    """A layer's average pool as a function that is equal to another of the same layer, as JAX wants static ones."""

    layer: Layer

    def __call__(self, x: jax.Array) -> jax.Array:
        return average_pool(x, self.layer.kernel, self.layer.strides, self.layer.dilation)


def _pool(layer: Layer):
    return lambda x, train, mask: average_pool(x, layer.kernel, layer.strides, layer.dilation)


class Conv3d(VideoEncoder, _Layered):
    """Of frames. Settings: `layers`, with kernels and strides of (time, height, width)."""

    @staticmethod
    def check(settings: FrozenConfigDict) -> None:
        _check_layers("config.model.video.layers", settings.layers, num_axes=3)

    def front_end(self, x, rate, train):
        return scale_frames(x)

    @nn.nowrap
    def finer(self, stride):
        return FrozenConfigDict({**self.settings, "layers": finer(self.settings.layers, stride)})


class Conv1d(_Layered):
    """Of the waveform. Settings: `layers`, with kernels and strides of (time,), and `companding` (`COMPANDINGS`)."""

    @staticmethod
    def check(settings: FrozenConfigDict) -> None:
        _check_layers("config.model.audio.layers", settings.layers, num_axes=1)
        check_companding(settings)

    def front_end(self, x, rate, train):
        return scale_samples(x, self.settings.companding)


def scale_samples(audio: jax.Array, companding: str) -> jax.Array:
    """int16, or a mixture of such -> float32 from -1 to 1.

    Companding "mu_law" lifts what is quiet: sign(x) log(1 + 255|x|) / log 256.
    """
    x = audio.astype(jnp.float32) / 32768
    if companding == "mu_law":
        x = jnp.sign(x) * jnp.log1p(255 * jnp.abs(x)) / jnp.log(256.0)
    return x


def check_companding(settings: FrozenConfigDict) -> None:
    """Raises UserError where `companding` is none of `COMPANDINGS`."""
    if settings.companding not in COMPANDINGS:
        raise UserError(
            f"config.model.audio.companding={settings.companding!r} is not known: choose one of "
            f"{', '.join(COMPANDINGS)}."
        )


def _check_layers(key: str, layers: Any, num_axes: int) -> None:
    for i, layer in enumerate(layers):
        kind, *args = layer
        sizes = args[1:] if kind == "conv" else args
        if kind not in ("conv", "pool") or len(sizes) not in (2, 3) or not all(_is_size(s, num_axes) for s in sizes):
            raise UserError(
                f"{key}[{i}]={layer!r} is not a layer: write ('conv', features, kernel, stride) or "
                f"('pool', kernel, stride), with {num_axes} positive number(s) in each kernel and stride, and in the "
                "dilation, where there is one after them."
            )
        _, strides, *dilation = sizes
        if dilation and any(stride > 1 and gap > 1 for stride, gap in zip(strides, dilation[0], strict=True)):
            raise UserError(
                f"{key}[{i}]={layer!r} has a stride and a dilation along the same axis: one of them must be 1."
            )


def _is_size(size: Any, num_axes: int) -> bool:
    return isinstance(size, Sequence) and len(size) == num_axes and min(size) >= 1
