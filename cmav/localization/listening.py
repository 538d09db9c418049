"""The network's side of localization: whole pictures with their own sound in, maps of where it is out."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import FrozenConfigDict

from cmav.models import maps
from cmav.models.layers import finer, map_stride
from cmav.models.positions import token_times
from cmav.tasks.avs import Avs

HEADS = "heads"  # of the method "attention", beside the combination that stands under the method's name


class Listening(Avs):
    """Synchronization's task with whole pictures, from a record's middle, and the one audio of the same moment.

    A record that is shorter than a clip is looped. Make it of another task with `of`.
    """

    @classmethod
    def of(cls, task: Avs, *, size: int, stride: int | None = None) -> "Listening":
        """The task of a network that was trained by `task`.

        Args:
          task: synchronization's.
          size: width and height of the pictures in pixels. All of a picture is seen: what is cropped in training is the
            edge, where sounds come from as well.
          stride: of a map's locations, in pixels; None: the network's own. A smaller one makes finer maps, of the same
            weights (`cmav.models.layers.finer`).

        Raises:
          UserError: for a stride that the network cannot have.
        """
        data, model = task.data_config, task.model_config
        if stride is not None:
            model = _with(model, video_layers=finer(model.video_layers, stride))
        return cls(_with(data, crop_size=size), model, task.loss_config, task.clip)

    @property
    def token_times(self) -> np.ndarray:
        """When a map's instants are, float64 [T'], seconds from the clip's start."""
        return token_times(self.model_config.video_layers, self.clip.num_frames, self.clip.achieved_frame_rate)

    @property
    def stride(self) -> int:
        """Pixels from one place of a map to the next."""
        return map_stride(self.model_config.video_layers)

    @property
    def centres(self) -> tuple[np.ndarray, np.ndarray]:
        """Where a map's rows and columns are: see `maps.location_centres`."""
        size = self.data_config.crop_size
        return maps.location_centres(self.model_config.video_layers, (size, size))

    def usable_records(self, index, *, train):
        from cmav.data import checks

        checks.check_dataset(index, self.clip, self.data_config.crop_size)
        return checks.usable_records(index, min_seconds=0.0, need_audio=False)

    def make_example(self, record, seed, view, *, train):
        import tensorflow as tf

        from cmav.data import sampling, video

        num_frames = tf.shape(record["frames"])[0]
        start = sampling.evenly_spaced_start(tf.constant(0), 1, num_frames, self.clip)
        frames = sampling.looped_frames(record["frames"], start, self.clip)
        audio = sampling.looped_audio(record["audio"], start, num_frames, self.clip)
        return {"video": video.decode_clip(frames, self.data_config.crop_size, None), "audio": audio[None]}


def _with(config: FrozenConfigDict, **changes: Any) -> FrozenConfigDict:
    return FrozenConfigDict({**config, **changes})


def find_maps(
    variables: Mapping[str, Any], batch: Mapping[str, jax.Array], *, task: Listening, methods: Sequence[str]
) -> dict[str, jax.Array]:
    """The maps of a batch by each method, [B, T', H', W'], and of attention `heads` [B, T', A, H', W'].

    All 0 where the audio is nothing but zeros.
    """
    outputs, _ = task.apply(variables, batch, train=False)
    heard_B = (batch["audio"] != 0).any(axis=(1, 2, 3))
    found = {}
    for method in methods:
        maps_BxK = maps.METHODS[method](task.model(), variables, outputs)
        if maps_BxK.ndim == 6:
            found[HEADS] = jnp.moveaxis(maps_BxK[:, 0], 1, 2)
            maps_BxK = maps.combine_heads(maps_BxK)
        found[method] = maps_BxK[:, 0]
    return {name: jnp.where(heard_B.reshape(-1, *[1] * (x.ndim - 1)), x, 0) for name, x in found.items()}
