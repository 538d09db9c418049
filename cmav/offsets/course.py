"""The offset over the time of a long video: constant, along a line (drift), or with jumps.

A part of a video is described by a constant offset, by a line, or by two parts with a jump between them, each of which
is described in the same way. A richer description is taken where the log-likelihood that it gains is more than chance
would give: the logarithm of how many descriptions of its kind were tried, and a margin.
"""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np

from cmav.offsets.calibration import Calibration
from cmav.offsets.evidence import Evidence, Scores

MARGIN = 5.0  # of a log-likelihood
LEAST_WINDOWS = 4.0  # how long, in windows, a video must be for its offset to change
LEAST_JUMP = 1.5  # in steps; less is a bend of what should be a line
_BLOCKS_PER_WINDOW = 2


@dataclasses.dataclass(frozen=True)
class Segment:
    """A part of a video, in which the offset is on a line.

    Attributes:
      start, end: seconds from the video's first frame.
      first, last: offsets there, seconds; positive: the sound is late.
    """

    start: float
    end: float
    first: float
    last: float

    @property
    def slope(self) -> float:
        """Seconds that the sound falls behind in a second."""
        return (self.last - self.first) / (self.end - self.start)

    def at(self, times: np.ndarray) -> np.ndarray:
        """Offsets at times, on the segment's line."""
        return self.first + self.slope * (times - self.start)


def course(scores: Scores, calibration: Calibration) -> list[Segment]:
    """How the offset of a video goes, in the order of time. Empty where it is too short to say."""
    whole = np.flatnonzero(np.isfinite(scores.logits).all(axis=1))
    if len(whole) < 2:
        return []
    end, scores = scores.starts[-1] + scores.seconds, scores.part(whole)
    length = Evidence.of(scores).coverage.max()
    if length < LEAST_WINDOWS:
        return []
    edges = np.linspace(scores.times[0], scores.times[-1], round(length * _BLOCKS_PER_WINDOW) + 1)
    numbers = np.clip(np.digitize(scores.times, edges) - 1, 0, len(edges) - 2)
    kept = [number for number in range(len(edges) - 1) if (numbers == number).any()]
    logits = np.stack([scores.logits[numbers == number].mean(axis=0) for number in kept])
    times = (edges[:-1] + edges[1:])[kept] / 2
    _, parts = _describe(times, logits / _BLOCKS_PER_WINDOW, scores.shifts, calibration)
    # From one part's last block to the next one's first, each goes on half of the way; the outer ones to the ends.
    bounds = [0.0, *((before[1] + after[0]) / 2 for before, after in itertools.pairwise(parts)), end]
    return [
        Segment(float(start), float(end), first + slope * (start - part_start), first + slope * (end - part_start))
        for (part_start, _, first, slope), (start, end) in zip(parts, itertools.pairwise(bounds), strict=True)
    ]


def follow(scores: Scores, segments: Sequence[Segment]) -> tuple[Scores, float]:
    """The scores as if the offset had been its mean all the time, and this mean in seconds.

    So windows between which the offset has changed can be joined.
    """
    path = np.zeros(len(scores.starts))
    for segment in segments:
        path = np.where(scores.times >= segment.start, segment.at(scores.times), path)
    mean = float(path.mean())
    rows = []
    for row, offset in zip(scores.logits, path, strict=True):
        there = np.isfinite(row)
        moved = scores.shifts + offset - mean
        found = np.full(len(row), np.nan)
        if there.any():
            found = np.interp(moved, scores.shifts[there], row[there], left=np.nan, right=np.nan)
        rows.append(found)
    return dataclasses.replace(scores, logits=np.asarray(rows, np.float32)), mean


def _describe(
    times: np.ndarray, logits_NxS: np.ndarray, shifts: np.ndarray, calibration: Calibration
) -> tuple[float, list[tuple[float, float, float, float]]]:
    """What is gained over a constant offset, and of each part (first time, last time, first offset, slope)."""
    count, num_shifts = logits_NxS.shape
    sums = logits_NxS.sum(axis=0)
    constant = int(sums.argmax())
    found = 0.0, [(times[0], times[-1], float(shifts[constant]), 0.0)]
    if count < 2:
        return found

    def weight(blocks: np.ndarray | int) -> np.ndarray | float:
        """Of so many blocks: with `growth` below 1, less of more."""
        return calibration.scale * (blocks / _BLOCKS_PER_WINDOW) ** (calibration.growth - 1)

    line, first, last = _best_line(times, logits_NxS, shifts)
    gain = weight(count) * (line - sums[constant]) - np.log(num_shifts) - MARGIN
    if gain > found[0]:
        found = gain, [(times[0], times[-1], first, (last - first) / (times[-1] - times[0]))]

    before = np.cumsum(logits_NxS, axis=0)[:-1]
    after = sums - before
    lengths = np.arange(1, count)
    gains = weight(lengths) * (before.max(axis=1) - before[:, constant])
    gains += weight(count - lengths) * (after.max(axis=1) - after[:, constant])
    at = int(gains.argmax()) + 1
    gain = gains.max() - np.log(num_shifts * count) - MARGIN
    if gain > 0:
        halves = [
            _describe(times[part], logits_NxS[part], shifts, calibration) for part in (slice(None, at), slice(at, None))
        ]
        gain += sum(more for more, _ in halves)
        (start, end, first, slope), (_, _, after_it, _) = halves[0][1][-1], halves[1][1][0]
        height = abs(after_it - first - slope * (end - start))
        if gain > found[0] and height > LEAST_JUMP * (shifts[1] - shifts[0]):
            found = gain, [one for _, parts in halves for one in parts]
    return found


def _best_line(times: np.ndarray, logits_NxS: np.ndarray, shifts: np.ndarray) -> tuple[float, float, float]:
    """The greatest sum of logits along a line from one offset, at the first time, to another at the last; and these."""
    share_N = (times - times[0]) / (times[-1] - times[0])
    rows, most = np.arange(len(times))[:, None], len(shifts) - 1

    def search(firsts: np.ndarray, lasts: np.ndarray) -> tuple[float, float, float]:
        """Offsets as places among the shifts."""
        found = (-np.inf, 0.0, 0.0)
        for first in firsts:
            place_NxL = first + share_N[:, None] * (lasts - first)
            below = np.minimum(place_NxL.astype(int), most - 1)
            part = place_NxL - below
            sums = (logits_NxS[rows, below] * (1 - part) + logits_NxS[rows, below + 1] * part).sum(axis=0)
            best = int(sums.argmax())
            if sums[best] > found[0]:
                found = (float(sums[best]), float(first), float(lasts[best]))
        return found

    places = np.arange(len(shifts))
    _, first, last = search(places, places)
    around = np.linspace(-1, 1, 11)
    found, first, last = search(*(np.clip(end + around, 0, most) for end in (first, last)))
    return found, *np.interp([first, last], places, shifts).tolist()
