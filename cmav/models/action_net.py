"""Action recognition on the synchronization network's backbone. "Look, Listen, and Attend" (2020), section 5.

Shape suffixes: B clips, T frames, S samples, N video tokens, M audio tokens, D hidden size.
"""

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import FrozenConfigDict

from cmav.errors import UserError
from cmav.models import encoders, maps
from cmav.models.backbone import Backbone
from cmav.models.batch_norm import BatchNorm
from cmav.models.fused_backbone import FusedBackbone
from cmav.models.maps import MapMethod
from cmav.models.precision import FLOAT32

# Which streams a network has, by config.action.mode.
STREAMS = {
    "full": ("video", "audio"),
    "scratch": ("video", "audio"),
    "vision_only": ("video",),
    "audio_only": ("audio",),
}


class ActionHead(nn.Module):
    """Two fully connected layers with dropout before each; as an option, features are standardised first.

    What a frozen or little trained backbone says of two clips differs in a small part of its features only, and
    standardised features show it, as to a linear probe. Features that a clip does not have count in no statistics, and
    are zero when standardised, too.
    """

    config: FrozenConfigDict  # config.action
    dtype: str
    batch_norm_momentum: float

    @nn.compact
    def __call__(self, features_BxF: jax.Array, has_feature_BxF: jax.Array, *, train: bool) -> jax.Array:
        """Returns logits, float32 [B, num_classes]."""
        if self.config.standardise:
            norm = BatchNorm(
                momentum=self.batch_norm_momentum, use_bias=False, use_scale=False, dtype=self.dtype, name="norm"
            )
            standardised_BxF = norm(features_BxF, use_running_average=not train, mask=has_feature_BxF)
            features_BxF = jnp.where(has_feature_BxF, standardised_BxF, 0)
        dropout = functools.partial(nn.Dropout(self.config.dropout), deterministic=not train)
        hidden = nn.relu(nn.Dense(self.config.hidden_size, dtype=self.dtype, name="hidden")(dropout(features_BxF)))
        logits = nn.Dense(self.config.num_classes, dtype=jnp.float32, precision=FLOAT32, name="logits")
        return logits(dropout(hidden))


class ActionNet(nn.Module):
    """What is done in a clip?

    The head sees each stream's final tokens, averaged over the clip's time and concatenated. A clip without audio is
    seen as by the paper's vision-only network, whatever the others of its batch have: the audio's features are zero,
    and the video stream attends to itself. A network of one stream has only that stream's parameters.

    Where the video encoder `hears`, there are `fused` features, the mean of its map; see `FusedBackbone`.

    The second result is a flat dict of intermediates:

    | key                              | shape                                                                 |
    | -------------------------------- | --------------------------------------------------------------------- |
    | `video/…`, `audio/…`             | of the encoders, as in `AvsNet`: `layer_<i>`, `map`, `tokens`, `times` |
    | `video/features`, `audio/features` | [B, D], the final tokens' mean; zero audio where there is none        |
    | or `fused/features`              | [B, D], and no tokens and times                                       |
    | `features`                       | [B, F], those of the network's streams, concatenated: the head's input |
    """

    config: FrozenConfigDict  # config.model
    action: FrozenConfigDict  # config.action

    @nn.compact
    def __call__(
        self,
        video_BxTxHxWxC: jax.Array | None,
        audio_BxSx2: jax.Array | None,
        has_audio_B: jax.Array,
        *,
        frame_rate: float,
        sample_rate: float,
        train: bool,
    ) -> tuple[jax.Array, dict[str, Any]]:
        """Returns logits, float32 [B, num_classes], and the intermediates.

        Args:
          video_BxTxHxWxC: frames, 0 to 255; unused, and may be None, where the mode has no video stream.
          audio_BxSx2: stereo samples, in int16's range; unused, and may be None, where the mode has no audio stream.
          has_audio_B: bool; false: the clip's samples are not looked at.
          frame_rate: frames per second.
          sample_rate: samples per second.
          train: whether dropout is active and BatchNorm uses the batch's statistics.

        Raises:
          UserError: where the mode is none of those that exist.
        """
        streams = streams_of(self.action.mode)
        make_backbone = FusedBackbone if encoders.hears(self.config) else Backbone
        features, out = make_backbone(self.config, name="backbone").features(
            video_BxTxHxWxC if "video" in streams else None,
            audio_BxSx2 if "audio" in streams else None,
            has_audio_B,
            frame_rate=frame_rate,
            sample_rate=sample_rate,
            train=train,
        )
        out |= {f"{stream}/features": x for stream, x in features.items()}
        out["features"] = jnp.concatenate(list(features.values()), axis=-1)
        head = ActionHead(self.action, self.config.dtype, self.config.batch_norm_momentum, name="head")
        # Of a single stream every clip has all features, whatever is said of its sound.
        has_audio = has_audio_B[:, None] | (len(streams) == 1)
        has_feature = [jnp.broadcast_to(has_audio | (stream != "audio"), x.shape) for stream, x in features.items()]
        return head(out["features"], jnp.concatenate(has_feature, axis=-1), train=train), out

    @nn.nowrap
    def map_methods(self) -> dict[str, MapMethod]:
        """How it says where the sound is, if it sees and hears: as its backbone does, which knows of no class.

        A fused backbone does not say it: of its map, only a head knows.
        """
        if len(streams_of(self.action.mode)) < 2 or encoders.hears(self.config):
            return {}

        def with_one_audio(method):
            def find(net, variables, outputs):
                return method.find(net, variables, {**outputs, "audio/tokens": outputs["audio/tokens"][:, None]})

            return dataclasses.replace(method, find=find)

        return {name: with_one_audio(method) for name, method in maps.of_backbone(self.config).items()}


def streams_of(mode: str) -> tuple[str, ...]:
    """The streams that a network of `config.action.mode` has.

    Raises:
      UserError: for a mode that does not exist.
    """
    if mode not in STREAMS:
        raise UserError(f"config.action.mode={mode!r} is not known: choose one of {', '.join(STREAMS)}.")
    return STREAMS[mode]
