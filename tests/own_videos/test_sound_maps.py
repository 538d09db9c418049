"""The maps of a whole video are those of the network's windows, joined in time."""

import av
import jax
import numpy as np
import pytest
import tensorflow as tf

from cmav.data.clip_shape import ClipShape
from cmav.errors import UserError
from cmav.localization import heat
from cmav.media import windows
from cmav.media.manifest import Video
from cmav.models import encoders
from cmav.own_videos.sound_maps import Localizer
from cmav.training import frozen
from tests import tiny_config
from tests.media.sample_videos import Sound, steady_times, write_video
from tests.own_videos.sample_overlays import RATE, SIZE, WINDOW, noisy
from tests.test_embed import save_run

pytestmark = pytest.mark.usefixtures("here")


def test_spacing_covers_a_video_with_overlapping_windows():
    shape = ClipShape(seconds=WINDOW, stored_frame_rate=RATE, frame_rate=RATE, sample_rate=1000)
    spacing = windows.Spacing.half_overlapping(shape)
    for num_frames in range(1, 120):
        numbers = [number for number in range(30) if spacing.counts(number, num_frames)]
        last = max(num_frames - 20, 0)
        starts = [min(max(spacing.start(number, 20), 0), last) for number in numbers]
        covers = np.zeros(num_frames, int)
        for start in starts:
            covers[start : start + 20] += 1
        assert covers.min() >= 1 and starts[0] == 0 and starts[-1] == last
        assert np.diff(starts, append=starts[-1]).max() <= 10
        assert (covers[10:-10] >= 2).all()


def test_maps_of_one_window_are_the_networks(network, tmp_path):
    """A video as long as a window: its maps are what the network says of its frames and its sound, whole."""
    times = steady_times(RATE, WINDOW)
    sound = Sound(beeps=[0.3, 1.2], seconds=WINDOW)
    path = write_video(str(tmp_path / "v.mkv"), times, noisy(20), sound, rate=RATE)

    task = network.task
    side_by_side = windows.Spacing.side_by_side(task.clip)
    (window,) = windows.cut_windows(Video(path, "v"), "", task.clip, SIZE, side_by_side)
    video = np.stack([tf.io.decode_jpeg(jpeg).numpy() for jpeg in window.frames])[None]
    batch = {"video": video, "audio": window.audio[None, None]}

    @jax.jit
    def look(variables, batch):
        outputs, _ = task.apply(variables, batch, train=False)
        return {
            name: task.map_methods()[name].find(task.model(), variables, outputs)[0, 0] for name in ("cam", "attention")
        }

    expected = jax.device_get(look(network.variables, batch))
    heads = expected["attention"].swapaxes(0, 1)
    encoder = encoders.video(task.model_config)
    tokens = encoder.times(20, float(RATE))
    rows, columns = encoder.places((SIZE, SIZE))

    def check(found, times, expected):
        # A window's first and last maps are left out: see heat.blend. There is silence between the beeps.
        course = np.apply_along_axis(lambda values: np.interp(times, tokens[1:-1], values[1:-1]), 0, expected)
        assert np.abs(course).max() > 1e-4
        course *= audible.reshape(-1, *[1] * (course.ndim - 1))
        np.testing.assert_allclose(found, course, atol=1e-4 * np.abs(course).max())

    found = Localizer(network, "cam", size=SIZE, batch_size=1).find(path)
    audible = heat.audible(found.loudness)
    assert audible.min() < 0.1 and audible.max() == 1
    assert found.heads is None and found.has_audio and not found.note
    check(found.maps, found.times, expected["cam"])
    np.testing.assert_array_equal(found.rows, rows)
    np.testing.assert_array_equal(found.columns, columns)
    found = Localizer(network, "attention", size=SIZE, batch_size=1).find(path)
    check(found.heads, found.times, heads)
    check(found.maps, found.times, np.maximum(heads, 0).mean(axis=1))


def test_finer_maps_say_the_same_where_the_coarse_ones_have_a_place(network, localizer, tmp_path):
    path = write_video(str(tmp_path / "v.mkv"), steady_times(RATE, 3.0), noisy(30), Sound([0.5, 1.7], 3.0), rate=RATE)
    finer = Localizer(network, "similarity", size=SIZE, batch_size=2, stride=2)
    coarse, fine = localizer.find(path), finer.find(path)
    assert (localizer.stride, finer.stride) == (8, 2)
    assert fine.maps.shape[1:] == (10, 10)
    rows, columns = (
        [int(np.flatnonzero(np.isclose(of_fine, place))[0]) for place in of_coarse]
        for of_fine, of_coarse in ((fine.rows, coarse.rows), (fine.columns, coarse.columns))
    )
    np.testing.assert_allclose(fine.maps[:, rows][:, :, columns], coarse.maps, atol=1e-5)
    assert fine.maps.std() > 0.01
    with pytest.raises(UserError, match="stride of 3 pixels: choose one of 2, 4, 8"):
        Localizer(network, "similarity", size=SIZE, batch_size=2, stride=3)


