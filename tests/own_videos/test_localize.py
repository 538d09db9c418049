"""Overlays are in sync with their sound, and nothing is lit where there is no sound; the command, and its methods."""

import sys

import numpy as np
import pytest

from cmav import config as cmav_config
from cmav import localize as localize_module
from cmav.errors import UserError
from cmav.own_videos.localize import localize
from cmav.own_videos.sound_maps import Localizer
from cmav.training import frozen
from tests import tiny_config
from tests.media.sample_videos import Sound, flashes_at, numbered, steady_times, write_video
from tests.own_videos.sample_overlays import RATE, SIZE, decoded, load, noisy, onsets
from tests.test_embed import save_run

pytestmark = pytest.mark.usefixtures("here")


@pytest.fixture
def loaded_once(network, monkeypatch):
    monkeypatch.setattr(frozen, "load", lambda checkpoint: network)


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


def test_what_a_file_that_breaks_off_still_has(localizer, loaded_once, tmp_path):
    path = write_video(str(tmp_path / "v.mkv"), steady_times(RATE, 4.0), noisy(40), Sound(seconds=4.0), rate=RATE)
    (tmp_path / "cut.mkv").write_bytes((tmp_path / "v.mkv").read_bytes()[: (tmp_path / "v.mkv").stat().st_size // 2])
    result = localize([str(tmp_path / "cut.mkv")], "", str(tmp_path / "out"), method="similarity", size=SIZE)
    assert "damaged (after " in result.notes[str(tmp_path / "cut.mkv")] and path not in result.written
    shown_at, *_ = decoded(tmp_path / "out/cut.similarity.mp4")
    assert 1 < shown_at[-1] < 3


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
    ("setting", "method", "is_doubted"),
    [
        ({}, "similarity", True),
        ({}, "attention", False),
        ({"loss.alignment_weight": 0.5}, "similarity", False),
        ({"model.fusion_moments": 0.1}, "similarity", False),
    ],
)
def test_maps_of_tokens_that_nothing_made_comparable_are_doubted(tmp_path, caplog, setting, method, is_doubted):
    """By the config of the checkpoint's run."""
    video = write_video(str(tmp_path / "v.mkv"), steady_times(RATE, 0.3), noisy(3), Sound(seconds=0.3), rate=RATE)
    config = tiny_config.get_config()
    config.update_from_flattened_dict(setting)
    run = save_run(tmp_path / "run", config)
    localize([video], run, str(tmp_path / "out"), method=method, size=SIZE)
    said = [line for line in caplog.messages if "only the temporal alignment loss" in line]
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
