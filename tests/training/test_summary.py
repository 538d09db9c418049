"""The numbers of a finished run: metrics by their names, and their intervals."""

import pytest

from cmav.training import summary


def test_metrics_lose_their_evaluators_names_unless_several_have_them():
    metrics = {"maps/pure_auc": 0.1, "maps/pixel_ap": 0.2, "bands/pure_auc": 0.3, "bands/clips": 9, "alone": 4}
    assert summary.flatten(metrics) == {
        "maps/pure_auc": 0.1,
        "pixel_ap": 0.2,
        "bands/pure_auc": 0.3,
        "clips": 9,
        "alone": 4,
    }


def test_ends_become_an_interval_beside_their_metric():
    ends = {"a/r1_low": 0.1, "a/r1_high": 0.4, "b/r1_low": 0.2, "b/r1_high": 0.6}
    alone = {"a/r1": 0.25, "a/r1_low": 0.1, "a/r1_high": 0.4}
    assert summary.flatten(alone) == {"r1": 0.25, "r1_interval": [0.1, 0.4]}
    assert summary.flatten({**ends, "a/r1": 0.25, "b/r1": 0.5}) == {
        "a/r1": 0.25,
        "a/r1_interval": [0.1, 0.4],
        "b/r1": 0.5,
        "b/r1_interval": [0.2, 0.6],
    }


@pytest.mark.parametrize(
    ("lows", "expected"),
    [
        ([0.4, 0.6, 0.7], (100, True)),
        ([0.4, 0.6, 0.5, 0.7], (200, True)),  # At 100 it did not stay.
        ([0.6, 0.7], (50, True)),
        ([0.6, 0.7, 0.5], (150, False)),
        ([0.4, float("nan")], (100, False)),
    ],
)
def test_when_accuracy_leaves_chance_for_good(lows, expected):
    assert summary.leaving_chance((range(50, 50 * len(lows) + 1, 50), lows)) == expected


def test_summary_has_steps_seconds_and_parameters():
    assert summary.make(7, 1.26, 12, {"a/b": 0.5}) == {"steps": 7, "seconds": 1.3, "parameters": 12, "b": 0.5}
