"""A process that crashes, hangs, asks for all memory or loses its parent costs its work, and says how."""

import gc
import mmap
import multiprocessing
import os
import signal
import sys
import threading
import time

import numpy as np
import pytest

from cmav.errors import UserError
from cmav.media import isolated
from cmav.media.isolated import DiedError, FailedError, Worker
from tests import commands


def play(what, *, send, alive):
    """In the process: sends three arrays, and does what it is told after the second."""
    for number in range(3):
        send(np.full(5, number))
        if number == 1:
            _PLAYS[what](alive)


def _allocate(alive):
    np.ones((4 << 30,), np.uint8)


def _crash(alive):
    os.kill(os.getpid(), signal.SIGSEGV)


def _be_killed(alive):
    os.kill(os.getpid(), signal.SIGKILL)


def _hang(alive):
    mmap.mmap(-1, 1 << 20)
    time.sleep(600)


def _be_slow(alive):
    for _ in range(30):
        time.sleep(0.1)
        alive()


def _user_error(alive):
    raise UserError("the disk is full")


def _mistake(alive):
    raise KeyError("a mistake")


_PLAYS = {
    "nothing": lambda alive: None,
    "allocate": _allocate,
    "crash": _crash,
    "be killed": _be_killed,
    "hang": _hang,
    "be slow": _be_slow,
    "user error": _user_error,
    "mistake": _mistake,
}


@pytest.fixture(scope="module")
def worker():
    worker = Worker(play, max_silence=2.0, max_memory=1 << 30)
    yield worker
    worker.end()


def play_all(worker, what):
    """Returns (the numbers that came, the error or None)."""
    came = []
    try:
        came.extend(int(array[0]) for array in worker.call(what))
    except (DiedError, FailedError) as error:
        return came, error
    return came, None


@pytest.mark.parametrize(
    "what, kind, words",
    [
        ("crash", DiedError, r"^its worker process died, SIGSEGV$"),
        ("be killed", DiedError, r"^its worker process died, SIGKILL, often for want of memory$"),
        ("hang", DiedError, r"^no sign of life for 2 s$"),
        ("allocate", DiedError, r"^it needs more memory than a worker may take, 1 GiB$"),
        ("user error", FailedError, r"^the disk is full$"),
        ("mistake", FailedError, r"(?s)^Traceback.*KeyError: 'a mistake'$"),
    ],
)
def test_the_work_is_lost_and_the_next_is_done(worker, what, kind, words):
    worker.max_silence = 2.0 if what == "hang" else 60.0  # on a busy machine even dying takes seconds
    came, error = play_all(worker, what)
    worker.max_silence = 2.0
    assert came == [0, 1] and type(error) is kind
    with pytest.raises(kind, match=words):
        raise error
    assert play_all(worker, "nothing") == ([0, 1, 2], None)


def test_slow_is_not_silent(worker):
    assert play_all(worker, "be slow") == ([0, 1, 2], None)


def test_whoever_takes_items_late_does_not_make_it_silent(worker):
    came = []
    for array in worker.call("nothing"):
        came.append(int(array[0]))
        time.sleep(1.2)  # longer in all than it may be silent
    assert came == [0, 1, 2]


def test_a_process_is_used_again(worker):
    play_all(worker, "nothing")
    process = worker._process.pid
    assert play_all(worker, "nothing") == ([0, 1, 2], None) and worker._process.pid == process
    calls = worker.call("hang")
    assert int(next(calls)[0]) == 0
    calls.close()  # left early: what is still to come must not be taken for the next call's
    assert play_all(worker, "nothing") == ([0, 1, 2], None) and worker._process.pid != process


def tell(name, *, send, alive):
    """In the process: sends a variable of its environment, and how many threads the process that forked it has."""
    threads = os.listdir(f"/proc/{os.getppid()}/task") if sys.platform == "linux" else [0]
    send((os.environ.get(name), len(threads)))


def test_a_process_has_the_environment_of_the_time_of_its_start(monkeypatch):
    """And is forked by one that has a single thread: no lock can be held by another."""
    for value in ("one", "another"):
        monkeypatch.setenv("CMAV_TEST", value)
        worker = Worker(tell)
        assert list(worker.call("CMAV_TEST")) == [(value, 1)]
        worker.end()


def test_the_end_comes_from_another_thread():
    worker = Worker(play)
    process = worker._process.pid
    calls = worker.call("hang")
    assert [int(next(calls)[0]) for _ in range(2)] == [0, 1]
    threading.Timer(0.2, worker.end).start()
    began = time.monotonic()
    with pytest.raises(DiedError, match="SIGKILL"):
        next(calls)
    assert time.monotonic() - began < 60
    assert play_all(worker, "nothing")[0] == []
    assert not [child for child in multiprocessing.active_children() if child.pid == process]


def test_memory_is_given_back():
    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * mmap.PAGESIZE

    gc.collect()
    before = resident()
    pieces = [b"x" * 100_000 for _ in range(2000)]
    keep = pieces[::500]
    del pieces
    isolated.release_memory()
    assert len(keep) == 4 and resident() - before < 50 << 20


def test_no_place_for_a_socket_is_no_reason_not_to_work(tmp_path):
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    script = "from cmav.media.isolated import Worker\nfrom tests.media.test_isolated import play\n"
    script += "print([int(item[0]) for item in Worker(play).call('nothing')])"
    assert commands.run("-c", script, TMPDIR=str(folder)).splitlines()[-1] == "[0, 1, 2]"


def test_a_script_is_not_run_again_by_its_workers(tmp_path):
    """Nor need it ask for its `__name__`; and it may import what needs Keras, which workers do without."""
    script = tmp_path / "script.py"
    script.write_text(
        "import clu.metric_writers\n"
        "from cmav.media.isolated import Worker\n"
        "from tests.media.test_isolated import play\n"
        "print('run')\n"
        "print([int(item[0]) for item in Worker(play).call('nothing')])\n"
    )
    said = commands.run(script).splitlines()
    assert said.count("run") == 1 and said[-1] == "[0, 1, 2]"
