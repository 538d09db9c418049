"""Does a map show where the sound is? The field's numbers, and the rows of those who never listen.

python -m cmav.evals.localization --boxes=vggss.json           # the trivial rows alone, as a table
python -m cmav.evals.localization --boxes=Annotations --json   # of Flickr-SoundNet's folder, as JSON

The protocol (Senocak et al. 2018; VGG-SS, Chen et al. 2021; EZ-VSL's code): a map is resized to 224×224, the half P of
its pixels that is brighter than the median is the prediction, and with g the truth (`cmav.evals.boxes.Truth.mask`)

    cIoU = Σ P·g / (Σ g + Σ P·[g = 0]).

Reported are the share of clips with a cIoU of at least 0.5, and the AUC of the success rates at 0, .05, …, 1. P is
always half of the picture: among pixels as bright as the median, lots are drawn. (The field's code takes all that are
not below the median, so that a constant map is the whole picture.) Hence nobody can pass the row "upper bound", and a
disc in the middle comes close to many a network: these rows belong in every table. Beside them stands what does not
depend on the half: the average precision of pixels, and which sources are found.
"""

import dataclasses
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from absl import flags
from scipy.sparse import csgraph, csr_array

from cmav import cli
from cmav.errors import UserError
from cmav.evals import boxes
from cmav.evals.boxes import SIZE, Truth
from cmav.evals.intervals import wilson_interval
from cmav.evals.ranking import Ranking

_THRESHOLDS = 0.05 * np.arange(21)
_RESAMPLES = 1000
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
    """

    file: str
    label: str
    ciou: float
    pixel_ap: float
    found: tuple[bool, ...]
    share_by_lot: float


@dataclasses.dataclass(frozen=True)
class Scores:
    """What is measured of all clips; numbers from 0 to 1."""

    rows: list[Row]

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
        return _recall(self.rows)

    @property
    def source_recall_of_several(self) -> float | None:
        """The same of the clips with two sources and more; None where there are none."""
        return _recall([row for row in self.rows if len(row.found) > 1])

    @property
    def undecided(self) -> int:
        """How many maps leave more than a twentieth of the picture to the lot, as a constant one does."""
        return sum(row.share_by_lot > _MUCH_BY_LOT for row in self.rows)

    def numbers(self) -> dict[str, float | int | None]:
        """All of the above by name, and the ends `<name>_low` and `<name>_high` of 95% intervals over clips.

        Wilson's for `ciou50`; by the bootstrap for the means `auc`, `mean_ciou` and `pixel_ap`.
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
        for name in ("source_recall", "source_recall_of_several", "undecided"):
            numbers[name] = getattr(self, name)
        return numbers


def score(heatmaps: Iterable[np.ndarray], truths: Sequence[Truth]) -> Scores:
    """Measures maps, one per clip, in the order of the truths.

    Args:
      heatmaps: [height, width] of the whole picture, in any unit and of any size, the brighter the more it sounds
        there. They may be a generator: one is looked at a time.
      truths: of the clips.

    Raises:
      ValueError: where there are more maps or fewer, or a map has values that are not finite.
    """
    rankings = (Ranking.of(heatmap) for heatmap in heatmaps)
    return Scores([_judge(ranking, truth) for ranking, truth in zip(rankings, truths, strict=True)])


def trivial_scores(truths: Sequence[Truth]) -> dict[str, Scores]:
    """The rows that belong in every table, by name: what one gets without listening, and what nobody can pass.

    - whole image: all pixels, not half of them.
    - centred disc: of half of the area.
    - random half: of noise, the same for all clips.
    - upper bound: the truth itself as the map, so that as much of it as fits is in the brighter half.
    """
    axis = np.arange(SIZE) - (SIZE - 1) / 2
    disc = Ranking.of(-np.hypot(axis[:, None], axis[None, :]))
    noise = Ranking.of(np.random.default_rng(0).random((SIZE, SIZE)))
    constant, everything = Ranking.of(np.zeros((SIZE, SIZE))), np.ones((SIZE, SIZE), bool)
    return {
        "whole image": Scores([_judge(constant, truth, everything) for truth in truths]),
        "centred disc": Scores([_judge(disc, truth) for truth in truths]),
        "random half": Scores([_judge(noise, truth) for truth in truths]),
        "upper bound": score((truth.mask() for truth in truths), truths),
    }


def ciou(predicted_HxW: np.ndarray, truth_HxW: np.ndarray) -> float:
    """Σ P·g / (Σ g + Σ P·[g = 0]) of a prediction P, bool, and a truth g from 0 to 1 that is somewhere not 0."""
    hit = (predicted_HxW * truth_HxW).sum()
    missed_by = np.count_nonzero(predicted_HxW & (truth_HxW == 0))
    return float(hit / (truth_HxW.sum() + missed_by))


