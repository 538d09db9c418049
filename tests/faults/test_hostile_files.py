"""Hostile files cost themselves: each gets a true reason, in bounded time and memory; the good ones do not notice."""

import csv
import functools
import os
import time

import pytest

from cmav.data import index, schema
from cmav.prep import build_tfrecords, workers
from tests.faults import hostile_files
from tests.media.sample_videos import Sound, numbered, steady_times, write_video

FLAGS = ["--clip_seconds", "1", "--size", "32", "--frame_rate", "10", "--sample_rate", "8000", "--workers", "2"]
GOOD = ("good1.mp4", "good2.mkv")
# A good video, with bits flipped: what it gives is its own.
MAY_GIVE_CLIPS = {"flipped.mkv"}
REASONS = {
    "ffconcat.mp4": "in no format",
    "ffconcat-of-itself.mp4": "in no format",
    "hls.mp4": "cannot be opened",
    "hls.ts": "cannot be opened",
    "dash.mp4": "cannot be opened",
    "sdp.mp4": "in no format",
    "lrc.mp4": "in no format",
    "mov-reference.mov": "no video stream",
    "header-only.mkv": "cannot be opened (it breaks off, or is damaged)",
    "zero-length.mp4": "cannot be opened",
    "huge-picture.avi": "none below 67,108,864 pixels",
    "png-bomb.mov": "memory",
    "100000-tracks.mp4": "its header asks for more memory, or more streams",
    "sparse-100-gb.ts": "no packet in 512 MB",
    "sparse-100-gb.avi": "no packet in 512 MB",
    "jumping-clock.mkv": "its timestamps jump by 100000 s",
    "late-clock.mkv": "shorter than one clip of 1 s (0.4 s)",
    "folder.mp4": "cannot be opened (a folder)",
    "pipe.mp4": "cannot be opened (a pipe, a socket or a device)",
    "device.mp4": "cannot be opened (a pipe, a socket or a device)",
    "dangling.mp4": "no such file",
    "loop.mp4": "cannot be opened (Too many levels of symbolic links)",
    "below-a-file.mp4": "cannot be opened (Not a directory)",
}


def write_good(folder):
    for number, name in enumerate(GOOD):
        pictures = [picture + 7 * number for picture in numbered(20)]
        sound = Sound(beeps=[0.5], seconds=2.0, layout="mono")
        write_video(str(folder / name), steady_times(10, 2.0), pictures, sound, rate=10)


def records(out):
    """Bytes of each record, by the video that it is of."""
    found = index.SplitIndex.load(str(out), "train")
    by_source = {}
    for number in range(len(found)):
        record = found.read(number)
        by_source.setdefault(schema.parse(record)["source"].numpy(), []).append(record)
    return by_source


def rejects(out):
    with open(out / "rejects.csv", newline="", encoding="utf-8") as file:
        return dict(list(csv.reader(file))[1:])


def as_listed(name):
    return name.encode("utf-8", "backslashreplace").decode()


@pytest.mark.parametrize("max_memory", [1 << 30])
def test_each_costs_itself_alone(tmp_path, monkeypatch, max_memory):
    (tmp_path / "good").mkdir()
    write_good(tmp_path / "good")
    folder = tmp_path / "videos"
    folder.mkdir()
    write_good(folder)
    secret = str(tmp_path / hostile_files.SECRET)
    write_video(secret, steady_times(10, 3.0), numbered(30), Sound(seconds=3.0), rate=10)
    names = hostile_files.make(folder)
    assert len(names) >= 60

    limited = functools.partial(workers.run, max_silence=20, max_memory=max_memory)
    monkeypatch.setattr(workers, "run", limited)
    for videos, out in ((tmp_path / "good", tmp_path / "alone"), (folder, tmp_path / "out")):
        began = time.monotonic()
        assert build_tfrecords.main(["--videos", str(videos), "--out", str(out), *FLAGS]) == 0
    assert time.monotonic() - began < 300  # a third of a minute on two idle cores

    alone, together = records(tmp_path / "alone"), records(tmp_path / "out")
    assert {source.decode(): len(clips) for source, clips in alone.items()} == dict.fromkeys(GOOD, 2)
    for name, clips in alone.items():
        assert together.pop(name) == clips
    assert {source.decode() for source in together} <= MAY_GIVE_CLIPS
    reasons = rejects(tmp_path / "out")
    assert not any("unforeseen" in reason for reason in reasons.values())
    # A folder, and links that lead to none, are no files that walking through folders finds.
    walked = {as_listed(name) for name in names} - {"folder.mp4"}
    assert walked - set(reasons) <= MAY_GIVE_CLIPS and not set(reasons) & set(GOOD)
    for name in walked & set(REASONS):
        assert REASONS[name] in reasons[name], name


def test_a_folder_that_a_list_names(tmp_path):
    (tmp_path / "folder.mp4").mkdir()
    write_good(tmp_path)
    (tmp_path / "list.csv").write_text("path\nfolder.mp4\ngood1.mp4\n")
    arguments = ["--videos", str(tmp_path / "list.csv"), "--out", str(tmp_path / "out"), *FLAGS]
    assert build_tfrecords.main(arguments) == 0
    assert rejects(tmp_path / "out") == {"folder.mp4": REASONS["folder.mp4"]}
    assert os.listdir(tmp_path / "folder.mp4") == []
