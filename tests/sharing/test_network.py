"""`cmav.load`: a file and its arrays say the same, and a network that comes with cmav does what it was trained for."""

import av
import numpy as np
import pytest

import cmav
from cmav.errors import UserError
from cmav.media import decoding
from cmav.own_videos.localize import localize
from cmav.own_videos.sync import sync
from cmav.sharing.network import Network
from cmav.training import frozen, weights
from cmav.world import synthesize_videos
from tests.fake_worker import FakeWorker
from tests.offsets import fake_sync
from tests.own_videos.test_offsets import write


@pytest.fixture(autouse=True)
def here(monkeypatch):
    """Videos are read in this process: tests/media/test_decoding.py has the real ones."""
    monkeypatch.setattr(decoding, "worker", FakeWorker)


@pytest.fixture(scope="module")
def hearing():
    """A network without weights that hears beeps and sees flashes."""
    return Network(fake_sync.make_network())


@pytest.fixture(scope="module")
def demo():
    return cmav.load("demo")


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """One of the demo's world, of a seed that it has not seen."""
    folder = tmp_path_factory.mktemp("world")
    synthesize_videos.main(["--out", str(folder), "--num_videos", "1", "--seed", "77", "--workers", "1", "--quiet"])
    (path,) = folder.rglob("*.mp4")
    return path


