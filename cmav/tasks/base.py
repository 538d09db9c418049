"""What tasks have in common: settings, rates, how a network is run."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict, FrozenConfigDict

from cmav.data.clip_shape import ClipShape
from cmav.models import encoders
from cmav.models.maps import MapMethod


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
    """A task whose network sees one clip a row. See `cmav.tasks.Task` for what each method promises."""

    data_config: FrozenConfigDict
    model_config: FrozenConfigDict
    loss_config: FrozenConfigDict
    clip: ClipShape

    section: ClassVar[Section | None] = None  # of the config; None: it has no settings of its own

    results = ("logits",)
    embeds_with = ("backbone",)
    maps_with = ("backbone",)
    mode = "full"  # which streams it is of

    @classmethod
    def from_config(cls, config: ConfigDict, phase: Mapping[str, Any], **more: Any) -> Self:
        clip = ClipShape.from_config(config.data, phase["frame_rate"])
        return cls(*map(FrozenConfigDict, (config.data, config.model, config.loss)), clip, **more)

    @classmethod
    def starts_afresh(cls, config: ConfigDict) -> bool:
        """Whether a run loads no weights, even where `config.init.checkpoint` names some."""
        del config
        return False

    @classmethod
    def as_frozen(cls, config: ConfigDict) -> ConfigDict:
        """A copy of a trained run's config for who only looks at its network, perhaps where the dataset is not."""
        return config.copy_and_resolve_references()

    def init(self, key: jax.Array) -> dict[str, Any]:
        zeros = {name: jnp.zeros(x.shape, x.dtype) for name, x in self.batch_shapes(1).items()}
        return self.model().init(key, *self.inputs(zeros), train=False, **self._rates())

    def only_example(self, record: Mapping[str, Any]) -> dict[str, Any]:
        import tensorflow as tf

        return self.make_example(record, tf.zeros(2, tf.int32), tf.constant(0), train=False)

    def concern(self, metrics: Mapping[str, float]) -> str:
        del metrics
        return ""

    def map_methods(self) -> dict[str, MapMethod]:
        return self.model().map_methods()

    def doubt(self, methods: tuple[str, ...]) -> str:
        mine = self.map_methods()
        doubtful = [name for name in methods if name in mine and mine[name].needs_alignment]
        if self.loss_config.alignment_weight or not doubtful:
            return ""
        return (
            f"{' and '.join(doubtful)}: only the temporal alignment loss makes the encoders' tokens comparable, and by "
            "its config this network was trained without it (config.loss.alignment_weight=0), so these maps may show "
            "anything"
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

    def inputs(self, batch: Mapping[str, jax.Array]) -> tuple[jax.Array | None, ...]:
        """What of a batch the network is called with."""
        raise NotImplementedError

    def batch_shapes(self, batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
        raise NotImplementedError

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
