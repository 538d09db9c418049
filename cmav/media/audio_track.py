"""Audio at a constant sample rate: stereo int16, placed by its own timestamps on the video's clock."""

from collections.abc import Callable, Iterator
from fractions import Fraction

import av
import numpy as np

from cmav.media.streams import DamagedError, RejectedError, StreamReader, audio_stream, words

# Timestamps jitter by a container's tick or so. Past this the audio really stops, jumps, or drifts away from its clock.
MAX_JITTER = Fraction(1, 50)
# Sound may claim to begin before the sound before it has ended. A little, after a while, is a clock that drifts: what
# overlaps is cut off, to stay in step. More, or at once, is a clock that was set anew, as in joined recordings, or one
# that is worth nothing: the sound then goes on where it was.
MAX_BACKWARD = 1  # seconds
MAX_GAP = 300  # seconds, of a sound without pictures; a longer jump ahead is a broken timestamp, not silence


class AudioTrack:
    """The sound of one video, read in order. Sample 0 is at the time zero that it is given.

    Attributes:
      damage: None, or why the sound could not be decoded to its end; what is missing reads as zeros.
    """

    def __init__(self, path: str, sample_rate: int, zero: Fraction | None, alive: Callable[[], None]):
        """Opens the sound of a video.

        Args:
          path: the file.
          sample_rate: samples per second to resample to.
          zero: seconds on the container's clock at which sample 0 lies; None: where the sound begins.
          alive: called at every packet.
        """
        self._rate, self._zero, self._alone = sample_rate, zero, zero is None
        self._end: int | None = None  # of the samples decoded so far
        self.damage: str | None = None
        self._reader: StreamReader | None = None
        try:
            self._reader = StreamReader(path, audio_stream, alive)
        except RejectedError as error:
            self.damage = str(error)
        has_stream = self._reader is not None and self._reader.stream is not None
        self._pieces = self._placed() if has_stream else (piece for piece in ())
        self._piece: tuple[int, np.ndarray] | None = next(self._pieces, None)

    def close(self) -> None:
        self._pieces.close()  # It holds the track that holds it: a decoder each, until somebody collects them.
        self._piece = None
        if self._reader is not None:
            self._reader.close()

    @property
    def ended(self) -> bool:
        """Whether there is no more sound, or never was any."""
        return self._piece is None

    def read(self, start: int, count: int) -> np.ndarray:
        """Returns int16 [count, 2] from sample `start` on; zeros where there is no sound. `start` must not go back."""
        audio = np.zeros((count, 2), np.int16)
        while self._piece is not None:
            position, samples = self._piece
            if position >= start + count:
                break
            first, last = max(start, position), min(start + count, position + len(samples))
            if first < last:
                audio[first - start : last - start] = samples[first - position : last - position]
            if position + len(samples) > start + count:
                break
            self._piece = next(self._pieces, None)
        return audio

    def pieces(self, start: int, count: int) -> Iterator[np.ndarray]:
        """Yields int16 [count, 2] from sample `start` to the sound's end; the last may be shorter."""
        while self._piece is not None:
            audio = self.read(start, count)
            if self._piece is None:
                audio = audio[: max(self._end - start, 0)]
            if len(audio):
                yield audio
            start += count

    def is_silent(self, count: int | None) -> bool:
        """Whether the first `count` samples, or all, are nothing but zeros. In place of `read`."""
        while self._piece is not None:
            position, samples = self._piece
            if count is not None and position >= count:
                break
            if samples[max(0, -position) : None if count is None else count - position].any():
                return False
            self._piece = next(self._pieces, None)
        return True

    def _placed(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yields (number of the first sample, int16 [n, 2]), without overlaps."""
        try:
            for position, samples in self._resampled():
                end = position if self._end is None else self._end
                if position < end:
                    samples = samples[end - position :]
                    position = end
                # Beside pictures, sound may come and go. Alone, it has no clock but its own.
                if self._alone and position - end > MAX_GAP * self._rate:
                    raise DamagedError(f"its timestamps jump by {(position - end) / self._rate:.0f} s")
                if len(samples):
                    self._end = position + len(samples)
                    yield position, samples
        except (RejectedError, DamagedError) as error:
            self.damage = str(error)
        except (av.FFmpegError, ValueError) as error:  # of the resampler, for layouts that it does not know
            self.damage = words(error)

    def _resampled(self) -> Iterator[tuple[int, np.ndarray]]:
        """The same, but where timestamps overlap, so do these. Sound without a break goes through one resampler."""
        run: _Run | None = None
        offset = Fraction(0)
        for frame in self._reader.frames(since=self._zero):
            if not frame.samples or not frame.sample_rate:
                continue
            if self._zero is None:
                self._zero = (frame.pts or 0) * (frame.time_base or Fraction(1))
            expected = self._zero if run is None else run.end
            time = expected if frame.pts is None or frame.time_base is None else frame.pts * frame.time_base + offset
            if run is not None and time < expected - (MAX_JITTER if run.end < run.start + 1 else MAX_BACKWARD):
                offset += expected - time
                time = expected
            if run is None or not run.takes(frame) or abs(time - expected) > MAX_JITTER:
                if run is not None:
                    yield from run.flush()
                run = _Run(frame, time, self._rate, round((time - self._zero) * self._rate))
            yield from run.resample(frame)
        if run is not None:
            yield from run.flush()


class _Run:
    """Sound of one form without a break, on its way through one resampler.

    Attributes:
      start: seconds on the container's clock.
      end: the same, of what was put in so far; counted in samples, not taken from timestamps.
    """

    def __init__(self, frame: av.AudioFrame, start: Fraction, rate: int, position: int):
        self.start = self.end = start
        self._form = _form(frame)
        # FFmpeg would make mono quieter by 3 dB on its way to stereo; here both channels get it as it is.
        self._mono = frame.layout.nb_channels == 1
        self._resampler = av.AudioResampler("s16", "mono" if self._mono else "stereo", rate)
        self._position = position

    def takes(self, frame: av.AudioFrame) -> bool:
        return _form(frame) == self._form

    def resample(self, frame: av.AudioFrame) -> Iterator[tuple[int, np.ndarray]]:
        self.end += Fraction(frame.samples, frame.sample_rate)
        return self._placed(self._resampler.resample(frame))

    def flush(self) -> Iterator[tuple[int, np.ndarray]]:
        return self._placed(self._resampler.resample(None))

    def _placed(self, frames: list[av.AudioFrame]) -> Iterator[tuple[int, np.ndarray]]:
        for frame in frames:
            samples = frame.to_ndarray().reshape(frame.samples, -1)
            yield self._position, np.repeat(samples, 2, axis=1) if self._mono else samples
            self._position += len(samples)


def _form(frame: av.AudioFrame) -> tuple[str, str, int]:
    return frame.format.name, frame.layout.name, frame.sample_rate
