"""Video at a constant frame rate: upright square JPEGs on the video's own clock."""

import collections
import heapq
from collections.abc import Callable, Iterator
from fractions import Fraction

import av
import numpy as np
import tensorflow as tf
from av.sidedata.sidedata import SideDataContainer
from av.sidedata.sidedata import Type as SideDataType
from av.video.reformatter import Interpolation, VideoReformatter

from cmav.media.streams import MAX_SECONDS, DamagedError, StreamReader, no_frame, video_stream

# Timestamps are rounded to the container's ticks (1 ms in Matroska), so a frame may claim to come that much too late.
MAX_ROUNDING = Fraction(1, 2000)
# Old AVIs give scrambled timestamps to frames in the right order; sorting a few of them at a time repairs that.
SORTED_AHEAD = 4
MAX_BACKWARD = 1  # seconds; further back, the clock was set anew, as in joined recordings
WORTH_SEEKING = 20  # seconds; less is decoded in passing
MIN_DURATION = Fraction(1, 240)  # seconds; what says less, as FLV does with 1 ms, means its clock's tick
MAX_GAP = 300  # seconds; a longer jump ahead is a broken timestamp, not a picture that stands still
# Without the last two, colours come out up to two levels too dark, and chroma blocky.
_SCALING = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT


class VideoTrack:
    """The pictures of one video. Time zero is its first frame.

    Attributes:
      zero: the first frame's timestamp on the container's clock, in seconds.
    """

    def __init__(self, path: str, size: int, quality: int, alive: Callable[[], None]):
        """Opens the video and decodes its first frame.

        Args:
          path: the file.
          size: width and height of the pictures, in pixels.
          quality: of the JPEGs, 1 to 100.
          alive: called at every packet.

        Raises:
          RejectedError: where there is no picture to be had.
        """
        self._reader = StreamReader(path, video_stream, alive)
        self._size, self._quality = size, quality
        self._reformatter = VideoReformatter()
        stream = self._reader.stream
        rate = stream.average_rate or stream.guessed_rate or 25
        self._usual_interval = 1 / Fraction(rate) if 1 <= rate <= 1 / MIN_DURATION else Fraction(1, 25)
        self._rounding = min(stream.time_base / 2, MAX_ROUNDING)
        self._rest = in_order(self._reader.frames(), self._usual_interval)
        try:
            first = next(self._rest, None)
        except DamagedError as error:
            raise no_frame(stream, str(error)) from error
        if first is None:
            raise no_frame(stream)
        self.zero, self._first = first

    def close(self) -> None:
        self._reader.close()

    def frames(self, rate: Fraction, start: Fraction, end: Fraction | None) -> Iterator[bytes]:
        """Yields the JPEG that is on screen at start, start + 1/rate, ... until `end` or the end of the video.

        Only frames that are on screen at one of these instants are converted. Can be called once.

        Raises:
          DamagedError: where the video cannot be decoded further.
        """
        instant, step = start, 1 / rate  # when the next picture is due
        shown, shown_from = None, Fraction(0)
        interval = self._usual_interval
        for time, frame in self._timed(start):
            if shown is not None:
                interval = time - shown_from or interval
                if interval > MAX_GAP:
                    raise DamagedError(f"its timestamps jump by {float(interval):.0f} s")
                for jpeg in self._hold(shown, step, instant, _earlier(time, end)):
                    yield jpeg
                    instant += step
            shown, shown_from = frame, time
            if end is not None and time >= end:
                return
            if time > start + MAX_SECONDS:
                raise DamagedError(f"it goes on for more than {MAX_SECONDS // 3600} hours")
        if shown is None:
            return
        duration = (shown.duration or 0) * (shown.time_base or 0)
        if MIN_DURATION <= duration <= MAX_GAP:
            interval = duration
        yield from self._hold(shown, step, instant, _earlier(shown_from + interval, end))

    def _timed(self, start: Fraction) -> Iterator[tuple[Fraction, av.VideoFrame]]:
        """Frames with their seconds since time zero: all, or those from somewhere before `start` on."""
        if start > WORTH_SEEKING:
            self._rest = in_order(self._reader.frames(since=self.zero + start), self._usual_interval)
        else:
            yield Fraction(0), self._first
        for time, frame in self._rest:
            yield time - self.zero, frame

    def _hold(self, frame: av.VideoFrame, step: Fraction, instant: Fraction, until: Fraction) -> Iterator[bytes]:
        jpeg, until = None, until - self._rounding
        while instant < until:
            jpeg = jpeg or self._encode(frame)
            yield jpeg
            instant += step

    def _encode(self, frame: av.VideoFrame) -> bytes:
        try:
            picture = resized(self._reformatter, frame, self._size)
        except (av.FFmpegError, ValueError) as error:
            raise DamagedError(f"a frame cannot be converted: {error}") from error
        return tf.io.encode_jpeg(as_shown(picture, frame), quality=self._quality).numpy()


