"""What the logits of a video's windows say together of its offset."""

import dataclasses
from collections.abc import Iterable
from typing import Self

import numpy as np


@dataclasses.dataclass(frozen=True)
class Scores:
    """A video's logits. W windows in the order of time, S shifts. Times are seconds from its first frame.

    Attributes:
      starts: float64 [W], of the windows.
      seconds: length of a window.
      shifts: float64 [S], seconds, evenly spaced; positive: the sound is late.
      logits: float32 [W, S]; NaN: that window has no such sound.
      motion, loudness: float32 [W]; see `Stretch.scores`.
    """

    starts: np.ndarray
    seconds: float
    shifts: np.ndarray
    logits: np.ndarray
    motion: np.ndarray
    loudness: np.ndarray

    @property
    def times(self) -> np.ndarray:
        """Middles of the windows, float64 [W]."""
        return self.starts + self.seconds / 2

    def part(self, windows: slice | np.ndarray) -> Self:
        """Of some of the windows."""
        some = {name: getattr(self, name)[windows] for name in ("starts", "logits", "motion", "loudness")}
        return dataclasses.replace(self, **some)


@dataclasses.dataclass(frozen=True)
class Evidence:
    """The logits of each shift, joined over windows, [S].

    A logit is the log of how much likelier what is seen and heard is in sync than shifted (the pairs of training are
    balanced). Were windows independent, logits of one shift could be added. They are not: windows overlap, and what
    misleads the network in one misleads it in the next. So two numbers are kept of each shift, and a calibration says
    how much the second counts. Both add up over videos that have the same offset.

    Attributes:
      shifts: float64 [S], seconds.
      total: float64 [S], mean logit times coverage.
      coverage: float64 [S], length of what the shift's windows cover, in windows; 0: there are none.
    """

    shifts: np.ndarray
    total: np.ndarray
    coverage: np.ndarray

    @classmethod
    def of(cls, scores: Scores) -> Self:
        there = np.isfinite(scores.logits)
        counts = there.sum(axis=0)
        mean = np.where(there, scores.logits, 0).sum(axis=0, dtype=np.float64) / np.maximum(counts, 1)
        coverage = np.array([_coverage(scores.starts[column], scores.seconds) for column in there.T])
        return cls(scores.shifts, mean * coverage, coverage)

    @classmethod
    def joined(cls, several: Iterable[Self]) -> Self:
        """Of videos that have the same offset."""
        several = list(several)
        return cls(several[0].shifts, sum(one.total for one in several), sum(one.coverage for one in several))


def _coverage(starts: np.ndarray, seconds: float) -> float:
    if not len(starts):
        return 0.0
    return 1 + float(np.minimum(np.diff(starts), seconds).sum()) / seconds
