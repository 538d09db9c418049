"""Reading a video's frames as they are shown, and writing them again, changed, with its sound.

Reading is for a process of its own (`send_header`, `send_shown`, by way of `cmav.media.decoding.read`): a decoder may
die of a file. Writing is not: what is encoded comes from here.

Time zero is the first frame, for the pictures and for the sound, as in all of the project. The sound is placed by the
code that builds shards, so that whatever is odd about its timestamps, one hears what the network heard.
"""

import contextlib
import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterator
from fractions import Fraction

import av
import numpy as np
from av.video.reformatter import Colorspace, VideoReformatter

from cmav.media.audio_track import AudioTrack
from cmav.media.streams import (
    MAX_PIXELS,
    DamagedError,
    RejectedError,
    StreamReader,
    memory_in_words,
    no_frame,
    video_stream,
)
from cmav.media.video_track import MAX_GAP, MIN_DURATION, as_shown, in_order

SOUND_RATE = 48_000  # Hz
SOUND_BITS = 192_000  # per second
CLOCK = 90_000  # ticks per second: all usual frame rates are whole numbers of them
QUALITY = {"crf": "18", "preset": "veryfast"}  # x264's; 18 is hard to tell from the original
_BT709 = 1  # its number in H.264, for the matrix, the primaries and the curve alike
_PIECE = 1024  # samples of a frame of AAC
_SOUND_AHEAD = 1  # second of sound that comes with a picture beyond its time, for clocks that are rounded


@dataclasses.dataclass(frozen=True)
class Header:
    """What is known of a video before its frames are read.

    Attributes:
      rate: frames per second, on average, as the file says; 25 where it says nothing that can be.
      seconds: the file's length as its header says; None where it does not.
    """

    rate: Fraction
    seconds: float | None


@dataclasses.dataclass(frozen=True)
class Shown:
    """A frame of a video, or what comes after its last one.

    Attributes:
      time: seconds since the first frame; None: there are no more frames.
      picture_HxWx3: uint8; None: there are no more frames.
      sound: int16 [samples, 2] that follows what came before, to beyond this frame's time; None: it has none.
      damage: why the video could not be decoded to its end; None: it could, so far.
    """

    time: Fraction | None
    picture_HxWx3: np.ndarray | None
    sound: np.ndarray | None
    damage: str | None = None


def send_header(path: str, *, send: Callable[[Header], None], alive: Callable[[], None]) -> None:
    """Sends the `Header` of a video.

    Raises:
      RejectedError: where there is no picture to be had.
    """
    with memory_in_words(), contextlib.closing(ShownFrames(path, alive)) as shown:
        send(Header(shown.rate, shown.seconds))


def send_shown(path: str, has_sound: bool, *, send: Callable[[Shown], None], alive: Callable[[], None]) -> None:
    """Sends `Shown` for each frame of a video, and one more at its end.

    Args:
      path: the file.
      has_sound: False: the video has none that is wanted.
      send: takes them.
      alive: called often.

    Raises:
      RejectedError: where there is no picture to be had.
    """
    with memory_in_words(), contextlib.ExitStack() as stack:
        shown = stack.enter_context(contextlib.closing(ShownFrames(path, alive)))
        track = None
        if has_sound:
            track = stack.enter_context(contextlib.closing(AudioTrack(path, SOUND_RATE, shown.zero, alive)))
        num_samples = 0

        def sound(until: Fraction) -> np.ndarray | None:
            nonlocal num_samples
            if track is None:
                return None
            first, num_samples = num_samples, max(num_samples, round((until + _SOUND_AHEAD) * SOUND_RATE))
            return track.read(first, num_samples - first)

        last, interval = Fraction(0), 1 / shown.rate
        for time, picture in shown:
            last, interval = time, time - last or interval
            send(Shown(time, picture, sound(time)))
        send(Shown(None, None, sound(last + interval), shown.damage))


class ShownFrames:
    """The frames of a video in its own size and at its own times: upright, with square pixels.

    Attributes:
      zero: the first frame's timestamp on the container's clock, in seconds.
      rate: frames per second, on average, as the file says; 25 where it says nothing that can be.
      seconds: the file's length as its header says; None where it does not.
      damage: why the video could not be decoded to its end; None: it could, so far.
    """

    def __init__(self, path: str, alive: Callable[[], None] = lambda: None):
        """Opens a video.

        Raises:
          RejectedError: where there is no picture to be had.
        """
        self._reader = StreamReader(path, video_stream, alive)
        stream = self._reader.stream
        rate = Fraction(stream.average_rate or stream.guessed_rate or 0)
        self.rate = rate if 1 <= rate <= 1 / MIN_DURATION else Fraction(25)
        duration = stream.container.duration
        self.seconds = duration / av.time_base if duration else None
        self.damage: str | None = None
        self._frames = in_order(self._reader.frames(), 1 / self.rate)
        try:
            self._first = next(self._frames, None)
        except DamagedError as error:
            self._reader.close()
            raise no_frame(stream, str(error)) from error
        if self._first is None:
            self._reader.close()
            raise no_frame(stream)
        self.zero, frame = self._first
        aspect = stream.sample_aspect_ratio or 1  # of a pixel, width to height
        self._size = max(1, round(frame.width * aspect)), frame.height
        if self._size[0] * self._size[1] > MAX_PIXELS:
            self._reader.close()
            raise RejectedError(f"its pictures are too large ({self._size[0]} x {self._size[1]} as they are shown)")

    def close(self) -> None:
        self._reader.close()

    def __iter__(self) -> Iterator[tuple[Fraction, np.ndarray]]:
        """Yields seconds since the first frame and the picture, uint8 [height, width, 3]. Can be gone through once."""
        reformatter = VideoReformatter()
        before = Fraction(0)
        try:
            for time, frame in self._all():
                if time - before > MAX_GAP:
                    raise DamagedError(f"its timestamps jump by {float(time - before):.0f} s")
                before = time
                try:
                    picture = reformatter.reformat(frame, *self._size, "rgb24", threads=1).to_ndarray()
                except (av.FFmpegError, ValueError) as error:
                    raise DamagedError(f"a frame cannot be converted: {error}") from error
                yield time, as_shown(picture, frame)
        except DamagedError as error:
            self.damage = str(error)

    def _all(self) -> Iterator[tuple[Fraction, av.VideoFrame]]:
        yield Fraction(0), self._first[1]
        for time, frame in self._frames:
            yield time - self.zero, frame


