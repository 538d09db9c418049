"""Tasks: what one trains for. The trainer knows them through the protocol below, never by name.

A batch is a dict of arrays whose first axis is the clip. Every task has at least

| key       | shape, dtype  | meaning                                                          |
| --------- | ------------- | ---------------------------------------------------------------- |
| `clip_id` | [B] bytes     | stays on the host; named when something goes wrong               |
| `mask`    | [B] float32   | 1 for a clip, 0 for padding of an evaluation's last batch         |
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import jax
from ml_collections import ConfigDict, FrozenConfigDict

from cmav.data.clip_shape import ClipShape
from cmav.errors import UserError
from cmav.models.maps import MapMethod
from cmav.tasks.action import Action
from cmav.tasks.avs import Avs
from cmav.tasks.base import ClipTask, Section
from cmav.tasks.cmac import Cmac

Batch = Mapping[str, jax.Array]
Metrics = dict[str, jax.Array]


# What a task can be asked beside training it, by the name that evaluators ask for. It then has, beside the protocol:
ABILITIES = {
    "pairs": "a clip with several sounds: `labels` [B, K] in its batches, `logits` [B, K] in its outputs",
    "classes": "classes of whole videos: `num_views`, `action_config`, `label` in its batches, `logits` [B, classes]",
    "embeddings": "what is seen and what is heard in one space: `embeddings`",
    "bands": "attention over the frequencies of the sound: `audio_attentions`",
    "maps": "a network that sees and hears: `map_methods` are some",
}


class Task(Protocol):
    """One task's whole story, for one phase of training. Hashable; `cmav.tasks.base.ClipTask` has what most share."""

    data_config: FrozenConfigDict
    model_config: FrozenConfigDict
    clip: ClipShape  # frames and samples of an example
    abilities: frozenset[str]  # of `ABILITIES`
    results: tuple[str, ...]  # keys of the outputs of which the loss is
    mode: str  # which streams its network has, as in `config.action.mode`
    embeds_with: tuple[str, ...]  # subtrees of parameters that make its network's features
    maps_with: tuple[str, ...]  # subtrees of parameters that `map_methods` ask
    embeds_as: str  # the task whose network makes features of a backbone that was trained by this one

    def usable_records(self, index: Any, *, train: bool) -> Any:
        """Numbers of the records of a `cmav.data.index.SplitIndex` that the task can use; also checks their rates."""

    def make_example(self, record: Mapping[str, Any], seed: Any, view: Any, *, train: bool) -> dict[str, Any]:
        """TensorFlow: chooses from a parsed record the clip, the audios and the labels.

        `seed` is int32 [2], of what is random. `view`, int32 [], is which of an evaluation's examples of this record it
        is to be; 0 in training.
        """

    def only_example(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """As `make_example`: the first view of an evaluation, which draws nothing at random."""

    def batch_of(self, video: jax.Array, audio: jax.Array, has_audio: jax.Array) -> Batch:
        """A batch of clips with their own sound: frames [B, T, H, W, 3], samples [B, S, 2], bool [B]; for `apply`."""

    def batch_shapes(self, batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
        """What the network sees of a batch."""

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

    def map_methods(self) -> Mapping[str, MapMethod]:
        """How its network says where the sound is, by name (`cmav.localization.methods`); none: it cannot."""

    def doubt(self, methods: Sequence[str]) -> str:
        """What speaks against maps by these methods, for people; empty: nothing."""

    def with_pictures(self, size: int, stride: int | None) -> "Task":
        """The same, whose network sees pictures of this size, and has a place of its map every `stride` pixels.

        Raises:
          UserError: for a stride that the network cannot have.
        """


TASKS: dict[str, type[ClipTask]] = {"avs": Avs, "cmac": Cmac, "action": Action}


def class_of(name: str) -> type[ClipTask]:
    """The task of a name, `config.task`.

    Raises:
      UserError: for a name that is not in `TASKS`.
    """
    if name not in TASKS:
        raise UserError(f"config.task={name!r} is not known: choose one of {', '.join(TASKS)}.")
    return TASKS[name]


def make_task(config: ConfigDict, phase: Mapping[str, Any]) -> Task:
    """Makes `config.task` for one of `config.phases`.

    Raises:
      UserError: for a name that is not in `TASKS`, or settings with which there is no such task.
    """
    return class_of(config.task).from_config(config, phase)


def list_sections() -> list[Section]:
    """The sections of a config that are of one task each."""
    return [task.section for task in TASKS.values() if task.section]
