"""What `localization_<split>.json` says: how well a network's maps show where the sound is.

Its rows are those of `cmav.evals.localization`, each with a `kind`, and with what `cmav.evals.false_alarms` and the
silent objects of `cmav.localization.scenes` add. Numbers are from 0 to 1.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

KINDS = {
    "network": "the network, by method",
    "untrained": "the same network before training",
    "trivial": "trivial baselines",
}
_UPPER_BOUND = "upper bound"
_RENAMED = {"told_from_silent": "sounding_above_silent"}  # in files of earlier runs


@dataclasses.dataclass(frozen=True)
class Row:
    """What was measured of one way to make maps.

    Attributes:
      name: of the method, or of what stands in its place.
      kind: one of `KINDS`.
      numbers: by name; None, or not there, where there is none. `<name>_low` and `<name>_high` are the ends of the 95%
        interval of one.
      undecided: how many of the maps leave much of the picture to the lot.
    """

    name: str
    kind: str
    numbers: Mapping[str, float | None]
    undecided: int

    @classmethod
    def parse(cls, row: Any) -> "Row":
        name, kind = str(row["name"]), row["kind"]
        if kind not in KINDS:
            raise ValueError(f"the row {name!r} is of kind {kind!r}")
        numbers = {
            _RENAMED.get(key, key): None if row[key] is None else float(row[key])
            for key in row.keys() - {"name", "kind"}
        }
        if numbers.get("pixel_ap") is None:
            raise ValueError(f"the row {name!r} has no pixel_ap")
        return cls(name, kind, numbers, undecided=int(numbers.get("undecided") or 0))


@dataclasses.dataclass(frozen=True)
class Heads:
    """How many sources of a clip are found, a mean over the clips with as many; of several attention heads.

    Attributes:
      sources: that sound in each of the clips.
      clips: how many of them.
      combined: by the map of all heads.
      by_any_head: by at least one head's.
      told_apart: each by a head of its own.
    """

    sources: int
    clips: int
    combined: float
    by_any_head: float
    told_apart: float

    @classmethod
    def parse(cls, row: Any) -> "Heads":
        means = (float(row[key]) for key in ("combined", "by_any_head", "told_apart"))
        return cls(int(row["sources"]), int(row["clips"]), *means)


@dataclasses.dataclass(frozen=True)
class Results:
    """A `localization_<split>.json`. `doubt` says what speaks against some of the methods; empty: nothing."""

    split: str
    step: int
    clips: int
    clips_without: int
    rows: Sequence[Row]
    heads: Sequence[Heads]
    doubt: str = ""

    @classmethod
    def parse(cls, results: Any) -> "Results":
        return cls(
            split=str(results["split"]),
            step=int(results["step"]),
            clips=int(results["clips"]),
            clips_without=int(results.get("clips_without") or 0),
            rows=[Row.parse(row) for row in results["rows"]],
            heads=[Heads.parse(row) for row in results.get("heads") or ()],
            doubt=str(results.get("doubt") or ""),
        )

    def best(self, kind: str) -> Row | None:
        """The row with the best pixel AP of a kind; of the trivial ones, of those that a network could pass."""
        rows = [row for row in self.rows if row.kind == kind and row.name != _UPPER_BOUND]
        return max(rows, key=lambda row: row.numbers["pixel_ap"], default=None)
