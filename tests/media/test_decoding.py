"""Threads that read ahead; processes that read videos, some of which do not survive it."""

import os
import signal
import sys
import threading
import time

import pytest

from cmav.data import schema
from cmav.data.clip_shape import ClipShape
from cmav.data.storage import StorageError
from cmav.errors import UserError
from cmav.media import decoding, windows
from cmav.media.manifest import Video
from cmav.media.streams import RejectedError
from tests.media.sample_videos import Sound, numbered, steady_times, write_video


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("num_threads", [1, 3])
def test_ahead_keeps_the_order(num_threads, depth):
    iterators = (iter(range(10 * k, 10 * k + k)) for k in range(6))
    found = [list(items) for items in decoding.ahead(iterators, num_threads, depth)]
    assert found == [list(range(10 * k, 10 * k + k)) for k in range(6)]


def test_ahead_works_on_several_at_a_time():
    """The first three only go on together."""
    together = threading.Barrier(3, timeout=20)

    def wait_for_the_others(number):
        together.wait()
        yield number

    assert [list(items) for items in decoding.ahead(map(wait_for_the_others, range(3)), 3, 1)] == [[0], [1], [2]]


def test_an_error_is_that_of_its_iterator_alone():
    def broken():
        yield 1
        raise OSError("gone")

    found = []
    for items in decoding.ahead(iter([iter([0]), broken(), iter([2])]), 2, 1):
        try:
            found.extend(items)
        except OSError as error:
            found.append(str(error))
    assert found == [0, 1, "gone", 2]


def test_letting_go_ends_the_threads():
    def endless():
        while True:
            time.sleep(0.001)
            yield 1

    videos = decoding.ahead((endless() for _ in range(5)), 2, 1)
    assert next(next(videos)) == 1
    videos.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("cmav-videos")]


def play(plays, *, send, alive):
    """In the process: sends numbers, and does what stands between them."""
    for one in plays:
        if isinstance(one, int):
            send(one)
        elif one == "reject":
            raise RejectedError("no video stream")
        elif one == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        elif one == "be killed":
            os.kill(os.getpid(), signal.SIGKILL)
        elif one == "hang":
            time.sleep(600)
        elif one == "bomb":
            bytearray(2 << 30)
        elif one == "imports":
            send({"tensorflow", "keras", "sklearn", "matplotlib"} & sys.modules.keys())
        elif one == "no storage":
            raise StorageError("v.mp4: storage does not answer")
        elif not os.path.exists(one):  # "crash once"
            open(one, "w").close()
            os.kill(os.getpid(), signal.SIGSEGV)


@pytest.fixture(scope="module")
def worker():
    worker = decoding.worker(max_memory=1 << 30)
    yield worker
    worker.end()


@pytest.mark.parametrize(
    "plays, reason",
    [
        ([0, 1, "reject"], "no video stream"),
        ([0, 1, "crash", 2], "could not be decoded twice (its worker process died, SIGSEGV)"),
        (
            [0, 1, "be killed"],
            "could not be decoded twice (its worker process died, SIGKILL, often for want of memory)",
        ),
        ([0, 1, "hang"], "could not be decoded twice (no sign of life for 2 s)"),
        ([0, 1, "bomb"], "could not be decoded twice (it needs more memory than a worker may take, 1 GiB)"),
    ],
)
def test_a_video_that_ends_its_process_is_lost_by_name(worker, plays, reason):
    """And each of its items comes once, although it was read twice."""
    found = []
    worker.max_silence = 2.0 if "hang" in plays else 60.0  # on a busy machine even dying takes seconds
    with pytest.raises(RejectedError) as error:
        found.extend(decoding.read(worker, play, plays))
    assert found == [0, 1] and str(error.value) == reason
    assert list(decoding.read(worker, play, [5, 6])) == [5, 6]


def test_a_process_that_dies_once_costs_nothing(worker, tmp_path):
    assert list(decoding.read(worker, play, [0, 1, str(tmp_path / "seen"), 2])) == [0, 1, 2]


def test_a_process_starts_without_what_decoding_has_no_use_for(worker):
    assert list(decoding.read(worker, play, ["imports"])) == [{"tensorflow"}]
    assert "TF_USE_LEGACY_KERAS" not in os.environ


def test_what_storage_says_is_said_of_no_video(worker):
    with pytest.raises(UserError, match=r"v\.mp4: storage does not answer"):
        list(decoding.read(worker, play, ["no storage"]))


def test_windows_are_the_same_by_way_of_a_process(tmp_path):
    times = steady_times(10, 3.0)
    path = write_video(str(tmp_path / "v.mkv"), times, numbered(30), Sound(beeps=[0.5], seconds=3.0), rate=10)
    shape = ClipShape(seconds=1.0, stored_frame_rate=10, frame_rate=10, sample_rate=8000)
    job = (Video(path, "v"), "", shape, 24, windows.Spacing.half_overlapping(shape))
    worker = decoding.worker()
    try:
        found = list(decoding.read(worker, windows.send_windows, *job))
    finally:
        worker.end()
    expected = list(windows.cut_windows(*job))
    assert len(found) == len(expected) == 6
    assert [schema.encode(clip) for clip in found] == [schema.encode(clip) for clip in expected]
