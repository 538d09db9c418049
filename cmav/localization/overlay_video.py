"""Reading a video's frames as they are shown, and writing them again, changed, with its sound.

Time zero is the first frame, for the pictures and for the sound, as in all of the project. The sound is placed by the
code that builds shards, so that whatever is odd about its timestamps, one hears what the network heard.
"""

import contextlib
import os
import pathlib
from collections.abc import Iterator
from fractions import Fraction

import av
import numpy as np
from av.video.reformatter import Colorspace, VideoReformatter

from data_prep.audio_track import AudioTrack
from data_prep.media import DamagedError, RejectedError, StreamReader, video_stream
from data_prep.video_track import MAX_GAP, MIN_DURATION, as_shown, in_order

SOUND_RATE = 48_000  # Hz
SOUND_BITS = 192_000  # per second
CLOCK = 90_000  # ticks per second: all usual frame rates are whole numbers of them
QUALITY = {"crf": "18", "preset": "veryfast"}  # x264's; 18 is hard to tell from the original
_BT709 = 1  # its number in H.264, for the matrix, the primaries and the curve alike
_PIECE = 1024  # samples of a frame of AAC


class ShownFrames:
    """The frames of a video in its own size and at its own times: upright, with square pixels.

    Attributes:
      zero: the first frame's timestamp on the container's clock, in seconds.
      rate: frames per second, on average, as the file says; 25 where it says nothing that can be.
      seconds: the file's length as its header says; None where it does not.
      damage: why the video could not be decoded to its end; None: it could, so far.
    """

    def __init__(self, path: str):
        """Opens a video.

        Raises:
          RejectedError: where there is no picture to be had.
        """
        self._reader = StreamReader(path, video_stream, _nothing)
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
            raise RejectedError(f"no frame of its video can be decoded ({error})") from error
        if self._first is None:
            self._reader.close()
            raise RejectedError("no frame of its video can be decoded (it holds none)")
        self.zero, frame = self._first
        aspect = stream.sample_aspect_ratio or 1  # of a pixel, width to height
        self._size = max(1, round(frame.width * aspect)), frame.height

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

    The sound is that of the source from its first frame to its last, as 48 kHz stereo. What has a file of this name
    already is replaced when all is written; where an error comes between, it stays.
    """

    def __init__(self, path: str, source: str, zero: Fraction, rate: Fraction, *, has_sound: bool):
        """Opens the file.

        Args:
          path: of the MP4, local.
          source: the file with the sound.
          zero: the first frame's timestamp there, in seconds.
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
        self._sound = self._audio = None
        if has_sound:
            self._sound = AudioTrack(source, SOUND_RATE, zero, _nothing)
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
            if self._sound is not None:
                self._sound.close()
            with contextlib.suppress(av.FFmpegError):  # What led here is what should be known.
                self._container.close()
            pathlib.Path(self._being_written).unlink(missing_ok=True)

    def write(self, time: Fraction, picture_HxWx3: np.ndarray) -> None:
        """Adds a picture, uint8. All have one size; times must not go back."""
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
            samples = self._sound.read(self._samples, _PIECE)
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


def _nothing() -> None:
    """In place of a sign of life: nobody watches the decoder here."""