class OverlayVideo:
    """An MP4 (H.264, AAC) of pictures at given times with the sound of another file. A context manager.

    The sound is 48 kHz stereo, from the first frame to the end of the last. What has a file of this name already is
    replaced when all is written; where an error comes between, it stays.
    """

    def __init__(self, path: str, rate: Fraction, *, has_sound: bool):
        """Opens the file.

        Args:
          path: of the MP4, local.
          rate: frames per second, on average; each frame's own time counts.
          has_sound: False: the video has no sound.
        """
        self._path = path
        self._being_written = f"{path}.part"
        self._container = av.open(self._being_written, "w", format="mp4", options={"movflags": "faststart"})
        self._video = self._container.add_stream("libx264", rate=rate.limit_denominator(1001), options=QUALITY)
        self._video.pix_fmt = "yuv420p"
        context = self._video.codec_context
        context.time_base = Fraction(1, CLOCK)
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        self._reformatter = VideoReformatter()
        self._last_tick = -1
        self._interval = 1 / rate
        self._samples = 0
        self._sound = np.zeros((0, 2), np.int16)  # what is still to be written
        self._audio = None
        if has_sound:
            self._audio = self._container.add_stream("aac", rate=SOUND_RATE, layout="stereo", bit_rate=SOUND_BITS)

    def __enter__(self) -> "OverlayVideo":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._finish()
                self._container.close()
                os.replace(self._being_written, self._path)
        finally:
            with contextlib.suppress(av.FFmpegError):  # What led here is what should be known.
                self._container.close()
            pathlib.Path(self._being_written).unlink(missing_ok=True)

    def add_sound(self, sound: np.ndarray) -> None:
        """Adds int16 [samples, 2] that follows what came before. What is not there when it is due is silence."""
        self._sound = np.concatenate([self._sound, sound])

    def write(self, time: Fraction, picture_HxWx3: np.ndarray) -> None:
        """Adds a picture, uint8, after the sound to beyond its time. All have one size; times must not go back."""
        picture = even(picture_HxWx3)
        if self._last_tick < 0:
            self._video.height, self._video.width = picture.shape[:2]
        # Two frames at one time, which broken clocks have, would be an error to the container.
        tick = max(round(time * CLOCK), self._last_tick + 1)
        if self._last_tick >= 0:
            self._interval = Fraction(tick - self._last_tick, CLOCK)
        self._last_tick = tick
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24")
        frame = self._reformatter.reformat(frame, format="yuv420p", dst_colorspace=Colorspace.ITU709)
        frame.pts, frame.time_base = tick, Fraction(1, CLOCK)
        self._container.mux(self._video.encode(frame))
        self._write_sound(Fraction(tick, CLOCK))

    def _finish(self) -> None:
        self._container.mux(self._video.encode(None))
        if self._audio is not None:
            self._write_sound(Fraction(self._last_tick, CLOCK) + self._interval)
            self._container.mux(self._audio.encode(None))

    def _write_sound(self, until: Fraction) -> None:
        while self._audio is not None and self._samples < until * SOUND_RATE:
            samples, self._sound = self._sound[:_PIECE], self._sound[_PIECE:]
            samples = np.pad(samples, [(0, _PIECE - len(samples)), (0, 0)])
            frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), "s16", "stereo")
            frame.sample_rate, frame.pts, frame.time_base = SOUND_RATE, self._samples, Fraction(1, SOUND_RATE)
            self._container.mux(self._audio.encode(frame))
            self._samples += _PIECE


def even(picture_HxWx3: np.ndarray) -> np.ndarray:
    """A picture with even sides: where one is odd, its last row or column is there twice. yuv420p asks for it."""
    height, width = picture_HxWx3.shape[:2]
    if height % 2 == width % 2 == 0:
        return picture_HxWx3
    return np.pad(picture_HxWx3, [(0, height % 2), (0, width % 2), (0, 0)], mode="edge")
