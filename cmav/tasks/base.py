"""What a task is to those who train, evaluate and look at it, and what tasks have in common.

A batch is a dict of arrays whose first axis is the clip. Every task has at least

| key       | shape, dtype  | meaning                                                          |
| --------- | ------------- | ---------------------------------------------------------------- |
| `clip_id` | [B] bytes     | stays on the host; named when something goes wrong               |
| `mask`    | [B] float32   | 1 for a clip, 0 for padding of an evaluation's last batch        |
"""

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict, FrozenConfigDict

from cmav.data.clip_shape import ClipShape
from cmav.data.cover import Cover
from cmav.errors import UserError
from cmav.models import encoders
from cmav.models.maps import MapMethod

Batch = Mapping[str, jax.Array]
Metrics = dict[str, jax.Array]


class Task(Protocol):
    """One task's whole story, for one phase of training. Hashable; `ClipTask` has what most share."""

    data_config: FrozenConfigDict
    model_config: FrozenConfigDict
    clip: ClipShape  # frames and samples of an example
    cover: Cover  # what of the pictures its network is not to see
    abilities: frozenset[type]  # the protocols below that it has: what it can be asked beside training it
    results: tuple[str, ...]  # keys of the outputs of which the loss is
    mode: str  # which streams its network has, as in `config.action.mode`
    embeds_with: tuple[str, ...]  # subtrees of parameters that make its network's features
    embeds_as: str  # the task whose network makes features of a backbone that was trained by this one

    def usable_records(self, index: Any, *, train: bool) -> Any:
        """Numbers of the records of a `cmav.data.index.SplitIndex` that the task can use; also checks their rates."""

    def make_example(self, record: Mapping[str, Any], seed: Any, view: Any, *, train: bool) -> dict[str, Any]:
        """TensorFlow: chooses from a parsed record the clip, the audios and the labels.

        `seed` is int32 [2], of what is random. `view`, int32 [], is which of an evaluation's examples of this record it
        is to be; 0 in training.
        """

    # TensorFlow: several examples of an evaluation at once, from a parsed record and its views, int32 [V]: what
    # `make_example` makes of each, stacked, for less work. Only where nothing in them is random; None: there is none.
    make_views: Callable[[Mapping[str, Any], Any], dict[str, Any]] | None

    def partner_share(self, *, train: bool) -> float:
        """Probability, 0 to 1, that an example takes something of a clip of another video, its partner.

        Where it is not 0, the task has `lend(record, seed)`: TensorFlow, what is taken of the partner's record, a
        tensor of fixed shape. Of such an example `make_example` gets it as `lent`.
        """

    def only_example(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """As `make_example`: the first view of an evaluation, which draws nothing at random."""

    def batch_of(self, video: jax.Array, audio: jax.Array, has_audio: jax.Array) -> Batch:
        """A batch of clips with their own sound: frames [B, T, H, W, 3], samples [B, S, 2], bool [B]; for `apply`."""

    def batch_shapes(self, batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
        """What of a batch the network and its loss need."""

    def init(self, key: jax.Array) -> dict[str, Any]:
        """The network's fresh variables: `params`, and collections such as `batch_stats`."""

    def apply(
        self, variables: Mapping[str, Any], batch: Batch, *, train: bool, dropout_key: jax.Array | None = None
    ) -> tuple[dict[str, jax.Array], dict[str, Any]]:
        """Runs the network on a batch. Returns its outputs, and the collections that training changed."""

    def loss(self, outputs: Mapping[str, jax.Array], batch: Batch) -> tuple[jax.Array, Metrics]:
        """The scalar to minimise, and scalars to report."""

    def concern(self, metrics: Mapping[str, float]) -> str:
        """What should worry whoever trains, by the means of some steps' metrics; empty: nothing."""


# Abilities. A task states which it has, as it is set, and an evaluator which one it needs. The first sentence of each
# is for the user whose task has it not.


@runtime_checkable
class Pairs(Task, Protocol):
    """Clips with several sounds each, of which the first is their own.

    `labels` of its batches and `logits` of its outputs are [B, K].
    """

    num_audios: int  # K

    def with_negatives(self, kind: str) -> "Pairs":
        """The same, whose sounds in evaluation but the first are "shifted", or of an "other" video.

        Raises:
          UserError: for another kind, or one that the task, as it is set, cannot be asked about.
        """


@runtime_checkable
class Classes(Task, Protocol):
    """Classes of whole videos.

    `label` is in its batches, int [B]; `logits` and `targets` in its outputs, [B, classes].
    """

    num_views: int  # examples that an evaluation makes of each video
    num_classes: int
    videos_per_class: int  # labels to train on; 0: all


@runtime_checkable
class Embeddings(Task, Protocol):
    """What is seen and what is heard, embedded in one space."""

    def embeddings(self, outputs: Mapping[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
        """What is seen and what is heard, float32 [B, E] each, at length 1: the more alike, the closer."""


@runtime_checkable
class Bands(Task, Protocol):
    """Attention over the frequencies of the sound.

    Its audio encoder has `bands`, as `cmav.models.encoders.log_mel` has them.
    """

    audio_attention_meanings: Mapping[str, str]  # what each attention shows, for people, by its name

    def audio_attentions(self, outputs: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        """Logits over the frequencies of each time, [B, M, F], by the name of the attention."""


@runtime_checkable
class Offsets(Task, Protocol):
    """Pictures and sounds encoded apart, and a logit of any pair of them.

    So that a window of pictures can be compared with many sounds at the price of one.
    """

    def encode_pictures(self, variables: Mapping[str, Any], video: jax.Array) -> jax.Array:
        """Tokens of frames, [B, T, H, W, 3] -> [B, N, D]."""

    def encode_sound(self, variables: Mapping[str, Any], audio: jax.Array) -> jax.Array:
        """Tokens of samples, [B, S, 2] -> [B, M, D]."""

    def pair_logits(self, variables: Mapping[str, Any], pictures: jax.Array, sounds: jax.Array) -> jax.Array:
        """How much likelier in sync than shifted, as a logit, [B, K], of [B, N, D] with each of [B, K, M, D]."""


@runtime_checkable
class Maps(Task, Protocol):
    """Maps of where in the picture the sound is."""

    maps_with: tuple[str, ...]  # subtrees of parameters that the methods ask

    def model(self) -> nn.Module:
        """The network, which the methods ask."""

    def map_methods(self) -> Mapping[str, MapMethod]:
        """How the network says where the sound is, by name; at least one."""

    def doubt(self, methods: Sequence[str]) -> str:
        """What speaks against maps by these methods, for people; empty: nothing."""

    def with_pictures(self, size: int, stride: int | None) -> "Maps":
        """The same, whose network sees pictures of this size, and has a place of its map every `stride` pixels.

        Raises:
          UserError: for a stride that the network cannot have.
        """


def in_words(ability: type) -> str:
    """What an ability is, for messages: the first sentence of its docstring, as part of another."""
    sentence = inspect.getdoc(ability).partition(".")[0]
    return sentence[0].lower() + sentence[1:]


@dataclasses.dataclass(frozen=True)
class Section:
    """The section of a config that is one task's own, `config.<name>`.

    Attributes:
      name: of the section.
      inherited: keys without which the weights would mean something else: who starts from a run of the task, or only
        looks at its network, takes them over.
      kept: keys that only the run itself needs beside these, for its own checkpoints.
      may_change: keys that may differ when a run goes on (`cmav.training.run_config.check_can_go_on`).
    """

    name: str
    inherited: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    may_change: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class ClipTask:
    """A task whose network sees one clip a row. See `Task` and the abilities for what each method promises."""

    data_config: FrozenConfigDict
    model_config: FrozenConfigDict
    loss_config: FrozenConfigDict
    clip: ClipShape
    seed: int = dataclasses.field(default=0, kw_only=True)  # of what is drawn of the training split, once for all

    section: ClassVar[Section | None] = None  # of the config; None: it has no settings of its own
    has_negatives: ClassVar[bool] = False  # sounds beside a clip's own, as `config.data.other_share` mixes them

    results = ("logits",)
    embeds_with = ("backbone",)
    maps_with = ("backbone",)
    mode = "full"  # which streams it is of
    make_views = None
    streams = ("video", "audio")  # the same, by their names

    @property
    def cover(self) -> Cover:
        """What of the pictures its network is not to see, wherever they come from."""
        return Cover.of(self.data_config)

    @classmethod
    def from_config(cls, config: ConfigDict, phase: Mapping[str, Any], **more: Any) -> Self:
        """Raises UserError where the phase has what means nothing to the task, or a box of `config.data` is none."""
        Cover.of(config.data)
        if "shift_seconds" in phase:
            raise UserError(f"shift_seconds={phase['shift_seconds']}: the task {config.task!r} shifts no sound.")
        if "other_share" in phase or (config.data.other_share and not cls.has_negatives):
            raise UserError(
                f"other_share={phase.get('other_share', config.data.other_share)}: the task {config.task!r} has no "
                "audios beside a clip's own."
            )
        clip = ClipShape.from_config(config.data, phase["frame_rate"])
        return cls(*map(FrozenConfigDict, (config.data, config.model, config.loss)), clip, seed=config.seed, **more)

    @classmethod
    def starts_afresh(cls, config: ConfigDict) -> bool:
        """Whether a run loads no weights, even where `config.init.checkpoint` names some."""
        del config
        return False

    @classmethod
    def as_frozen(cls, config: ConfigDict) -> ConfigDict:
        """A copy of a trained run's config for who only looks at its network, perhaps where the dataset is not."""
        return config.copy_and_resolve_references()

    @classmethod
    def as_whole(cls, config: ConfigDict, params: Mapping[str, Any]) -> ConfigDict:
        """As `as_frozen`, for who looks at the head as well, whose parameters these are."""
        del params
        return cls.as_frozen(config)

    def usable_records(self, index: Any, *, train: bool) -> Any:
        records = self.fitting_records(index, train=train)
        if not (train and self.data_config.max_videos):
            return records
        from cmav.data import clip_ids  # Only here, as below.

        return clip_ids.of_some_videos(index, records, self.data_config.max_videos, self.seed)

    def fitting_records(self, index: Any, *, train: bool) -> Any:
        """As `usable_records`, of all videos."""
        raise NotImplementedError

    def init(self, key: jax.Array) -> dict[str, Any]:
        zeros = {name: jnp.zeros(x.shape, x.dtype) for name, x in self.batch_shapes(1).items()}
        return self.model().init(key, *self.inputs(zeros), train=False, **self._rates())

    def partner_share(self, *, train: bool) -> float:
        del train
        return 0.0

    def only_example(self, record: Mapping[str, Any]) -> dict[str, Any]:
        import tensorflow as tf  # Only here: models, steps and benchmarks run without it.

        return self.make_example(record, tf.zeros(2, tf.int32), tf.constant(0), train=False)

    def concern(self, metrics: Mapping[str, float]) -> str:
        del metrics
        return ""

    def map_methods(self) -> dict[str, MapMethod]:
        return self.model().map_methods()

    def doubt(self, methods: Sequence[str]) -> str:
        mine = self.map_methods()
        doubtful = [name for name in methods if name in mine and mine[name].needs_alignment]
        if self.loss_config.alignment_weight or self.model_config.fusion_moments or not doubtful:
            return ""
        return (
            f"{' and '.join(doubtful)}: only the temporal alignment loss, or a head that compares moments, makes the "
            "encoders' tokens comparable, and by its config this network was trained without either "
            "(config.loss.alignment_weight=0, config.model.fusion_moments=0), so these maps may show anything"
        )

    def with_pictures(self, size: int, stride: int | None) -> Self:
        model = self.model_config
        if stride is not None:
            model = FrozenConfigDict({**model, "video": encoders.video(model).finer(stride)})
        data = FrozenConfigDict({**self.data_config, "crop_size": size})
        return dataclasses.replace(self, data_config=data, model_config=model)

    def model(self) -> nn.Module:
        """The network."""
        raise NotImplementedError

    def apply(
        self, variables: Mapping[str, Any], batch: Batch, *, train: bool, dropout_key: jax.Array | None = None
    ) -> tuple[dict[str, jax.Array], dict[str, Any]]:
        return self._run(variables, self.inputs(batch), train=train, dropout_key=dropout_key)

    def inputs(self, batch: Mapping[str, jax.Array]) -> tuple[jax.Array | None, ...]:
        """What of a batch the network is called with."""
        return batch.get("video"), batch.get("audio"), batch["has_audio"]

    def batch_of(self, video: jax.Array, audio: jax.Array, has_audio: jax.Array) -> dict[str, jax.Array]:
        given = {"video": video, "audio": audio}
        return {**{stream: given[stream] for stream in self.streams}, "has_audio": has_audio}

    def batch_shapes(self, batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
        size, clip = self.data_config.crop_size, self.clip
        shapes = {
            "video": jax.ShapeDtypeStruct((batch_size, clip.num_frames, size, size, 3), jnp.uint8),
            "audio": jax.ShapeDtypeStruct((batch_size, clip.num_samples, 2), jnp.int16),
        }
        streams = {stream: shapes[stream] for stream in self.streams}
        return {**streams, "has_audio": jax.ShapeDtypeStruct((batch_size,), jnp.bool_)}

    def _run(
        self,
        variables: Mapping[str, Any],
        inputs: tuple[jax.Array | None, ...],
        *,
        train: bool,
        dropout_key: jax.Array | None,
    ) -> tuple[Any, dict[str, Any]]:
        """Calls the network. Returns its results, and the collections that training changed."""
        return self.model().apply(
            variables,
            *inputs,
            train=train,
            rngs={"dropout": dropout_key} if train else None,
            mutable=["batch_stats"] if train else [],
            **self._rates(),
        )

    def _rates(self) -> dict[str, float]:
        return {"frame_rate": self.clip.achieved_frame_rate, "sample_rate": self.clip.sample_rate}
