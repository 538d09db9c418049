"""The Beam runner does the same units of work, on Beam's local runner with one worker and with several."""

import sys

import pytest

from data_prep import build_tfrecords
from tests.media.sample_videos import numbered, steady_times, write_video


@pytest.fixture
def command(tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    for k in range(3):
        write_video(str(folder / f"v{k}.mp4"), steady_times(25, 1.1), numbered(28))
    (folder / "stub.mp4").write_text("version https://git-lfs.github.com/spec/v1")
    return ["--videos", str(folder), "--clip_seconds", "1", "--size", "16", "--shards", "2", "--workers", "1"]


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("mode", ["in_memory", "multi_threading", "multi_processing"])
def test_beam_leaves_the_same_bytes(command, tmp_path, mode):
    workers = f"--beam_args=--direct_running_mode={mode} --direct_num_workers={1 if mode == 'in_memory' else 2}"
    assert build_tfrecords.main([*command, "--out", str(tmp_path / "beam"), "--runner", "beam", workers]) == 0
    assert build_tfrecords.main([*command, "--out", str(tmp_path / "local")]) == 0
    assert contents(tmp_path / "beam") == contents(tmp_path / "local")
    assert "index-train.npy" in contents(tmp_path / "beam")


def test_a_job_that_fails_is_no_traceback(command, tmp_path, capsys):
    """What each runner raises is its own: of this one, whose server is not there, gRPC's FutureTimeoutError."""
    arguments = "--beam_args=--runner=PortableRunner --job_endpoint=localhost:1 --job_server_timeout=1"
    assert build_tfrecords.main([*command, "--out", str(tmp_path / "out"), "--runner", "beam", arguments]) == 1
    assert "error: the Beam job failed (FutureTimeoutError)" in capsys.readouterr().err


def test_a_shard_that_cannot_be_built_fails_the_job(command, tmp_path, capsys):
    out = ["--out", str(tmp_path / "out")]
    assert build_tfrecords.main([*command, *out, "--shard_range", "0/2"]) == 1
    (tmp_path / "videos").rename(tmp_path / "vanished")
    videos = sorted((tmp_path / "vanished").iterdir())
    (tmp_path / "videos").mkdir()
    for video in videos:  # all are listed, and one cannot be found when its turn comes
        (tmp_path / "videos" / video.name).symlink_to(video if video.name != "v0.mp4" else tmp_path / "gone")
    assert build_tfrecords.main([*command, *out, "--runner", "beam"]) == 1
    assert "v0.mp4 was there when the split 'train' was planned, and is gone" in capsys.readouterr().err


def test_without_beam_it_says_what_to_install(command, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    assert build_tfrecords.main([*command, "--out", str(tmp_path / "out"), "--runner", "beam"]) == 1
    assert "pip install 'cmav[beam]'" in capsys.readouterr().err
