"""Encoders and co-attention: everything of a network but its head, the part that fine-tuning keeps.

Shape suffixes: N clips, T frames, S samples, V video tokens, A audio tokens, D hidden size.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import FrozenConfigDict

from cmav.errors import UserError
from cmav.models import encoders
from cmav.models.co_attention import CoAttention
from cmav.models.positions import AddPositions
from cmav.models.settings import check_model_config


class Backbone(nn.Module):
    """Made of methods that a network puts together in its own way.

    With `config.depth` 0 there is no co-attention, and the final tokens of a stream are its encoder's, with positions.
    """

    config: FrozenConfigDict  # config.model

    def setup(self):
        config = self.config
        check_model_config(config)
        if encoders.hears(config):
            raise UserError(
                f"config.model.video.name={config.video.name!r} mixes the sound into the pictures, and this task's "
                'network needs them apart: choose another, config.model.video = cmav.config.encoder("video", "conv3d").'
            )
        self.video_encoder = encoders.video(config)
        self.audio_encoder = encoders.audio(config)
        self.video_positions = AddPositions(config)
        self.audio_positions = AddPositions(config)
        self.co_attention = CoAttention(config)

    def encode_video(
        self, video_NxTxHxWxC: jax.Array, *, frame_rate: float, train: bool
    ) -> tuple[jax.Array, dict[str, Any]]:
        """Returns tokens with their positions, [N, V, D], and the encoder's intermediates (`encoders.base.Encoder`)."""
        tokens, out = self.video_encoder(video_NxTxHxWxC, rate=frame_rate, train=train)
        return self.video_positions(tokens, out["times"]), out

    def encode_audio(
        self, audio_NxSx2: jax.Array, *, sample_rate: float, train: bool, mask: jax.Array | None = None
    ) -> tuple[jax.Array, dict[str, Any]]:
        """As `encode_video`. Rows where `mask`, bool [N], is false are kept out of BatchNorm's statistics."""
        tokens, out = self.audio_encoder(audio_NxSx2, rate=sample_rate, train=train, mask=mask)
        return self.audio_positions(tokens, out["times"]), out

    def co_attend(
        self, video_NxVxD: jax.Array | None, audio_NxAxD: jax.Array | None, *, train: bool
    ) -> tuple[jax.Array | None, jax.Array | None, dict[str, jax.Array]]:
        """Returns the final tokens of both streams, or of the one that is there, and the blocks' (`CoAttention`)."""
        return self.co_attention(video_NxVxD, audio_NxAxD, train=train)

    def co_attend_pairs(
        self, video_NxVxD: jax.Array, audio_NxKxAxD: jax.Array, *, train: bool
    ) -> tuple[jax.Array, jax.Array, dict[str, jax.Array]]:
        """As `co_attend`, of each clip with each of its K audios: all that is returned is [N, K, ...]."""
        pairs = audio_NxKxAxD.shape[:2]
        video = video_NxVxD.repeat(pairs[1], axis=0)
        attended = self.co_attend(video, fold(audio_NxKxAxD), train=train)
        return jax.tree.map(lambda x: x.reshape(*pairs, *x.shape[1:]), attended)

    def features(
        self,
        video_NxTxHxWxC: jax.Array | None,
        audio_NxSx2: jax.Array | None,
        has_audio_N: jax.Array,
        *,
        frame_rate: float,
        sample_rate: float,
        train: bool,
    ) -> tuple[dict[str, jax.Array], dict[str, Any]]:
        """What there is of `video` and `audio` as a vector each, [N, D], and the encoders' intermediates.

        They are the means of the final tokens. A clip without audio is as if there were only video, whatever the others
        have, and its audio is zero.
        """
        video, audio, out = None, None, {}
        if video_NxTxHxWxC is not None:
            video, video_out = self.encode_video(video_NxTxHxWxC, frame_rate=frame_rate, train=train)
            out |= {f"video/{key}": x for key, x in video_out.items()}
        if audio_NxSx2 is not None:
            # Silence must not move the statistics by which sound is normalised.
            audio, audio_out = self.encode_audio(audio_NxSx2, sample_rate=sample_rate, train=train, mask=has_audio_N)
            out |= {f"audio/{key}": x for key, x in audio_out.items()}
        if video is None or audio is None:
            alone_video, alone_audio, _ = self.co_attend(video, audio, train=train)
            alone = {"video": alone_video, "audio": alone_audio}
            return {stream: x.mean(axis=1) for stream, x in alone.items() if x is not None}, out
        attended_video, attended_audio, _ = self.co_attend(video, audio, train=train)
        alone, _, _ = self.co_attend(video, None, train=train)
        heard_Nx1 = has_audio_N[:, None]
        both = {
            "video": jnp.where(heard_Nx1, attended_video.mean(axis=1), alone.mean(axis=1)),
            "audio": jnp.where(heard_Nx1, attended_audio.mean(axis=1), 0),
        }
        return both, out


def fold(x_NxK: jax.Array) -> jax.Array:
    """[N, K, ...] -> [N * K, ...]"""
    return x_NxK.reshape(-1, *x_NxK.shape[2:])
