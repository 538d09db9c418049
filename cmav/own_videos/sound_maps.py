"""Where the sound of a whole video is, as a network sees it: the maps of windows that overlap, joined in time."""

import dataclasses
import functools
import io
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from cmav import distributed
from cmav.data.clip_shape import ClipShape
from cmav.localization import heat
from cmav.localization.task import HEADS, LocalizationTask, find_maps
from cmav.media import decoding
from cmav.media.manifest import Video
from cmav.media.streams import RejectedError
from cmav.media.windows import Spacing, example_maker, send_windows
from cmav.models import loudness, maps
from cmav.own_videos.watch import Example, Window, in_batches, window_of, windows_ahead
from cmav.training.frozen import FrozenNetwork

_LEVELS = "levels"


@dataclasses.dataclass(frozen=True)
class SoundMaps:
    """Maps of a video, at equal intervals from its first frame to its end. N instants, A heads.

    Attributes:
      times: float64 [N], seconds from the first frame.
      maps: float32 [N, H', W']; what is above 0 speaks for the sound. Of instants that are quiet beside the video's
        loudest it is less, and all 0 where none can be heard (`heat.audible`).
      heads: float32 [N, A, H', W'], of which `maps` is the combination; None where the method has none.
      loudness: float32 [N], of the loudest 50 ms around the instant, in dB of full scale (`loudness.around`).
      rows: float64 [H'], centres of the map's rows from 0, the picture's top, to 1.
      columns: float64 [W'], of its columns.
      has_audio: whether the video has sound.
      note: what of the video was lost, and why; empty: nothing.
    """

    times: np.ndarray
    maps: np.ndarray
    heads: np.ndarray | None
    loudness: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    has_audio: bool
    note: str

    def at(self, seconds: float) -> tuple[np.ndarray, np.ndarray | None]:
        """The map at an instant, [H', W'], and those of the heads, [A, H', W']."""

        def here(some: np.ndarray) -> np.ndarray:
            return heat.between(some, self.times, np.array([seconds]))[0].astype(np.float32)

        return here(self.maps), None if self.heads is None else here(self.heads)

    def is_silent(self, seconds: float) -> bool:
        """Whether nothing can be heard at an instant."""
        return not heat.between(heat.audible(self.loudness), self.times, np.array([seconds]))[0]

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
    """A network that says where the sound is. Compiled once, for any number of videos.

    Attributes:
      stride: pixels from one place of a map to the next.
      worker: the process that reads the videos; see `cmav.media.decoding`.
    """

    def __init__(self, network: FrozenNetwork, method: str, *, size: int, batch_size: int, stride: int | None = None):
        """Gets the network ready.

        Args:
          network: as `frozen.load` gives it.
          method: a name that its task has among `map_methods`.
          size: width and height to which pictures are brought, in pixels. The network sees all of a picture: what is
            cropped in training is the edge, where sounds come from as well.
          batch_size: windows at a time; rounded up to what divides over the devices.
          stride: see `LocalizationTask.of`.

        Raises:
          UserError: for a stride that the network cannot have.
        """
        self.worker = decoding.worker()
        task = LocalizationTask.of(network.task, size=size, stride=stride)
        self._network, self._method, self._clip, self._size = network, method, task.clip, size
        self._make_example = example_maker(task.make_example)
        self._answer = jax.jit(functools.partial(_answer, task=task, method=method))
        self._batch_size = math.ceil(batch_size / network.mesh.size) * network.mesh.size
        self.stride = task.stride
        self._token_times, (self._rows, self._columns) = task.token_times, task.centres

    def close(self) -> None:
        """Ends the process that reads the videos."""
        self.worker.end()

    def find(self, path: str, progress: Callable[[float], None] = lambda _: None) -> SoundMaps:
        """Finds the maps of a video.

        Args:
          path: of the file.
          progress: called with the seconds that the network has seen so far.

        Raises:
          RejectedError: where nothing of the video can be decoded.
          UserError: where the network does not have what the method needs, or storage does not answer.
        """
        lost: list[str] = []
        examples = decoding.Ahead(self._examples(path, lost), windows_ahead(self._clip, self._size))
        try:
            found = self.find_in(examples, progress)
        except BaseException:
            self.worker.end()  # so that the thread does not wait for it
            raise
        finally:
            examples.stop()
        if found is None:
            raise RejectedError(lost[0])
        return dataclasses.replace(found, note="".join(lost))

    def find_in(
        self, clips: Iterable[tuple[Window, Example]], progress: Callable[[float], None] = lambda _: None
    ) -> SoundMaps | None:
        """As `find`, of a video's clips in order, made as the network's task makes them; None: there are none."""
        windows, answers = [], []
        for window, answer in in_batches(clips, self._run, self._batch_size):
            windows.append(window)
            answers.append(answer)
            progress(window.end)
        if not windows:
            return None
        spans = [(window.start, window.end) for window in windows]
        seconds, interval = windows[-1].end, np.diff(self._token_times).min(initial=self._clip.seconds)
        times = np.linspace(0, seconds, math.ceil(seconds / interval) + 1)

        def joined(name: str) -> np.ndarray | None:
            found = [answer[name] for answer in answers if name in answer]
            return heat.blend(found, spans, self._token_times, times) if found else None

        loud = _loudness([answer[_LEVELS] for answer in answers], spans, self._clip, times)
        audible = heat.audible(loud)
        found, heads = (
            maps_NxS if maps_NxS is None else maps_NxS * audible.reshape(-1, *[1] * (maps_NxS.ndim - 1))
            for maps_NxS in (joined(self._method), joined(HEADS))
        )
        places = self._rows, self._columns
        return SoundMaps(times, found, heads, loud, *places, windows[0].has_audio, "")

    def _examples(self, path: str, lost: list[str]) -> Iterator[tuple[Window, Example]]:
        """Yields each window with its example. In `lost` is then what was lost, if any."""
        spacing = Spacing.half_overlapping(self._clip)
        job = (Video(path, "video"), "", self._clip, self._size, spacing)
        try:
            for clip in decoding.read(self.worker, send_windows, *job):
                yield window_of(clip), self._make_example(clip)
        except RejectedError as error:
            lost.append(str(error))

    def _run(self, batch: Example) -> dict[str, jax.Array]:
        return self._answer(self._network.variables, distributed.to_devices(batch, self._network.mesh))


def _answer(
    variables: Mapping[str, Any], batch: Mapping[str, jax.Array], *, task: LocalizationTask, method: str
) -> dict[str, jax.Array]:
    found = find_maps(variables, batch, task=task, methods=(method,))
    return {**found, _LEVELS: loudness.levels(batch["audio"], task.clip.sample_rate)}


def _loudness(
    levels: Sequence[np.ndarray], spans: Sequence[tuple[float, float]], clip: ClipShape, instants_N: np.ndarray
) -> np.ndarray:
    """How loud it is around the instants of a video, by the levels of its windows; see `loudness.around`."""
    times_WxP = loudness.times(clip.num_samples, clip.sample_rate) + np.array(spans)[:, :1]
    # A window that is longer than its video is looped: pieces that reach beyond the end hear the beginning again.
    inside = times_WxP + loudness.PIECE_SECONDS / 2 <= np.array(spans)[:, 1:] + 1e-3
    inside[:, 0] = True
    order = np.argsort(times_WxP[inside])
    return loudness.around(np.stack(levels)[inside][None, order], times_WxP[inside][order], instants_N)[0]
