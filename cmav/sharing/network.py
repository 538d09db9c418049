"""A trained network, for Python: `cmav.load("runs/demo").sync("video.mp4")`."""

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Mapping
from typing import Any, Self

import jax
import numpy as np
from etils import epath

from cmav.errors import UserError
from cmav.localization.methods import choose, list_methods
from cmav.media.manifest import Video
from cmav.media.streams import RejectedError
from cmav.media.windows import Spacing
from cmav.offsets.calibration import Calibration
from cmav.offsets.estimate import MIN_CONFIDENCE, Estimate
from cmav.offsets.stretch import Stretch
from cmav.own_videos.offsets import Found, find_offsets, join, judge
from cmav.own_videos.sound_maps import Localizer, SoundMaps
from cmav.own_videos.sound_search import Pictures, read_sound
from cmav.own_videos.watch import Seen, Window, picture_size, watch
from cmav.sharing.functions import Function, list_functions
from cmav.tasks.base import Maps, Offsets, in_words
from cmav.training.frozen import FrozenNetwork, load

Path = str | os.PathLike[str]
FUNCTIONS = ("encode_video", "encode_audio", "compare")  # of those of `cmav.sharing.functions`


class Network:
    """Made by `cmav.load`. What it is asked may be a file, which is decoded as shards are, or arrays.

    Arrays are frames, uint8 [T, size, size, 3], `frame_rate` of them a second, and samples, int16 [S, 2],
    `sample_rate` of them a second, that begin with the first frame. All else raises a `cmav.errors.UserError` which
    says what it should be.

    Attributes:
      frame_rate: Hz.
      sample_rate: Hz.
      clip_seconds: that it sees and hears at a time.
      num_frames: of a clip.
      num_samples: of a clip.
      size: width and height of its pictures, in pixels.
      run: what it was loaded from.
      step: of training, of its weights.
      frozen: the network for functions of cmav; `frozen.task` says what it can be asked.
    """

    def __init__(self, network: FrozenNetwork):
        self.frozen, task = network, network.task
        self.frame_rate, self.sample_rate = task.clip.achieved_frame_rate, task.clip.sample_rate
        self.clip_seconds, self.size = task.clip.seconds, task.data_config.crop_size
        self.num_frames, self.num_samples = task.clip.num_frames, task.clip.num_samples
        self.run, self.step = network.run, network.step
        known = list_functions(task, network.variables)
        self._functions = {name: known[name] for name in FUNCTIONS if name in known}
        self._stretches: dict[tuple[int, int], tuple[Stretch, Any]] = {}
        self._compiled = {name: jax.jit(function.call) for name, function in self._functions.items()}

    @classmethod
    def load(cls, checkpoint: Path) -> Self:
        """See `cmav.load`."""
        return cls(load(os.fspath(checkpoint)))

    def encode_video(self, video: Path | np.ndarray) -> np.ndarray:
        """What it sees: of a network of synchronization tokens, [N, D] a clip; of CMAC an embedding, [E], of length 1.

        Of Multisensory, which fuses early, it is a map, [T', H', W', C'].

        Args:
          video: frames of a clip, [num_frames, size, size, 3], or of several, with another axis in front; or a file,
            of which clips that follow one another are seen, the last of which ends with it.

        Returns:
          float32, [B, ...] of several clips, and of a file.
        """
        function = self._function("encode_video")
        if isinstance(video, np.ndarray):
            self._refuse_cover()
            return self._call("encode_video", video)
        size = picture_size(None, self.size)
        (seen,) = watch(
            self.frozen,
            [Video(os.fspath(video), "video")],
            "",
            lambda variables, batch: function.call(variables, batch["video"]),
            size=size,
            spacing=Spacing.side_by_side(self.frozen.task.clip),
            batch_size=4,
            sees=Pictures(self.frozen.task),
        )
        return np.stack(_answers(seen, video))

    def encode_audio(self, audio: Path | np.ndarray) -> np.ndarray:
        """As `encode_video`, of samples [num_samples, 2], or of a file with sound, at least as long as a clip."""
        self._function("encode_audio")
        if isinstance(audio, np.ndarray):
            return self._call("encode_audio", audio)
        samples = read_sound(os.fspath(audio), self.sample_rate)
        if len(samples) < self.num_samples:
            raise UserError(f"{audio} is shorter than the {self.clip_seconds:g} s that the network hears at a time.")
        starts = [*range(0, len(samples) - self.num_samples, self.num_samples), len(samples) - self.num_samples]
        return np.stack([self._call("encode_audio", samples[start : start + self.num_samples]) for start in starts])

    def compare(self, video_tokens: np.ndarray, audio_tokens: np.ndarray) -> np.ndarray:
        """How much likelier in sync than shifted they are, as a logit: of what the two encoders gave, clip by clip."""
        self._function("compare")
        return self._call("compare", video_tokens, audio_tokens)

    def sync(
        self, video: Path | np.ndarray, audio: np.ndarray | None = None, *, max_shift_ms: float = 1000
    ) -> Estimate:
        """By how much the sound is late, as `python -m cmav.sync` says it.

        Args:
          video: a file with sound, or frames, any number of them.
          audio: the samples that belong to frames.
          max_shift_ms: the greatest offset to look for, to either side.

        Returns:
          `offset_ms`, None where it cannot be told, `low_ms`, `high_ms`, `confidence`, and `verdict`, in words.
        """
        return self.find_offset(video, audio, max_shift_ms=max_shift_ms).estimate

    def find_offset(
        self, video: Path | np.ndarray, audio: np.ndarray | None = None, *, max_shift_ms: float = 1000
    ) -> Found:
        """As `sync`, with what it was read from: the curve, the windows, how the offset goes over time."""
        task = self.frozen.task
        if Offsets not in task.abilities:
            raise UserError(f"offsets need {in_words(Offsets)}, and the network of {self.run} has not that.")
        calibration = Calibration.load(epath.Path(self.run))
        if calibration and calibration.fitted_on["step"] != self.step:
            calibration = None
        seconds = max_shift_ms / 1000
        if not isinstance(video, np.ndarray):
            given = {"size": picture_size(None, self.size), "batch_size": 1}
            stretch, videos = Stretch.of(task, max_seconds=seconds), [Video(os.fspath(video), "video")]
            (found,) = find_offsets(self.frozen, videos, "", stretch, calibration, **given)
            if isinstance(found, str):
                raise UserError(f"{os.fspath(video)}: {found}")
            return found
        frames, samples = self._streams(video, audio)
        frames = frames.repeat(task.clip.stride, axis=0)  # as many as are stored, of which the network sees every n-th
        stretch, scores = self._stretch(seconds, len(frames))
        missing = max(0, stretch.num_frames - len(frames))
        batch = {
            "video": np.pad(frames, [(0, missing), (0, 0), (0, 0), (0, 0)], mode="edge")[None],
            "audio": np.pad(samples, [(0, max(0, stretch.num_samples - len(samples))), (0, 0)])[None],
            "num_frames": np.array([len(frames)], np.int32),
        }
        batch["audio"] = batch["audio"][:, : stretch.num_samples]
        answer = jax.device_get(scores(self.frozen.variables, batch))
        window = Window(0.0, len(frames) / task.clip.stored_frame_rate, bool(samples.any()))
        seen = Seen([window], [{name: x[0] for name, x in answer.items()}], "")
        return judge(join(seen, stretch), calibration, 1 / self.frame_rate, seen, MIN_CONFIDENCE)

    def localize(
        self,
        video: Path | np.ndarray,
        audio: np.ndarray | None = None,
        *,
        method: str | None = None,
        stride: int | None = None,
    ) -> SoundMaps:
        """Where the sound is, as `python -m cmav.localize` has it in its arrays.

        Args:
          video: a file with sound, or frames, any number of them.
          audio: the samples that belong to frames.
          method: one that the network has; None: the first.
          stride: pixels from one place of a map to the next; None: the network's own.

        Returns:
          `maps` at `times`, and what belongs to them; `at(seconds)` is the map of a moment.
        """
        task = self.frozen.task
        if Maps not in task.abilities:
            raise UserError(f"maps need {in_words(Maps)}, and the network of {self.run} has not that.")
        is_file = not isinstance(video, np.ndarray)
        method = choose(method, list_methods(task))
        size = picture_size(None, self.size) if is_file else self.size
        localizer = Localizer(self.frozen, method, size=size, batch_size=4, stride=stride)
        with contextlib.closing(localizer):
            if not is_file:
                return localizer.find_in(self._clips(*self._streams(video, audio)))
            try:
                return localizer.find(os.fspath(video))
            except RejectedError as error:
                raise UserError(f"{os.fspath(video)}: {error}") from error

    def _stretch(self, max_seconds: float, num_frames: int) -> tuple[Stretch, Any]:
        """One of at least so many stored frames, and its compiled scores: of whole clips, so that there are few.

        Windows begin at frames that the arrays have.
        """
        clip = self.frozen.task.clip
        num_frames = -(-num_frames // clip.stored_frames) * clip.stored_frames
        key = round(1000 * max_seconds), num_frames
        if key not in self._stretches:
            stretch = Stretch.of(self.frozen.task, max_seconds=max_seconds, num_frames=num_frames)
            stretch = dataclasses.replace(stretch, hop=max(1, stretch.hop // clip.stride) * clip.stride)
            self._stretches[key] = stretch, jax.jit(stretch.scores)
        return self._stretches[key]

    def _clips(self, frames: np.ndarray, samples: np.ndarray) -> Iterator[tuple[Window, dict[str, np.ndarray]]]:
        """Clips of arrays that overlap by half, the last of which ends with them. Too short ones are looped."""
        num_frames = len(frames)
        last = max(0, num_frames - self.num_frames)
        for start in [*range(0, last, max(1, self.num_frames // 2)), last]:
            first = round(start / self.frame_rate * self.sample_rate)
            picked = (start + np.arange(self.num_frames)) % num_frames
            heard = (first + np.arange(self.num_samples)) % len(samples)
            end = min(start + self.num_frames, num_frames) / self.frame_rate
            yield (
                Window(start / self.frame_rate, end, bool(samples.any())),
                {
                    "video": frames[picked],
                    "audio": samples[heard],
                },
            )

    def _streams(self, frames: np.ndarray, samples: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Both, checked, the sound as long as the pictures."""
        self._refuse_cover()
        if samples is None:
            raise UserError("frames are given, and no audio: its samples are the second argument.")
        _check("frames", frames, (None, self.size, self.size, 3), np.uint8)
        _check("audio", samples, (None, 2), np.int16)
        needed = round(len(frames) / self.frame_rate * self.sample_rate)
        if not len(frames) or abs(len(samples) - needed) > self.sample_rate / self.frame_rate:
            raise UserError(
                f"{len(frames)} frames of {self.frame_rate:g} Hz are {needed} samples of {self.sample_rate} Hz long, "
                f"and the audio has {len(samples)}: give as much of both."
            )
        return frames, np.pad(samples, [(0, max(0, needed - len(samples))), (0, 0)])[:needed]

    def _refuse_cover(self) -> None:
        if cover := self.frozen.task.cover:
            raise UserError(
                f"{self.run} is a control, which is not to see all of a picture ({cover}): give files, of which the "
                "rest is covered."
            )

    def _function(self, name: str) -> Function:
        if name not in self._functions:
            raise UserError(
                f"the network of {self.run} has no {name}, but {', '.join(self._functions) or 'none of its like'}."
            )
        return self._functions[name]

    def _call(self, name: str, *arrays: np.ndarray) -> np.ndarray:
        """Calls a function with arrays that have, or have not, a batch's axis."""
        wanted: Mapping[str, Any] = self._functions[name].inputs
        is_one = arrays[0].ndim == len(next(iter(wanted.values())).shape)
        arrays = tuple(array[None] for array in arrays) if is_one else arrays
        for (key, x), array in zip(wanted.items(), arrays, strict=True):
            _check(f"{name}: {key}", array, (None, *x.shape), x.dtype)
        result = np.asarray(self._compiled[name](self.frozen.variables, *arrays))
        return result[0] if is_one else result


def _answers(seen: Seen, path: Path) -> list[np.ndarray]:
    if not seen.windows:
        raise UserError(f"{os.fspath(path)}: {seen.note}")
    return seen.answers


def _check(name: str, array: np.ndarray, shape: tuple[int | None, ...], dtype: Any) -> None:
    fits = array.ndim == len(shape) and all(want in (None, have) for want, have in zip(shape, array.shape, strict=True))
    if not fits or array.dtype != dtype:
        wanted = ", ".join("any" if length is None else str(length) for length in shape)
        raise UserError(f"{name}: {np.dtype(dtype)} [{wanted}] is wanted, and {array.dtype} {list(array.shape)} given.")
