"""Offsets over time: what was made constant, drifting or jumping is found so, and nothing else is."""

import numpy as np
import pytest

from cmav.offsets.calibration import Calibration
from cmav.offsets.course import course, follow
from cmav.offsets.evidence import Evidence, Scores

SHIFTS = np.arange(-25, 26) * 0.04
CALIBRATION = Calibration(scale=0.5, growth=0.8, fitted_on={})


def make_scores(offset_of, seconds=60.0, noise=2.5, seed=0, height=6.0):
    """A network that is rather unsure in every window."""
    starts = np.arange(0, seconds - 1.6, 0.2)
    offsets = offset_of(starts + 0.8)[:, None]
    logits = -2 + height * np.exp(-(((SHIFTS - offsets) / 0.05) ** 2) / 2)
    logits = logits + np.random.default_rng(seed).normal(size=logits.shape) * noise
    many = np.ones(len(starts), np.float32)
    # At the ends, sounds that would begin before the file or after it are missing.
    at = starts[:, None] + SHIFTS
    logits[(at < 0) | (at > starts[-1])] = np.nan
    return Scores(starts, 1.6, SHIFTS, logits.astype(np.float32), many, many)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("seconds", [12.0, 60.0, 400.0])
def test_a_constant_offset_is_one_segment(seconds, seed):
    (segment,) = course(make_scores(lambda t: np.full(len(t), 0.2), seconds, seed=seed), CALIBRATION)
    assert segment.first == pytest.approx(0.2) and segment.slope == 0
    assert (segment.start, segment.end) == (0, pytest.approx(seconds, abs=0.5))


@pytest.mark.parametrize("seed", range(3))
def test_drift_is_a_line(seed):
    (segment,) = course(make_scores(lambda t: 0.3 - 0.01 * t, seed=seed), CALIBRATION)
    assert segment.slope == pytest.approx(-0.01, abs=0.001)
    assert segment.at(np.array([10.0, 50.0])) == pytest.approx([0.2, -0.2], abs=0.03)


@pytest.mark.parametrize("seed", range(3))
def test_jumps_are_found_with_their_times(seed):
    def offset_of(times):
        return np.select([times < 20, times < 45], [0.4, -0.2], 0.0)

    segments = course(make_scores(offset_of, seed=seed), CALIBRATION)
    assert [segment.first for segment in segments] == pytest.approx([0.4, -0.2, 0.0], abs=0.021)
    assert [segment.end for segment in segments[:2]] == pytest.approx([20, 45], abs=1.0)


def test_a_jump_and_then_a_drift():
    segments = course(make_scores(lambda t: np.where(t < 30, -0.4, 0.01 * (t - 30)), 90.0), CALIBRATION)
    assert len(segments) == 2 and segments[0].slope == 0
    assert segments[1].slope == pytest.approx(0.01, abs=0.002)


def test_noise_has_no_course():
    (segment,) = course(make_scores(lambda t: np.full(len(t), 9.0), noise=3.0), CALIBRATION)
    assert segment.slope == 0


def test_a_short_video_has_none():
    assert course(make_scores(lambda t: np.where(t < 3, 0.4, -0.4), 6.0), CALIBRATION) == []


def test_what_follows_the_course_is_one_peak():
    scores = make_scores(lambda t: 0.3 - 0.01 * t)
    followed, mean = follow(scores, course(scores, CALIBRATION))
    assert mean == pytest.approx(0.0, abs=0.02)
    before, after = (Evidence.of(one) for one in (scores, followed))
    curves = [one.total / np.maximum(one.coverage, 1) for one in (before, after)]
    assert SHIFTS[curves[1].argmax()] == pytest.approx(mean, abs=0.041)
    assert curves[1].max() > curves[0].max() + 0.8
