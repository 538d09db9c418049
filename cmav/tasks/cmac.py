"""Cross-modal attention consistency (CMAC): which sound belongs to which picture, and where in either?

"Cross-Modal Attention Consistency for Video-Audio Unsupervised Learning" (Min et al., 2021), of which only the abstract
could be had; the form is ours (`docs/cmac.md` says what is from where). Clips are told apart by contrast over the
global batch (`cmav.tasks.contrast`), and each stream's own attention is drawn to that which the other guides. A batch:

| key         | shape, dtype           | meaning                                                          |
| ----------- | ---------------------- | ---------------------------------------------------------------- |
| `video`     | [B, T, H, W, 3] uint8  | frames of `clip_seconds`, in training augmented                  |
| `audio`     | [B, S, 2] int16        | of the same moment, but for `augment.audio_shift_seconds`        |
| `has_audio` | [B] bool               | false: the clip is in no loss                                    |
| `label`     | [B] int64              | the clip's class, -1 where there is none                         |
| `mask`      | [B] float32            | 1 for a clip, 0 for padding                                      |
| `clip_id`   | [B] bytes              |                                                                  |

A record that is shorter than a clip begins again when it ends.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict, FrozenConfigDict

from cmav.errors import UserError
from cmav.models import encoders
from cmav.models.cmac_net import POOLINGS, CmacNet
from cmav.tasks import contrast
from cmav.tasks.base import Bands, ClipTask, Embeddings, Maps, Section

STREAMS = ("video", "audio")


@dataclasses.dataclass(frozen=True)
class Cmac(ClipTask):
    """The task for one phase of training. See `cmav.tasks.base` for what each method promises."""

    section = Section(
        "cmac",
        inherited=(
            *("embed_size", "hidden_size", "pooling", "temperature", "learn_temperature"),
            *("video_guided_temperature", "audio_guided_temperature"),
        ),
        kept=("queue",),
        may_change=("video_consistency", "audio_consistency", "within_weight"),
    )
    embeds_as = "cmac"
    embeds_with = maps_with = ("backbone", "head")
    audio_attention_meanings: ClassVar[Mapping[str, str]] = {
        "guided": "how much of its attention the sound gives each frequency, guided by what is seen: the cosine of "
        "the frequency's embedding with the pictures'.",
        "pure": "how much of its attention the sound gives each frequency by itself, having learned where the "
        "pictures would guide it.",
    }
    results = tuple(f"{stream}/{name}" for stream in STREAMS for name in ("embedding", "pure", "guided"))
    num_views = 1

    cmac_config: FrozenConfigDict

    @classmethod
    def from_config(cls, config: ConfigDict, phase: Mapping[str, Any]) -> "Cmac":
        _check(config)
        return super().from_config(config, phase, cmac_config=FrozenConfigDict(config.cmac))

    @classmethod
    def as_frozen(cls, config: ConfigDict) -> ConfigDict:
        config = super().as_frozen(config)
        config.cmac.queue = 0  # The memory is of training alone.
        return config

    @property
    def abilities(self) -> frozenset[type]:
        return frozenset({Embeddings, Maps, *([Bands] if has_bands(self.model_config) else [])})

    def model(self) -> CmacNet:
        return CmacNet(self.model_config, self.cmac_config)

    # TensorFlow is imported where it is used: models, steps and benchmarks run without it.

    def fitting_records(self, index, *, train):
        from cmav.data import augment, checks

        augment.check(self.data_config.augment)
        checks.check_dataset(index, self.clip, self.data_config.crop_size, train=train)
        return checks.usable_records(index, min_seconds=0.0, need_audio=True)

    def make_example(self, record, seed, view, *, train):
        import tensorflow as tf

        from cmav.data import augment, sampling, video

        data, num_frames = self.data_config, tf.shape(record["frames"])[0]
        clip_seed, picture_seed, gain_seed = tf.unstack(tf.random.split(seed, 3))
        if train:
            shift = data.augment.audio_shift_seconds
            start, audio_start = sampling.sample_clip(clip_seed, num_frames, self.clip, shift)
        else:
            start = audio_start = sampling.evenly_spaced_start(view, self.num_views, num_frames, self.clip)
        frames = sampling.looped_frames(record["frames"], start, self.clip)
        audio = sampling.looped_audio(record["audio"], audio_start, num_frames, self.clip)
        if train:
            frames = augment.decode_clip(
                frames, data.crop_size, picture_seed, data.augment, flip=data.flip, cover=self.cover
            )
            audio = augment.random_gain(gain_seed, audio, data.augment.gain_db)
        else:
            frames = video.decode_clip(frames, data.crop_size, None, cover=self.cover)
        rest = {key: record[key] for key in ("has_audio", "label", "clip_id")}
        return {"video": frames, "audio": audio, **rest}

    def init(self, key):
        variables = super().init(key)
        if self.cmac_config.queue:
            variables["queue"] = contrast.queue_init(self.cmac_config.queue, self.cmac_config.embed_size)
        return variables

    def apply(self, variables, batch, *, train, dropout_key=None):
        """The outputs are the network's, and in training `queue/…`, the memory before this batch, where there is one.

        What changes in training is the batch's statistics, and the memory, to which the batch is added.
        """
        out, changed = self._run(variables, self.inputs(batch), train=train, dropout_key=dropout_key)
        if train and "queue" in variables:
            queue = variables["queue"]
            out |= {f"queue/{key}": x for key, x in queue.items()}
            embeddings = out["video/embedding"], out["audio/embedding"]
            changed = {**changed, "queue": contrast.enqueue(queue, *embeddings, _weights(batch))}
        return out, changed

    def loss(self, outputs, batch):
        settings, weight_B = self.cmac_config, _weights(batch)
        video, audio = outputs["video/embedding"], outputs["audio/embedding"]
        queue = {key.removeprefix("queue/"): x for key, x in outputs.items() if key.startswith("queue/")}
        loss, metrics = contrast.info_nce(
            video,
            audio,
            temperature=outputs["temperature"],
            negatives=settings.negatives,
            within_weight=settings.within_weight,
            queue=queue or None,
            weight_B=weight_B,
        )
        metrics = {"contrast_loss": loss, **metrics, **contrast.diagnostics(video, audio, weight_B)}
        metrics["temperature"] = outputs["temperature"]
        for stream, weight in (("video", settings.video_consistency), ("audio", settings.audio_consistency)):
            pure, guided = (_over_places(stream, outputs[f"{stream}/{name}"]) for name in ("pure", "guided"))
            consistency = contrast.consistency(guided, pure, settings.consistency, weight_B)
            loss += weight * consistency
            metrics[f"{stream}_consistency"] = consistency
            metrics |= {
                f"{stream}_pure_entropy": _entropy(pure, weight_B),
                f"{stream}_guided_entropy": _entropy(guided, weight_B),
            }
        return loss, metrics

    def concern(self, metrics):
        if not contrast.has_collapsed(metrics):
            return ""
        return (
            "the embeddings have collapsed: different clips are alike by "
            f"{metrics['video_rms_cosine']:.2f} in video and {metrics['audio_rms_cosine']:.2f} in audio, where 1 is "
            "the same and 0 nothing in common. If this lasts, nothing is being learned: larger batches, a smaller "
            "learning rate, or another config.cmac.temperature may help"
        )

    def embeddings(self, outputs):
        return outputs["video/embedding"], outputs["audio/embedding"]

    def audio_attentions(self, outputs):
        return {name: outputs[f"audio/{name}"] for name in self.audio_attention_meanings}


def has_bands(model_config: FrozenConfigDict) -> bool:
    """Whether the audio encoder's map has frequencies."""
    return hasattr(encoders.AUDIO[model_config.audio.name], "bands")


