"""From logits to an offset, an interval and words: evidence, calibration, abstaining."""

import dataclasses
import json

import numpy as np
import pytest
import scipy.stats
from etils import epath

from cmav.errors import UserError
from cmav.offsets.calibration import UNRELATED, Calibration, fit
from cmav.offsets.estimate import estimate, read, vertex
from cmav.offsets.evidence import Evidence, Scores
from cmav.offsets.stretch import Stretch
from tests.offsets import fake_sync

SHIFTS = np.arange(-20, 21) * 0.04
TRUST = Calibration(scale=1.0, growth=1.0, unrelated=0.0, lapse=1e-4, fitted_on={})


def make_scores(logits, hop=0.2, seconds=1.6, motion=5.0, loudness=-20.0):
    starts = np.arange(len(logits)) * hop
    many = np.ones(len(logits), np.float32)
    return Scores(starts, seconds, SHIFTS, np.asarray(logits, np.float32), motion * many, loudness * many)


def bump(offset, height=6.0, width=0.05, windows=8, floor=-3.0):
    """A network that is sure: logits of windows that all point to an offset."""
    return np.tile(floor + (height - floor) * np.exp(-(((SHIFTS - offset) / width) ** 2) / 2), (windows, 1))


def say(scores, calibration=TRUST, **more):
    return estimate(scores, calibration, tolerance=0.04, **more)


def test_coverage_counts_what_windows_cover_once():
    logits = np.zeros((9, 41))
    logits[:4, 0] = np.nan
    logits[1:, 1] = np.nan
    logits[:, 2] = np.nan
    evidence = Evidence.of(make_scores(logits + 3))
    # From 0.8 to 3.2 s; the first window; none; from 0 to 3.2 s. In windows of 1.6 s.
    np.testing.assert_allclose(evidence.coverage[:4], [1.5, 1.0, 0.0, 2.0])
    np.testing.assert_allclose(evidence.total[:4], [4.5, 3.0, 0.0, 6.0])
    apart = Evidence.of(make_scores(np.ones((3, 41)), hop=10.0))
    np.testing.assert_allclose((apart.coverage, apart.total), 3.0)
    both = Evidence.joined([evidence, apart])
    np.testing.assert_allclose(both.coverage[:4], [4.5, 4.0, 3.0, 5.0])


@pytest.mark.parametrize("offset", [0.0, 0.28, 0.293, -0.415])
def test_offset_and_interval(offset):
    found = say(make_scores(bump(offset)))
    assert found.offset_ms == pytest.approx(1000 * offset, abs=4)
    assert found.low_ms < 1000 * offset < found.high_ms and found.high_ms - found.low_ms < 150
    assert found.confidence > 0.9
    direction = "late" if offset > 0 else "early"
    assert found.verdict == ("in time" if not offset else f"the sound is {abs(found.offset_ms):.0f} ms {direction}")


def test_more_windows_make_surer_as_far_as_the_calibration_says():
    weak = np.clip(bump(0.2), -0.4, 1.0)

    def confidence(windows, growth):
        scores = make_scores(np.tile(weak[:1], (windows, 1)), hop=1.6)
        posterior = dataclasses.replace(TRUST, growth=growth).posterior(Evidence.of(scores))
        return posterior.within(0.12, 0.28)

    assert confidence(1, 1.0) == pytest.approx(confidence(20, 0.0))
    assert confidence(1, 1.0) < confidence(4, 0.5) < confidence(4, 1.0) < confidence(20, 1.0)


def test_the_posterior_is_bayes():
    """Against an integral done by hand over a fine grid."""
    scores = make_scores(bump(0.1) + np.random.default_rng(0).normal(size=(8, 41)))
    calibration = Calibration(scale=0.3, growth=0.6, unrelated=0.4, lapse=0.02, fitted_on={})
    evidence = Evidence.of(scores)
    posterior = calibration.posterior(evidence)
    log = 0.3 * 1.875**0.6 * np.nanmean(scores.logits, axis=0)
    grid = np.linspace(-0.8, 0.8, 16_001)
    likelihood = np.exp(np.interp(grid, SHIFTS, log))
    mean = np.trapezoid(likelihood, grid) / 1.6
    unrelated = UNRELATED * np.exp(0.4) / (UNRELATED * np.exp(0.4) + (1 - UNRELATED) * mean)
    assert posterior.unrelated == pytest.approx(unrelated, rel=0.02)
    density = (1 - unrelated) * (0.98 * likelihood / mean / 1.6 + 0.02 / 1.6)
    here = (grid > 0.05) & (grid < 0.17)
    assert posterior.within(0.05, 0.17) == pytest.approx(np.trapezoid(density[here], grid[here]), rel=0.02)
    assert posterior.within(-1, 1) + posterior.unrelated == pytest.approx(1)


def draw_clips(rng, count, noise, seconds=0.8):
    """Logits that are what they claim to be: log-likelihood ratios of a Gaussian, with noise. And the true offsets."""
    truths = rng.uniform(-0.6, 0.6, count)
    clips = []
    for truth in truths:
        centre = rng.normal(truth, noise)
        log = scipy.stats.norm.logpdf(SHIFTS, centre, noise) + 2
        clips.append(Evidence(SHIFTS, log, np.ones(41)))
    return clips, truths


