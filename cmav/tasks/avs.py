"""Audio-visual synchronization: do this sound and this picture belong to the same moment?

"Look, Listen, and Attend" (2020), section 3. Each clip carries its frames once with K=2 audios, so that the video
encoder, nine tenths of the work, is paid once for both. `config.data.num_shifted` asks for more than one shifted audio,
which count as much together as the one in sync, and `config.loss.softmax_weight` lets a clip's audios compete.

A clip's negatives, its audios but the first, are shifted, or else of another video, which is easier: that is
audio-visual correspondence (Arandjelović and Zisserman, "Look, Listen and Learn", 2017). `other_share` of `config.data`
or of a phase is the share of clips in training whose negatives are of another video, all of one; phases from easy to
hard are the curriculum of Korbar, Tran and Torresani (2018). Evaluators say which kind they ask about. A batch:

| key       | shape, dtype           | meaning                                                 |
| --------- | ---------------------- | ------------------------------------------------------- |
| `video`   | [B, T, H, W, 3] uint8  | frames of `clip_seconds` at the phase's frame rate      |
| `audio`   | [B, K, S, 2] int16     | audio 0 is of the same moment, the others are negatives |
| `labels`  | [B, K] float32         | 1 in sync, 0 a negative                                 |
| `other`   | [B] float32            | 1: negatives of another video. Only where some may be   |
| `label`   | [B] int64              | the clip's class, -1 where there is none                |
| `mask`    | [B] float32            | 1 for a clip, 0 for padding                             |
| `clip_id` | [B] bytes              |                                                         |
"""

import dataclasses

import jax
import jax.numpy as jnp
import optax

from cmav.errors import UserError
from cmav.models import encoders
from cmav.models.alignment import alignment_loss
from cmav.models.avs_net import AvsNet
from cmav.models.multisensory_net import MultisensoryNet
from cmav.tasks.base import ClipTask, Maps, Offsets, Pairs
from cmav.tasks.losses import balanced, is_correct

NEGATIVES = ("shifted", "other")
_SHIFTS_BOTH = "config.data.shift_both is the control in which all audios are of the clip, shifted"