def _weights(batch: Mapping[str, jax.Array]) -> jax.Array:
    """1 for a clip that is heard, else 0; float32 [B]."""
    return batch["has_audio"].astype(jnp.float32)


def _over_places(stream: str, logits: jax.Array) -> jax.Array:
    """[B, T, H, W] -> [B, T, H * W], [B, M, F] as it is: logits over the places of one time."""
    return logits.reshape(*logits.shape[:2], -1) if stream == "video" else logits


def _entropy(logits: jax.Array, weight_B: jax.Array) -> jax.Array:
    """Mean entropy of the distributions over the last axis, as a share of the greatest: 1 is even; of one place 1.

    Over the clips that count.
    """
    places = logits.shape[-1]
    if places == 1:
        return jnp.float32(1)
    log_p = jax.nn.log_softmax(jax.lax.stop_gradient(logits))
    entropy_B = -(jnp.exp(log_p) * log_p).sum(axis=-1).mean(axis=1) / jnp.log(jnp.float32(places))
    return (entropy_B * weight_B).sum() / jnp.maximum(weight_B.sum(), 1)


def _check(config: ConfigDict) -> None:
    cmac = config.cmac
    for key, choices in (
        ("pooling", POOLINGS),
        ("negatives", contrast.NEGATIVES),
        ("consistency", contrast.CONSISTENCIES),
    ):
        if cmac[key] not in choices:
            raise UserError(f"config.cmac.{key}={cmac[key]!r} is not known: choose one of {', '.join(choices)}.")
    for key in ("temperature", "video_guided_temperature", "audio_guided_temperature"):
        if not cmac[key] > 0:
            raise UserError(f"config.cmac.{key}={cmac[key]!r} must be more than 0.")
    for key in ("video_consistency", "audio_consistency", "within_weight", "queue"):
        if cmac[key] < 0:
            raise UserError(f"config.cmac.{key}={cmac[key]!r} must not be negative; 0 leaves it out.")
    encoders.check(config.model)
    if cmac.audio_consistency and not has_bands(config.model):
        raise UserError(
            f"config.cmac.audio_consistency={cmac.audio_consistency} is over the frequencies of the audio encoder's "
            f"map, and that of config.model.audio.name={config.model.audio.name!r} has none: set it to 0, or "
            'config.model.audio = cmav.config.encoder("audio", "log_mel_2d").'
        )
