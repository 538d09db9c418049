"""The Beam runner does the same units of work. On Beam's local runner, where Beam is installed."""

import sys

import pytest

from data_prep import build_tfrecords
from tests.data_prep.sample_videos import numbered, steady_times, write_video


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


def test_beam_leaves_the_same_bytes(command, tmp_path):
    pytest.importorskip("apache_beam")
    assert build_tfrecords.main([*command, "--out", str(tmp_path / "beam"), "--runner", "beam"]) == 0
    assert build_tfrecords.main([*command, "--out", str(tmp_path / "local")]) == 0
    assert contents(tmp_path / "beam") == contents(tmp_path / "local")
    assert "index-train.npy" in contents(tmp_path / "beam")


def test_without_beam_it_says_what_to_install(command, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    assert build_tfrecords.main([*command, "--out", str(tmp_path / "out"), "--runner", "beam"]) == 1
    assert "pip install 'cmav[beam]'" in capsys.readouterr().err
