"""What every encoder is: a front end, layers, and one token for each step in time that is left of its map."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import FrozenConfigDict

from cmav.models import norm_pool, target
from cmav.models.batch_norm import BatchNorm
from cmav.models.conv import conv1d, conv2d, conv3d
from cmav.models.layers import Layer, field_centres

BATCH_NORM_EPSILON = 1e-3  # as Owens & Efros
REMATS = ("none", "stem", "encoders")


def remat(config: FrozenConfigDict) -> str:
    """Of which layers the backward pass takes more time and less memory: one of `REMATS`.

    With "auto" the stem's on GPU, where batches are large and the paper's 32 clips would not fit 80 GB, and on CPU;
    none's on TPU, whose compiler then needs the fewest cycles and no more memory. A stem with a pool in space after it
    is not computed again for that, but has a gradient that needs less (`norm_pool`); others are, and all with
    "encoders".
    `python -m cmav.describe --device=…` says what each comes to.
    """
    if config.remat != "auto":
        return config.remat
    return "none" if target.backend() == "tpu" else "stem"


class EncoderLayer(Protocol):
    """A layer, called within the encoder: [N, T, ..., C] -> [N, T', ..., C']. `mask` is as in `Encoder`.

    Several that are computed as one return as many arrays, the last of which goes on.
    """

    def __call__(self, x: jax.Array, train: bool, mask: jax.Array | None) -> jax.Array | tuple[jax.Array, ...]: ...


class Encoder(nn.Module):
    """Frames or samples -> a map [N, T', (axes,) C'] -> tokens [N, T', hidden_size].

    What it is made of is `front_end` and `layers`; where the map's places lie is `geometry`. The rest is the same for
    all: a token is a linear layer of the mean over what lies between time and channels, so that the same layer embeds
    each place of the map, and the token is the mean of its places' embeddings.
    """

    settings: FrozenConfigDict  # config.model.video or config.model.audio
    config: FrozenConfigDict  # config.model

    def setup(self):
        self.fc = nn.Dense(self.config.hidden_size, dtype=self.config.dtype)

    def __call__(
        self, x: jax.Array, *, rate: float, train: bool, mask: jax.Array | None = None
    ) -> tuple[jax.Array, dict[str, Any]]:
        """Returns the tokens, which have no positions yet, and every intermediate.

        These are those of `encode`, `tokens`, and `times`, NumPy float64 [T'], the tokens' in seconds. Arguments are
        as there.
        """
        out = self.encode(x, rate=rate, train=train, mask=mask)
        tokens = self.tokens_of(out["map"])
        return tokens, {**out, "tokens": tokens, "times": self.times(x.shape[1], rate)}

    @nn.compact
    def encode(self, x: jax.Array, *, rate: float, train: bool, mask: jax.Array | None = None) -> dict[str, jax.Array]:
        """Returns `layer_<i>` for each layer, and `map`, which is the last of them: for who needs no tokens.

        Args:
          x: uint8 frames [N, T, H, W, 3], or int16 samples [N, S, 2]; or a mixture of such, in their range.
          rate: frames or samples per second.
          train: whether BatchNorm uses the batch's statistics.
          mask: bool [N]; rows where it is false are encoded, but kept out of BatchNorm's statistics in training.
        """
        outputs: list[jax.Array] = []
        x = self.front_end(x, rate, train).astype(self.config.dtype)
        for layer in self.layers():
            made = layer(x, train, mask)
            outputs += made if isinstance(made, tuple) else (made,)
            x = outputs[-1]
        return {**{f"layer_{i}": x for i, x in enumerate(outputs)}, "map": x}

    def tokens_of(self, x: jax.Array) -> jax.Array:
        """[N, T', (axes,) C'], a `map` -> [N, T', hidden_size], the `tokens` that come of it."""
        space = tuple(range(2, x.ndim - 1))
        return self.fc(x.mean(axis=space, dtype=jnp.float32).astype(self.config.dtype))

    def front_end(self, x: jax.Array, rate: float, train: bool) -> jax.Array:
        """Frames or samples as they are stored -> what the first layer sees, float32."""
        raise NotImplementedError

    def layers(self) -> Iterator[EncoderLayer]:
        """Makes the layers, in order."""
        raise NotImplementedError

    # What follows needs no parameters, and can be asked of an encoder that is not bound to any.

    @nn.nowrap
    def with_remat(self, layer: type[nn.Module], index: int) -> type[nn.Module]:
        """The class of the layer of this index, computed again in the backward pass where `config.remat` says so."""
        again = remat(self.config) == "encoders" or (remat(self.config) == "stem" and index == 0)
        return nn.remat(layer, static_argnums=(2,)) if again else layer

    @nn.nowrap
    def geometry(self) -> Sequence[tuple[Any, ...]]:
        """Layers in a config's form (`cmav.models.layers`) whose receptive fields lie where those of the map do."""
        raise NotImplementedError

    @nn.nowrap
    def times(self, length: int, rate: float) -> np.ndarray:
        """Centre of each token's receptive field in time, as float64 seconds after the first frame or sample.

        Exact for the given length, and near an end it can lie outside of the clip (`layers.field_centres`).

        Args:
          length: number of frames or samples of the clip.
          rate: frames or samples per second.
        """
        return field_centres(self.geometry(), length, axis=0) / rate


def normalised(
    x: jax.Array, config: FrozenConfigDict, train: bool, mask: jax.Array | None = None, name: str = "norm"
) -> jax.Array:
    """BatchNorm of x [N, ..., C], which the module that calls this has under this name. `mask` as in `ConvLayer`."""
    norm = BatchNorm(**_norm_settings(config, x), name=name)
    if mask is not None:
        mask = mask.reshape(-1, *(1,) * (x.ndim - 1))
    return norm(x, use_running_average=not train, mask=mask)


def _norm_settings(config: FrozenConfigDict, x: jax.Array) -> dict[str, Any]:
    return {"momentum": config.batch_norm_momentum, "epsilon": BATCH_NORM_EPSILON, "dtype": x.dtype}


class ConvLayer(nn.Module):
    """Convolution and, unless `norm` or `relu` are false, BatchNorm and ReLU.

    `mask`, bool [N], says which rows the batch's statistics are of; None: all. Of no row: the stored ones stay. With a
    pool in space, which is computed together with BatchNorm and ReLU, it returns what goes into that and what comes
    out.
    """

    layer: Layer
    config: FrozenConfigDict
    relu: bool = True
    norm: bool = True
    pool: norm_pool.Pool | None = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, mask: jax.Array | None = None) -> jax.Array:
        layer = self.layer
        shape = (*layer.kernel, x.shape[-1], layer.features)
        kernel = self.param("kernel", nn.initializers.he_normal(), shape, jnp.float32)
        if len(layer.kernel) == 3:
            x = conv3d(x, kernel, layer.strides, self.config.conv_lowering, layer.dilation)
        elif len(layer.kernel) == 2:
            x = conv2d(x, kernel, layer.strides, self.config.conv_lowering)
        else:
            x = conv1d(x, kernel, layer.strides, layer.dilation)
        if self.pool is not None and mask is None:
            norm = norm_pool.NormReluPool(**_norm_settings(self.config, x), name="norm")
            return norm(x, use_running_average=not train, pool=self.pool)
        if self.norm:
            x = normalised(x, self.config, train, mask)
        if self.relu:
            x = nn.relu(x)
        return x if self.pool is None else (x, self.pool(x))
