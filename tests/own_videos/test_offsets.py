"""Offsets of files: sign and size through decoding, whatever the rates and starts; long videos stretch by stretch."""

import re
from fractions import Fraction

import numpy as np
import pytest

from cmav.media import decoding, manifest
from cmav.offsets.calibration import Calibration
from cmav.offsets.course import Segment
from cmav.offsets.stretch import Stretch
from cmav.own_videos.offsets import clock, course_in_words, find_offsets
from tests.fake_worker import FakeWorker
from tests.media.sample_videos import Sound, flashes_at, steady_times, write_video
from tests.offsets import fake_sync

CALIBRATION = Calibration(scale=1.0, growth=0.5, unrelated=0.0, lapse=1e-3, fitted_on={})


@pytest.fixture(autouse=True)
def here(monkeypatch):
    """Videos are read in this process: tests/media/test_decoding.py has the real ones."""
    monkeypatch.setattr(decoding, "worker", FakeWorker)


@pytest.fixture(scope="module")
def network():
    return fake_sync.make_network()


def find(network, paths, max_seconds=0.8, **more):
    stretch = Stretch.of(network.task, max_seconds=max_seconds)
    videos = [manifest.Video(str(path), path.stem) for path in paths]
    how = {"calibration": CALIBRATION, "size": 16, "batch_size": 2, **more}
    return list(find_offsets(network, videos, "", stretch, **how))


def write(path, late, *, fps=25, seconds=4.0, times=None, seed=2, **sound):
    """A video with flashes and beeps of 100 ms, these later by `late`: seconds, or a function of the flash's time."""
    times = steady_times(fps, seconds) if times is None else times
    grid = np.array(times, float)
    # Between two pictures nothing can be seen to begin.
    moments = np.array([grid[np.searchsorted(grid, moment)] for moment in fake_sync.events(seconds, seed=seed)])
    beeps = moments + (late(moments) if callable(late) else late)
    beeps = np.concatenate([beeps, beeps + 0.05])
    sound = Sound(beeps[beeps > sound.get("start", 0)], seconds, **sound)
    write_video(str(path), times, flashes_at(times, moments, size=16), sound, rate=fps)
    return path


@pytest.mark.parametrize(
    ("late", "form"),
    [
        (0.0, {}),
        (-0.8, {"max": 1.2}),
        (-0.415, {"fps": Fraction(30000, 1001)}),
        (-0.12, {"layout": "mono", "sample_rate": 22_050}),
        (0.04, {"fps": 60}),
        (0.2, {"start": 0.3}),
        (0.33, {"start": -0.25}),
        (0.8, {"max": 1.2}),
    ],
)
def test_sign_and_size(network, tmp_path, late, form):
    (found,) = find(
        network,
        [write(tmp_path / "v.mkv", late, **{k: x for k, x in form.items() if k != "max"})],
        form.get("max", 0.8),
    )
    said = found.estimate
    assert said.offset_ms == pytest.approx(1000 * late, abs=25)
    assert said.confidence > 0.5 and said.low_ms <= said.offset_ms <= said.high_ms
    assert ("late" in said.verdict) == (late > 0.05) and ("early" in said.verdict) == (late < -0.05)


def test_variable_frame_rate(network, tmp_path):
    rng = np.random.default_rng(0)
    gaps = rng.choice([Fraction(1, 60), Fraction(1, 30), Fraction(1, 24)], 140)
    times = [sum(gaps[:k], Fraction(0)) for k in range(len(gaps))]
    (found,) = find(network, [write(tmp_path / "v.mkv", 0.21, seconds=float(times[-1]), times=times)])
    assert found.estimate.offset_ms == pytest.approx(210, abs=30)


def test_a_long_video_is_looked_at_whole_and_no_window_twice(network, tmp_path):
    path = write(tmp_path / "long.mkv", 0.2, seconds=31.3)
    (found,) = find(network, [path])
    starts = found.scores.starts
    assert starts[0] == 0 and starts[-1] == pytest.approx(31.3 - 1.0, abs=0.16)
    assert (np.diff(starts) > 0.04).all() and np.diff(starts).max() <= 0.11
    missing = np.isnan(found.scores.logits).sum(axis=1)
    inner = (starts >= 0.8) & (starts <= 31.3 - 1.0 - 0.8 - 0.1)
    assert (missing[inner] == 0).all() and (missing[starts < 0.7] > 0).all()
    assert found.estimate.offset_ms == pytest.approx(200, abs=15) and found.segments == []


def test_drift_and_jumps(network, tmp_path):
    paths = [
        write(tmp_path / "drift.mkv", lambda t: -0.3 + 0.02 * t, seconds=30.0),
        write(tmp_path / "jump.mkv", lambda t: np.where(t < 12, 0.4, -0.2), seconds=30.0),
    ]
    drift, jump = find(network, paths)
    (segment,) = drift.segments
    assert segment.slope == pytest.approx(0.02, abs=0.002) and segment.first == pytest.approx(-0.3, abs=0.05)
    assert drift.estimate.verdict.startswith("the sound drifts from")
    assert drift.estimate.offset_ms == pytest.approx(0, abs=40)
    assert [one.first for one in jump.segments] == pytest.approx([0.4, -0.2], abs=0.03)
    assert jump.segments[0].end == pytest.approx(12, abs=0.8)
    assert re.fullmatch(
        r"the sound is (39|40)\d ms late until 0:1[12], then is (19|20)\d ms early", jump.estimate.verdict
    )


def test_what_cannot_be_told(network, tmp_path):
    times = steady_times(25, 4.0)
    still, flashing = flashes_at(times, [], size=16), flashes_at(times, fake_sync.events(4.0), size=16)
    write_video(str(tmp_path / "silent.mkv"), times, flashing, None, rate=25)
    write_video(str(tmp_path / "still.mkv"), times, still, Sound([1.0, 2.0], 4.0), rate=25)
    write_video(str(tmp_path / "short.mkv"), times[:15], flashing[:15], Sound([0.2], 0.6), rate=25)
    music = Sound(fake_sync.events(4.0, seed=11, per_second=5.0), 4.0)
    write_video(str(tmp_path / "music.mkv"), times, flashing, music, rate=25)
    (tmp_path / "broken.mkv").write_text("no video")
    names = ("silent", "still", "short", "music", "broken")
    found = find(network, [tmp_path / f"{name}.mkv" for name in names])
    verdicts = [one if isinstance(one, str) else one.estimate.verdict for one in found]
    assert verdicts[:3] == [
        "cannot tell: it has no sound",
        "cannot tell: nothing moves",
        "cannot tell: it is shorter than the 1 s that the network looks at",
    ]
    assert verdicts[3].startswith("cannot tell") and "cannot be opened" in verdicts[4]


def test_a_course_in_words():
    segments = [Segment(0, 35, 0.2, 0.2), Segment(35, 3700, 0.01, 0.0), Segment(3700, 4000, -0.04, 0.32)]
    assert course_in_words(segments, 0.04) == (
        "the sound is 200 ms late until 0:35, then in time until 1:01:40, then drifts from 40 ms early to 320 ms late "
        "(+1.2 ms per second)"
    )
    assert clock(59.7) == "1:00"
