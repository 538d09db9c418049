"""A sound that was recorded apart finds its place in a long video, by its pictures alone."""

import numpy as np
import pytest

from cmav.errors import UserError
from cmav.media import decoding, manifest
from cmav.own_videos.sound_search import find_sound, read_sound
from tests.fake_worker import FakeWorker
from tests.media.sample_videos import Sound, write_sound
from tests.offsets import fake_sync
from tests.own_videos.test_offsets import CALIBRATION, write


@pytest.fixture(autouse=True)
def here(monkeypatch):
    monkeypatch.setattr(decoding, "worker", FakeWorker)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """60 s whose own sound is of something else."""
    return write(tmp_path_factory.mktemp("video") / "long.mkv", 7.77, seconds=60.0)


def recorded(folder, start, seconds):
    """What somebody else recorded of the same events."""
    grid = np.arange(60 * 25) / 25
    moments = grid[np.searchsorted(grid, fake_sync.events(60.0, seed=2))] - start
    beeps = np.concatenate([moments, moments + 0.05])
    path = str(folder / "sound.wav")
    return write_sound(path, Sound(beeps[(beeps > 0) & (beeps < seconds - 0.05)], seconds, sample_rate=16_000))


def find(sound, video, batch_size=8):
    network = fake_sync.make_network()
    samples = read_sound(sound, network.task.clip.sample_rate)
    listed = [manifest.Video(str(video), "v")]
    (place,) = find_sound(network, samples, listed, CALIBRATION, size=16, batch_size=batch_size)
    return place


@pytest.mark.parametrize(("start", "seconds"), [(31.4, 3.0), (0.0, 3.0), (57.0, 3.0), (12.73, 8.0)])
def test_its_place_is_found(video, tmp_path, start, seconds):
    place = find(recorded(tmp_path, start, seconds), video)
    assert place.reading.peak == pytest.approx(start, abs=0.03)
    assert place.reading.confidence > 0.5 or seconds < 5  # Little is heard in so short a time.
    others = place.others(3, 1.0)
    assert len(others) == 3 and min(abs(other - start) for other in others) >= 0.9


def test_another_sound_has_no_place(video, tmp_path):
    sound = Sound(fake_sync.events(6.0, seed=77, per_second=4.0), 6.0, sample_rate=16_000)
    place = find(write_sound(str(tmp_path / "other.wav"), sound), video)
    assert place.reading.doubt()


def test_what_is_too_short_or_no_sound(video, tmp_path):
    with pytest.raises(UserError, match=r"lasts 0\.5 s, and the network listens to 1 s"):
        find(write_sound(str(tmp_path / "short.wav"), Sound([0.1], 0.5)), video)
    with pytest.raises(UserError, match=r"broken\.wav: .*cannot be opened"):
        (tmp_path / "broken.wav").write_text("no sound")
        find(str(tmp_path / "broken.wav"), video)
    short = write(tmp_path / "short.mkv", 0.0, seconds=2.0)
    assert "shorter than the sound of 3 s" in find(recorded(tmp_path, 5.0, 3.0), short)
