"""Means over runs with their intervals, and differences within runs."""

import dataclasses
import statistics

from scipy import stats

# Of a difference of numbers of which some are only known to be at least so much: what of them is known.
_BOUNDS = {("", ""): "", ("≥", ""): "≥", ("", "≥"): "≤", ("≥", "≥"): "?"}


@dataclasses.dataclass(frozen=True)
class Cell:
    """What the runs of an arm came to, a number for each; those of other arms in the same order have the same seeds.

    `clips` is the interval of a single run's number over the clips that it is of, where that is known. It counts where
    no two runs differ as well: then the seed has no part in the number, and says nothing of how sure it is.

    `bound` is "≥" where the number of some run is but a lower bound, and so is the mean: it has no interval.
    """

    values: tuple[float, ...]
    clips: tuple[float, float] | None = None
    bound: str = ""

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

    @property
    def interval(self) -> tuple[float, float] | None:
        """The ends of the 95% interval: over the runs, or over the clips; None where there is neither."""
        if self.bound:
            return None
        if self.clips and not self.varies:
            return self.clips
        return (self.mean - self.half_width, self.mean + self.half_width) if len(self.values) > 1 else None

    def __sub__(self, other: "Cell") -> "Cell":
        """Within seeds; as of single runs where the seed has a part in neither."""
        bound = _BOUNDS[self.bound, other.bound]
        if not self.varies and not other.varies:
            return Cell((self.values[0] - other.values[0],), bound=bound)
        return Cell(tuple(a - b for a, b in zip(self.values, other.values, strict=True)), bound=bound)

    def __str__(self) -> str:
        if self.clips and self.interval == self.clips:
            return f"{self._text(self.mean)} ({'–'.join(map(self._text, self.clips))})"
        return self._with_interval(self._text(self.mean))

    def signed(self) -> str:
        """As a difference."""
        return "?" if self.bound == "?" else self._with_interval(self._text(self.mean, "+"))

    def _with_interval(self, mean: str) -> str:
        if self.bound:
            return f"{self.bound} {mean}"
        return f"{mean} ± {self._text(self.half_width)}" if len(self.values) > 1 else mean  # A single run has none.

    def _text(self, number: float, sign: str = "") -> str:
        """A share to the thousandth, a count to the whole: as far as anybody reads."""
        largest = max(map(abs, self.values))
        return f"{number:{sign}.{3 if largest < 10 else 1 if largest < 100 else 0}f}"