def resized(reformatter: VideoReformatter, frame: av.VideoFrame, size: int) -> np.ndarray:
    """Returns the picture as a square: uint8 [size, size, 3], RGB.

    Raises:
      av.FFmpegError, ValueError: where it cannot be converted.
    """
    # To planes of green, blue and red: the same numbers as "rgb24" gives, for which FFmpeg has no vector code.
    return reformatter.reformat(frame, size, size, "gbrp", interpolation=_SCALING, threads=1).to_ndarray()


def as_shown(picture_HxWxC: np.ndarray, frame: av.VideoFrame) -> np.ndarray:
    """Turns and mirrors a picture as the display matrix of its frame says, where it has one (see `upright`)."""
    try:
        # Not `frame.side_data`: the frame would keep what keeps the frame, and a gigabyte of such waits for collection.
        matrix = SideDataContainer(frame).get(SideDataType.DISPLAYMATRIX)
    except ValueError:  # beside it there is side data of a kind that PyAV does not know
        return np.rot90(picture_HxWxC, frame.rotation // 90)
    return picture_HxWxC if matrix is None else upright(picture_HxWxC, np.frombuffer(bytes(matrix), np.int32))


def upright(picture_HxWxC: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Turns and mirrors a picture as its display matrix says, to the nearest quarter turn.

    Args:
      picture_HxWxC: the picture as it is stored.
      matrix: the nine numbers of FFmpeg's `av_display_rotation`: a stored point (x, y) is shown at
        (x * m[0] + y * m[3], x * m[1] + y * m[4]), with y downwards.
    """
    a, b, c, d = (int(matrix[i]) for i in (0, 1, 3, 4))
    if abs(b) + abs(c) > abs(a) + abs(d):
        picture_HxWxC = picture_HxWxC.swapaxes(0, 1)
        a, d = c, b
    if a < 0:
        picture_HxWxC = picture_HxWxC[:, ::-1]
    if d < 0:
        picture_HxWxC = picture_HxWxC[::-1]
    return picture_HxWxC


def in_order(frames: Iterator[av.VideoFrame], usual_interval: Fraction) -> Iterator[tuple[Fraction, av.VideoFrame]]:
    """Yields frames with timestamps in seconds that never go back. The order of the frames is right as it comes."""
    waiting: collections.deque[av.VideoFrame] = collections.deque()
    times: list[Fraction] = []  # of those that wait, as a heap
    latest: Fraction | None = None  # of all timestamps so far
    released: Fraction | None = None
    offset = Fraction(0)

    def release() -> tuple[Fraction, av.VideoFrame]:
        nonlocal released
        time = heapq.heappop(times)
        released = time if released is None else max(released, time)
        return released, waiting.popleft()

    damage = None
    try:
        for frame in frames:
            following = Fraction(0) if latest is None else latest + usual_interval
            time = following if frame.pts is None or frame.time_base is None else frame.pts * frame.time_base + offset
            if latest is not None and time < latest - MAX_BACKWARD:
                offset += following - time
                time = following
            latest = time if latest is None else max(latest, time)
            waiting.append(frame)
            heapq.heappush(times, time)
            if len(waiting) > SORTED_AHEAD:
                yield release()
    except DamagedError as error:
        damage = error
    while waiting:  # what was decoded before the damage is good
        yield release()
    if damage is not None:
        raise damage


def _earlier(time: Fraction, end: Fraction | None) -> Fraction:
    return time if end is None else min(time, end)
