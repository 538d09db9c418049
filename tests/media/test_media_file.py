"""Storage that fails is not a file that is damaged."""

import errno
import os
from fractions import Fraction

import pytest
import tensorflow as tf

from cmav.data import storage
from cmav.data.storage import StorageError
from cmav.media import media_file, streams
from cmav.media.clips import ClipOptions, cut
from cmav.media.manifest import Video
from cmav.media.streams import MissingFileError, RejectedError
from cmav.prep.sounds import cut_sound
from tests.media.sample_videos import Sound, numbered, steady_times, write_video

OPTIONS = ClipOptions(clip_seconds=1, size=24, frame_rate=10, sample_rate=8000)


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(storage, "DELAYS", (0.0, 0.0))


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """One of each format whose reading differs: an index at the end, one at the start, none."""
    folder = tmp_path_factory.mktemp("videos")
    times = steady_times(10, 4.0)
    for name in ("v.mp4", "v.mkv", "v.avi"):
        avi = {"codec": "mpeg4", "time_base": Fraction(1, 10)} if name.endswith("avi") else {}
        sound = Sound(beeps=[0.5, 2.5], seconds=4.0, layout="mono")
        write_video(str(folder / name), times, numbered(40), sound, rate=10, **avi)
    return folder


def clips_of(path, cutter=cut):
    """Returns (clips, the error or None)."""
    clips = []
    try:
        for clip in cutter(Video(str(path), "v"), "/", OPTIONS, lambda: None):
            clips.append(clip)
    except (RejectedError, StorageError) as error:
        return clips, error
    return clips, None


def failing(monkeypatch, fails):
    """Makes reading raise the error that `fails(number of the read)` returns, if any."""
    read, count = media_file.MediaFile._read, 0

    def read_or_fail(self, amount):
        nonlocal count
        count += 1
        error = fails(count)
        if error is not None:
            self.close()
            raise error
        return read(self, amount)

    monkeypatch.setattr(media_file.MediaFile, "_read", read_or_fail)
    return lambda: count


ERRORS = [OSError(errno.EIO, "Input/output error"), tf.errors.UnavailableError(None, None, "503")]


@pytest.mark.parametrize("name", ["v.mp4", "v.mkv", "v.avi"])
@pytest.mark.parametrize("error", ERRORS)
def test_an_error_at_any_read_is_storages(videos, monkeypatch, name, error):
    """Whichever read it is that fails for good, and whatever FFmpeg makes of it: never damage, never fewer clips."""
    with monkeypatch.context() as patch:
        count = failing(patch, lambda number: None)
        whole, said = clips_of(videos / name)
        num_reads = count()
    assert said is None and len(whole) == 4 and num_reads > 4
    for first in range(1, num_reads + 1):
        with monkeypatch.context() as patch:
            failing(patch, lambda number, first=first: error if number >= first else None)
            clips, said = clips_of(videos / name)
        assert type(said) is StorageError and str(videos / name) in str(said), (first, said)
        assert [clip.frames for clip in clips] == [clip.frames for clip in whole[: len(clips)]]


@pytest.mark.parametrize("cutter", [cut, cut_sound])
@pytest.mark.parametrize("error", ERRORS)
def test_an_error_that_passes_costs_nothing(videos, monkeypatch, cutter, error):
    whole, _ = clips_of(videos / "v.mkv", cutter)
    with monkeypatch.context() as patch:
        failing(patch, lambda number: error if number % 2 else None)
        clips, said = clips_of(videos / "v.mkv", cutter)
    assert said is None or "zeros" in str(said)
    assert len(clips) == len(whole) and all((a.audio == b.audio).all() for a, b in zip(clips, whole, strict=True))


def test_a_real_error_of_the_kernel(tmp_path):
    """/proc/self/mem cannot be read at 0."""
    os.symlink("/proc/self/mem", tmp_path / "v.mp4")
    _, said = clips_of(tmp_path / "v.mp4")
    assert type(said) is StorageError and "Input/output error" in str(said)


def test_what_is_not_there_is_told_from_what_is_no_video(tmp_path):
    os.symlink("nowhere", tmp_path / "dangling.mp4")
    for path in ("none.mp4", "dangling.mp4", "file://" + str(tmp_path / "none.mp4")):
        _, said = clips_of(path if "://" in path else tmp_path / path)
        assert type(said) is MissingFileError and str(said) == "no such file"
    (tmp_path / "stub.mp4").write_text("version https://git-lfs.github.com/spec/v1")
    assert type(clips_of(tmp_path / "stub.mp4")[1]) is RejectedError


def test_a_file_that_is_taken_away_meanwhile(videos, monkeypatch):
    failing(monkeypatch, lambda number: FileNotFoundError() if number > 3 else None)
    assert isinstance(clips_of(videos / "v.mkv")[1], MissingFileError)


def test_local_and_remote_are_read_alike(videos):
    for name in ("v.mp4", "v.mkv", "v.avi"):
        local, remote = clips_of(videos / name)[0], clips_of(f"file://{videos / name}")[0]
        assert [clip.frames for clip in local] == [clip.frames for clip in remote] and len(local) == 4


def test_a_search_without_end_ends(tmp_path, monkeypatch):
    """A stream of packets, and then nothing but zeros: sparse, 100 GB."""
    monkeypatch.setattr(media_file, "MAX_SEARCH", 8 << 20)
    times = steady_times(10, 2.0)
    path = write_video(str(tmp_path / "v.ts"), times, numbered(20), rate=10)
    os.truncate(path, 100 << 30)
    _, said = clips_of(path)
    assert "no packet in 8 MB of it" in str(said)


def test_every_bound_is_said(videos, monkeypatch):
    for name, value, words in (
        ("MAX_PIXELS", 63 * 63, "its pictures are too large (64 x 64"),
        ("MAX_FRAMES", 20, "it has more than 20 frames"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(streams, name, value)
            assert words in str(clips_of(videos / "v.mkv")[1])
    for name, value in (("MAX_CLIPS", 2), ("MAX_BYTES", 20_000)):
        with monkeypatch.context() as patch:
            patch.setattr(f"cmav.media.clips.{name}", value)
            clips, said = clips_of(videos / "v.mkv")
            assert "it has no end" in str(said) and 1 <= len(clips) <= 3
    monkeypatch.setattr("cmav.media.video_track.MAX_SECONDS", 2)
    clips, said = clips_of(videos / "v.mkv")
    assert "it goes on for more than" in str(said) and len(clips) == 2
