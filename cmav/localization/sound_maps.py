"""Where the sound of a whole video is, as a network sees it: the maps of windows that overlap, joined in time."""

import dataclasses
import functools
import io
import itertools
import math
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cmav import distributed
from cmav.frozen import FrozenNetwork
from cmav.localization import heat
from cmav.models import maps
from cmav.models.positions import token_times
from cmav.tasks.avs import Avs
from cmav.watch import Example, Window, ahead, in_batches


@dataclasses.dataclass(frozen=True)
class SoundMaps:
    """Maps of a video, at equal intervals from its first frame to its end. N instants, A heads.

    Attributes:
      times: float64 [N], seconds from the first frame.
      maps: float32 [N, H', W']; what is above 0 speaks for the sound. All 0 where none can be heard.
      heads: float32 [N, A, H', W'], of which `maps` is the combination; None where the method has none.
      rows: float64 [H'], centres of the map's rows from 0, the picture's top, to 1.
      columns: float64 [W'], of its columns.
      has_audio: whether the video has sound.
      note: what of the video was lost, and why; empty: nothing.
    """

    times: np.ndarray
    maps: np.ndarray
    heads: np.ndarray | None
    rows: np.ndarray
    columns: np.ndarray
    has_audio: bool
    note: str

    def at(self, seconds: float) -> tuple[np.ndarray, np.ndarray | None]:
        """The map at an instant, [H', W'], and those of the heads, [A, H', W']."""

        def here(some: np.ndarray) -> np.ndarray:
            return heat.between(some, self.times, np.array([seconds]))[0].astype(np.float32)

        return here(self.maps), None if self.heads is None else here(self.heads)

    def enlarged(self, some: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """[..., H', W'] as large as a picture of this height and width, whose places the map's are."""
        return np.asarray(maps.upsample(some, size, (self.rows, self.columns)))

    def save(self, path: str, **more: Any) -> None:
        """Writes all of it, and what else is given, as .npz, which `numpy.load` reads without pickle."""
        arrays = {name: value for name, value in vars(self).items() if value is not None}
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays, **more)
        with open(f"{path}.part", "wb") as file:
            file.write(buffer.getbuffer())
        os.replace(f"{path}.part", path)


class Localizer:
    """A network that says where the sound is. Compiled once, for any number of videos."""

    def __init__(self, network: FrozenNetwork, method: str, *, size: int, batch_size: int):
        """Gets the network ready.

        Args:
          network: as `frozen.load_avs` gives it; `cam` needs its head.
          method: a name in `cmav.models.maps.METHODS`.
          size: width and height to which pictures are brought, in pixels. The network sees all of a picture: what is
            cropped in training is the edge, where sounds come from as well.
          batch_size: windows at a time; rounded up to what divides over the devices.
        """
        from cmav.data import own_videos

        data = type(network.task.data_config)({**network.task.data_config, "crop_size": size})
        task = _WithItsSound(**{**vars(network.task), "data_config": data})
        self._network, self._clip, self._size = network, task.clip, size
        self._make_example = own_videos.example_maker(task)
        self._answer = jax.jit(functools.partial(_answer, task=task, method=method))
        self._batch_size = math.ceil(batch_size / network.mesh.size) * network.mesh.size
        layers = task.model_config.video_layers
        self._token_times = token_times(layers, task.clip.num_frames, task.clip.achieved_frame_rate)
        self._rows, self._columns = maps.location_centres(layers, (size, size))

    def find(self, path: str, progress: Callable[[float], None] = lambda _: None) -> SoundMaps:
        """Finds the maps of a video.

        Args:
          path: of the file.
          progress: called with the seconds that the network has seen so far.

        Raises:
          RejectedError: where nothing of the video can be decoded.
          UserError: where the network does not have what the method needs.
        """
        from data_prep.media import RejectedError

        windows, answers, lost = [], [], []
        examples = itertools.chain.from_iterable(ahead([self._examples(path, lost)], 1))  # decoded in a thread
        for window, answer in in_batches(examples, self._ask, self._batch_size):
            windows.append(window)
            answers.append(answer)
            progress(window.end)
        if not windows:
            raise RejectedError(lost[0])
        spans = [(window.start, window.end) for window in windows]
        seconds, interval = windows[-1].end, np.diff(self._token_times).min(initial=self._clip.seconds)
        times = np.linspace(0, seconds, math.ceil(seconds / interval) + 1)

        def joined(name: str) -> np.ndarray | None:
            found = [answer[name] for answer in answers if name in answer]
            return heat.blend(found, spans, self._token_times, times) if found else None

        found, heads = joined("maps"), joined("heads")
        return SoundMaps(times, found, heads, self._rows, self._columns, windows[0].has_audio, "".join(lost))

    def _examples(self, path: str, lost: list[str]) -> Iterator[tuple[Window, Example]]:
        """Yields each window with its example. In `lost` is then what was lost, if any."""
        from cmav.data import own_videos
        from data_prep.manifest import Video
        from data_prep.media import RejectedError

        spacing = own_videos.Spacing.half_overlapping(self._clip)
        try:
            for clip in own_videos.windows(Video(path, "video"), "", self._clip, self._size, spacing):
                end = clip.start_seconds + clip.seconds
                yield Window(clip.start_seconds, end, clip.has_audio), self._make_example(clip)
        except RejectedError as error:
            lost.append(str(error))

    def _ask(self, batch: Example) -> dict[str, jax.Array]:
        return self._answer(self._network.variables, distributed.to_devices(batch, self._network.mesh))


class _WithItsSound(Avs):
    """Synchronization's task with whole pictures and the one audio of the same moment. Short records are looped."""

    def make_example(self, record, seed, view, *, train):
        import tensorflow as tf

        from cmav.data import sampling, video

        frames = sampling.looped_frames(record["frames"], 0, self.clip)
        audio = sampling.looped_audio(record["audio"], tf.constant(0), tf.shape(record["frames"])[0], self.clip)
        return {"video": video.decode_clip(frames, self.data_config.crop_size, None), "audio": audio[None]}


def _answer(variables: Any, batch: Mapping[str, jax.Array], *, task: Avs, method: str) -> dict[str, jax.Array]:
    """`maps` [B, T', H', W'], and of attention `heads` [B, T', A, H', W']; 0 where the audio is nothing but zeros."""
    outputs, _ = task.apply(variables, batch, train=False)
    found = maps.METHODS[method](task.model(), variables, outputs)
    heard_B = (batch["audio"] != 0).any(axis=(1, 2, 3))

    def lit(x):
        return jnp.where(heard_B.reshape(-1, *[1] * (x.ndim - 1)), x, 0)

    if found.ndim == 5:
        return {"maps": lit(found[:, 0])}
    heads_BxTxAxHxW = jnp.moveaxis(found[:, 0], 1, 2)
    return {"maps": lit(maps.combine_heads(found)[:, 0]), "heads": lit(heads_BxTxAxHxW)}
