"""Features of videos from files to .npz: the same that the task gives for built shards, skipped once they are there."""

import csv
import dataclasses
import json
import os
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import FrozenConfigDict

from cmav import embed as embed_module
from cmav.data.pipeline import make_loader
from cmav.errors import UserError
from cmav.media import decoding, manifest
from cmav.media.clips import ClipOptions, cut
from cmav.own_videos import embed as features_of_videos
from cmav.own_videos import watch
from cmav.own_videos.embed import embed
from cmav.tasks import make_task
from cmav.tasks.features import pooled
from cmav.training import frozen, run_config
from cmav.training.checkpoint import Checkpoints
from tests import fake_clips, tiny_config
from tests.fake_worker import FakeWorker
from tests.media.sample_videos import Sound, flashes_at, steady_times, write_video
from tests.models import fake_variables

RATE, SIZE, WINDOW = 10, 20, 2.0
SECONDS = {"four.mkv": 4.0, "silent.mkv": 5.3, "short.mkv": 0.9}


def save_run(folder, config, steps=(9,)):
    """A run's folder with drawn weights, others at every step; of the tiny config these are of its 10 Hz phase."""
    run_config.write(config, folder, 0)
    task = make_task(config, config.phases[-1])
    checkpoints = Checkpoints(str(folder))
    for step in steps:
        variables = fake_variables.draw(jax.eval_shape(task.init, jax.random.key(0)), step)
        variables = jax.tree.map(jnp.asarray, variables)
        items = {"params": variables.pop("params"), "model_state": variables, "opt_state": {}}
        checkpoints.save(step, items, {"step": step, "task": config.task, "seconds": 0.0})
        checkpoints.wait()
    checkpoints.close()
    return str(folder)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A pretraining run with windows of 2 s."""
    return save_run(tmp_path_factory.mktemp("runs") / "avs", tiny_config.get_config(), steps=(9, 12))


@pytest.fixture(scope="module")
def loaded(run):
    """The network, loaded once for all tests that do not look at the loading."""
    return frozen.load_to_embed(run)


@pytest.fixture(autouse=True)
def here(monkeypatch):
    """Videos are read in this process: tests/media/test_decoding.py has the real ones."""
    monkeypatch.setattr(decoding, "worker", FakeWorker)


@pytest.fixture
def network(loaded, monkeypatch):
    monkeypatch.setattr(features_of_videos.frozen, "load_to_embed", lambda checkpoint: loaded)
    return loaded


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Three videos, one of them without sound and one shorter than a window, and a file that is none."""
    folder = tmp_path_factory.mktemp("videos")
    for name, seconds in SECONDS.items():
        times = steady_times(RATE, seconds)
        sound = None if name == "silent.mkv" else Sound(beeps=[0.4, 2.5], seconds=seconds)
        write_video(str(folder / name), times, flashes_at(times, [0.4, 2.5]), sound, rate=RATE)
    (folder / "broken.mp4").write_text("no video")
    return folder


def read(path):
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays}


def rows_of(arrays, name):
    return np.array([os.path.basename(path) == name for path in arrays["path"]])


def by_task(network, videos, folder, eval_clips):
    """Features of the task's evenly spaced clips of whole videos, built into shards: {name: [views, size]}."""
    options = ClipOptions(clip_seconds=0, size=SIZE, frame_rate=RATE, sample_rate=tiny_config.CLIPS["sample_rate"])
    names = sorted(SECONDS)
    listed = [manifest.Video(name, name, label=0) for name in names]
    clips = [clip for video in listed for clip in cut(video, str(videos), options, lambda: None)]
    index = fake_clips.write_clips(folder, "all", clips, num_shards=1)
    action = FrozenConfigDict({**network.task.action_config, "eval_clips": eval_clips})
    task = dataclasses.replace(network.task, action_config=action)
    loader = make_loader(index, task, task.data_config, train=False)
    look = jax.jit(lambda batch: pooled(task.apply(network.variables, batch, train=False)[0], ("features",)))
    (batch,) = loader.eval_batches(seed=0, batch_size=len(names) * eval_clips, repeats=eval_clips)
    features = look({key: x for key, x in batch.items() if x.dtype != object})
    return dict(zip(names, np.asarray(features).reshape(len(names), eval_clips, -1), strict=True))


