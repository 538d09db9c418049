"""Means over runs with their intervals, and differences within runs."""

import dataclasses
import statistics

from scipy import stats


@dataclasses.dataclass(frozen=True)
class Cell:
    """What the runs of an arm came to, a number for each; those of other arms in the same order have the same seeds.

    `clips` is the interval of a single run's number over the clips that it is of, where that is known.
    """

    values: tuple[float, ...]
    clips: tuple[float, float] | None = None

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    @property
    def half_width(self) -> float:
        """Of the 95% interval of the mean: Student's t over the runs. NaN of a single run."""
        if len(self.values) < 2:
            return float("nan")
        return float(stats.t.ppf(0.975, len(self.values) - 1)) * float(stats.sem(self.values))

    def __sub__(self, other: "Cell") -> "Cell":
        return Cell(tuple(a - b for a, b in zip(self.values, other.values, strict=True)))

    def __str__(self) -> str:
        if len(self.values) == 1 and self.clips:
            low, high = self.clips
            return f"{self.mean:.3f} ({low:.3f}–{high:.3f})"
        return f"{self.mean:.3f}{self._interval()}"

    def signed(self) -> str:
        """As a difference."""
        return f"{self.mean:+.3f}{self._interval()}"

    def _interval(self) -> str:
        return f" ± {self.half_width:.3f}" if len(self.values) > 1 else ""  # A single run has none.
