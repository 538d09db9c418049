"""Audio-visual synchronization: do this sound and this picture belong to the same moment?

"Look, Listen, and Attend" (2020), section 3. Each clip carries its frames once with K=2 audios, so that the video
encoder, nine tenths of the work, is paid once for both. `config.data.num_shifted` asks for more than one shifted audio,
which count as much together as the one in sync, and `config.loss.softmax_weight` lets a clip's audios compete. A batch:

| key       | shape, dtype           | meaning                                                 |
| --------- | ---------------------- | ------------------------------------------------------- |
| `video`   | [B, T, H, W, 3] uint8  | frames of `clip_seconds` at the phase's frame rate      |
| `audio`   | [B, K, S, 2] int16     | audio 0 is of the same moment, the others are shifted   |
| `labels`  | [B, K] float32         | 1 in sync, 0 shifted                                    |
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
from cmav.models.avs_net import AvsNet
from cmav.models.multisensory_net import MultisensoryNet
from cmav.tasks.base import ClipTask, Maps, Offsets, Pairs
from cmav.tasks.losses import alignment_loss, balanced, is_correct


@dataclasses.dataclass(frozen=True)
class Avs(ClipTask):
    """The task for one phase of training. See `cmav.tasks.base` for what each method promises."""

    abilities = frozenset({Pairs, Maps, Offsets})
    embeds_as = "action"
    maps_with = ("backbone", "head")

    training_shifts: tuple[float, float]  # seconds; evaluations always have those of the config

    @classmethod
    def from_config(cls, config, phase):
        if config.data.num_shifted < 1:
            raise UserError(f"config.data.num_shifted={config.data.num_shifted} must be at least 1.")
        if config.loss.alignment_weight and encoders.hears(config.model):
            raise UserError(
                f"config.loss.alignment_weight={config.loss.alignment_weight}: this loss compares tokens of both "
                f"streams, and with config.model.video.name={config.model.video.name!r} there are none: set it to 0."
            )
        phase = dict(phase)
        shifts = phase.pop("shift_seconds", config.data.shift_seconds)
        return super().from_config(config, phase, training_shifts=tuple(shifts))

    @property
    def num_audios(self) -> int:
        return 1 + self.data_config.num_shifted

    def model(self) -> AvsNet | MultisensoryNet:
        return (MultisensoryNet if encoders.hears(self.model_config) else AvsNet)(self.model_config)

    # TensorFlow is imported where it is used: models, steps and benchmarks run without it.

    def usable_records(self, index, *, train):
        from cmav.data import checks

        checks.check_dataset(index, self.clip, self.data_config.crop_size, train=train)
        shortest = self.clip.shortest_seconds(self._shifts(train=train))
        return checks.usable_records(index, min_seconds=shortest, need_audio=True)

    def make_example(self, record, seed, view, *, train):
        import tensorflow as tf

        from cmav.data import sampling, video

        data = self.data_config
        pair_seed, crop_seed = tf.unstack(tf.random.split(seed, 2))
        start, audio_starts = sampling.sample_pair(
            pair_seed,
            tf.shape(record["frames"])[0],
            tf.shape(record["audio"])[0],
            self.clip,
            self._shifts(train=train),
            data.shift_both,
            data.num_shifted,
        )
        frames = sampling.clip_frames(record["frames"], start, self.clip)
        audios = [sampling.clip_audio(record["audio"], first, self.clip) for first in tf.unstack(audio_starts)]
        return {
            "video": video.decode_clip(
                frames, data.crop_size, crop_seed if train else None, flip=train and data.flip, cover=self.cover
            ),
            "audio": tf.stack(audios),
            "labels": tf.constant([1.0] + [0.0] * data.num_shifted),
            "label": record["label"],
            "clip_id": record["clip_id"],
        }

    def _shifts(self, *, train):
        return self.training_shifts if train else self.data_config.shift_seconds

    def batch_shapes(self, batch_size):
        size = self.data_config.crop_size
        return {
            "video": jax.ShapeDtypeStruct((batch_size, self.clip.num_frames, size, size, 3), jnp.uint8),
            "audio": jax.ShapeDtypeStruct((batch_size, self.num_audios, self.clip.num_samples, 2), jnp.int16),
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
        return self.model().apply(variables, pictures_BxNxD, sounds_BxKxMxD, method="pair_logits")

    def loss(self, outputs, batch):
        logits_BxK, labels_BxK = outputs["logits"], batch["labels"]
        sync_loss = loss = balanced(optax.sigmoid_binary_cross_entropy(logits_BxK, labels_BxK)).mean()
        correct_Bx2 = balanced(is_correct(logits_BxK, labels_BxK))
        metrics = {
            "sync_loss": sync_loss,
            "accuracy": correct_Bx2.mean(),
            "accuracy_aligned": correct_Bx2[:, 0].mean(),
            "accuracy_shifted": correct_Bx2[:, 1].mean(),
        }
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
