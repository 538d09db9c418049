"""The network of "Look, Listen, and Attend" (2020): two encoders, co-attention, fusion.

Shape suffixes: B clips, K audios of each clip, F = B * K pairs, T frames, S samples, N video tokens, M audio tokens,
D hidden size.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import FrozenConfigDict

from cmav.models import maps
from cmav.models.alignment import moment_evidence
from cmav.models.backbone import Backbone, fold
from cmav.models.maps import MapMethod
from cmav.models.precision import FLOAT32


class FusionHead(nn.Module):
    """Do the two streams belong together? One logit for each pair.

    Tokens are resized to a fixed number before they are flattened, so that weights from one frame rate fit another; or
    `config.fusion` is "mean", and only their mean is seen. What two layers can hardly learn is to compare tokens, for
    that takes products: with `config.fusion_moments` the evidence of `moment_evidence` is added, times a factor that is
    learned, from 1. Fewer tokens can have less of it, so at a lower frame rate it counts less.
    """

    config: FrozenConfigDict

    @nn.compact
    def __call__(
        self, video_BxKxNxD: jax.Array, audio_BxKxMxD: jax.Array, evidence_BxK: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """Returns logits float32 [B, K] and the hidden layer [B, K, fusion_size]."""
        config = self.config

        def as_vector(x):
            if config.fusion == "mean":
                return x.mean(axis=2)
            shape = (*x.shape[:2], config.fusion_tokens, x.shape[-1])
            return jax.image.resize(x, shape, "linear").reshape(*x.shape[:2], -1)

        x = jnp.concatenate([as_vector(video_BxKxNxD), as_vector(audio_BxKxMxD)], axis=-1)
        hidden = nn.relu(nn.Dense(config.fusion_size, dtype=config.dtype, name="hidden")(x))
        logits = nn.Dense(1, dtype=jnp.float32, precision=FLOAT32, name="logit")(hidden)
        if evidence_BxK is None:
            return logits[..., 0], hidden
        log_factor = self.param("log_moments_factor", nn.initializers.zeros, ())
        return logits[..., 0] + jnp.exp(log_factor) * evidence_BxK, hidden


class AvsNet(nn.Module):
    """Audio-visual synchronization: which of the K audios belongs to the frames?

    The second result, `out`, is a flat dict of every intermediate:

    | key                                    | shape                                                            |
    | -------------------------------------- | ---------------------------------------------------------------- |
    | `video/layer_<i>`, `audio/layer_<i>`   | [B, T', H', W', C'] and [B, K, S', C'], after layer i of the config |
    | `video/map`, `audio/map`               | the last of these, before the mean over space                    |
    | `video/tokens`, `audio/tokens`         | [B, N, D] and [B, K, M, D], before positions and attention       |
    | `video/times`, `audio/times`           | NumPy [N] and [M]: centre of each token in seconds               |
    | `co_attention/<depth>/<stream>/<block>` | [B, K, queries, D], output of the block (see `CoAttention`)      |
    | the same `/weights`                    | float32 [B, K, heads, queries, keys]                             |
    | `video/features`, `audio/features`     | [B, K, ., D], final tokens of the streams                        |
    | `fusion/hidden`                        | [B, K, fusion_size]                                              |

    Parameters are `backbone/{video_encoder, audio_encoder, co_attention}` (and positions where they are learned) and
    `head`. They and the BatchNorm statistics are float32; the computation is in `config.dtype`.
    """

    config: FrozenConfigDict  # config.model

    def setup(self):
        self.backbone = Backbone(self.config)
        self.head = FusionHead(self.config)

    def __call__(
        self,
        video_BxTxHxWxC: jax.Array,
        audio_BxKxSx2: jax.Array,
        *,
        frame_rate: float,
        sample_rate: float,
        train: bool,
    ) -> tuple[jax.Array, dict[str, Any]]:
        """Returns logits float32 [B, K], and the intermediates.

        Args:
          video_BxTxHxWxC: frames, uint8.
          audio_BxKxSx2: stereo samples, int16, of as many seconds as the frames.
          frame_rate: frames per second.
          sample_rate: samples per second.
          train: whether BatchNorm uses the batch's statistics (and updates `batch_stats`) and dropout is active.

        Raises:
          UserError: where the config's values are none of those that exist.
        """
        backbone = self.backbone
        pairs = audio_BxKxSx2.shape[:2]
        # The video encoder runs once per clip, and its tokens are repeated for each of the K audios.
        video_BxNxD, video_out = backbone.encode_video(video_BxTxHxWxC, frame_rate=frame_rate, train=train)
        audio_FxMxD, audio_out = backbone.encode_audio(fold(audio_BxKxSx2), sample_rate=sample_rate, train=train)
        audio_times = audio_out.pop("times")

        def unfold(x):
            return x.reshape(*pairs, *x.shape[1:])

        video, audio, blocks = backbone.co_attend_pairs(video_BxNxD, unfold(audio_FxMxD), train=train)
        evidence_BxK = self._evidence(video_out["tokens"], unfold(audio_out["tokens"]), video_out["times"], audio_times)
        logits_BxK, hidden = self.head(video, audio, evidence_BxK)
        return logits_BxK, {
            **{f"video/{key}": x for key, x in video_out.items()},
            **{f"audio/{key}": unfold(x) for key, x in audio_out.items()},
            **{f"co_attention/{key}": x for key, x in blocks.items()},
            "audio/times": audio_times,
            "video/features": video,
            "audio/features": audio,
            "fusion/hidden": hidden,
        }

    @nn.nowrap
    def map_methods(self) -> dict[str, MapMethod]:
        """How it says where the sound is; see `cmav.models.maps`."""
        meaning = "what each place in the picture adds to the network's answer “in sync”."
        return {"cam": MapMethod(meaning, cam), **maps.of_backbone(self.config)}

    def logits_from_map(
        self,
        map_BxTxHxWxC: jax.Array,
        audio_tokens_BxKxMxD: jax.Array,
        video_times_N: np.ndarray,
        audio_times_M: np.ndarray,
    ) -> jax.Array:
        """The logits, without dropout, as a function of `video/map`: for its gradient.

        The other arguments are `audio/tokens`, `video/times` and `audio/times` of the intermediates.
        """
        video_tokens_BxNxD = self.backbone.video_encoder.tokens_of(map_BxTxHxWxC)
        return self.pair_logits(video_tokens_BxNxD, audio_tokens_BxKxMxD, video_times_N, audio_times_M)

    def encode_video(self, video_BxTxHxWxC: jax.Array, *, frame_rate: float) -> jax.Array:
        """Tokens of frames, [B, N, D], without dropout: for `pair_logits`."""
        return self.backbone.encode_video(video_BxTxHxWxC, frame_rate=frame_rate, train=False)[1]["tokens"]

    def encode_audio(self, audio_BxSx2: jax.Array, *, sample_rate: float) -> jax.Array:
        """Tokens of samples, [B, M, D], without dropout: for `pair_logits`."""
        return self.backbone.encode_audio(audio_BxSx2, sample_rate=sample_rate, train=False)[1]["tokens"]

    def pair_logits(
        self,
        video_BxNxD: jax.Array,
        audio_BxKxMxD: jax.Array,
        video_times_N: np.ndarray,
        audio_times_M: np.ndarray,
    ) -> jax.Array:
        """The logits [B, K] of pairs whose streams were encoded apart, so that each is encoded once for many pairs.

        Times are `video/times` and `audio/times` of the intermediates.
        """
        backbone = self.backbone
        video = backbone.video_positions(video_BxNxD, video_times_N)
        audio = backbone.audio_positions(fold(audio_BxKxMxD), audio_times_M).reshape(audio_BxKxMxD.shape)
        video, audio, _ = backbone.co_attend_pairs(video, audio, train=False)
        evidence_BxK = self._evidence(video_BxNxD, audio_BxKxMxD, video_times_N, audio_times_M)
        logits_BxK, _ = self.head(video, audio, evidence_BxK)
        return logits_BxK

    @nn.nowrap
    def _evidence(self, video_BxNxD, audio_BxKxMxD, video_times_N, audio_times_M) -> jax.Array | None:
        """What the head is told of the encoders' tokens, [B, K]."""
        if not self.config.fusion_moments:
            return None
        return moment_evidence(
            video_BxNxD[:, None], audio_BxKxMxD, video_times_N, audio_times_M, self.config.fusion_moments
        )


def cam(net: AvsNet, variables: Mapping[str, Any], outputs: Mapping[str, Any]) -> jax.Array:
    """Class activation of the logit of synchrony, [B, K, T', H', W']. See `maps.class_activation`."""

    def logits_of(map_BxTxHxWxC):
        others = (outputs["audio/tokens"], outputs["video/times"], outputs["audio/times"])
        return net.apply(variables, map_BxTxHxWxC, *others, method="logits_from_map")

    return maps.class_activation(logits_of, outputs["video/map"])
