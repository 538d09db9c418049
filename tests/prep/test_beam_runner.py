"""The Beam runner does the same units of work, on Beam's local runner with one worker and with several."""

import shutil
import sys

import pytest

from cmav.prep import build_tfrecords
from tests.media.sample_videos import numbered, steady_times, write_video


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for k in range(3):
        write_video(str(folder / f"v{k}.mp4"), steady_times(25, 1.1), numbered(28))
    (folder / "stub.mp4").write_text("version https://git-lfs.github.com/spec/v1")
    return folder


def command_for(folder):
    return ["--videos", str(folder), "--clip_seconds", "1", "--size", "16", "--shards", "2", "--workers", "1"]


@pytest.fixture
def command(videos):
    return command_for(videos)


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def local(videos, tmp_path_factory):
    """What the same command leaves without Beam."""
    out = tmp_path_factory.mktemp("local")
    assert build_tfrecords.main([*command_for(videos), "--out", str(out)]) == 0
    return contents(out)


@pytest.mark.parametrize("mode", ["in_memory", "multi_threading", "multi_processing"])
def test_beam_leaves_the_same_bytes(command, local, tmp_path, mode):
    workers = f"--beam_args=--direct_running_mode={mode} --direct_num_workers={1 if mode == 'in_memory' else 2}"
    assert build_tfrecords.main([*command, "--out", str(tmp_path), "--runner", "beam", workers]) == 0
    assert contents(tmp_path) == local
    assert "index-train.npy" in local


def test_a_job_that_fails_is_no_traceback(command, tmp_path, capsys):
    """What each runner raises is its own: of this one, whose server is not there, gRPC's FutureTimeoutError."""
    arguments = "--beam_args=--runner=PortableRunner --job_endpoint=localhost:1 --job_server_timeout=1"
    assert build_tfrecords.main([*command, "--out", str(tmp_path / "out"), "--runner", "beam", arguments]) == 1
    assert "error: the Beam job failed (FutureTimeoutError)" in capsys.readouterr().err


def test_a_shard_that_cannot_be_built_fails_the_job(videos, tmp_path, capsys):
    folder = tmp_path / "videos"
    shutil.copytree(videos, folder)
    command = [*command_for(folder), "--out", str(tmp_path / "out")]
    assert build_tfrecords.main([*command, "--shard_range", "0/2"]) == 1
    (folder / "v0.mp4").unlink()
    (folder / "v0.mp4").symlink_to(tmp_path / "gone")  # all are listed, and one cannot be found when its turn comes
    assert build_tfrecords.main([*command, "--runner", "beam"]) == 1
    assert "v0.mp4 was there when the split 'train' was planned, and is gone" in capsys.readouterr().err


def test_without_beam_it_says_what_to_install(command, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    assert build_tfrecords.main([*command, "--out", str(tmp_path / "out"), "--runner", "beam"]) == 1
    assert "pip install 'cmav[beam]'" in capsys.readouterr().err
