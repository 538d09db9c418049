"""Worker processes may crash, hang, or lose their parent."""

import multiprocessing
import os
import pathlib
import threading
import time

import pytest

from cmav.prep import workers
from tests.prep import sample_work
from tests.prep.sample_work import SampleUnit


def outcome(folder, shard):
    return (folder / f"{shard}.txt").read_text().splitlines()


def test_a_crash_or_a_hang_costs_that_video_only(tmp_path):
    units = [
        SampleUnit(str(tmp_path), 0, ("good", "crash", "good")),
        SampleUnit(str(tmp_path), 1, ("hang", "good")),
        SampleUnit(str(tmp_path), 2, ("good", "crash once", "good")),
        SampleUnit(str(tmp_path), 3, ("good", "slow to write")),
        SampleUnit(str(tmp_path), 4, ("good", "bomb", "good")),
    ]
    progress = []
    workers.run(
        units, sample_work.work, num_workers=2, on_progress=progress.append, max_silence=1.5, max_memory=1 << 30
    )
    crashed = "could not be decoded twice (its worker process died, SIGSEGV)"
    assert outcome(tmp_path, 0) == ["done", crashed, "done"]
    assert outcome(tmp_path, 1) == ["could not be decoded twice (no sign of life for 1.5 s)", "done"]
    assert outcome(tmp_path, 2) == ["done", "done", "done"]
    assert outcome(tmp_path, 3) == ["done", "done"]
    bomb = "could not be decoded twice (it needs more memory than a worker may take, 1 GiB)"
    assert outcome(tmp_path, 4) == ["done", bomb, "done"]
    assert progress == sorted(progress) and progress[-1] == 13


@pytest.mark.parametrize("last", ["hang in writing", "never written"])
def test_a_write_that_hangs_ends_the_run_and_is_nobodys_fault(tmp_path, last):
    """Whether it is that of a clip, or of the whole shard."""
    units = [SampleUnit(str(tmp_path), 7, ("good", last))]
    with pytest.raises(
        workers.WorkError, match=r"(?s)2 worker .* on shard 7 .*no sign of life for 2 s.*can be written"
    ):
        workers.run(units, sample_work.work, num_workers=1, max_silence=60, max_writing=2)
    assert not (tmp_path / "7.txt").exists()


def test_what_cannot_be_written_ends_the_run_and_says_why(tmp_path):
    with pytest.raises(workers.WorkError, match=r"(?s)shard 7 of split 'train'.*No space left on device"):
        workers.run([SampleUnit(str(tmp_path), 7, ("good",))], sample_work.fail, num_workers=1)


def test_a_unit_that_fails_keeps_no_other_waiting(tmp_path):
    """More units than workers, and the first fails at once: no thread may be left that waits for its worker."""
    units = [SampleUnit(str(tmp_path), number, ("good",)) for number in range(8)]
    failed = []

    def run():
        with pytest.raises(workers.WorkError, match="No space left on device"):
            workers.run(units, sample_work.fail, num_workers=2)
        failed.append(True)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(60)
    assert failed == [True]


def test_workers_that_die_without_a_video_end_the_run(tmp_path):
    with pytest.raises(workers.WorkError, match="fewer --workers"):
        workers.run([SampleUnit(str(tmp_path), 7, ("good",))], sample_work.die_outside, num_workers=1)


def test_no_units():
    workers.run([], sample_work.work, num_workers=2)


def test_a_worker_does_not_outlive_its_parent(tmp_path):
    unit = SampleUnit(str(tmp_path), 0, ("good",))
    parent = multiprocessing.get_context("spawn").Process(
        target=workers.run, args=([unit], sample_work.wait_for_ever, 1)
    )
    parent.start()
    said = tmp_path / "pid"
    deadline = time.monotonic() + 30
    while not (said.exists() and said.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    worker = int(said.read_text())
    parent.kill()
    parent.join()
    while time.monotonic() < deadline:
        try:
            os.kill(worker, 0)
        except ProcessLookupError:
            return
        state = pathlib.Path(f"/proc/{worker}/stat")
        if state.exists() and state.read_text().rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.1)
    os.kill(worker, 9)
    pytest.fail("the worker went on without its parent")