def areas_under_success(cious_N: np.ndarray) -> np.ndarray:
    """The AUC of each clip: the area under its success, 0 or 1, at thresholds 0, .05, …, 1, by the trapezoid rule.

    The success rate is a mean over clips, so the AUC is the mean of these.
    """
    succeeds_NxT = (cious_N[:, None] >= _THRESHOLDS).astype(np.float64)
    return np.trapezoid(succeeds_NxT, _THRESHOLDS, axis=1)


def find_sources(heatmap: np.ndarray | Ranking, truth: Truth) -> np.ndarray:
    """Which sources a map finds, bool [boxes].

    As many of the brightest pixels are taken as the union of all boxes has. A source is found where at least half of
    its box is among them. So size does not matter, nor how bright a map is: who lights one source of two finds one.
    """
    ranking = heatmap if isinstance(heatmap, Ranking) else Ranking.of(heatmap)
    lit = ranking.brightest(np.count_nonzero(truth.mask()))
    return np.array([lit[boxes.pixels(box)].mean() >= 0.5 for box in truth.boxes_Kx4])


def count_told_apart(found_HxS: np.ndarray) -> int:
    """How many sources can be given a head of their own that finds them: the largest matching.

    Args:
      found_HxS: bool, whether head h finds source s, as `find_sources` says of each head's map.
    """
    return int(np.count_nonzero(csgraph.maximum_bipartite_matching(csr_array(found_HxS)) >= 0))


def bootstrap_interval(values_N: np.ndarray) -> tuple[float, float]:
    """The 95% interval of a mean over clips, by resampling them 1,000 times; always the same of the same values."""
    rng = np.random.default_rng(0)
    means = [rng.choice(values_N, len(values_N)).mean() for _ in range(_RESAMPLES)]
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def format_table(scores: Mapping[str, Scores]) -> str:
    """Returns a table for people, in percent, a line for each name."""
    columns: dict[str, Callable[[dict[str, Any]], str]] = {
        "cIoU@.5": lambda row: _percent(row["ciou50"]),
        "95%": lambda row: f"{_percent(row['ciou50_low'])}-{_percent(row['ciou50_high'])}",
        "AUC": lambda row: _percent(row["auc"]),
        "mean cIoU": lambda row: _percent(row["mean_ciou"]),
        "pixel AP": lambda row: _percent(row["pixel_ap"]),
        "sources": lambda row: _percent(row["source_recall"]),
        "of several": lambda row: _percent(row["source_recall_of_several"]),
    }
    width = max(map(len, scores))
    lines = [" " * width + "".join(f"{title:>12}" for title in columns)]
    for name, result in scores.items():
        numbers = result.numbers()
        lines.append(f"{name:<{width}}" + "".join(f"{cell(numbers):>12}" for cell in columns.values()))
    return "\n".join(lines)


def _judge(ranking: Ranking, truth: Truth, predicted_HxW: np.ndarray | None = None) -> Row:
    """Measures a map; `predicted_HxW` instead of its brighter half."""
    truth_HxW = truth.mask()
    found = find_sources(ranking, truth) if truth.votes == 1 else ()
    return Row(
        file=truth.file,
        label=truth.label,
        ciou=ciou(ranking.brighter_half() if predicted_HxW is None else predicted_HxW, truth_HxW),
        pixel_ap=ranking.average_precision(truth_HxW > 0),
        found=tuple(map(bool, found)),
        share_by_lot=ranking.share_by_lot,
    )


def _recall(rows: Sequence[Row]) -> float | None:
    found = [source for row in rows for source in row.found]
    return sum(found) / len(found) if found else None


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def main(path: str | None, as_json: bool) -> None:
    if not path:
        raise UserError("no --boxes given: name a vggss.json, or Flickr-SoundNet's folder of XML.")
    annotations = boxes.read(path)
    scores = trivial_scores(annotations.truths)
    if as_json:
        rows = [{"name": name, **result.numbers()} for name, result in scores.items()]
        print(annotations.report(), file=sys.stderr)
        print(json.dumps(rows, indent=2))
        return
    print(f"{annotations.report()}\n\n{format_table(scores)}")


if __name__ == "__main__":
    _BOXES = flags.DEFINE_string("boxes", None, "VGG-SS's vggss.json, or Flickr-SoundNet's folder of XML.")
    _JSON = flags.DEFINE_bool("json", False, "Print a JSON list of rows, numbers from 0 to 1, instead of a table.")
    cli.run(lambda: main(_BOXES.value, _JSON.value))
