"""Sound lands where its timestamps say, in both channels, at the asked rate."""

from fractions import Fraction

import av
import numpy as np
import pytest

from cmav.media.audio_track import AudioTrack
from tests.media.sample_videos import SAMPLE_RATE, Sound, numbered, steady_times, wave, write_video

RATE = 21_000


def track_of(path, zero=0, rate=RATE) -> AudioTrack:
    return AudioTrack(str(path), rate, Fraction(zero), lambda: None)


def write(tmp_path, sound, suffix=".mkv"):
    return write_video(str(tmp_path / f"v{suffix}"), steady_times(25, 0.2), numbered(5), sound)


def loud_at(audio, channel=0) -> float:
    return np.flatnonzero(np.abs(audio[:, channel].astype(int)) > 6000)[0] / RATE


def test_same_rate_gives_the_samples_themselves(tmp_path):
    sound = Sound(beeps=[0.3, 0.9], seconds=1.2)
    audio = track_of(write(tmp_path, sound), rate=SAMPLE_RATE).read(0, len(wave(sound)))
    np.testing.assert_array_equal(audio, np.repeat(wave(sound)[:, None], 2, axis=1))


@pytest.mark.parametrize("layout, gain", [("mono", 1.0), ("stereo", 1.0)])
def test_loudness_is_kept(tmp_path, layout, gain):
    sound = Sound(beeps=[0.5], layout=layout)
    audio = track_of(write(tmp_path, sound), rate=SAMPLE_RATE).read(0, SAMPLE_RATE)
    for channel in (0, 1):
        assert np.abs(audio[:, channel].astype(int)).max() == pytest.approx(gain * sound.loud)


@pytest.mark.parametrize("layout", ["mono", "stereo", "5.1", "7.1"])
@pytest.mark.parametrize("sample_rate", [8000, 22_050, 48_000])
def test_layouts_and_rates(tmp_path, layout, sample_rate):
    path = write(tmp_path, Sound(beeps=[0.5], layout=layout, sample_rate=sample_rate))
    audio = track_of(path).read(0, RATE)
    for channel in (0, 1):
        assert loud_at(audio, channel) == pytest.approx(0.5, abs=0.002)


def test_five_one_mixes_each_side_down_to_its_own(tmp_path):
    path = str(tmp_path / "v.mkv")
    layout = av.AudioLayout("5.1")
    names = [channel.name for channel in layout.channels]
    with av.open(path, "w") as container:
        stream = container.add_stream("pcm_s16le", rate=48_000, layout="5.1")
        samples = np.zeros((6, 9600), np.int16)
        samples[names.index("FL"), :4800] = 8000
        samples[names.index("FR"), 4800:] = 8000
        frame = av.AudioFrame.from_ndarray(samples, "s16p", layout)
        frame.sample_rate = 48_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    left, right = np.abs(track_of(path).read(0, 4200).astype(int)).T
    assert left[:2000].min() > 1000 and left[2200:].max() < 200
    assert right[2200:4100].min() > 1000 and right[50:2000].max() < 200


def test_time_zero(tmp_path):
    path = write(tmp_path, Sound(beeps=[1.5], start=1.0, seconds=1))
    assert loud_at(track_of(path, zero=0).read(0, 2 * RATE)) == pytest.approx(1.5, abs=0.002)
    late = track_of(path, zero=Fraction("1.25"))
    assert loud_at(late.read(0, RATE)) == pytest.approx(0.25, abs=0.002)


def test_a_hole_reads_as_zeros_and_moves_nothing(tmp_path):
    sound = Sound(beeps=[0.2, 1.5], hole=(0.5, 1.2), seconds=2)
    audio = track_of(write(tmp_path, sound)).read(0, 2 * RATE)
    assert not audio[round(0.55 * RATE) : round(1.15 * RATE)].any()
    assert loud_at(audio[RATE:]) == pytest.approx(0.5, abs=0.002)


def test_pieces_are_the_whole(tmp_path):
    path = write(tmp_path, Sound(beeps=np.arange(0.1, 2, 0.13), seconds=2))
    whole = track_of(path).read(0, 60_000)
    track = track_of(path)
    sizes = [1, 999, 10_000, 7, 20_000, 28_993]
    pieces = [track.read(start, size) for start, size in zip(np.cumsum([0, *sizes[:-1]]), sizes, strict=True)]
    np.testing.assert_array_equal(np.concatenate(pieces), whole)
    skipping = track_of(path)
    np.testing.assert_array_equal(skipping.read(500, 100), whole[500:600])
    np.testing.assert_array_equal(skipping.read(9000, 100), whole[9000:9100])


def test_past_the_end_and_without_sound_there_are_zeros(tmp_path):
    track = track_of(write(tmp_path, Sound(beeps=[0.1], seconds=0.5)))
    assert track.read(0, RATE)[11_000:].any() == False  # noqa: E712
    assert not track.read(RATE, 100).any() and track.damage is None
    silent = track_of(write_video(str(tmp_path / "silent.mp4"), steady_times(25, 0.2), numbered(5)))
    assert silent.read(0, 50).shape == (50, 2) and silent.damage is None


class FakeReader:
    """Gives frames with timestamps of our choice; each is 100 ms of its own level."""

    stream = True

    def __init__(self, stamps):
        self._stamps = stamps

    def frames(self, since):
        for number, pts in enumerate(self._stamps):
            level = np.full((1, 2 * 2100), 100 * (number + 1), np.int16)
            frame = av.AudioFrame.from_ndarray(level, "s16", "stereo")
            frame.sample_rate, frame.pts, frame.time_base = RATE, pts, Fraction(1, 1000)
            yield frame


def levels_of(monkeypatch, stamps, count):
    """The level in the middle of each 100 ms."""
    monkeypatch.setattr("cmav.media.audio_track.StreamReader", lambda *_: FakeReader(stamps))
    audio = track_of("fake").read(0, count * 2100)
    return (audio[1050::2100, 0] // 100).tolist()


def test_jitter_is_not_heard(monkeypatch):
    assert levels_of(monkeypatch, [0, 103, 198, 301], 4) == [1, 2, 3, 4]
    monkeypatch.setattr("cmav.media.audio_track.StreamReader", lambda *_: FakeReader([0, 103, 198, 301]))
    assert track_of("fake").read(0, 8400).all()  # no gap of a few samples


def test_a_gap_is_kept(monkeypatch):
    assert levels_of(monkeypatch, [0, 100, 400], 5) == [1, 2, 0, 0, 3]


def test_missing_timestamps(monkeypatch):
    assert levels_of(monkeypatch, [None, None, None], 3) == [1, 2, 3]


def test_a_clock_that_is_worth_nothing(monkeypatch):
    assert levels_of(monkeypatch, [0, 1, 2, 3, 4], 5) == [1, 2, 3, 4, 5]


def test_a_clock_that_is_set_back(monkeypatch):
    stamps = [*range(0, 3000, 100), 0, 100, 200]
    assert levels_of(monkeypatch, stamps, 33) == list(range(1, 34))


def test_a_drifting_clock_is_followed(monkeypatch):
    # Sound that claims 98 ms for each 100 ms that it holds: what overlaps is cut off, and it stays in step.
    stamps = [98 * k for k in range(60)]
    monkeypatch.setattr("cmav.media.audio_track.StreamReader", lambda *_: FakeReader(stamps))
    audio = track_of("fake").read(0, 6 * RATE)
    first = np.flatnonzero(audio[:, 0] == 100 * 60)[0] / RATE
    assert first == pytest.approx(59 * 0.098, abs=0.025)
