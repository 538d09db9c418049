"""Tasks: what one trains for. The trainer knows them through the protocol below, never by name.

A batch is a dict of arrays whose first axis is the clip. Every task has at least

| key       | shape, dtype  | meaning                                                          |
| --------- | ------------- | ---------------------------------------------------------------- |
| `clip_id` | [B] bytes     | stays on the host; named when something goes wrong               |
| `mask`    | [B] float32   | 1 for a clip, 0 for padding of an evaluation's last batch         |
"""

from collections.abc import Mapping
from typing import Any, Protocol

import jax
from ml_collections import ConfigDict

from cmav.data.clip_shape import ClipShape
from cmav.errors import UserError
from cmav.tasks.action import Action
from cmav.tasks.avs import Avs

Batch = Mapping[str, jax.Array]
Metrics = dict[str, jax.Array]


class Task(Protocol):
    """One task's whole story, for one phase of training."""

    clip: ClipShape  # frames and samples of an example

    def usable_records(self, index: Any, *, train: bool) -> Any:
        """Numbers of the records of a `cmav.data.index.SplitIndex` that the task can use; also checks their rates."""

    def make_example(self, record: Mapping[str, Any], seed: Any, view: Any, *, train: bool) -> dict[str, Any]:
        """TensorFlow: chooses from a parsed record the clip, the audios and the labels.

        `seed` is int32 [2], of what is random. `view`, int32 [], is which of an evaluation's examples of this record it
        is to be; 0 in training.
        """

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


TASKS = {"avs": Avs, "action": Action}


def make_task(config: ConfigDict, phase: Mapping[str, Any]) -> Task:
    """Makes `config.task` for one of `config.phases`.

    Raises:
      UserError: for a name that is not in `TASKS`.
    """
    if config.task not in TASKS:
        raise UserError(f"config.task={config.task!r} is not known: choose one of {', '.join(TASKS)}.")
    return TASKS[config.task].from_config(config, phase)
