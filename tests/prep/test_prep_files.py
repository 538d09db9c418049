"""Files of a dataset folder get there whole or not at all, and nobody removes what another is writing."""

import os
import pathlib
import subprocess
import sys
import time

import pytest
import tensorflow as tf

from cmav.prep import files


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "build/train").mkdir(parents=True)
    return tmp_path


def test_only_what_nobody_writes_any_more_is_removed(folder):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    names = {
        "ours": f"{files._machine()}-{os.getpid()}-0.tmp",
        "of a process that ended": f"{files._machine()}-{ended.pid}-0.tmp",
        "of another machine": f"0badcafe-{ended.pid}-0.tmp",
        "old, of another machine": "0badcafe-1-1.tmp",
        "new, of an older version": "0123456789abcdef.tmp",
        "old, of an older version": "fedcba9876543210.tmp",
        "no temporary file": "plan.json",
    }
    for what, name in names.items():
        path = folder / "build/train" / name
        path.write_text(what)
        if what.startswith("old"):
            yesterday = time.time() - files.ABANDONED_AFTER - 60
            os.utime(path, (yesterday, yesterday))
    files.remove_abandoned(str(folder), "train")
    left = {path.read_text() for path in (folder / "build/train").iterdir()}
    assert left == {"ours", "of another machine", "new, of an older version", "no temporary file"}


def test_a_write_that_fails_leaves_nothing(folder, monkeypatch):
    """The kernel says that the disk is full."""
    path = folder / "build/train/plan.json"
    path.write_bytes(b"before")
    monkeypatch.setattr(files.secrets, "token_hex", lambda _: "0")
    (folder / f"build/train/{files._machine()}-{os.getpid()}-0.tmp").symlink_to("/dev/full")
    with pytest.raises(tf.errors.ResourceExhaustedError):
        files.write_whole(str(path), b"x" * 100, str(folder), "train")
    assert os.listdir(folder / "build/train") == ["plan.json"] and path.read_bytes() == b"before"


def test_a_rename_that_failed_after_it_was_done(folder, monkeypatch):
    source, target = folder / "a", folder / "b"
    source.write_text("new")
    rename, calls = tf.io.gfile.rename, []

    def unsure(*args, **kwargs):
        calls.append(args)
        rename(*args, **kwargs)
        raise tf.errors.UnavailableError(None, None, "HTTP response code 503")

    monkeypatch.setattr("cmav.data.storage.DELAYS", (0, 0))
    monkeypatch.setattr(tf.io.gfile, "rename", lambda *a, **k: (unsure if not calls else rename)(*a, **k))
    files.rename(str(source), str(target))
    assert target.read_text() == "new" and not source.exists()


def test_a_rename_of_nothing_is_an_error(folder):
    (folder / "b").write_text("old")
    with pytest.raises(tf.errors.NotFoundError):
        files.rename(str(folder / "a"), str(folder / "b"))
    files.rename(str(folder / "a"), str(folder / "b"), is_shared=True)  # another machine was faster


def test_reading_is_patient(folder, monkeypatch):
    tries = []

    def flaky(*args):
        tries.append(args)
        if len(tries) < 3:
            raise tf.errors.UnknownError(None, None, "Input/output error")
        return real(*args)

    real = tf.io.gfile.GFile
    monkeypatch.setattr("cmav.data.storage.DELAYS", (0, 0))
    monkeypatch.setattr(tf.io.gfile, "GFile", flaky)
    pathlib.Path(folder / "a").write_bytes(b"text")
    assert files.read(str(folder / "a")) == b"text" and len(tries) == 3


def test_shards_are_listed_by_name(tmp_path):
    for name in (
        "clips-a.tfrecord-00000-of-00002",
        "clips-a.tfrecord-00000-of-00003",
        "clips-a-b.tfrecord-00000-of-00001",
    ):
        (tmp_path / name).touch()
    assert files.shard_names(str(tmp_path), "a") == {0: [f"clips-a.tfrecord-00000-of-0000{n}" for n in (2, 3)]}
    assert files.shard_names(str(tmp_path / "none"), "a") == {}
