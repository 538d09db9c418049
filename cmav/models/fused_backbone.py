"""The backbone of a network that fuses early: an encoder of sound, and one of frames that hears.

Shape suffixes: N clips, K sounds of each, T frames or times, S samples, H and W height and width, C channels of the
frames' map, M steps of the sound's and A its channels.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import FrozenConfigDict

from cmav.models import encoders
from cmav.models.backbone import fold
from cmav.models.settings import check_model_config


class FusedBackbone(nn.Module):
    """Made of methods that a network puts together in its own way, as `Backbone`."""

    config: FrozenConfigDict  # config.model

    def setup(self):
        check_model_config(self.config)
        self.video_encoder = encoders.video(self.config)
        self.audio_encoder = encoders.audio(self.config)

    def encode_video(self, video_NxTxHxWxC: jax.Array, *, frame_rate: float, train: bool) -> dict[str, jax.Array]:
        """Frames up to the fusion: `layer_<i>`, and `map` [N, T', H', W', C']."""
        return self.video_encoder.encode(video_NxTxHxWxC, rate=frame_rate, train=train)

    def encode_audio(
        self, audio_NxSx2: jax.Array, *, sample_rate: float, train: bool, mask: jax.Array | None = None
    ) -> dict[str, jax.Array]:
        """Sound up to the fusion: `layer_<i>`, and `map` [N, M, A].

        Rows where `mask`, bool [N], is false are kept out of BatchNorm's statistics.
        """
        return self.audio_encoder.encode(audio_NxSx2, rate=sample_rate, train=train, mask=mask)

    def fuse(
        self, video_NxTxHxWxC: jax.Array, audio_NxMxA: jax.Array | None, *, train: bool, mask: jax.Array | None = None
    ) -> dict[str, jax.Array]:
        """The rest of the network, of both maps: `merge`, `layer_<i>`, `map`, and `features`, float32 [N, C'].

        `features` is the mean of `map` over time and space. `audio_NxMxA` and `mask` are as of
        `encoders.multisensory.Fusion`.
        """
        if audio_NxMxA is not None:  # Frequencies, of an encoder whose map has them, are averaged.
            audio_NxMxA = audio_NxMxA.mean(axis=tuple(range(2, audio_NxMxA.ndim - 1)))
        out = self.video_encoder.fuse(video_NxTxHxWxC, audio_NxMxA, train=train, mask=mask)
        return {**out, "features": out["map"].mean(axis=(1, 2, 3), dtype=jnp.float32)}

    def fuse_pairs(self, video_NxTxHxWxC: jax.Array, audio_NxKxMxA: jax.Array, *, train: bool) -> dict[str, jax.Array]:
        """As `fuse`, of each clip with each of its K sounds: all that is returned is [N, K, ...]."""
        pairs = audio_NxKxMxA.shape[:2]
        fused = self.fuse(video_NxTxHxWxC.repeat(pairs[1], axis=0), fold(audio_NxKxMxA), train=train)
        return {key: x.reshape(*pairs, *x.shape[1:]) for key, x in fused.items()}

    def features(
        self,
        video_NxTxHxWxC: jax.Array,
        audio_NxSx2: jax.Array | None,
        has_audio_N: jax.Array,
        *,
        frame_rate: float,
        sample_rate: float,
        train: bool,
    ) -> tuple[dict[str, jax.Array], dict[str, Any]]:
        """The `fused` features, float32 [N, C'], and all intermediates, by `video/…`, `audio/…` and `fused/…`.

        In a clip without audio nothing is merged into the pictures, as in all where `audio_NxSx2` is None.
        """
        out, audio = {"video": self.encode_video(video_NxTxHxWxC, frame_rate=frame_rate, train=train)}, None
        if audio_NxSx2 is not None:
            # Silence must not move the statistics by which sound is normalised.
            out["audio"] = self.encode_audio(audio_NxSx2, sample_rate=sample_rate, train=train, mask=has_audio_N)
            audio = out["audio"]["map"]
        out["fused"] = self.fuse(out["video"]["map"], audio, train=train, mask=has_audio_N)
        features = {"fused": out["fused"].pop("features")}
        return features, {f"{stream}/{key}": x for stream, layers in out.items() for key, x in layers.items()}
