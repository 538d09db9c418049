"""Overlays are in sync with their sound, maps are those of the network, and nothing is lit where there is no sound."""

import contextlib
import json
import pathlib
import sys
from fractions import Fraction

import av
import jax
import numpy as np
import pytest
import tensorflow as tf

from cmav import config as cmav_config
from cmav import localize as localize_module
from cmav.data.clip_shape import ClipShape
from cmav.errors import UserError
from cmav.media import decoding, windows
from cmav.media.manifest import Video
from cmav.models import encoders
from cmav.own_videos.localize import localize
from cmav.own_videos.overlay_video import OverlayVideo, ShownFrames, even
from cmav.own_videos.sound_maps import Localizer
from cmav.tasks import make_task
from cmav.training import frozen
from tests import tiny_config
from tests.fake_worker import FakeWorker
from tests.media.sample_videos import Sound, flashes_at, numbered, steady_times, write_video
from tests.models import fake_variables
from tests.test_embed import save_run

RATE, SIZE, WINDOW = 10, 20, 2.0


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A pretraining run with windows of 2 s, and a run of fine-tuning."""
    folder = tmp_path_factory.mktemp("runs")
    action = tiny_config.get_action_config()
    action.action.num_classes = 5
    return save_run(folder / "avs", tiny_config.get_config()), save_run(folder / "action", action)


@pytest.fixture(scope="module")
def network(runs):
    return frozen.load(runs[0])


@pytest.fixture(scope="module")
def localizer(network):
    return Localizer(network, "similarity", size=SIZE, batch_size=2)


@pytest.fixture(autouse=True, scope="module")
def here():
    """Videos are read in this process: tests/media/test_decoding.py has the real ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoding, "worker", FakeWorker)
        yield


@pytest.fixture
def loaded_once(network, monkeypatch):
    monkeypatch.setattr(frozen, "load", lambda checkpoint: network)


def noisy(count, height=32, width=48, seed=0):
    return list(np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), np.uint8))