def arrays(path, network):
    """All of a video, decoded by other means: frames of the network's rate and size, and samples of its rate."""
    with av.open(str(path)) as file:
        frames = [(frame.time, frame.to_ndarray(format="rgb24")) for frame in file.decode(video=0)]
    times = np.array([time for time, _ in frames]) - frames[0][0]
    wanted = np.arange(int(times[-1] * network.frame_rate)) / network.frame_rate
    picked = np.searchsorted(times, wanted + 1e-3, side="right") - 1
    size = round(network.size * 256 / 224)
    crop = slice((size - network.size) // 2, (size - network.size) // 2 + network.size)
    scaler = [
        av.VideoFrame.from_ndarray(frames[i][1], format="rgb24").reformat(size, size, interpolation="AREA")
        for i in picked
    ]
    pictures = np.stack([frame.to_ndarray(format="rgb24")[crop, crop] for frame in scaler])
    with av.open(str(path)) as file:
        resampler = av.AudioResampler("s16", "stereo", network.sample_rate)
        pieces = [piece.to_ndarray() for frame in file.decode(audio=0) for piece in resampler.resample(frame)]
    samples = np.concatenate(pieces, axis=1).reshape(-1, 2)
    return pictures, samples[: round(len(pictures) / network.frame_rate * network.sample_rate)]


def test_offsets_of_a_file_are_those_of_the_command(demo, video, tmp_path):
    (row,) = sync([str(video)], "demo", str(tmp_path / "sync.csv"), max_shift_ms=2000).rows
    said = demo.sync(video, max_shift_ms=2000)
    assert said.verdict == row["verdict"] == "in time (not calibrated)"
    assert said.offset_ms == pytest.approx(row["offset_ms"], abs=1)


@pytest.mark.parametrize("late", [-0.8, 0.0, 0.6])
def test_offsets_of_arrays(demo, video, late):
    frames, samples = arrays(video, demo)
    shift = round(late * demo.sample_rate)
    moved = np.roll(samples, shift, axis=0)
    said = demo.sync(frames, moved, max_shift_ms=2000)
    assert said.offset_ms == pytest.approx(1000 * late, abs=100), said  # a frame


def test_offsets_of_arrays_as_of_a_file(hearing, tmp_path):
    path = write(tmp_path / "late.mkv", 0.2, fps=20, codec="pcm_s16le", sample_rate=8000)
    frames, samples = arrays(path, hearing)
    of_file, of_arrays = hearing.sync(path, max_shift_ms=500), hearing.sync(frames, samples, max_shift_ms=500)
    assert of_file.offset_ms == pytest.approx(200, abs=25)
    assert of_arrays.offset_ms == pytest.approx(of_file.offset_ms, abs=5)


def test_what_cannot_be_told_is_said(demo):
    clip = np.zeros((60, demo.size, demo.size, 3), np.uint8), np.zeros((60 * demo.sample_rate // 10, 2), np.int16)
    assert demo.sync(*clip).verdict == "cannot tell: it has no sound"
    short = np.zeros((10, demo.size, demo.size, 3), np.uint8), np.ones((demo.sample_rate, 2), np.int16)
    assert "shorter than" in demo.sync(*short).verdict


def test_encoders_and_their_comparison(demo, video):
    frames, samples = arrays(video, demo)
    clips = np.stack([frames[start : start + demo.num_frames] for start in (0, 30)])
    sounds = np.stack([samples[start : start + demo.num_samples] for start in (0, 3 * demo.sample_rate)])
    seen, heard = demo.encode_video(clips), demo.encode_audio(sounds)
    assert seen.dtype == heard.dtype == np.float32
    np.testing.assert_allclose(demo.encode_video(clips[1]), seen[1], rtol=1e-3, atol=1e-3)
    own, other = demo.compare(seen, heard), demo.compare(seen, heard[::-1])
    assert (own > other).all(), (own, other)
    assert demo.compare(seen[0], heard[0]) == pytest.approx(own[0], abs=1e-3)


def test_a_file_is_encoded_clip_by_clip(demo, video):
    frames, samples = arrays(video, demo)
    seen, heard = demo.encode_video(video), demo.encode_audio(video)
    assert seen.shape[0] == heard.shape[0] == 3  # of 4.2 s each in 10 s
    np.testing.assert_allclose(heard[0], demo.encode_audio(samples[: demo.num_samples]), atol=0.1)
    near, far = (demo.encode_video(frames[start : start + demo.num_frames]) for start in (0, 40))
    assert abs(seen[0] - near).mean() < 0.3 * abs(seen[0] - far).mean()


def test_maps_of_a_file_are_those_of_the_command(demo, video, tmp_path):
    localize([str(video)], "demo", str(tmp_path), method="alignment", stride=4)
    (path,) = tmp_path.glob("*.npz")
    with np.load(path) as saved:
        maps, times = saved["maps"], saved["times"]
    found = demo.localize(video, method="alignment", stride=4)
    np.testing.assert_array_equal(found.maps, maps)
    np.testing.assert_array_equal(found.times, times)


def test_maps_of_arrays(demo, video):
    """They see the crop alone, so that places are others: here, when there is something, and that it is the same."""
    frames, samples = arrays(video, demo)
    found = demo.localize(frames, samples, method="alignment")
    assert found.maps.shape == (len(found.times), demo.size // 16 + 1, demo.size // 16 + 1)
    assert found.times[-1] == pytest.approx(len(frames) / demo.frame_rate, abs=0.11) and found.has_audio
    silent = demo.localize(frames, np.zeros_like(samples))
    assert not silent.maps.any() and not silent.has_audio and found.maps.any()


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda net, frames, sound: net.encode_video(frames[:5]), r"video: uint8 \[any, 42, 40, 40, 3\] is wanted"),
        (lambda net, frames, sound: net.encode_audio(sound.astype(float)), "int16 .* is wanted, and float64"),
        (lambda net, frames, sound: net.sync(frames), "no audio"),
        (lambda net, frames, sound: net.sync(frames, sound[:100]), "give as much of both"),
        (lambda net, frames, sound: net.localize(frames[..., 0], sound), r"frames: uint8 \[any, 40, 40, 3\] is wanted"),
        (lambda net, frames, sound: net.localize(frames, sound, method="guided"), "guided"),
        (lambda net, frames, sound: net.sync("nothing.mp4"), "nothing.mp4"),
        (lambda net, frames, sound: net.localize("nothing.mp4"), "nothing.mp4"),
        (lambda net, frames, sound: net.encode_video("nothing.mp4"), "nothing.mp4"),
        (lambda net, frames, sound: net.encode_audio("nothing.mp4"), "nothing.mp4"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(demo, ask, said):
    frames, sound = np.zeros((60, 40, 40, 3), np.uint8), np.ones((48_000, 2), np.int16)
    with pytest.raises(UserError, match=said):
        ask(demo, frames, sound)


def test_a_network_without_an_ability_says_so(hearing):
    with pytest.raises(UserError, match="maps need"):
        hearing.localize("x.mp4")


def test_a_folder_comes_before_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()
    with pytest.raises(UserError, match=f"or one that comes with cmav: {', '.join(weights.shipped())}"):
        frozen.load("demo")
