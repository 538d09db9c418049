"""The numbers of localization, against loops, scikit-learn, and what is known of the public files."""

import dataclasses
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from sklearn import metrics as sk

from cmav.errors import UserError
from cmav.evals import localization
from cmav.evals.false_alarms import false_alarms
from cmav.evals.localization_scores import Row, Scores, areas_under_success, format_table
from cmav.localization import boxes
from cmav.localization.boxes import Truth

VGGSS = pathlib.Path(__file__).parents[3] / "shared/annotations/vggss/vggss.json"
TRIVIAL = ["whole image", "centred disc", "random half", "upper bound"]


def truth_of(*corners, votes=1, file="a"):
    return Truth(file, "thing", np.array(corners, np.float64), votes)


def random_truths(count, votes=1):
    rng = np.random.default_rng(count)
    truths = []
    for number in range(count):
        low = rng.uniform(0, 0.6, (int(rng.integers(1, 4)), 2))
        high = low + rng.uniform(0.05, 0.4, low.shape)
        truths.append(truth_of(*np.hstack([low, high]), votes=votes, file=f"clip{number}"))
    return truths


def ciou_by_loop(predicted, truth):
    hit = total = missed = 0.0
    for row, other in zip(predicted.tolist(), truth.tolist(), strict=True):
        for lit, weight in zip(row, other, strict=True):
            hit += weight if lit else 0
            total += weight
            missed += lit and weight == 0
    return hit / (total + missed)