@dataclasses.dataclass(frozen=True)
class Avs(ClipTask):
    """The task for one phase of training. See `cmav.tasks.base` for what each method promises."""

    abilities = frozenset({Pairs, Maps, Offsets})
    embeds_as = "action"
    maps_with = ("backbone", "head")
    has_negatives = True

    training_shifts: tuple[float, float]  # seconds; evaluations always have those of the config
    training_other_share: float  # 0 to 1
    evaluation_other_share: float = 0.0  # 0 or 1

    @classmethod
    def from_config(cls, config, phase):
        if config.data.num_shifted < 1:
            raise UserError(f"config.data.num_shifted={config.data.num_shifted} must be at least 1.")
        for section, key in (("loss", "alignment_weight"), ("model", "fusion_moments")):
            if config[section][key] and encoders.hears(config.model):
                raise UserError(
                    f"config.{section}.{key}={config[section][key]}: it compares tokens of both streams, and with "
                    f"config.model.video.name={config.model.video.name!r} there are none: set it to 0."
                )
        phase = dict(phase)
        shifts = phase.pop("shift_seconds", config.data.shift_seconds)
        share = phase.pop("other_share", config.data.other_share)
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
            raise UserError(f"other_share={share!r} must be a number from 0 to 1.")
        if share and config.data.shift_both:
            raise UserError(f"{_SHIFTS_BOTH}: other_share={share} must be 0.")
        return super().from_config(config, phase, training_shifts=tuple(shifts), training_other_share=float(share))

    @property
    def num_audios(self) -> int:
        return 1 + self.data_config.num_shifted

    def model(self) -> AvsNet | MultisensoryNet:
        return (MultisensoryNet if encoders.hears(self.model_config) else AvsNet)(self.model_config)

    # TensorFlow is imported where it is used: models, steps and benchmarks run without it.

    def fitting_records(self, index, *, train):
        from cmav.data import checks

        checks.check_dataset(index, self.clip, self.data_config.crop_size, train=train)
        share = self.partner_share(train=train)
        shortest = self.clip.stored_seconds if share == 1 else self.clip.shortest_seconds(self._shifts(train=train))
        return checks.usable_records(index, min_seconds=shortest, need_audio=True)

    def usable_records(self, index, *, train):
        from cmav.data import clip_ids

        records = super().usable_records(index, train=train)
        if self.partner_share(train=train):
            clip_ids.require_two_videos(index, records)
        return records

    def make_example(self, record, seed, view, *, train, lent=None):
        import tensorflow as tf

        from cmav.data import sampling, video

        data = self.data_config
        pair_seed, crop_seed = tf.unstack(tf.random.split(seed, 2))
        sizes = tf.shape(record["frames"])[0], tf.shape(record["audio"])[0]
        if lent is None:
            shifts = self._shifts(train=train)
            start, audio_starts = sampling.sample_pair(
                pair_seed, *sizes, self.clip, shifts, data.shift_both, data.num_shifted
            )
            audio = self._audios(record, tf.unstack(audio_starts))
        else:
            start, audio_start = sampling.sample_moment(pair_seed, *sizes, self.clip)
            audio = tf.concat([self._audios(record, [audio_start]), lent], axis=0)
        frames = sampling.clip_frames(record["frames"], start, self.clip)
        example = {
            "video": video.decode_clip(
                frames, data.crop_size, crop_seed if train else None, flip=train and data.flip, cover=self.cover
            ),
            "audio": audio,
            "labels": tf.constant([1.0] + [0.0] * data.num_shifted),
            "label": record["label"],
            "clip_id": record["clip_id"],
        }
        if self.partner_share(train=train):
            example["other"] = tf.constant(0.0 if lent is None else 1.0)
        return example

    def partner_share(self, *, train):
        return self.training_other_share if train else self.evaluation_other_share

    def lend(self, record, seed):
        """As many audios of the record as a clip has negatives, each of a moment of its own. int16 [K - 1, S, 2]."""
        import tensorflow as tf

        from cmav.data import sampling

        sizes = tf.shape(record["frames"])[0], tf.shape(record["audio"])[0]
        seeds = [tf.random.fold_in(seed, number) for number in range(self.data_config.num_shifted)]
        return self._audios(record, [sampling.sample_moment(seed, *sizes, self.clip)[1] for seed in seeds])

    def _audios(self, record, first_samples):
        import tensorflow as tf

        from cmav.data import sampling

        return tf.stack([sampling.clip_audio(record["audio"], first, self.clip) for first in first_samples])

    def with_negatives(self, kind):
        if kind not in NEGATIVES:
            raise UserError(f"negatives={kind!r}: choose one of {', '.join(NEGATIVES)}.")
        if kind == "other" and self.data_config.shift_both:
            raise UserError(f"{_SHIFTS_BOTH}: negatives must be 'shifted'.")
        return dataclasses.replace(self, evaluation_other_share=float(kind == "other"))

    def _shifts(self, *, train):
        return self.training_shifts if train else self.data_config.shift_seconds

    def batch_shapes(self, batch_size):
        size = self.data_config.crop_size
        return {
            "video": jax.ShapeDtypeStruct((batch_size, self.clip.num_frames, size, size, 3), jnp.uint8),
            "audio": jax.ShapeDtypeStruct((batch_size, self.num_audios, self.clip.num_samples, 2), jnp.int16),
            "labels": jax.ShapeDtypeStruct((batch_size, self.num_audios), jnp.float32),
        }

    def inputs(self, batch):
        return batch["video"], batch["audio"]

    def batch_of(self, video, audio, has_audio):
        del has_audio
        return {"video": video, "audio": audio[:, None]}

    def apply(self, variables, batch, *, train, dropout_key=None):
        (logits_BxK, out), changed = self._run(variables, self.inputs(batch), train=train, dropout_key=dropout_key)
        return {"logits": logits_BxK, **out}, changed

    # Each stream by itself, and then any pair of them: for many shifts at the price of one.

    def encode_pictures(self, variables, video_BxTxHxWxC):
        return self.model().apply(
            variables, video_BxTxHxWxC, frame_rate=self.clip.achieved_frame_rate, method="encode_video"
        )

    def encode_sound(self, variables, audio_BxSx2):
        return self.model().apply(variables, audio_BxSx2, sample_rate=self.clip.sample_rate, method="encode_audio")

    def pair_logits(self, variables, pictures_BxNxD, sounds_BxKxMxD):
        clip, model = self.clip, self.model_config
        times = (
            encoders.video(model).times(clip.num_frames, clip.achieved_frame_rate),
            encoders.audio(model).times(clip.num_samples, clip.sample_rate),
        )
        return self.model().apply(variables, pictures_BxNxD, sounds_BxKxMxD, *times, method="pair_logits")

    def loss(self, outputs, batch):
        logits_BxK, labels_BxK = outputs["logits"], batch["labels"]
        sync_loss = loss = balanced(optax.sigmoid_binary_cross_entropy(logits_BxK, labels_BxK)).mean()
        correct_Bx2 = balanced(is_correct(logits_BxK, labels_BxK))
        metrics = {
            "sync_loss": sync_loss,
            "accuracy": correct_Bx2.mean(),
            "accuracy_aligned": correct_Bx2[:, 0].mean(),
            **_accuracy_by_kind(correct_Bx2[:, 1], batch.get("other")),
        }
        if "fusion/hidden" in outputs:
            metrics["fusion_units_alive"] = (outputs["fusion/hidden"] > 0).any(axis=(0, 1)).mean()
        if weight := self.loss_config.softmax_weight:
            softmax_loss = optax.softmax_cross_entropy(logits_BxK, labels_BxK).mean()
            loss, metrics["softmax_loss"] = loss + weight * softmax_loss, softmax_loss
        weight = self.loss_config.alignment_weight
        if not weight:
            return loss, metrics
        alignment = alignment_loss(
            outputs["video/tokens"],
            outputs["audio/tokens"][:, 0],
            outputs["video/times"],
            outputs["audio/times"],
            self.loss_config.alignment_temperature,
        ).mean()
        return loss + weight * alignment, {**metrics, "alignment_loss": alignment}

    def concern(self, metrics):
        # Where the head compares moments, it learns without that layer too.
        if self.model_config.fusion_moments or metrics.get("fusion_units_alive", 1):
            return ""
        return (
            "all units of the fusion layer have died: whatever the pair, none is above 0, and none learns any more. "
            "Begin anew with config.model.fusion_moments=0.1, which compares without them, or a smaller learning rate"
        )


def _accuracy_by_kind(correct_B: jax.Array, other_B: jax.Array | None) -> dict[str, jax.Array]:
    """Accuracy on negatives of each kind that there may be; NaN where the batch has none of it."""
    if other_B is None:
        return {"accuracy_shifted": correct_B.mean()}
    masks = {"shifted": other_B == 0, "other": other_B == 1}
    return {f"accuracy_{kind}": correct_B.mean(where=mask_B) for kind, mask_B in masks.items()}