def test_the_same_as_from_shards(network, videos, tmp_path):
    """Of 4 s two windows of 2 s are the task's two evenly spaced clips; of 5.3 s, three are not, but the ends are."""
    result = embed(str(videos), "", str(tmp_path / "f.npz"), size=SIZE, batch_size=2)
    assert (result.num_new, result.num_there, len(result.failures)) == (3, 0, 1)
    arrays = read(tmp_path / "f.npz")
    assert arrays["features"].shape == (3, 64) and arrays["features"].dtype == np.float32
    two = by_task(network, videos, tmp_path / "shards", 2)
    # The pictures are the same JPEGs: the builder's default quality is what windows have too.
    for name in ("four.mkv", "short.mkv"):
        np.testing.assert_allclose(arrays["features"][rows_of(arrays, name)][0], two[name].mean(axis=0), atol=1e-5)
    assert dict(zip(map(os.path.basename, arrays["path"]), arrays["has_audio"], strict=True)) == {
        "four.mkv": True,
        "short.mkv": True,
        "silent.mkv": False,
    }
    silent = arrays["features"][rows_of(arrays, "silent.mkv")][0]
    assert silent[:32].any() and not silent[32:].any()  # as vision-only: no audio features
    assert arrays["seconds"][rows_of(arrays, "silent.mkv")] == pytest.approx(2.65)
    metadata = json.loads(str(arrays["metadata"]))
    assert metadata["step"] == 12 and metadata["layers"] == ["features"] and metadata["clip_seconds"] == WINDOW
    with open(tmp_path / "f.npz.failed.csv", newline="") as file:
        (failed,) = csv.DictReader(file)
    assert failed["path"] == str(videos / "broken.mp4") and "cannot be opened" in failed["reason"]


def test_every_second(network, videos, tmp_path):
    out = str(tmp_path / "f.npz")
    embed(str(videos), "", out, size=SIZE, per_second=True, layers=("video/map", "features"))
    arrays = read(out)
    seconds = {name: arrays["seconds"][rows_of(arrays, name)].tolist() for name in SECONDS}
    assert seconds["four.mkv"] == [0.5, 1.5, 2.5, 3.5]
    assert seconds["silent.mkv"] == [0.5, 1.5, 2.5, 3.5, 4.5]
    assert seconds["short.mkv"] == [0.5]
    features = arrays["features"][rows_of(arrays, "four.mkv")]
    assert features.shape == (4, 16 + 64)
    # Windows at 0, 0.5, 1.5 and 2 s: the outer ones are the two that the task would take.
    two = by_task(network, videos, tmp_path / "shards", 2)["four.mkv"]
    np.testing.assert_allclose(features[[0, -1], 16:], two, atol=1e-5)
    assert np.abs(features[1] - features[0]).max() > 1e-3


def test_goes_on_where_it_was_with_the_same_result(network, videos, tmp_path, monkeypatch):
    out = str(tmp_path / "f.npz")
    embed(str(videos), "", str(tmp_path / "whole.npz"), size=SIZE)

    def killed(videos_seen):
        def watch_two(*args, **kwargs):
            for number, seen in enumerate(watch.watch(*args, **kwargs)):
                if number == videos_seen:
                    raise KeyboardInterrupt
                yield seen

        return watch_two

    with monkeypatch.context() as patch:
        patch.setattr(features_of_videos, "watch", killed(2))  # broken.mp4 and four.mkv
        with pytest.raises(KeyboardInterrupt):
            embed(str(videos), "", out, size=SIZE)
    assert [os.path.basename(path) for path in read(out)["path"]] == ["four.mkv"]
    result = embed(str(videos), "", out, size=SIZE)
    assert (result.num_new, result.num_there, len(result.failures)) == (2, 1, 1)
    whole, again = read(tmp_path / "whole.npz"), read(out)
    for name in whole:
        if name == "features":
            np.testing.assert_allclose(again[name], whole[name], atol=1e-6)
        else:
            np.testing.assert_array_equal(again[name], whole[name])
    changed = os.stat(out).st_mtime_ns
    assert embed(str(videos), "", out, size=SIZE).num_there == 3
    assert os.stat(out).st_mtime_ns == changed

    with pytest.raises(UserError, match=r"rows was videos, is seconds"):
        embed(str(videos), "", out, size=SIZE, per_second=True)
    with pytest.raises(UserError, match=r"size was 20, is 18"):  # the default: 8/7 of 16
        embed(str(videos), "", out)
    with pytest.raises(UserError, match=r"--size=15 is smaller than the network's crop of 16"):
        embed(str(videos), "", out, size=15)
    with pytest.raises(UserError, match=r"--layer: the network has no layer 'logits'"):
        embed(str(videos), "", out, size=SIZE, layers=("logits",))