def test_calibration_finds_how_far_the_network_exaggerates():
    """Logits five times what they should be: of what is then said with 90%, 90% is right on other clips."""
    rng = np.random.default_rng(1)
    clips, truths = draw_clips(rng, 600, 0.08)
    wrong = [Evidence(SHIFTS, rng.normal(-15.0, 2.0, 41), np.ones(41)) for _ in range(200)]
    exaggerated = [dataclasses.replace(one, total=5 * one.total) for one in clips]
    calibration = fit(list(zip(exaggerated[:300], truths[:300], strict=True)), wrong)
    assert calibration.scale == pytest.approx(0.2, rel=0.2)

    def right_and_said(calibration):
        right, said = [], []
        for one, truth in zip(exaggerated[300:], truths[300:], strict=True):
            posterior = calibration.posterior(one)
            peak = one.shifts[np.argmax(one.total)]
            right.append(abs(peak - truth) <= 0.1)
            said.append(posterior.within(peak - 0.1, peak + 0.1))
        return np.mean(right), np.mean(said)

    right, said = right_and_said(calibration)
    assert said == pytest.approx(right, abs=0.05)
    right, said = right_and_said(Calibration())
    assert said > right + 0.15
    assert np.mean([calibration.posterior(one).unrelated for one in wrong]) > 0.5
    assert np.mean([calibration.posterior(one).unrelated for one in exaggerated]) < 0.1


def test_calibration_finds_lapses():
    rng = np.random.default_rng(2)
    clips, truths = draw_clips(rng, 400, 0.05)
    truths[:60] = rng.uniform(-0.8, 0.8, 60)  # The network is sure, and wrong.
    wrong = [Evidence(SHIFTS, np.full(41, -1.0), np.ones(41))] * 20
    assert fit(list(zip(clips, truths, strict=True)), wrong).lapse == pytest.approx(0.15, abs=0.04)


@pytest.mark.parametrize(
    ("scores", "has_audio", "reason"),
    [
        (make_scores(bump(0.2)), False, "it has no sound"),
        (make_scores(bump(0.2), loudness=-75.0), True, "it is silent"),
        (make_scores(bump(0.2), motion=0.1), True, "nothing moves"),
        (make_scores(np.full((1, 41), np.nan)), True, "it is shorter than the 1.6 s"),
        (make_scores(np.full((8, 41), 1.0)), True, "no shift stands out"),
        (make_scores(np.full((8, 41), -4.0)), True, "the sound fits the pictures at no shift"),
        (make_scores(bump(0.9, width=0.2)), True, "the best shift is the greatest that was tried"),
        (make_scores(np.maximum(bump(0.4), bump(-0.4))), True, "no shift stands out"),
    ],
)
def test_it_abstains_and_says_why(scores, has_audio, reason):
    for calibration in (TRUST, None):
        found = say(scores, calibration, has_audio=has_audio)
        assert found.verdict.startswith(f"cannot tell: {reason}")
        assert found.offset_ms is found.low_ms is found.high_ms is None


def test_hardly_longer_than_a_window():
    logits = np.full((1, 41), np.nan)
    logits[0, 20:22] = 3.0
    assert "no shift can be tried" in say(make_scores(logits)).verdict


def test_the_confidence_to_speak_at_is_an_option():
    two = make_scores(np.maximum(bump(0.4, height=6.5), bump(-0.4)))
    assert 0.5 < say(two).confidence < 0.9 and say(two).offset_ms == pytest.approx(400, abs=5)
    cautious = say(two, min_confidence=0.9)
    assert cautious.offset_ms is None and cautious.confidence == say(two).confidence


def test_without_a_calibration_it_is_said_and_nothing_is_claimed():
    found = say(make_scores(bump(0.28)), None)
    assert found.verdict == "the sound is 280 ms late (not calibrated)"
    assert found.confidence is found.low_ms is found.high_ms is None


def test_between_the_shifts_by_a_parabola():
    for top in (-0.5, -0.21, 0.0, 0.4):
        assert vertex(-((np.array([-1, 0, 1]) - top) ** 2)) == pytest.approx(top)
    assert vertex(np.array([1.0, 1.0, 1.0])) == 0.0


@pytest.mark.parametrize("late", [0.0, 0.135, -0.31])
@pytest.mark.parametrize("step", [None, 0.01])
def test_a_network_that_correlates_finds_it(late, step):
    stretch = Stretch.of(fake_sync.make_task(), max_seconds=0.8, step_seconds=step, num_frames=70)
    scores = fake_sync.scores_of(stretch, fake_sync.batch_of(stretch, 65, fake_sync.events(3.2, seed=2), late))
    found = read(Evidence.of(scores), Calibration(), 0.05)
    assert found.peak == pytest.approx(late, abs=0.02) and not found.at_the_end


def test_the_file_of_a_calibration(tmp_path):
    folder = epath.Path(tmp_path)
    assert Calibration.load(folder) is None
    made = dataclasses.replace(TRUST, fitted_on={"step": 7, "split": "validation", "clips": 9})
    path = made.save(folder)
    assert Calibration.load(folder) == made
    path.write_text(json.dumps({"scale": "much"}))
    with pytest.raises(UserError, match="is damaged"):
        Calibration.load(folder)
