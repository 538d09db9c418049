"""Windows of one's own videos, straight from their files, as a network sees them. For commands that need no shards.

A window is a `schema.Clip` of as many stored frames as the network's clip spans, decoded by the code that builds
shards, so that it is the same, bit for bit, as that part of a built record. Windows come one by one while the video
streams by: memory does not grow with its length.
"""

import contextlib
import dataclasses
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import tensorflow as tf

from cmav.data import schema
from cmav.data.clip_shape import ClipShape
from cmav.media.audio_track import AudioTrack
from cmav.media.clips import ClipOptions, milliseconds
from cmav.media.manifest import Video
from cmav.media.streams import DamagedError, RejectedError, memory_in_words
from cmav.media.video_track import VideoTrack

# Of rates that a config has as floats: 30000/1001 is one.
_GREATEST_DENOMINATOR = 1001


@dataclasses.dataclass(frozen=True)
class Spacing:
    """Where windows lie. In stored frames, as fractions.

    The video is taken in stretches, each begun one counting from where its `needs` lies in the video, and each has a
    window centred on it. A window that would stick out of the video is moved inwards.

    Attributes:
      stretch: length of a stretch.
      needs: how far into a stretch the video must go for it to count, from 0, begun, to below `stretch`.
    """

    stretch: Fraction
    needs: Fraction

    @classmethod
    def side_by_side(cls, shape: ClipShape) -> "Spacing":
        """One window after the other, the whole video through; the last one ends with the video."""
        return cls(Fraction(shape.stored_frames), Fraction(0))

    @classmethod
    def half_overlapping(cls, shape: ClipShape) -> "Spacing":
        """A window every half of its length: but at the ends, every instant lies in two of them."""
        half = Fraction(shape.stored_frames, 2)
        return cls(half, half / 2)

    @classmethod
    def every_second(cls, shape: ClipShape) -> "Spacing":
        """A window for each second, centred on it. A last second of less than a half does not count."""
        second = as_fraction(shape.stored_frame_rate)
        return cls(second, second / 2)

    def start(self, number: int, window: int) -> int:
        """First stored frame of a window, were the video endless to both sides."""
        return math.floor((number + Fraction(1, 2)) * self.stretch - Fraction(window, 2) + Fraction(1, 2))

    def counts(self, number: int, num_frames: int) -> bool:
        """Whether a video of so many stored frames has a stretch of this number. Every video has the first."""
        return number == 0 or number * self.stretch + self.needs < num_frames


def send_windows(*args: Any, send: Callable[[schema.Clip], None], alive: Callable[[], None]) -> None:
    """Sends the windows of `cut_windows(*args)`: for `cmav.media.decoding.read`."""
    for window in cut_windows(*args, alive=alive):
        send(window)


def cut_windows(
    video: Video,
    root: str,
    shape: ClipShape,
    size: int,
    spacing: Spacing,
    alive: Callable[[], None] = lambda: None,
) -> Iterator[schema.Clip]:
    """Yields a video's windows, in order.

    Of a video that is shorter than a window, the only ones hold all of it; tasks loop such.

    Args:
      video: the file, and the part of it to look at.
      root: the folder that relative paths start from.
      shape: of the network's clip.
      size: width and height of the pictures, in pixels, as of the shards that the network was trained on.
      spacing: where the windows lie.
      alive: called often, so that a watcher sees that decoding goes on.

    Raises:
      RejectedError: after the windows that could be had, where there are none or something was lost. Says why.
      StorageError: where storage does not answer.
    """
    rate = as_fraction(shape.stored_frame_rate)
    options = ClipOptions(Fraction(0), size, rate, shape.sample_rate)
    start, end = milliseconds(video.start), None if video.end is None else milliseconds(video.end)
    with memory_in_words(), contextlib.ExitStack() as stack:
        pictures = VideoTrack(video.path(root), size, options.jpeg_quality, alive)
        stack.callback(pictures.close)
        zero = pictures.zero + start
        has_audio = _has_audio(video.path(root), zero, None if end is None else end - start, shape.sample_rate, alive)
        sound = AudioTrack(video.path(root), shape.sample_rate, zero, alive)
        stack.callback(sound.close)
        samples = _SlidingSamples(sound)

        def window(first_frame: int, frames: Sequence[bytes]) -> schema.Clip:
            at = start + first_frame / rate
            return schema.Clip(
                clip_id=f"{video.name}_{round(at * 1000)}",
                source=video.source,
                start_seconds=float(at),
                frames=frames,
                frame_rate=float(rate),
                audio=samples.read(options.first_sample(first_frame), options.first_sample(len(frames))),
                sample_rate=shape.sample_rate,
                has_audio=has_audio,
                label=video.label,
                label_name=video.label_name,
            )

        span = shape.stored_frames
        latest: deque[bytes] = deque(maxlen=span)
        number = num_frames = 0
        damage = None
        try:
            for jpeg in pictures.frames(rate, start, end):
                latest.append(jpeg)
                num_frames += 1
                while num_frames == span + max(spacing.start(number, span), 0):
                    yield window(num_frames - span, list(latest))
                    number += 1
        except DamagedError as error:
            damage = error
        # What would stick out at the end.
        while num_frames and spacing.counts(number, num_frames):
            yield window(num_frames - len(latest), list(latest))
            number += 1
        if damage:
            raise RejectedError(f"damaged (after {float(num_frames / rate):.1f} s: {damage})")
        if not num_frames:
            raise RejectedError(f"nothing to see (it ends before the start, {video.start:g} s)")
        if sound.damage:
            raise RejectedError(f"audio lost, zeros in its place ({sound.damage})")


def example_maker(
    make_example: Callable[[dict[str, tf.Tensor]], dict[str, tf.Tensor]],
) -> Callable[[schema.Clip], dict[str, np.ndarray]]:
    """Returns what makes a network's example of a window, given what makes it of a parsed record. Thread-safe."""

    @tf.function(input_signature=[tf.TensorSpec([], tf.string)], autograph=False)
    def example(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        return make_example(schema.parse(serialized))

    traced = example.get_concrete_function()

    def make(window: schema.Clip) -> dict[str, np.ndarray]:
        return {key: np.asarray(value) for key, value in traced(tf.constant(schema.encode(window))).items()}

    return make


def as_fraction(rate: float) -> Fraction:
    """The rate that a float of a config means: 29.97002997 is 30000/1001."""
    return Fraction(rate).limit_denominator(_GREATEST_DENOMINATOR)


class _SlidingSamples:
    """Reads of a track that may overlap, where none begins before the one before it."""

    def __init__(self, track: AudioTrack):
        self._track, self._first, self._samples = track, 0, np.zeros((0, 2), np.int16)

    def read(self, start: int, count: int) -> np.ndarray:
        """Returns int16 [count, 2] from sample `start` on."""
        kept = self._samples[start - self._first :]
        missing_from = start + len(kept)
        missing = self._track.read(missing_from, max(start + count - missing_from, 0))
        self._first, self._samples = start, np.concatenate([kept, missing])
        return self._samples[:count]


def _has_audio(
    path: str, zero: Fraction, seconds: Fraction | None, sample_rate: int, alive: Callable[[], None]
) -> bool:
    """Whether a video, or the part of it, has sound other than zeros: as the record of all of it would say.

    Read on its own, because the first window is wanted before the last one is decoded. It ends where the sound begins.
    """
    track = AudioTrack(path, sample_rate, zero, alive)
    try:
        return not track.is_silent(None if seconds is None else math.ceil(seconds * sample_rate))
    finally:
        track.close()
