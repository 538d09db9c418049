"""The network of "Look, Listen, and Attend" (2020): two encoders, co-attention, fusion.

Shape suffixes: B clips, K audios of each clip, F = B * K pairs, T frames, S samples, N video tokens, M audio tokens,
D hidden size.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import FrozenConfigDict

from cmav.models.co_attention import CoAttention
from cmav.models.encoders import Encoder
from cmav.models.positions import AddPositions, token_times
from cmav.models.precision import FLOAT32
from cmav.models.settings import check_model_config


class AvsBackbone(nn.Module):
    """Encoders and co-attention: everything but the head, the part that fine-tuning keeps.

    Made of three methods, so that other tasks can put them together in their own way. Called as a whole it is
    synchronization's: the video encoder runs once per clip, and its tokens are repeated for each of the K audios.
    """

    config: FrozenConfigDict

    def setup(self):
        config = self.config
        check_model_config(config)
        self.video_encoder = Encoder(config.video_layers, config)
        self.audio_encoder = Encoder(config.audio_layers, config)
        self.video_positions = AddPositions(config)
        self.audio_positions = AddPositions(config)
        self.co_attention = CoAttention(config)

    def encode_video(
        self, video_NxTxHxWxC: jax.Array, *, frame_rate: float, train: bool
    ) -> tuple[jax.Array, dict[str, Any]]:
        """Returns tokens with their positions, [N, ., D], and the encoder's intermediates, `times` among them."""
        tokens, out = self.video_encoder(scale_frames(video_NxTxHxWxC), train=train)
        times = token_times(self.config.video_layers, video_NxTxHxWxC.shape[1], frame_rate)
        return self.video_positions(tokens, times), {**out, "times": times}

    def encode_audio(
        self, audio_NxSx2: jax.Array, *, sample_rate: float, train: bool, mask: jax.Array | None = None
    ) -> tuple[jax.Array, dict[str, Any]]:
        """As `encode_video`. Rows where `mask`, bool [N], is false are kept out of BatchNorm's statistics."""
        samples = scale_samples(audio_NxSx2, self.config.audio_companding)
        tokens, out = self.audio_encoder(samples, train=train, mask=mask)
        times = token_times(self.config.audio_layers, audio_NxSx2.shape[1], sample_rate)
        return self.audio_positions(tokens, times), {**out, "times": times}

    def co_attend(
        self, video_NxVxD: jax.Array | None, audio_NxAxD: jax.Array | None, *, train: bool
    ) -> tuple[jax.Array | None, jax.Array | None, dict[str, jax.Array]]:
        """Returns the final tokens of both streams, or of the one that is there, and the blocks' (`CoAttention`)."""
        return self.co_attention(video_NxVxD, audio_NxAxD, train=train)

    def __call__(
        self,
        video_BxTxHxWxC: jax.Array,
        audio_BxKxSx2: jax.Array,
        *,
        frame_rate: float,
        sample_rate: float,
        train: bool,
    ) -> tuple[jax.Array, jax.Array, dict[str, Any]]:
        """Returns the streams' final tokens, [B, K, ., D] each, and the intermediates (see `AvsNet`)."""
        num_clips, num_audios = audio_BxKxSx2.shape[:2]
        audio_FxSx2 = _fold(audio_BxKxSx2)
        video_BxNxD, video_out = self.encode_video(video_BxTxHxWxC, frame_rate=frame_rate, train=train)
        audio_FxMxD, audio_out = self.encode_audio(audio_FxSx2, sample_rate=sample_rate, train=train)
        video_times, audio_times = video_out.pop("times"), audio_out.pop("times")

        def unfold(x):
            return x.reshape(num_clips, num_audios, *x.shape[1:])

        video, audio, blocks = self.co_attend_pairs(video_BxNxD, unfold(audio_FxMxD), train=train)
        out = {
            **{f"video/{key}": x for key, x in video_out.items()},
            **{f"audio/{key}": unfold(x) for key, x in audio_out.items()},
            **{f"co_attention/{key}": x for key, x in blocks.items()},
            "video/times": video_times,
            "audio/times": audio_times,
            "video/features": video,
            "audio/features": audio,
        }
        return video, audio, out

    def co_attend_pairs(
        self, video_BxNxD: jax.Array, audio_BxKxMxD: jax.Array, *, train: bool
    ) -> tuple[jax.Array, jax.Array, dict[str, jax.Array]]:
        """As `co_attend`, of each clip with each of its K audios: all that is returned is [B, K, ...]."""
        pairs = audio_BxKxMxD.shape[:2]
        video_FxNxD = jnp.repeat(video_BxNxD, pairs[1], axis=0)
        attended = self.co_attend(video_FxNxD, _fold(audio_BxKxMxD), train=train)
        return jax.tree.map(lambda x: x.reshape(*pairs, *x.shape[1:]), attended)


class FusionHead(nn.Module):
    """Do the two streams belong together? One logit for each pair.

    Tokens are resized to a fixed number before they are flattened, so that weights from one frame rate fit another.
    """

    config: FrozenConfigDict

    @nn.compact
    def __call__(self, video_BxKxNxD: jax.Array, audio_BxKxMxD: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns logits float32 [B, K] and the hidden layer [B, K, fusion_size]."""
        config = self.config

        def flatten(x):
            shape = (*x.shape[:2], config.fusion_tokens, x.shape[-1])
            return jax.image.resize(x, shape, "linear").reshape(*x.shape[:2], -1)

        x = jnp.concatenate([flatten(video_BxKxNxD), flatten(audio_BxKxMxD)], axis=-1)
        hidden = nn.relu(nn.Dense(config.fusion_size, dtype=config.dtype, name="hidden")(x))
        logits = nn.Dense(1, dtype=jnp.float32, precision=FLOAT32, name="logit")(hidden)
        return logits[..., 0], hidden


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
        self.backbone = AvsBackbone(self.config)
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
        rates = {"frame_rate": frame_rate, "sample_rate": sample_rate}
        video, audio, out = self.backbone(video_BxTxHxWxC, audio_BxKxSx2, **rates, train=train)
        logits_BxK, hidden = self.head(video, audio)
        return logits_BxK, {**out, "fusion/hidden": hidden}

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
        backbone = self.backbone
        video = backbone.video_positions(backbone.video_encoder.tokens_of(map_BxTxHxWxC), video_times_N)
        audio = backbone.audio_positions(_fold(audio_tokens_BxKxMxD), audio_times_M)
        audio = audio.reshape(audio_tokens_BxKxMxD.shape)
        video, audio, _ = backbone.co_attend_pairs(video, audio, train=False)
        logits_BxK, _ = self.head(video, audio)
        return logits_BxK


def _fold(x_BxK: jax.Array) -> jax.Array:
    """[B, K, ...] -> [B * K, ...]"""
    return x_BxK.reshape(-1, *x_BxK.shape[2:])


def scale_frames(video: jax.Array) -> jax.Array:
    """0 to 255, uint8 or a mixture of such -> float32 from -1 to 1."""
    return video.astype(jnp.float32) / 127.5 - 1


def scale_samples(audio: jax.Array, companding: str) -> jax.Array:
    """int16, or a mixture of such -> float32 from -1 to 1.

    Companding "mu_law" lifts what is quiet: sign(x) log(1 + 255|x|) / log 256.
    """
    x = audio.astype(jnp.float32) / 32768
    if companding == "mu_law":
        x = jnp.sign(x) * jnp.log1p(255 * jnp.abs(x)) / jnp.log(256.0)
    return x
