"""Does a map show where the sound is? The field's numbers, and trivial baselines.

python -m cmav.evals.localization --boxes=vggss.json           # the trivial rows alone, as a table
python -m cmav.evals.localization --boxes=Annotations --json   # of Flickr-SoundNet's folder, as JSON

The protocol (Senocak et al. 2018; VGG-SS, Chen et al. 2021; EZ-VSL's code): a map is resized to 224×224, the half P of
its pixels that is brighter than the median is the prediction, and with g the truth (`boxes.Truth.mask`)

    cIoU = Σ P·g / (Σ g + Σ P·[g = 0]).

Reported are the share of clips with a cIoU of at least 0.5, and the AUC of the success rates at 0, .05, …, 1. P is
always half of the picture: among pixels as bright as the median, lots are drawn. (The field's code takes all that are
not below the median, so that a constant map is the whole picture.) Hence nobody can pass the row "upper bound", and a
disc in the middle comes close to many a network: these rows belong in every table. Beside them stands what does not
depend on the half: the average precision of pixels, which sources are found, and how much of a map's mass lies in the
boxes, which by chance is as much as they cover. This last is a mean over the clips whose map is not dark.
"""

import json
import sys
from collections.abc import Iterable, Sequence

import numpy as np
from absl import flags
from scipy.sparse import csgraph, csr_array

from cmav import cli
from cmav.errors import UserError
from cmav.evals.localization_scores import Row, Scores, format_table
from cmav.evals.ranking import Ranking
from cmav.localization import boxes
from cmav.localization.boxes import SIZE, Truth


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
    """The rows that belong in every table, by name: what is got without the sound, and what nobody can pass.

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
        "whole image": Scores(
            [_judge(constant, truth, everything) for truth in truths],
            masses=tuple(mass_in_boxes(everything, truth) for truth in truths),
        ),
        "centred disc": Scores([_judge(disc, truth) for truth in truths]),
        "random half": Scores([_judge(noise, truth) for truth in truths]),
        "upper bound": score((truth.mask() for truth in truths), truths),
    }


def ciou(predicted_HxW: np.ndarray, truth_HxW: np.ndarray) -> float:
    """Σ P·g / (Σ g + Σ P·[g = 0]) of a prediction P, bool, and a truth g from 0 to 1 that is somewhere not 0."""
    hit = (predicted_HxW * truth_HxW).sum()
    missed_by = np.count_nonzero(predicted_HxW & (truth_HxW == 0))
    return float(hit / (truth_HxW.sum() + missed_by))


def mass_in_boxes(heatmap: np.ndarray, truth: Truth) -> float | None:
    """The share of what is above 0 in a map, [224, 224], that lies in a box; None where nothing is above 0."""
    positive = np.maximum(heatmap, 0).astype(np.float64)
    return float(positive[truth.mask() > 0].sum() / positive.sum()) if positive.any() else None


def find_sources(heatmap: np.ndarray | Ranking, truth: Truth) -> np.ndarray:
    """Which sources a map finds, bool [boxes].

    As many of the brightest pixels are taken as the union of all boxes has. A source is found where at least half of
    its box is among them. So size does not matter, nor how bright a map is: who lights one source of two finds one.
    """
    ranking = heatmap if isinstance(heatmap, Ranking) else Ranking.of(heatmap)
    return _find(ranking, truth, truth.boxes_Kx4)


def count_told_apart(found_HxS: np.ndarray) -> int:
    """How many sources can be given a head of their own that finds them: the largest matching.

    Args:
      found_HxS: bool, whether head h finds source s, as `find_sources` says of each head's map.
    """
    return int(np.count_nonzero(csgraph.maximum_bipartite_matching(csr_array(found_HxS)) >= 0))


def count_sources(
    combined: Scores, heads: Iterable[Iterable[np.ndarray]], truths: Sequence[Truth]
) -> list[dict[str, float]]:
    """How many of the sources of a clip the heads find, for clips with two and more.

    Args:
      combined: of the heads' combination.
      heads: of each clip, a map of each head, [height, width].
      truths: of the clips.

    Returns:
      A dict for each number of `sources`, ascending: the number of `clips`, and how many sources on average are found
      by the `combined` map, `by_any_head`, and `told_apart`: each by a head of its own.
    """
    counts: dict[int, list[tuple[int, int, int]]] = {}
    for row, of_heads, truth in zip(combined.rows, heads, truths, strict=True):
        if len(row.found) < 2:
            continue
        found_HxS = np.stack([find_sources(head, truth) for head in of_heads])
        numbers = sum(row.found), int(found_HxS.any(axis=0).sum()), count_told_apart(found_HxS)
        counts.setdefault(len(row.found), []).append(numbers)
    keys = ("combined", "by_any_head", "told_apart")
    return [
        {"sources": sources, "clips": len(some), **dict(zip(keys, np.mean(some, axis=0).tolist(), strict=True))}
        for sources, some in sorted(counts.items())
    ]


def _find(ranking: Ranking, truth: Truth, boxes_Kx4: np.ndarray) -> np.ndarray:
    """By the rule of `find_sources`, any boxes: bool [boxes]."""
    lit = ranking.brightest(np.count_nonzero(truth.mask()))
    return np.array([lit[boxes.pixels(box)].mean() >= 0.5 for box in boxes_Kx4], bool)


def _judge(ranking: Ranking, truth: Truth, predicted_HxW: np.ndarray | None = None) -> Row:
    """Measures a map; `predicted_HxW` instead of its brighter half."""
    truth_HxW = truth.mask()
    found = _find(ranking, truth, truth.boxes_Kx4) if truth.votes == 1 else ()
    places = ranking.places()
    sounding, silent = (
        [places[boxes.pixels(box)].mean() for box in some] for some in (truth.boxes_Kx4, truth.silent_Kx4)
    )
    return Row(
        file=truth.file,
        label=truth.label,
        ciou=ciou(ranking.brighter_half() if predicted_HxW is None else predicted_HxW, truth_HxW),
        pixel_ap=ranking.average_precision(truth_HxW > 0),
        found=tuple(map(bool, found)),
        silent_found=tuple(map(bool, _find(ranking, truth, truth.silent_Kx4))),
        sounding_above_silent=tuple(bool(one < other) for one in sounding for other in silent),
        share_by_lot=ranking.share_by_lot,
    )


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
