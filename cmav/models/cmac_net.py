"""The network of cross-modal attention consistency (CMAC): two encoders, embeddings and attentions of each stream.

"Cross-Modal Attention Consistency for Video-Audio Unsupervised Learning" (Min et al., 2021), of which only the abstract
could be had. From it: a modality's own attention ("pure") is to agree with the attention that the other modality
guides, visual attention over places and audio attention over frequencies. The form below is ours.

Shape suffixes: B clips, T times of the video's map, H and W its rows and columns, M times of the audio's map, F its
frequencies, P places at one time (H·W of video, F of audio), D hidden size, E size of an embedding.
"""

import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import FrozenConfigDict

from cmav.models.backbone import Backbone
from cmav.models.batch_norm import BatchNorm
from cmav.models.maps import MapMethod
from cmav.models.precision import FLOAT32, float32_einsum

POOLINGS = ("attention", "mean")
NORM_EPSILON = 1e-6
# Of what is learned: as CLIP does, similarities are never multiplied by more than 100.
LEAST_TEMPERATURE = 0.01


class StreamHead(nn.Module):
    """Embeds each place of a stream's map, and says which places count."""

    config: FrozenConfigDict  # config.model
    cmac: FrozenConfigDict  # config.cmac

    @nn.compact
    def __call__(
        self, map_BxTxPxC: jax.Array, tokens_BxTxPxD: jax.Array, *, train: bool, mask_B: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Returns the pure attention's logits [B, T, P], the places' embeddings [B, T, P, E], and the stream's [B, E].

        The stream's is the mean of the places of all times, even or weighted by attention, at length 1. All float32.
        """
        scores_BxTxP = nn.Dense(1, dtype=jnp.float32, precision=FLOAT32, name="scorer")(map_BxTxPxC)[..., 0]
        norm = BatchNorm(
            momentum=self.config.batch_norm_momentum,
            dtype=jnp.float32,
            use_bias=False,
            use_scale=False,
            use_fast_variance=False,  # which is all rounding where clips differ little, as they do at first
            name="norm",
        )
        hears_B = jnp.ones(map_BxTxPxC.shape[0], bool) if mask_B is None else mask_B
        hidden = nn.Dense(self.cmac.hidden_size, dtype=self.config.dtype, name="hidden")(tokens_BxTxPxD)
        embed = nn.Dense(self.cmac.embed_size, dtype=jnp.float32, precision=FLOAT32, use_bias=False, name="embedding")
        places_BxTxPxE = embed(nn.relu(hidden))
        if self.cmac.pooling == "attention":  # over time as well: at most moments nothing happens
            weights_BxTxP = nn.softmax(scores_BxTxP, axis=(1, 2))
        else:
            weights_BxTxP = jnp.full(scores_BxTxP.shape, 1 / scores_BxTxP[0].size)
        pooled_BxE = float32_einsum("btp,btpe->be", weights_BxTxP, places_BxTxPxE)

        # Standardised over the batch, clips cannot all be one point, where the first steps would bring them otherwise.
        # Places are brought into the same space, by the statistics of what is pooled from them.
        shape = places_BxTxPxE.shape
        all_BxQxE = jnp.concatenate([pooled_BxE[:, None], places_BxTxPxE.reshape(shape[0], -1, shape[-1])], axis=1)
        counts_BxQx1 = (hears_B[:, None] & (jnp.arange(all_BxQxE.shape[1]) == 0))[:, :, None]
        all_BxQxE = norm(all_BxQxE, use_running_average=not train, mask=counts_BxQx1)
        return scores_BxTxP, all_BxQxE[:, 1:].reshape(shape), unit(all_BxQxE[:, 0])


class CmacHead(nn.Module):
    """Both streams' heads, and the temperature of the contrast."""

    config: FrozenConfigDict  # config.model
    cmac: FrozenConfigDict  # config.cmac

    def setup(self):
        self.video = StreamHead(self.config, self.cmac)
        self.audio = StreamHead(self.config, self.cmac)
        if self.cmac.learn_temperature:
            start = nn.initializers.constant(np.log(self.cmac.temperature))
            self.log_temperature = self.param("log_temperature", start, (), jnp.float32)

    def temperature(self) -> jax.Array:
        """Float32 []."""
        if not self.cmac.learn_temperature:
            return jnp.float32(self.cmac.temperature)
        learned = jnp.exp(self.log_temperature)
        # At the least, the gradient is still what it would be without: else it would stay there.
        return learned + jax.lax.stop_gradient(jnp.maximum(learned, LEAST_TEMPERATURE) - learned)


class CmacNet(nn.Module):
    """Embeds what is seen and what is heard of a clip in one space, and says where in either it looks.

    The result is a flat dict:

    | key                                    | shape                                                              |
    | -------------------------------------- | ------------------------------------------------------------------ |
    | `video/…`, `audio/…`                   | of the encoders: `layer_<i>`, `map`, `tokens`, `times`; [B, …]     |
    | `video/pure`, `video/guided`           | float32 [B, T, H, W], logits over the places of each time          |
    | `audio/pure`, `audio/guided`           | float32 [B, M, F], logits over the frequencies of each time        |
    | `video/embedding`, `audio/embedding`   | float32 [B, E], at length 1                                        |
    | `features`                             | float32 [B, 2 E], both embeddings; zero audio where there is none  |
    | `temperature`                          | float32 [], of the contrast                                        |

    The pure attention is a linear layer of the map. The guided one is the cosine of each place's embedding with the
    other stream's embedding, divided by `config.cmac.<stream>_guided_temperature`. An audio encoder whose map has no
    frequencies has one place at each time. Parameters are `backbone/{video_encoder, audio_encoder}` and `head`.
    """

    config: FrozenConfigDict  # config.model
    cmac: FrozenConfigDict  # config.cmac

    def setup(self):
        self.backbone = Backbone(self.config)
        self.head = CmacHead(self.config, self.cmac)

    def __call__(
        self,
        video_BxTxHxWxC: jax.Array,
        audio_BxSx2: jax.Array,
        has_audio_B: jax.Array,
        *,
        frame_rate: float,
        sample_rate: float,
        train: bool,
    ) -> dict[str, Any]:
        """Returns `out`.

        Args:
          video_BxTxHxWxC: frames, uint8.
          audio_BxSx2: stereo samples, int16.
          has_audio_B: bool; false: silence, which is kept out of BatchNorm's statistics.
          frame_rate: frames per second.
          sample_rate: samples per second.
          train: whether BatchNorm uses the batch's statistics.
        """
        backbone, head = self.backbone, self.head
        _, video = backbone.encode_video(video_BxTxHxWxC, frame_rate=frame_rate, train=train)
        _, audio = backbone.encode_audio(audio_BxSx2, sample_rate=sample_rate, train=train, mask=has_audio_B)
        out = {f"video/{key}": x for key, x in video.items()} | {f"audio/{key}": x for key, x in audio.items()}

        places, embedding, shapes = {}, {}, {}
        for stream, encoder, positions, stream_head, mask in (
            ("video", backbone.video_encoder, backbone.video_positions, head.video, None),
            ("audio", backbone.audio_encoder, backbone.audio_positions, head.audio, has_audio_B),
        ):
            x = out[f"{stream}/map"]
            shapes[stream] = (*x.shape[:2], *(x.shape[2:-1] or (1,)))
            x = x.reshape(*x.shape[:2], -1, x.shape[-1])
            tokens = encoder.fc(x)
            # All places of a time have its position: from what is when, the mean over time remains.
            here = positions(jnp.zeros_like(tokens[:1, :, 0]), out[f"{stream}/times"])
            tokens += here[:, :, None]
            pure, places[stream], embedding[stream] = stream_head(x, tokens, train=train, mask_B=mask)
            out[f"{stream}/pure"] = pure.reshape(shapes[stream])
            out[f"{stream}/embedding"] = embedding[stream]
        for stream, other in (("video", "audio"), ("audio", "video")):
            cosine = float32_einsum("btpe,be->btp", unit(places[stream]), embedding[other])
            out[f"{stream}/guided"] = (cosine / self.cmac[f"{stream}_guided_temperature"]).reshape(shapes[stream])
        heard = jnp.where(has_audio_B[:, None], embedding["audio"], 0)
        return {
            **out,
            "features": jnp.concatenate([embedding["video"], heard], axis=-1),
            "temperature": head.temperature(),
        }

    @nn.nowrap
    def map_methods(self) -> dict[str, MapMethod]:
        """How it says where the sound is: by the attention that is guided by it, or by its own."""
        meanings = {
            "guided": "how much of its attention the picture gives each place, guided by what is heard: the cosine of "
            "the place's embedding with the sound's.",
            "pure": "how much of its attention the picture gives each place by itself, having learned where the sound "
            "would guide it.",
        }
        return {name: MapMethod(said, functools.partial(_attention_map, name)) for name, said in meanings.items()}


def _attention_map(name: str, net: CmacNet, variables: Mapping[str, Any], outputs: Mapping[str, Any]) -> jax.Array:
    """How much more than its even share of the attention each place gets: 0 is as much, -1 none. [B, 1, T, H, W]."""
    del net, variables
    return times_even_share(outputs[f"video/{name}"], num_axes=2)[:, None] - 1


def times_even_share(logits: jax.Array, num_axes: int) -> jax.Array:
    """Softmax over the last `num_axes` axes, as a multiple of what each place would get if all got the same."""
    axes = tuple(range(-num_axes, 0))
    count = np.prod([logits.shape[axis] for axis in axes])
    return nn.softmax(logits.astype(jnp.float32), axis=axes) * count


def unit(x: jax.Array) -> jax.Array:
    """At length 1 along the last axis, float32."""
    x = x.astype(jnp.float32)
    return x / jnp.sqrt((x**2).sum(axis=-1, keepdims=True) + NORM_EPSILON)