def test_parts_of_videos_from_a_list(network, videos, tmp_path):
    """Two halves of one video, one that is not there, and one whose file breaks off: it gives what it can."""
    data = (videos / "silent.mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(data[: len(data) * 2 // 3])
    four = f"{videos}/four.mkv"
    lines = ["path,start,end,label", f"{four},0,2,cat", f"{four},2,,dog", "gone.mkv,,,cat", "cut.mkv,,,"]
    (tmp_path / "list.csv").write_text("\n".join(lines))
    result = embed(str(tmp_path / "list.csv"), "", str(tmp_path / "f.npz"), size=SIZE)
    assert result.failures == [((str(tmp_path / "gone.mkv"), 0.0, None), "no such file")]
    arrays = read(tmp_path / "f.npz")
    assert arrays["label"].tolist() == ["cat", "dog", ""]
    assert arrays["start"].tolist() == [0.0, 2.0, 0.0]
    assert arrays["end"][0] == 2.0 and np.isnan(arrays["end"][1:]).all()
    assert arrays["seconds"][:2].tolist() == [1.0, 3.0]
    assert arrays["note"].tolist()[:2] == ["", ""] and arrays["note"][2].startswith("damaged (after ")
    two = by_task(network, videos, tmp_path / "shards", 2)["four.mkv"]
    np.testing.assert_allclose(arrays["features"][:2], two, atol=1e-5)


@pytest.fixture
def command(monkeypatch):
    """Runs the command line in this process; returns the exit status."""
    from absl import flags

    from cmav import cli

    def run_command(*arguments):
        values = flags.FlagValues()
        monkeypatch.setattr(flags, "FLAGS", values)
        with monkeypatch.context() as patch:
            for kind in ("string", "bool", "list", "integer"):
                define = getattr(flags, f"DEFINE_{kind}")
                patch.setattr(
                    flags, f"DEFINE_{kind}", lambda *a, define=define, **k: define(*a, flag_values=values, **k)
                )
            embed_module._define_flags()
        values([sys.argv[0], *arguments])
        return cli._exit_on_user_error(embed_module.main)

    return run_command


def test_command_line(network, videos, tmp_path, command, capsys):
    out = str(tmp_path / "f.npz")
    flags = [f"--videos={videos}", "--checkpoint=x", f"--out={out}", f"--size={SIZE}", "--layer=video/map,audio/map"]
    assert command(*flags) is None
    said = capsys.readouterr().out
    assert "3 videos embedded, 0 were there already, 1 failed" in said
    assert f"{videos / 'broken.mp4'}: cannot be opened" in said and f"{out}.failed.csv" in said
    assert read(out)["features"].shape == (3, 16 + 16)
    assert command(*flags) is None  # Everything is there but what cannot be had.
    assert "0 videos embedded, 3 were there already, 1 failed" in capsys.readouterr().out
    assert command("--videos=x", "--out=y") == 1
    assert "--checkpoint is missing" in capsys.readouterr().err


def test_no_video_at_all_is_an_error(network, tmp_path, command, capsys):
    (tmp_path / "a.mp4").write_text("no video")
    assert command(f"--videos={tmp_path}", "--checkpoint=x", f"--out={tmp_path / 'f.npz'}") == 1
    assert "none of the videos" in capsys.readouterr().err
    assert not (tmp_path / "f.npz").exists()


def test_loads_the_network_of_a_run(run, loaded, tmp_path):
    config = tiny_config.get_config()
    assert loaded.step == 12 and loaded.task.clip.seconds == WINDOW and loaded.task.action_config.mode == "full"
    assert loaded.task.clip.achieved_frame_rate == 10.0 and loaded.task.num_views == 1
    task = make_task(config, config.phases[-1])
    saved = fake_variables.draw(jax.eval_shape(task.init, jax.random.key(0)), 12)
    jax.tree.map(
        np.testing.assert_array_equal,
        jax.device_get(loaded.variables["params"]["backbone"]),
        saved["params"]["backbone"],
    )
    earlier = frozen.load_to_embed(f"{run}/checkpoints/9")
    assert earlier.step == 9 and earlier.checksum() != loaded.checksum()
    moved = tmp_path / "moved"
    os.symlink(run, moved)
    assert frozen.load_to_embed(str(moved)).checksum() == loaded.checksum()


def test_a_fine_tuned_run_keeps_its_mode_and_clip(tmp_path):
    config = tiny_config.get_action_config()
    config.action.num_classes = 5
    config.action.mode = "vision_only"
    network = frozen.load_to_embed(save_run(tmp_path / "vision", config))
    assert network.task.streams == ("video",) and network.task.clip.seconds == 1.0
    config.action.mode = "audio_only"
    with pytest.raises(UserError, match="sees no pictures"):
        frozen.load_to_embed(save_run(tmp_path / "audio", config))
    (tmp_path / "audio" / "config.json").unlink()
    with pytest.raises(UserError, match=r"config\.json is not there"):
        frozen.load_to_embed(str(tmp_path / "audio"))