@pytest.mark.parametrize("votes", [1, 2])
def test_score_against_a_loop(votes):
    truths = random_truths(4, votes)
    rng = np.random.default_rng(0)
    heatmaps = [rng.normal(size=(224, 224)).astype(np.float32) for _ in truths]
    scores = localization.score(iter(heatmaps), truths)
    for row, heatmap, truth in zip(scores.rows, heatmaps, truths, strict=True):
        scaled = (heatmap - heatmap.min()) / (heatmap.max() - heatmap.min())
        predicted = scaled > np.sort(scaled.ravel())[224 * 224 // 2]
        mask = truth.mask()
        assert row.ciou == pytest.approx(ciou_by_loop(predicted, mask))
        assert row.pixel_ap == pytest.approx(sk.average_precision_score(mask.ravel() > 0, heatmap.ravel()))
        assert (row.file, row.label) == (truth.file, "thing")
        assert len(row.found) == (len(truth.boxes_Kx4) if votes == 1 else 0)
    assert scores.mean_ciou == pytest.approx(np.mean([row.ciou for row in scores.rows]))
    assert scores.pixel_ap == pytest.approx(np.mean([row.pixel_ap for row in scores.rows]))


def test_ciou_by_hand():
    truth = np.array([[1, 0.5], [0, 0]])
    predicted = np.array([[False, True], [True, False]])
    assert localization.ciou(predicted, truth) == 0.5 / (1.5 + 1)


def test_auc_by_hand():
    # cIoU 1 succeeds at all 21 thresholds: area 1. 0.5 at 0, …, .5, then falls within .05: 0.5 + 0.025. 0: 0.025.
    areas = areas_under_success(np.array([1.0, 0.5, 0.0, 0.12]))
    assert areas == pytest.approx([1, 0.525, 0.025, 0.125])
    rng = np.random.default_rng(0)
    cious = rng.random(40)
    rates = [np.mean(cious >= 0.05 * k) for k in range(21)]
    expected = sk.auc([0.05 * k for k in range(21)], rates)
    assert areas_under_success(cious).mean() == pytest.approx(expected)


def test_success_is_from_one_half_on():
    rows = [Row("a", "", ciou, 0.5, (), 0.0) for ciou in (0.4999, 0.5, 0.7, 0.1)]
    scores = Scores(rows)
    assert scores.ciou50 == 0.5
    numbers = scores.numbers()
    assert numbers["clips"] == 4
    assert numbers["ciou50_low"] < 0.5 < numbers["ciou50_high"]
    assert numbers["auc_low"] < numbers["auc"] < numbers["auc_high"]
    assert numbers["source_recall"] is None


def test_perfect_map_reaches_the_upper_bound_and_nothing_passes_it():
    truths = [*random_truths(6), truth_of([0, 0, 1, 1]), truth_of([0.05, 0, 0.95, 0.95])]
    bound = localization.trivial_scores(truths)["upper bound"]
    half = 224 * 224 // 2 - 1
    for row, truth in zip(bound.rows, truths, strict=True):
        area = np.count_nonzero(truth.mask())
        assert row.ciou == pytest.approx(min(area, half) / max(area, half))
        assert row.pixel_ap == 1
        assert all(row.found)
    for heatmap in (np.random.default_rng(0).random((7, 7)), np.zeros((2, 2)), np.eye(14)):
        scores = localization.score([heatmap] * len(truths), truths)
        assert (scores.cious_N <= bound.cious_N).all()


def test_mass_in_boxes():
    """Of what is above 0, all over the union of the boxes; of a map that is dark nothing can be said."""
    truth = truth_of([0, 0, 0.5, 0.5], [0.25, 0.25, 0.5, 1])
    heatmap = np.full((224, 224), -7.0)
    heatmap[:112, :112] = 3
    heatmap[:112, 112:] = 1
    assert localization.mass_in_boxes(heatmap, truth) == pytest.approx(0.75)
    assert localization.mass_in_boxes(np.minimum(heatmap, 0), truth) is None
    scores = Scores([], masses=(0.5, None, 0.25))
    assert scores.mass_in_boxes == 0.375
    assert Scores([], masses=(None,)).mass_in_boxes is None
    row = Row("a", "", 0.5, 0.5, (), 0.0)
    lit, nobody_looked = dataclasses.replace(scores, rows=[row]), Scores([row])
    assert (lit.numbers()["dark"], nobody_looked.numbers()["dark"]) == (1, None)
    table = [line.split() for line in format_table({"lit": lit, "disc": nobody_looked}).splitlines()]
    assert table[0][-1] == "dark" and {line[0]: line[-1] for line in table[-2:]} == {"lit": "1", "disc": "-"}


def test_trivial_rows_of_one_box():
    """A box of 3/4 of the width and half of the height, in the middle."""
    truths = [truth_of([0.125, 0.25, 0.875, 0.75])]
    scores = localization.trivial_scores(truths)
    assert list(scores) == TRIVIAL
    assert scores["whole image"].mean_ciou == pytest.approx(3 / 8)
    assert scores["whole image"].pixel_ap == pytest.approx(3 / 8)
    assert scores["random half"].mean_ciou == pytest.approx((3 / 16) / (3 / 8 + 5 / 16), abs=0.01)
    assert scores["upper bound"].mean_ciou == pytest.approx(3 / 4, abs=0.001)
    # The disc in closed form, of radius √(1/2π), by a fine grid.
    axis = (np.arange(2000) + 0.5) / 2000
    inside = (axis[:, None] - 0.5) ** 2 + (axis[None, :] - 0.5) ** 2 < 1 / (2 * np.pi)
    box = (abs(axis[:, None] - 0.5) < 0.25) & (abs(axis[None, :] - 0.5) < 0.375)
    assert scores["centred disc"].mean_ciou == pytest.approx((inside & box).sum() / (inside | box).sum(), abs=0.005)
    assert [scores[name].undecided for name in TRIVIAL] == [1, 0, 0, 1]


def test_sources_found():
    left, right = [0.0, 0.4, 0.2, 0.6], [0.7, 0.3, 1.0, 0.7]
    truth = truth_of(left, right)
    one, both = truth_of(right).mask(), truth.mask()
    alone = truth_of(left)
    assert localization.find_sources(one, truth).tolist() == [False, True]
    assert localization.find_sources(both, truth).tolist() == [True, True]
    assert localization.find_sources(-both, truth).tolist() == [False, False]
    scores = localization.score([one, alone.mask()], [truth, alone])
    assert scores.source_recall == pytest.approx(2 / 3)
    assert scores.source_recall_of_several == 0.5
    assert localization.score([both], [alone]).source_recall_of_several is None


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([[1, 1], [0, 0]], 1),  # one head finds both: they are not told apart
        ([[1, 1], [1, 0]], 2),
        ([[1, 0], [1, 0], [0, 0]], 1),
        ([[0, 0], [0, 0]], 0),
        ([[1, 1, 0], [0, 1, 1], [1, 1, 1], [0, 0, 0]], 3),
    ],
)
def test_sources_told_apart(found, expected):
    assert localization.count_told_apart(np.array(found, bool)) == expected


def test_as_many_maps_as_truths():
    with pytest.raises(ValueError, match="zip"):
        localization.score([np.eye(3)], random_truths(2))


def test_silent_objects_are_not_to_be_lit():
    """A source left, silent objects right and below: of maps that light the one, the other, or both."""
    source, right, below = [0.1, 0.1, 0.3, 0.3], [0.7, 0.1, 0.9, 0.3], [0.1, 0.7, 0.3, 0.9]
    truth = dataclasses.replace(truth_of(source), silent_Kx4=np.array([right, below]))

    def lit(*some):
        heatmap = np.zeros((224, 224))
        for box, value in some:
            heatmap[boxes.pixels(box)] = value
        return localization.score([heatmap], [truth])

    found, wrong, ordered = lit((source, 1)), lit((right, 1)), lit((source, 1), (right, 2), (below, 0.5))
    assert [s.source_recall for s in (found, wrong, ordered)] == [1, 0, 0]
    assert [s.distractor_recall for s in (found, wrong, ordered)] == [0, 0.5, 0.5]
    assert found.sounding_above_silent == 1
    assert wrong.rows[0].sounding_above_silent[0] is False
    assert ordered.rows[0].sounding_above_silent == (False, True)
    assert localization.score([np.zeros((8, 8))], [truth_of(source)]).distractor_recall is None


