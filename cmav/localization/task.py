"""The network's side of localization: whole pictures with their own sound in, maps of where it is out."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tensorflow as tf

from cmav.data import checks, sampling, video
from cmav.data.clip_shape import ClipShape
from cmav.models import encoders, loudness, maps
from cmav.models.encoders import VideoEncoder
from cmav.tasks.base import Maps

HEADS = "heads"  # of the method "attention", beside the combination that stands under the method's name


@dataclasses.dataclass(frozen=True)
class LocalizationTask:
    """Whole pictures and their own sound, from a record's middle, for a network that was trained by some task.

    A record that is shorter than a clip is looped. Make it with `of`.
    """

    of_network: Maps  # the task that the network was trained by, of whole pictures

    @classmethod
    def of(cls, task: Maps, *, size: int, stride: int | None = None) -> "LocalizationTask":
        """Of the network of a task.

        Args:
          task: whose network sees and hears.
          size: width and height of the pictures in pixels. All of a picture is seen: what is cropped in training is the
            edge, where sounds come from as well.
          stride: of a map's locations, in pixels; None: the network's own. A smaller one makes finer maps, of the same
            weights (`cmav.models.layers.finer`).

        Raises:
          UserError: for a stride that the network cannot have.
        """
        return cls(task.with_pictures(size, stride))

    @property
    def clip(self) -> ClipShape:
        return self.of_network.clip

    @property
    def size(self) -> int:
        """Width and height of the pictures, in pixels."""
        return self.of_network.data_config.crop_size

    @property
    def token_times(self) -> np.ndarray:
        """When a map's instants are, float64 [T'], seconds from the clip's start."""
        return self._encoder.times(self.clip.num_frames, self.clip.achieved_frame_rate)

    @property
    def stride(self) -> int:
        """Pixels from one place of a map to the next."""
        return self._encoder.stride

    @property
    def centres(self) -> tuple[np.ndarray, np.ndarray]:
        """Where a map's rows and columns are: see `VideoEncoder.places`."""
        return self._encoder.places((self.size, self.size))

    @property
    def _encoder(self) -> VideoEncoder:
        return encoders.video(self.of_network.model_config)

    def usable_records(self, index: Any) -> np.ndarray:
        """Numbers of the records of a `cmav.data.index.SplitIndex` that can be looked at; also checks their rates."""
        checks.check_dataset(index, self.clip, self.size)
        return checks.usable_records(index, min_seconds=0.0, need_audio=False)

    def make_example(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """TensorFlow: of a parsed record `video` uint8 [T, H, W, 3] and `audio` int16 [S, 2]."""
        num_frames = tf.shape(record["frames"])[0]
        start = sampling.evenly_spaced_start(tf.constant(0), 1, num_frames, self.clip)
        frames = sampling.looped_frames(record["frames"], start, self.clip)
        audio = sampling.looped_audio(record["audio"], start, num_frames, self.clip)
        # The central crop, or all.
        return {"video": video.decode_clip(frames, self.size, None, cover=self.of_network.cover), "audio": audio}


def find_maps(
    variables: Mapping[str, Any], batch: Mapping[str, jax.Array], *, task: LocalizationTask, methods: Sequence[str]
) -> dict[str, jax.Array]:
    """The maps of a batch by each method, [B, T', H', W'], and of attention `heads` [B, T', A, H', W'].

    All 0 where the audio is silent from its start to its end (`cmav.models.loudness`).
    """
    of_network = task.of_network
    heard_B = loudness.levels(batch["audio"], task.clip.sample_rate).max(axis=1) >= loudness.SILENT_DBFS
    outputs, _ = of_network.apply(variables, of_network.batch_of(batch["video"], batch["audio"], heard_B), train=False)
    found = {}
    for name in methods:
        method = of_network.map_methods()[name]
        maps_BxK = method.find(of_network.model(), variables, outputs)
        if method.by_heads:
            found[HEADS] = jnp.moveaxis(maps_BxK[:, 0], 1, 2)
            maps_BxK = maps.combine_heads(maps_BxK)
        found[name] = maps_BxK[:, 0]
    return {name: jnp.where(heard_B.reshape(-1, *[1] * (x.ndim - 1)), x, 0) for name, x in found.items()}


def find_loudness(batch: Mapping[str, jax.Array], *, task: LocalizationTask) -> jax.Array:
    """How loud it is around each instant of the maps (`loudness.around`), float32 [B, T'], dB of full scale."""
    levels_BxP = loudness.levels(batch["audio"], task.clip.sample_rate)
    times_P = loudness.times(task.clip.num_samples, task.clip.sample_rate)
    return loudness.around(levels_BxP, times_P, task.token_times)
