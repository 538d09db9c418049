"""The video and the audio encoder: convolutions, then one token for each step in time that is left.

"Look, Listen, and Attend" (2020), section 3.1. Both are the same module over different layers, because audio is video
without height and width. Layers are written in the config: `("conv", features, kernel, stride)`, each followed by
BatchNorm and ReLU, and `("pool", kernel, stride)`, an average. A last element, the dilation, is for finer maps
(`layers.finer`). All padding is SAME; an average counts only what is really there, not the padding.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import FrozenConfigDict

from cmav.models.batch_norm import BatchNorm
from cmav.models.conv import conv1d, conv3d
from cmav.models.layers import Layer, parse
from cmav.models.pool import average_pool

BATCH_NORM_EPSILON = 1e-3  # as Owens & Efros


class ConvLayer(nn.Module):
    """Convolution, BatchNorm, ReLU.

    `mask`, bool [N], says which rows the batch's statistics are of; None: all. Of no row: the stored ones stay.
    """

    layer: Layer
    config: FrozenConfigDict

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, mask: jax.Array | None = None) -> jax.Array:
        layer = self.layer
        shape = (*layer.kernel, x.shape[-1], layer.features)
        kernel = self.param("kernel", nn.initializers.he_normal(), shape, jnp.float32)
        if len(layer.kernel) == 3:
            x = conv3d(x, kernel, layer.strides, self.config.conv_lowering, layer.dilation)
        else:
            x = conv1d(x, kernel, layer.strides, layer.dilation)
        norm = BatchNorm(
            momentum=self.config.batch_norm_momentum, epsilon=BATCH_NORM_EPSILON, dtype=x.dtype, name="norm"
        )
        if mask is not None:
            mask = mask.reshape(-1, *(1,) * (x.ndim - 1))
        x = norm(x, use_running_average=not train, mask=mask)
        return nn.relu(x)


class Encoder(nn.Module):
    """[N, T, (H, W,) C] -> tokens [N, T', hidden_size].

    Returns the tokens, which have no positions yet, and every intermediate: `layer_<i>` for each layer of the config,
    `map` [N, T', (H', W',) C'], which is the last of them, and `tokens`. Rows where `mask`, bool [N], is false are
    encoded, but kept out of BatchNorm's statistics in training.
    """

    layers: tuple[tuple[Any, ...], ...]
    config: FrozenConfigDict

    def setup(self):
        self.fc = nn.Dense(self.config.hidden_size, dtype=self.config.dtype)

    @nn.compact
    def __call__(
        self, x: jax.Array, *, train: bool, mask: jax.Array | None = None
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        out = {}
        x = x.astype(self.config.dtype)
        for i, layer in enumerate(parse(self.layers)):
            if layer.kind == "pool":
                x = average_pool(x, layer.kernel, layer.strides, layer.dilation)
            else:
                x = self._conv_layer(i, layer)(x, train, mask)
            out[f"layer_{i}"] = x
        out["map"] = x
        out["tokens"] = self.tokens_of(x)
        return out["tokens"], out

    def tokens_of(self, x: jax.Array) -> jax.Array:
        """[N, T', (H', W',) C'], a `map` -> [N, T', hidden_size], the `tokens` that come of it."""
        space = tuple(range(2, x.ndim - 1))
        return self.fc(x.mean(axis=space, dtype=jnp.float32).astype(self.config.dtype))

    def _conv_layer(self, index: int, layer: Layer) -> ConvLayer:
        remat = self.config.remat == "encoders" or (self.config.remat == "stem" and index == 0)
        module = nn.remat(ConvLayer, static_argnums=(2,)) if remat else ConvLayer
        return module(layer, self.config, name=f"layer_{index}")
