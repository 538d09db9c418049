"""Means over runs with their intervals, and differences within runs."""

import dataclasses
import statistics

from scipy import stats


@dataclasses.dataclass(frozen=True)
class Cell:
    """What the runs of an arm came to, a number for each; those of other arms in the same order have the same seeds.

    `clips` is the interval of a single run's number over the clips that it is of, where that is known. It counts where
    no two runs differ as well: then the seed has no part in the number, and says nothing of how sure it is.
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

    @property
    def varies(self) -> bool:
        """Whether some runs came to other numbers."""
        return len(set(self.values)) > 1

    def __sub__(self, other: "Cell") -> "Cell":
        """Within seeds; as of single runs where the seed has a part in neither."""
        if not self.varies and not other.varies:
            return Cell((self.values[0] - other.values[0],))
        return Cell(tuple(a - b for a, b in zip(self.values, other.values, strict=True)))

    def __str__(self) -> str:
        if self.clips and not self.varies:
            low, high = self.clips
            return f"{self.mean:.3f} ({low:.3f}–{high:.3f})"
        return f"{self.mean:.3f}{self._interval()}"

    def signed(self) -> str:
        """As a difference."""
        return f"{self.mean:+.3f}{self._interval()}"

    def _interval(self) -> str:
        return f" ± {self.half_width:.3f}" if len(self.values) > 1 else ""  # A single run has none.
