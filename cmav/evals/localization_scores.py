"""What is measured of localization: numbers of each clip, of all clips, and a table of them."""

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from cmav import tables
from cmav.evals.false_alarms import FalseAlarms
from cmav.evals.intervals import bootstrap_interval, wilson_interval

_THRESHOLDS = 0.05 * np.arange(21)
_MUCH_BY_LOT = 0.05  # of the picture; a corner of an enlarged 3×3 map, which is all alike, is less


@dataclasses.dataclass(frozen=True)
class Row:
    """What is measured of one clip.

    Attributes:
      file: the clip's name.
      label: its class.
      ciou: of the brighter half.
      pixel_ap: average precision of all pixels, where g > 0 is to be found.
      found: of each source, whether it is (`find_sources`); empty where boxes are opinions about the same source.
      share_by_lot: of the picture, how much is in the brighter half or out of it by lot.
      silent_found: of each silent object, whether it is found by the same rule as sources: better not.
      sounding_above_silent: of each source and each silent object beside it, whether the source's box is brighter, by
        the mean place of its pixels among all.
    """

    file: str
    label: str
    ciou: float
    pixel_ap: float
    found: tuple[bool, ...]
    share_by_lot: float
    silent_found: tuple[bool, ...] = ()
    sounding_above_silent: tuple[bool, ...] = ()


@dataclasses.dataclass(frozen=True)
class Scores:
    """What is measured of all clips; numbers from 0 to 1.

    Attributes:
      rows: of the clips in which something that is seen sounds.
      false_alarms: in the clips in which nothing does; None where there are none, or nobody looked.
      masses: of each clip the share of its map's mass that lies in the boxes; None where the map is dark. Empty where
        nobody looked.
    """

    rows: list[Row]
    false_alarms: FalseAlarms | None = None
    masses: tuple[float | None, ...] = ()

    @property
    def cious_N(self) -> np.ndarray:
        return np.array([row.ciou for row in self.rows])

    @property
    def ciou50(self) -> float:
        """The share of clips with a cIoU of at least 0.5."""
        return float((self.cious_N >= 0.5).mean())

    @property
    def auc(self) -> float:
        return float(areas_under_success(self.cious_N).mean())

    @property
    def mean_ciou(self) -> float:
        return float(self.cious_N.mean())

    @property
    def pixel_ap(self) -> float:
        return float(np.mean([row.pixel_ap for row in self.rows]))

    @property
    def source_recall(self) -> float | None:
        """The share of all sources that are found; None where sources are not told apart."""
        return _share(row.found for row in self.rows)

    @property
    def source_recall_of_several(self) -> float | None:
        """The same of the clips with two sources and more; None where there are none."""
        return _share(row.found for row in self.rows if len(row.found) > 1)

    @property
    def distractor_recall(self) -> float | None:
        """The share of the silent objects that are found as if they sounded; None where none is known."""
        return _share(row.silent_found for row in self.rows)

    @property
    def sounding_above_silent(self) -> float | None:
        """The share of pairs of a source and a silent object in which the source is brighter. By chance: a half."""
        return _share(row.sounding_above_silent for row in self.rows)

    @property
    def mass_in_boxes(self) -> float | None:
        """The mean share of a map's mass that lies in the boxes, of the clips whose map is not dark."""
        return float(self._lit.mean()) if len(self._lit) else None

    @property
    def _lit(self) -> np.ndarray:
        return np.array([mass for mass in self.masses if mass is not None])

    @property
    def undecided(self) -> int:
        """How many maps leave more than a twentieth of the picture to the lot, as a constant one does."""
        return sum(row.share_by_lot > _MUCH_BY_LOT for row in self.rows)

    def numbers(self) -> dict[str, float | int | None]:
        """All of the above by name, and the ends `<name>_low` and `<name>_high` of 95% intervals over clips.

        Wilson's for `ciou50`; by the bootstrap for the means `auc`, `mean_ciou`, `pixel_ap` and `mass_in_boxes`. `dark`
        is the number of clips that the latter leaves out.
        """
        intervals = {
            "ciou50": wilson_interval(self.ciou50, len(self.rows)),
            "auc": bootstrap_interval(areas_under_success(self.cious_N)),
            "mean_ciou": bootstrap_interval(self.cious_N),
            "pixel_ap": bootstrap_interval(np.array([row.pixel_ap for row in self.rows])),
        }
        numbers: dict[str, float | int | None] = {"clips": len(self.rows)}
        for name, (low, high) in intervals.items():
            numbers |= {name: getattr(self, name), f"{name}_low": low, f"{name}_high": high}
        for name in (
            *("source_recall", "source_recall_of_several", "distractor_recall"),
            *("sounding_above_silent", "undecided"),
        ):
            numbers[name] = getattr(self, name)
        low, high = bootstrap_interval(self._lit) if len(self._lit) else (None, None)
        numbers |= {"mass_in_boxes": self.mass_in_boxes, "mass_in_boxes_low": low, "mass_in_boxes_high": high}
        numbers["dark"] = len(self.masses) - len(self._lit) if self.masses else None
        alarms = self.false_alarms
        for name, end in (("false_alarm_rate", "rate"), ("false_alarm_low", "low"), ("false_alarm_high", "high")):
            numbers[name] = getattr(alarms, end) if alarms else None
        return numbers


def areas_under_success(cious_N: np.ndarray) -> np.ndarray:
    """The AUC of each clip: the area under its success, 0 or 1, at thresholds 0, .05, …, 1, by the trapezoid rule.

    The success rate is a mean over clips, so the AUC is the mean of these.
    """
    succeeds_NxT = (cious_N[:, None] >= _THRESHOLDS).astype(np.float64)
    return np.trapezoid(succeeds_NxT, _THRESHOLDS, axis=1)


_COLUMNS = {
    "cIoU@.5": "ciou50",
    "AUC": "auc",
    "mean cIoU": "mean_ciou",
    "pixel AP": "pixel_ap",
    "sources": "source_recall",
    "of several": "source_recall_of_several",
    "silent lit": "distractor_recall",
    "above silent": "sounding_above_silent",
    "false alarms": "false_alarm_rate",
    "mass in boxes": "mass_in_boxes",
}


def format_table(scores: Mapping[str, Scores]) -> str:
    """Returns a table for people, in percent, a line for each name; without the columns of which nothing is known.

    Behind cIoU@.5, pixel AP and the mass in boxes stand their 95% intervals, and behind the last the number of clips
    whose map is dark, which it leaves out.
    """
    rows = {name: result.numbers() for name, result in scores.items()}
    columns: list[tuple[str, list[str]]] = []
    for title, key in _COLUMNS.items():
        if all(numbers[key] is None for numbers in rows.values()):
            continue
        columns.append((title, [_percent(numbers[key]) for numbers in rows.values()]))
        if key in ("ciou50", "pixel_ap", "mass_in_boxes"):
            ends = [(_percent(row[f"{key}_low"]), _percent(row[f"{key}_high"])) for row in rows.values()]
            columns.append(("95%", ["-" if low == "-" else f"{low}-{high}" for low, high in ends]))
        if key == "mass_in_boxes":
            columns.append(("dark", ["-" if row["dark"] is None else f"{row['dark']}" for row in rows.values()]))
    titles, cells = zip(*columns, strict=True)
    return tables.plain(["", *titles], zip(rows, *cells, strict=True))


def _share(groups: Iterable[Sequence[bool]]) -> float | None:
    """The share of what is true in all of the groups together."""
    answers = list(itertools.chain.from_iterable(groups))
    return sum(answers) / len(answers) if answers else None


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"