def test_table_has_what_is_known():
    rows = [Row("a", "", 0.5, 0.25, (), 0.0)]
    assert "silent lit" not in format_table({"x": Scores(rows)})
    known = Scores([Row("a", "", 0.5, 0.25, (True, False), 0.0, (True, False, False, False))])
    alarms = Scores(rows, false_alarms([1.0, 2.0], [0.5, 3.0]))
    head, first, second = format_table({"known": known, "alarms": alarms}).splitlines()
    assert "above silent" not in head
    assert first.split()[-4:] == ["50.0", "50.0", "25.0", "-"]
    assert second.split()[-4:] == ["-", "-", "-", "50.0"]


LEFT, RIGHT, TOP = [0.0, 0.5, 0.2, 1.0], [0.8, 0.5, 1.0, 1.0], [0.4, 0.0, 0.6, 0.3]


def lit(*some):
    """A map that lights these boxes."""
    return sum(Truth("", "", np.array([box])).mask() for box in some)


def test_count_sources():
    truths = [
        Truth("two", "", np.array([LEFT, RIGHT])),
        Truth("one", "", np.array([LEFT])),
        Truth("three", "", np.array([LEFT, RIGHT, TOP])),
        Truth("more", "", np.array([LEFT, TOP])),
        Truth("votes", "", np.array([LEFT, LEFT]), votes=2),
    ]
    combined = localization.score([lit(LEFT), lit(LEFT), lit(LEFT, TOP), lit(RIGHT), lit(LEFT)], truths)
    heads = iter(
        [
            [lit(LEFT), lit(RIGHT)],  # each its own
            [lit(LEFT), lit(RIGHT)],
            [lit(LEFT, RIGHT), lit(LEFT)],  # two told apart of two found
            [lit(LEFT, TOP), lit(RIGHT)],  # both by one head
            [lit(LEFT), lit(RIGHT)],
        ]
    )
    assert localization.count_sources(combined, heads, truths) == [
        {"sources": 2, "clips": 2, "combined": 0.5, "by_any_head": 2.0, "told_apart": 1.5},
        {"sources": 3, "clips": 1, "combined": 2.0, "by_any_head": 2.0, "told_apart": 2.0},
    ]
    alone = localization.score([lit(LEFT)], truths[1:2])
    assert localization.count_sources(alone, iter([[lit(LEFT)]]), truths[1:2]) == []


def test_command(tmp_path):
    path = tmp_path / "vggss.json"
    entries = [{"file": t.file, "class": "x", "bbox": t.boxes_Kx4.tolist()} for t in random_truths(3)]
    path.write_text(json.dumps([*entries, {"file": "broken", "class": "x", "bbox": [[0, 0, 0, 1]]}]))
    command = [sys.executable, "-m", "cmav.evals.localization"]
    done = subprocess.run([*command, "--boxes", str(path), "--json"], capture_output=True, text=True, check=True)
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert "broken: [0, 0, 0, 1]" in done.stderr
    assert list(rows) == TRIVIAL
    expected = localization.trivial_scores(boxes.read(str(path)).truths)
    for name, scores in expected.items():
        assert rows[name]["ciou50"] == scores.ciou50
        assert rows[name]["auc"] == pytest.approx(scores.auc)


def test_table_says_what_is_damaged(tmp_path, capsys):
    path = tmp_path / "vggss.json"
    path.write_text(json.dumps([{"file": "a", "class": "x", "bbox": [[0, 0, 1, 0.5], [0, 0, 0, 1]]}]))
    localization.main(str(path), as_json=False)
    out = capsys.readouterr().out
    assert "1 clip with 1 box.\n1 damaged box:\n  a: [0, 0, 0, 1]: no area" in out
    lines = {line[:12]: line.split()[2:] for line in out.splitlines()[-4:]}
    mean = ["50.0", "50.0-50.0"]
    assert lines["whole image "] == ["100.0", "20.7-100.0", "52.5", "50.0", *mean, "100.0", *mean, "0"]


def test_command_without_boxes():
    with pytest.raises(UserError, match="--boxes"):
        localization.main(None, as_json=False)


@pytest.mark.skipif(not VGGSS.exists(), reason="no ../shared")
def test_trivial_rows_of_vggss():
    annotations = boxes.read(str(VGGSS))
    assert len(annotations.damaged) == 18
    assert annotations.without_boxes == []
    assert annotations.unknown == ["M1P1xla8rg0_000000", "MKC9LvRivTM_000030"]
    assert len(annotations.truths) == 5158 - 2
    scores = localization.trivial_scores(annotations.truths)
    percent = {name: (round(100 * s.ciou50, 1), round(100 * s.auc, 1)) for name, s in scores.items()}
    assert percent == {
        "whole image": (22.0, 31.3),
        "centred disc": (34.0, 37.4),
        "random half": (0.0, 21.6),
        "upper bound": (50.5, 49.5),
    }