def write_noisy(path, levels, seconds=6.0):
    """Noise throughout, whose amplitude changes every second; no pause is digital silence."""
    return write_noise(path, np.repeat(levels, 8000), seconds)


def write_noise(path, amplitudes, seconds):
    """Noise with an amplitude for each of 8000 samples a second."""
    rng = np.random.default_rng(0)
    samples = np.round(amplitudes * rng.uniform(-1, 1, len(amplitudes))).astype(np.int16)
    write_video(path, steady_times(RATE, seconds), noisy(round(seconds * RATE)), rate=RATE)
    with av.open(path) as silent, av.open(f"{path}.mkv", "w") as container:
        pictures = container.add_stream_from_template(silent.streams.video[0])
        sound = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        for packet in silent.demux(video=0):
            if packet.dts is not None:
                packet.stream = pictures
                container.mux(packet)
        frame = av.AudioFrame.from_ndarray(samples[None], "s16", "mono")
        frame.sample_rate, frame.pts = 8000, 0
        container.mux([*sound.encode(frame), *sound.encode(None)])
    return f"{path}.mkv"


def test_every_loud_hit_is_lit_where_maps_are_far_apart(tmp_path):
    """Maps 0.4 s apart, as the demo's are, and hits of 80 ms at all distances from them."""
    config = tiny_config.get_config()
    config.phases = config.phases[:1]
    localizer = Localizer(frozen.load(save_run(tmp_path / "run", config)), "cam", size=SIZE, batch_size=2)
    seconds, hits = 20.0, np.append(np.arange(0.3, 19.5, 0.57), 19.9)
    amplitudes = np.full(round(seconds * 8000), 20)
    for hit in hits:
        amplitudes[round((hit - 0.04) * 8000) : round((hit + 0.04) * 8000)] = 10_000
    found = localizer.find(write_noise(str(tmp_path / "v.mkv"), amplitudes, seconds))
    assert np.diff(found.times) == pytest.approx(0.4, abs=0.01)
    assert all(np.abs(found.at(hit)[0]).max() > 0 and not found.is_silent(hit) for hit in hits)


def test_what_is_heard_again_in_a_looped_window_does_not_count(network, tmp_path):
    """A video of 1.2 s for a window of 2 s, loud only at its beginning."""
    amplitudes = np.full(9600, 20)
    amplitudes[:800] = 10_000
    found = Localizer(network, "cam", size=SIZE, batch_size=1).find(
        write_noise(str(tmp_path / "v.mkv"), amplitudes, 1.2)
    )
    assert found.loudness[0] > -32 and (found.loudness[found.times > 0.4] < -60).all()


@pytest.mark.parametrize("method", ["cam", "attention", "similarity", "alignment"])
def test_pauses_with_a_rooms_noise_are_dark_and_what_sounds_is_as_it_was(network, tmp_path, monkeypatch, method):
    """For 2 s as loud as 54 dB above the rest."""
    path = write_noisy(str(tmp_path / "v.mkv"), [20, 20, 10_000, 10_000, 20, 20])
    localizer = Localizer(network, method, size=SIZE, batch_size=2)
    found = localizer.find(path)
    lit = np.abs(found.maps).max(axis=(1, 2)) > 0
    sounding, silent = abs(found.times - 3) < 1, abs(found.times - 3) > 1.35
    assert lit[sounding].all() and not lit[silent].any()
    assert [found.is_silent(seconds) for seconds in (0.0, 1.0, 3.0, 5.0, 6.0)] == [True, True, False, True, True]
    assert found.loudness[sounding].min() - found.loudness[silent].max() > 50
    with monkeypatch.context() as patch:
        patch.setattr(heat, "audible", np.ones_like)
        before = localizer.find(path)
    np.testing.assert_array_equal(found.maps[sounding], before.maps[sounding])
    assert np.abs(before.maps[silent]).max() > 0
    if method == "attention":
        assert not found.heads[silent].any()
        np.testing.assert_array_equal(found.heads[sounding], before.heads[sounding])


def test_a_video_that_is_all_but_silent_is_dark_throughout(localizer, tmp_path):
    found = localizer.find(write_noisy(str(tmp_path / "v.mkv"), [10] * 6))
    assert found.has_audio and not found.maps.any() and -120 < found.loudness.max() < -60


def test_silence_within_a_video_is_not_lit(localizer, tmp_path):
    """The sound ends after 2 s of 6, and before it is there but for two beeps of 50 ms."""
    times = steady_times(RATE, 6.0)
    path = write_video(str(tmp_path / "v.mkv"), times, noisy(60), Sound(beeps=[0.5, 1.5], seconds=2.0), rate=RATE)
    found = localizer.find(path)
    lit = np.abs(found.maps).max(axis=(1, 2)) > 0
    for beep in (0.5, 1.5):
        assert lit[abs(found.times - beep) < 0.11].any()
    assert not lit[np.min([abs(found.times - beep) for beep in (0.5, 1.5)], axis=0) > 0.3].any()