def decoded(path):
    """Times of the frames and the frames, and times of the samples and the samples of the first channel, as players
    have them."""
    with av.open(str(path)) as container:
        frames = [(float(frame.time), frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
        times, samples = [], []
        if container.streams.audio:
            container.seek(0)
            for frame in container.decode(audio=0):
                times.append(frame.time + np.arange(frame.samples) / frame.sample_rate)
                samples.append(frame.to_ndarray()[0])
    return *zip(*frames, strict=True), np.concatenate(times or [[]]), np.concatenate(samples or [[]])


def onsets(times, levels, threshold):
    """Where a level goes over a threshold after at least 0.3 s below it."""
    loud = np.asarray(times)[np.asarray(levels) > threshold]
    return loud[np.diff(loud, prepend=-9) > 0.3]


def load(path):
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays}


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
        # A window's first and last maps are left out: see heat.blend.
        course = np.apply_along_axis(lambda values: np.interp(times, tokens[1:-1], values[1:-1]), 0, expected)
        assert np.abs(course).max() > 1e-4
        np.testing.assert_allclose(found, course, atol=1e-4 * np.abs(course).max())

    found = Localizer(network, "cam", size=SIZE, batch_size=1).find(path)
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


def test_overlay_is_in_sync_with_its_sound(loaded_once, tmp_path):
    """Flashes and beeps where they were, of a video whose clocks start late, and whose sound is mono and later still.

    The pictures come at uneven times.
    """
    events, zero = [0.9, 2.3, 3.4], 0.5
    times = [time for k, time in enumerate(steady_times(20, 3.6, start=zero)) if k % 7 != 3]
    sound = Sound(beeps=events, seconds=3.1, start=0.8, layout="mono")
    write_video(str(tmp_path / "beep.mkv"), times, flashes_at(times, events), sound, rate=20)
    result = localize([str(tmp_path / "beep.mkv")], "", str(tmp_path / "out"), method="attention", size=SIZE)
    ((overlay, sheet, arrays),) = result.written.values()
    assert not result.notes and not result.failures
    shown_at, pictures, heard_at, samples = decoded(overlay)
    np.testing.assert_allclose(shown_at, [float(time) - zero for time in times], atol=1e-3)
    assert pictures[0].shape == (64, 64, 3)
    flashes = onsets(shown_at, [picture.mean() for picture in pictures], 115)
    beeps = onsets(heard_at, abs(samples), 0.1)
    np.testing.assert_allclose(flashes, np.array(events) - zero, atol=0.051)  # to a frame
    np.testing.assert_allclose(beeps, np.array(events) - zero, atol=0.005)
    assert heard_at[-1] == pytest.approx(float(times[-1]) - zero + 0.05, abs=0.03)
    with open(sheet, "rb") as file:
        assert file.read(8) == b"\x89PNG\r\n\x1a\n"
    saved = load(arrays)
    assert saved["maps"].any() and saved["has_audio"] and saved["full"] > 0 and saved["step"] == 9
    assert saved["times"][0] == 0 and saved["times"][-1] == pytest.approx(3.6, abs=0.11)
    assert str(saved["method"]) == "attention" and saved["heads"].shape == (len(saved["times"]), 4, 3, 3)


def test_a_silent_video_is_lit_nowhere(loaded_once, tmp_path):
    """With another of the same name that is a portrait with odd sides."""
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    greys = numbered(15, size=32)
    silent = write_video(str(tmp_path / "one/v.mkv"), steady_times(RATE, 1.5), greys, rate=RATE)
    odd = noisy(15, height=41, width=25)
    sound = Sound(beeps=[0.2, 0.9], seconds=1.5)
    portrait = write_video(
        str(tmp_path / "two/v.mkv"), steady_times(RATE, 1.5), odd, sound, rate=RATE, codec="ffv1", pixel_format="bgr0"
    )
    (tmp_path / "two/broken.mp4").write_text("no video")
    out = tmp_path / "out"
    result = localize([silent, str(tmp_path / "two")], "", str(out), method="attention", size=SIZE)
    assert result.notes == {silent: "it has no sound: nothing is lit"}
    assert list(result.failures) == [str(tmp_path / "two/broken.mp4")]
    assert {path.name for path in out.iterdir()} == {
        f"{name}.attention.{kind}" for name in ("v", "v~2") for kind in ("mp4", "png", "npz")
    }
    _, pictures, heard_at, _ = decoded(out / "v.attention.mp4")
    assert not len(heard_at)
    np.testing.assert_allclose(pictures, greys, atol=4)
    saved = load(out / "v.attention.npz")
    assert not saved["maps"].any() and not saved["heads"].any() and not saved["full"] and not saved["has_audio"]

    _, pictures, heard_at, _ = decoded(out / "v~2.attention.mp4")
    assert pictures[0].shape == (42, 26, 3) and len(heard_at)
    assert load(out / "v~2.attention.npz")["maps"].any()
    assert result.written[portrait][0] == str(out / "v~2.attention.mp4")


def test_silence_within_a_video_is_not_lit(localizer, tmp_path):
    """The sound ends after 2 s of 6: the windows that hear none say nothing."""
    times = steady_times(RATE, 6.0)
    path = write_video(str(tmp_path / "v.mkv"), times, noisy(60), Sound(beeps=[0.5, 1.5], seconds=2.0), rate=RATE)
    found = localizer.find(path)
    lit = np.abs(found.maps).max(axis=(1, 2)) > 0
    assert lit[found.times < 2].all() and not lit[found.times > 4].any()


def test_what_a_file_that_breaks_off_still_has(localizer, loaded_once, tmp_path):
    path = write_video(str(tmp_path / "v.mkv"), steady_times(RATE, 4.0), noisy(40), Sound(seconds=4.0), rate=RATE)
    (tmp_path / "cut.mkv").write_bytes((tmp_path / "v.mkv").read_bytes()[: (tmp_path / "v.mkv").stat().st_size // 2])
    result = localize([str(tmp_path / "cut.mkv")], "", str(tmp_path / "out"), method="similarity", size=SIZE)
    assert "damaged (after " in result.notes[str(tmp_path / "cut.mkv")] and path not in result.written
    shown_at, *_ = decoded(tmp_path / "out/cut.similarity.mp4")
    assert 1 < shown_at[-1] < 3


def test_turned_frames_are_written_upright(tmp_path, monkeypatch):
    """As `data_prep` turns them: its own tests have real videos that are turned."""
    path = write_video(str(tmp_path / "v.mkv"), steady_times(RATE, 0.3), noisy(3), rate=RATE)
    with contextlib.closing(ShownFrames(path)) as frames:
        stored = [picture for _, picture in frames]
    monkeypatch.setattr("cmav.own_videos.overlay_video.as_shown", lambda picture, frame: np.rot90(picture))
    with contextlib.closing(ShownFrames(path)) as frames:
        turned = [picture for _, picture in frames]
        with OverlayVideo(str(tmp_path / "o.mp4"), frames.rate, has_sound=False) as overlay:
            for k, picture in enumerate(turned):
                overlay.write(k * frames.zero, picture)  # all at one time, as of a broken clock
    np.testing.assert_array_equal(np.rot90(stored[1]), turned[1])
    shown_at, pictures, *_ = decoded(tmp_path / "o.mp4")
    assert pictures[0].shape == (48, 32, 3) and len(set(shown_at)) == 3


def test_what_was_there_stays_where_writing_fails(tmp_path):
    path = str(tmp_path / "o.mp4")
    pathlib.Path(path).write_text("before")
    with pytest.raises(KeyError), OverlayVideo(path, Fraction(RATE), has_sound=False) as overlay:
        overlay.write(Fraction(0), noisy(1)[0])
        raise KeyError
    assert (tmp_path / "o.mp4").read_text() == "before" and len(list(tmp_path.iterdir())) == 1


def test_even_sides():
    picture = np.arange(3 * 4 * 3).reshape(3, 4, 3)
    assert even(picture[:2]).shape == (2, 4, 3)
    np.testing.assert_array_equal(even(picture)[3], picture[2])
    assert even(picture[:2, :3]).shape == (2, 4, 3)


def test_loads_the_head_of_a_pretraining_run(runs, network):
    config = tiny_config.get_config()
    assert network.step == 9 and network.task.clip.seconds == WINDOW and network.task.clip.achieved_frame_rate == 10.0
    task = make_task(config, config.phases[-1])
    saved = fake_variables.draw(jax.eval_shape(task.init, jax.random.key(0)), 9)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(network.variables["params"]), saved["params"])


def test_a_fine_tuned_network_has_the_maps_of_its_backbone(runs, tmp_path):
    network = frozen.load(runs[1])
    assert network.task.clip.seconds == 1.0
    assert network.task.map_methods().keys() == {"attention", "similarity", "alignment"}
    path = write_video(
        str(tmp_path / "v.mkv"), steady_times(RATE, 1), noisy(10), Sound(beeps=[0.2, 0.7], seconds=1), rate=RATE
    )
    with pytest.raises(UserError, match=r"--checkpoint=.*no maps by the method 'cam': .*attention, similarity, align"):
        localize([path], runs[1], str(tmp_path / "out"), method="cam")
    assert np.any(Localizer(network, "attention", size=SIZE, batch_size=1).find(path).maps)


def test_a_run_that_was_trained_from_scratch_has_its_own_weights(tmp_path):
    """Also where the dataset, which says how many classes there are, is not at hand."""
    action = tiny_config.get_action_config()
    action.action.num_classes, action.action.mode = 5, "scratch"
    run = save_run(tmp_path / "scratch", action)
    stored = json.loads((tmp_path / "scratch" / "config.json").read_text())
    stored["action"]["num_classes"] = 0
    (tmp_path / "scratch" / "config.json").write_text(json.dumps(stored))
    task = make_task(action, action.phases[0])
    saved = fake_variables.draw(jax.eval_shape(task.init, jax.random.key(0)), 9)["params"]["backbone"]
    loaded = jax.device_get(frozen.load(run).variables["params"]["backbone"])
    jax.tree.map(np.testing.assert_array_equal, loaded, saved)


def cmac_config():
    """Contrast and attention consistency, with windows of 2 s."""
    config = cmav_config.get_default("cmac")
    small = tiny_config.get_config()
    config.phases, config.data = small.phases, small.data
    config.model = small.model
    config.model.depth = 0
    config.cmac.audio_consistency = 0.0  # The sound of this model has no frequencies.
    return config


@pytest.mark.parametrize(
    ("config", "method"), [(tiny_config.get_config, "cam"), (cmac_config, "guided")], ids=["avs", "cmac"]
)
def test_the_method_is_the_networks_first_unless_it_is_named(tmp_path, config, method):
    sound = Sound(beeps=[0.2], seconds=0.5)
    video = write_video(str(tmp_path / "v.mkv"), steady_times(RATE, 0.5), noisy(5), sound, rate=RATE)
    run, out = save_run(tmp_path / "run", config()), tmp_path / "out"
    localize([video], run, str(out), size=SIZE)
    assert {path.name for path in out.iterdir()} == {f"v.{method}.{kind}" for kind in ("mp4", "png", "npz")}
    saved = load(out / f"v.{method}.npz")
    assert str(saved["method"]) == method
    np.testing.assert_array_equal(
        saved["maps"], Localizer(frozen.load(run), method, size=SIZE, batch_size=4).find(video).maps
    )


@pytest.mark.parametrize(
    ("weight", "method", "is_doubted"),
    [(0.0, "similarity", True), (0.0, "attention", False), (0.5, "similarity", False)],
)
def test_maps_of_tokens_that_nothing_made_comparable_are_doubted(tmp_path, caplog, weight, method, is_doubted):
    """By the config of the checkpoint's run."""
    video = write_video(str(tmp_path / "v.mkv"), steady_times(RATE, 0.3), noisy(3), Sound(seconds=0.3), rate=RATE)
    config = tiny_config.get_config()
    config.loss.alignment_weight = weight
    run = save_run(tmp_path / "run", config)
    localize([video], run, str(tmp_path / "out"), method=method, size=SIZE)
    said = [line for line in caplog.messages if "only the temporal alignment loss makes" in line]
    assert [line.startswith(f"--checkpoint={run}: {method}") for line in said] == [True] * is_doubted


@pytest.fixture
def command(monkeypatch):
    """Runs the command line in this process; returns the exit status."""
    from absl import flags

    from cmav import cli

    def run_command(*arguments):
        values = flags.FlagValues()
        monkeypatch.setattr(flags, "FLAGS", values)
        with monkeypatch.context() as patch:
            for kind in ("string", "integer", "enum"):
                define = getattr(flags, f"DEFINE_{kind}")
                patch.setattr(
                    flags, f"DEFINE_{kind}", lambda *a, define=define, **k: define(*a, flag_values=values, **k)
                )
            localize_module._define_flags()
        _, *videos = cli._parse_flags([sys.argv[0], *arguments], takes_arguments=True)
        return cli._exit_on_user_error(lambda: localize_module.main(videos))

    return run_command


def test_command_line(loaded_once, tmp_path, command, capsys):
    times = steady_times(RATE, 0.5)
    path = write_video(str(tmp_path / "v.mkv"), times, noisy(5), Sound(beeps=[0.1], seconds=0.5), rate=RATE)
    boxes = tmp_path / "boxes.json"
    boxes.write_text('[{"file": "v", "class": "beep", "bbox": [[0.25, 0.25, 0.75, 0.75]]}]')
    out = tmp_path / "out"
    more = ["--checkpoint", "x", f"--out={out}", f"--size={SIZE}", f"--boxes={boxes}", "--method=similarity"]
    assert command(path, *more) is None
    assert f"{path}: {out}/v.similarity.mp4, {out}/v.similarity.png" in capsys.readouterr().out
    _, pictures, *_ = decoded(out / "v.similarity.mp4")
    outline = np.mean([picture[8, 12:36].mean() for picture in pictures])
    assert outline > 200 > np.mean([picture[4, 12:36].mean() for picture in pictures])
    (tmp_path / "broken.mp4").write_text("no video")
    assert command(str(tmp_path / "broken.mp4"), *more) == 1
    said = capsys.readouterr()
    assert "failed: cannot be opened" in said.out and "none of the videos" in said.err
    assert command(str(tmp_path / "gone.mp4"), *more) == 1
    assert "gone.mp4: there is no such video or folder" in capsys.readouterr().err
    assert command(*more) == 1
    assert "VIDEO is missing" in capsys.readouterr().err
    assert command(path, "--checkpoint=x") == 1
    assert "--out is missing" in capsys.readouterr().err
