"""Action recognition: what is done in this video?

"Look, Listen, and Attend" (2020), section 5. A video is a record; training sees one random clip of it, evaluation
`config.action.eval_clips` evenly spaced ones, which overlap, times `eval_crops` crops of each: its views. A video that
is shorter than a clip begins again when it ends. A batch:

| key         | shape, dtype           | meaning                                                        |
| ----------- | ---------------------- | -------------------------------------------------------------- |
| `video`     | [B, T, H, W, 3] uint8  | not in mode "audio_only"                                       |
| `audio`     | [B, S, 2] int16        | not in mode "vision_only"                                      |
| `has_audio` | [B] bool               | false: the audio is zeros, and the clip is seen as vision-only |
| `label`     | [B] int64              | the video's class                                              |
| `mask`      | [B] float32            | 1 for a clip, 0 for padding                                    |
| `clip_id`   | [B] bytes              |                                                                |
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict, FrozenConfigDict

from cmav.errors import UserError
from cmav.models import encoders
from cmav.models.action_net import ActionNet, streams_of
from cmav.tasks.base import Classes, ClipTask, Maps, Section

_OF_THE_VIDEO = ("has_audio", "label", "clip_id")  # what examples have of a record as it is


@dataclasses.dataclass(frozen=True)
class Action(ClipTask):
    """The task for one phase of training. See `cmav.tasks.base` for what each method promises."""

    section = Section(
        "action",
        kept=("mode", "num_classes", "hidden_size", "standardise"),
        may_change=("eval_clips", "eval_crops"),
    )
    embeds_as = "action"

    action_config: FrozenConfigDict

    @classmethod
    def from_config(cls, config: ConfigDict, phase: Mapping[str, Any]) -> "Action":
        action = FrozenConfigDict({**config.action, "num_classes": _num_classes(config)})
        _check(action)
        if streams_of(action.mode) == ("audio",) and encoders.hears(config.model):
            raise UserError(
                f"config.action.mode={action.mode!r}: the video encoder {config.model.video.name!r} takes the sound "
                "in, so there is no network of sound alone. Choose full, vision_only or scratch."
            )
        return super().from_config(config, phase, action_config=action)

    @classmethod
    def starts_afresh(cls, config: ConfigDict) -> bool:
        return config.action.mode == "scratch"

    @classmethod
    def as_frozen(cls, config: ConfigDict) -> ConfigDict:
        config = super().as_frozen(config)
        if config.action.mode == "scratch":
            config.action.mode = "full"  # Its own weights are loaded.
        config.action.num_classes = 1  # The head is not; and the dataset, which would say how many, may be elsewhere.
        config.action.eval_clips = config.action.eval_crops = 1  # a single, central view
        return config

    @classmethod
    def as_whole(cls, config: ConfigDict, params: Mapping[str, Any]) -> ConfigDict:
        config = cls.as_frozen(config)
        config.action.num_classes = params["head"]["logits"]["bias"].size
        return config

    @property
    def abilities(self) -> frozenset[type]:
        return frozenset({Classes, Maps} if self.map_methods() else {Classes})

    @property
    def mode(self) -> str:
        return self.action_config.mode

    @property
    def num_views(self) -> int:
        return self.action_config.eval_clips * self.action_config.eval_crops

    @property
    def num_classes(self) -> int:
        return self.action_config.num_classes

    @property
    def videos_per_class(self) -> int:
        return self.action_config.videos_per_class

    @property
    def streams(self) -> tuple[str, ...]:
        return streams_of(self.action_config.mode)

    def model(self) -> ActionNet:
        return ActionNet(self.model_config, self.action_config)

    # TensorFlow is imported where it is used: models, steps and benchmarks run without it.

    def fitting_records(self, index, *, train):
        from cmav.data import checks

        has_video = "video" in self.streams
        crop_size = self.data_config.crop_size if has_video else None
        checks.check_dataset(index, self.clip, crop_size, train=train and "audio" in self.streams)
        records = checks.usable_records(index, min_seconds=0.0, need_audio=not has_video)
        return checks.labelled_records(index, records, self.action_config.num_classes)

    def usable_records(self, index, *, train):
        from cmav.data import checks

        records = super().usable_records(index, train=train)
        if train and self.action_config.videos_per_class:
            records = checks.first_of_each_class(index, records, self.action_config.videos_per_class, self.seed)
        return records

    def make_example(self, record, seed, view, *, train):
        import tensorflow as tf

        from cmav.data import sampling, video

        if not train:
            return {key: value[0] for key, value in self.make_views(record, view[None]).items()}
        data = self.data_config
        clip_seed, crop_seed = tf.unstack(tf.random.split(seed, 2))
        num_frames = self._num_frames(record)
        shift_seconds = self.action_config.audio_shift_seconds
        start, audio_start = sampling.sample_clip(clip_seed, num_frames, self.clip, shift_seconds)
        example = {key: record[key] for key in _OF_THE_VIDEO}
        if "video" in self.streams:
            frames = sampling.looped_frames(record["frames"], start, self.clip)
            example["video"] = video.decode_clip(frames, data.crop_size, crop_seed, flip=data.flip, cover=self.cover)
        if "audio" in self.streams:
            example["audio"] = sampling.looped_audio(record["audio"], audio_start, num_frames, self.clip)
        return example

    def make_views(self, record, views):
        import tensorflow as tf

        from cmav.data import sampling, video

        action, num_frames = self.action_config, self._num_frames(record)
        starts = sampling.evenly_spaced_start(views // action.eval_crops, action.eval_clips, num_frames, self.clip)
        made = {key: tf.fill(tf.shape(views), record[key]) for key in _OF_THE_VIDEO}
        if "video" in self.streams:
            numbers = sampling.looped_numbers(starts, num_frames, self.clip)
            crops = views % action.eval_crops, action.eval_crops
            made["video"] = video.decode_views(
                record["frames"], numbers, *crops, self.data_config.crop_size, self.cover
            )
        if "audio" in self.streams:
            made["audio"] = tf.map_fn(
                lambda start: sampling.looped_audio(record["audio"], start, num_frames, self.clip),
                starts,
                fn_output_signature=tf.TensorSpec([self.clip.num_samples, 2], tf.int16),
            )
        return made

    def _num_frames(self, record):
        """Frames that the record has, or would have for its sound."""
        import tensorflow as tf

        from cmav.data import sampling

        if "video" in self.streams:
            return tf.shape(record["frames"])[0]
        return sampling.frames_of_samples(tf.shape(record["audio"])[0], self.clip)

    def batch_shapes(self, batch_size):
        return {**super().batch_shapes(batch_size), "label": jax.ShapeDtypeStruct((batch_size,), jnp.int32)}

    def batch_of(self, video, audio, has_audio):
        return {**super().batch_of(video, audio, has_audio), "label": jnp.zeros(has_audio.shape, jnp.int32)}

    def apply(self, variables, batch, *, train, dropout_key=None):
        """The outputs are the network's intermediates, `logits` and `targets`, both [B, num_classes].

        A row of `targets` sums to 1: it is the label, in training softened and mixed as the config says.
        """
        targets = jax.nn.one_hot(batch["label"], self.action_config.num_classes)
        inputs = {key: batch[key] for key in (*self.streams, "has_audio")}
        if train:
            targets = optax.smooth_labels(targets, self.action_config.label_smoothing)
            if self.action_config.mixup:
                dropout_key, mixup_key = jax.random.split(dropout_key)
                inputs, targets = mix(mixup_key, inputs, targets, self.action_config.mixup)
        (logits, out), changed = self._run(variables, self.inputs(inputs), train=train, dropout_key=dropout_key)
        return {**out, "logits": logits, "targets": targets}, changed

    def loss(self, outputs, batch):
        logits, targets = outputs["logits"], outputs["targets"]
        loss = optax.softmax_cross_entropy(logits, targets).mean()
        # Of mixed clips the one that weighs more is the answer.
        accuracy = (logits.argmax(axis=-1) == targets.argmax(axis=-1)).mean()
        return loss, {"accuracy": accuracy}


def mix(
    key: jax.Array, inputs: Mapping[str, jax.Array], targets_BxC: jax.Array, alpha: float
) -> tuple[dict[str, jax.Array], jax.Array]:
    """Mixup (Zhang et al., 2018): each clip mixed with another of the batch, picture, sound and target alike.

    Args:
      key: of the shares, drawn from Beta(alpha, alpha) for each clip, and of who is mixed with whom.
      inputs: `video` and `audio`, or one of them, and `has_audio`, which the mixture has where either has it.
      targets_BxC: rows that sum to 1.
      alpha: positive; 1 draws shares uniformly, less draws them nearer to 0 and 1.

    Returns:
      The inputs, video and audio as float32 in their old ranges, and the targets.
    """
    share_key, order_key = jax.random.split(key)
    num_clips = targets_BxC.shape[0]
    share_B = jax.random.beta(share_key, alpha, alpha, (num_clips,))
    partner_B = jax.random.permutation(order_key, num_clips)

    def blend(x):
        share = share_B.reshape(-1, *(1,) * (x.ndim - 1))
        x = x.astype(jnp.float32)
        return share * x + (1 - share) * x[partner_B]

    mixed = {key: blend(x) for key, x in inputs.items() if key != "has_audio"}
    mixed["has_audio"] = inputs["has_audio"] | inputs["has_audio"][partner_B]
    return mixed, blend(targets_BxC)


def _num_classes(config: ConfigDict) -> int:
    """`config.action.num_classes`, or the number of classes that the dataset folder lists."""
    if config.action.num_classes:
        return config.action.num_classes
    from cmav.data.index import load_classes  # It imports TensorFlow, as above.

    classes = load_classes(config.data.dir)
    if not classes:
        raise UserError(
            f"how many classes? {config.data.dir!r} has no classes.txt (no dataset there, or one whose labels are "
            "numbers or missing): name another with --config.data.dir, or set --config.action.num_classes."
        )
    return len(classes)


def _check(action: FrozenConfigDict) -> None:
    streams_of(action.mode)
    if action.eval_crops not in (1, 3):
        raise UserError(
            f"config.action.eval_crops={action.eval_crops}: choose 1 (central) or 3 (left, central, right)."
        )
    if action.eval_clips < 1:
        raise UserError(f"config.action.eval_clips={action.eval_clips} must be at least 1.")
    if not 0 <= action.label_smoothing < 1:
        raise UserError(f"config.action.label_smoothing={action.label_smoothing} must be at least 0 and below 1.")
    if action.mixup < 0:
        raise UserError(f"config.action.mixup={action.mixup} must not be negative; 0 mixes nothing.")
