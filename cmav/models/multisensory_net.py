"""The network that the paper compares itself with: "Audio-Visual Scene Analysis …" (Owens and Efros, 2018).

Its layers are `cmav.models.encoders.multisensory`'s. Shape suffixes: B clips, K sounds of each clip, F = B * K pairs, T
frames or times, S samples, H and W height and width, C channels, M steps of the sound's map and A its channels.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax import numpy as jnp
from ml_collections import FrozenConfigDict

from cmav.models.backbone import fold
from cmav.models.fused_backbone import FusedBackbone
from cmav.models.maps import MapMethod
from cmav.models.precision import FLOAT32, float32_einsum


class MeanHead(nn.Module):
    """A logit, float32, linear in features."""

    @nn.compact
    def __call__(self, features_BxKxC: jax.Array) -> jax.Array:
        return nn.Dense(1, dtype=jnp.float32, precision=FLOAT32, name="logit")(features_BxKxC)[..., 0]


class MultisensoryNet(nn.Module):
    """Audio-visual synchronization: which of the K audios belongs to the frames? Called as `AvsNet`.

    Frames are encoded once for a clip up to the fusion, and from there once for each of its audios. The second result,
    `out`, is a flat dict of every intermediate:

    | key                            | shape                                                                 |
    | ------------------------------ | --------------------------------------------------------------------- |
    | `video/layer_<i>`, `audio/layer_<i>` | [B, T', H', W', C'] and [B, K, M, A], up to the fusion          |
    | `video/map`, `audio/map`       | the last of these                                                     |
    | `fused/merge`, `fused/layer_<i>` | [B, K, T', H', W', C'], of both streams                             |
    | `fused/map`                    | the last of these                                                     |
    | `fused/features`               | float32 [B, K, C'], its mean over time and space: the head's input    |

    Parameters are `backbone/{video_encoder, audio_encoder}`, in which `video_encoder/fusion` is what follows the
    fusion, and `head`. They and the BatchNorm statistics are float32; the computation is in `config.dtype`.
    """

    config: FrozenConfigDict  # config.model

    def setup(self):
        self.backbone = FusedBackbone(self.config)
        self.head = MeanHead()

    def __call__(
        self,
        video_BxTxHxWxC: jax.Array,
        audio_BxKxSx2: jax.Array,
        *,
        frame_rate: float,
        sample_rate: float,
        train: bool,
    ) -> tuple[jax.Array, dict[str, Any]]:
        """Returns logits float32 [B, K], and the intermediates. Arguments and errors are those of `AvsNet`."""
        pairs = audio_BxKxSx2.shape[:2]
        video = self.backbone.encode_video(video_BxTxHxWxC, frame_rate=frame_rate, train=train)
        audio_F = self.backbone.encode_audio(fold(audio_BxKxSx2), sample_rate=sample_rate, train=train)
        audio = {key: x.reshape(*pairs, *x.shape[1:]) for key, x in audio_F.items()}
        fused = self.backbone.fuse_pairs(video["map"], audio["map"], train=train)
        streams = {"video": video, "audio": audio, "fused": fused}
        out = {f"{stream}/{key}": x for stream, layers in streams.items() for key, x in layers.items()}
        return self.head(fused["features"]), out

    @nn.nowrap
    def map_methods(self) -> dict[str, MapMethod]:
        """How it says where the sound is; see `cmav.models.maps`."""
        meaning = "what each place in the picture adds to the network's answer “in sync”."
        return {"cam": MapMethod(meaning, cam)}

    def encode_video(self, video_BxTxHxWxC: jax.Array, *, frame_rate: float) -> jax.Array:
        """The map of frames up to the fusion, [B, T', H', W', C']: for `pair_logits`."""
        return self.backbone.encode_video(video_BxTxHxWxC, frame_rate=frame_rate, train=False)["map"]

    def encode_audio(self, audio_BxSx2: jax.Array, *, sample_rate: float) -> jax.Array:
        """The map of samples up to the fusion, [B, M, A]: for `pair_logits`."""
        return self.backbone.encode_audio(audio_BxSx2, sample_rate=sample_rate, train=False)["map"]

    def pair_logits(
        self,
        video_BxTxHxWxC: jax.Array,
        audio_BxKxMxA: jax.Array,
        video_times_T: np.ndarray,
        audio_times_M: np.ndarray,
    ) -> jax.Array:
        """The logits [B, K] of pairs whose streams were encoded apart. It needs no times, as `AvsNet` does.

        Each pair takes all that follows the fusion, most of the network. The sounds are taken one after the other, so
        that memory does not grow with their number.
        """

        del video_times_T, audio_times_M

        def logits(net, carry, audio_BxMxA):
            fused = net.backbone.fuse(video_BxTxHxWxC, audio_BxMxA, train=False)
            return carry, net.head(fused["features"][:, None])[:, 0]

        shared = nn.scan(logits, variable_broadcast=("params", "batch_stats"), split_rngs={}, in_axes=1, out_axes=1)
        return shared(self, (), audio_BxKxMxA)[1]


def cam(net: MultisensoryNet, variables: Mapping[str, Any], outputs: Mapping[str, Any]) -> jax.Array:
    """Class activation of the logit of synchrony, float32 [B, K, T', H', W'] (Zhou et al. 2016).

    The logit, less its bias, is the mean of it: it is the map's product with the head's weights, place by place.
    """
    del net
    weights_C = variables["params"]["head"]["logit"]["kernel"][:, 0]
    return float32_einsum("bkthwc,c->bkthw", outputs["fused/map"].astype(jnp.float32), weights_C)
