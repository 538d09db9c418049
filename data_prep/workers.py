"""Units of work in parallel on one machine, in processes that may die.

Decoders are C code that meets files of every kind: one may crash, hang, or eat all memory. So each worker process says
which video it begins and, while decoding, that it is alive. Where it dies or falls silent, its unit is given to a fresh
process; a video that does it again is rejected, and the run goes on.
"""

import collections
import contextlib
import dataclasses
import multiprocessing
import multiprocessing.connection
import os
import signal
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Protocol

from cmav.errors import UserError

MAX_SILENCE = 300.0  # seconds without a packet decoded; enough for a slow network disk
MAX_DEATHS = 2  # on one video, before it is rejected, or between videos, before the run ends
_SIGN_EVERY = 1.0  # seconds


class WorkError(UserError):
    """The run cannot go on: nothing can be written, or workers die whatever they do."""


class Unit(Protocol):
    """What this module must know of a unit of work: `plan.Unit` is one."""

    split: str
    shard: int
    videos: Sequence


@dataclasses.dataclass(eq=False)
class _Job:
    unit: Unit
    skip: dict[int, str] = dataclasses.field(default_factory=dict)
    deaths: collections.Counter = dataclasses.field(default_factory=collections.Counter)


class _Worker:
    """The parent's side of a worker process."""

    def __init__(self, work: Callable):
        context = multiprocessing.get_context("spawn")  # TensorFlow does not survive a fork
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, work), daemon=True)
        self.process.start()
        theirs.close()
        self.job: _Job | None = None
        self.num_before = 0  # videos of the job that are behind it
        self.video: int | None = None  # number of the video at work, within the unit; None before and after them
        self.last_sign = time.monotonic()

    def give(self, job: _Job) -> None:
        self.job, self.num_before, self.video = job, 0, None
        with contextlib.suppress(ConnectionError):  # it is dead already, which the pipe shows when it is read
            self.pipe.send((job.unit, job.skip))

    def silent(self, limit: float) -> bool:
        return self.video is not None and time.monotonic() - self.last_sign > limit

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


def run(
    units: Sequence[Unit],
    work: Callable[..., None],
    num_workers: int,
    *,
    on_progress: Callable[[int], None] = lambda num_videos: None,
    max_silence: float = MAX_SILENCE,
) -> None:
    """Does units of work in parallel processes. What was finished stays finished if this is killed.

    Args:
      units: what to do.
      work: does one unit, as `shards.build` does; a function that a fresh process can import.
      num_workers: processes at a time.
      on_progress: called with the number of videos that are done so far.
      max_silence: seconds after which a worker that shows no sign of life on a video is killed.

    Raises:
      WorkError: where writing fails, or workers die outside of any video.
    """
    waiting = collections.deque(_Job(unit) for unit in units)
    workers = [_Worker(work) for _ in range(min(num_workers, len(waiting)))]
    num_done = 0
    try:
        for worker in workers:
            worker.give(waiting.popleft())
        while any(worker.job for worker in workers):
            multiprocessing.connection.wait([worker.pipe for worker in workers if worker.job], timeout=1.0)
            for place, worker in enumerate(workers):
                if worker.job is None:
                    continue
                try:
                    silent = worker.silent(max_silence) and not worker.pipe.poll()
                    while not silent and worker.job and worker.pipe.poll():
                        num_done += _hear(worker)
                        if worker.job is None and waiting:
                            worker.give(waiting.popleft())
                except (EOFError, ConnectionError):
                    silent = False
                else:
                    if not silent:
                        continue
                workers[place] = _replace(worker, work, max_silence if silent else None)
            on_progress(num_done + sum(worker.num_before for worker in workers if worker.job))
    finally:
        for worker in workers:
            worker.end()


def _hear(worker: _Worker) -> int:
    """Takes one message. Returns the number of videos of the unit that it finishes, else 0."""
    kind, value = worker.pipe.recv()
    worker.last_sign = time.monotonic()
    if kind == "begin":
        worker.num_before = value
        worker.video = value if value < len(worker.job.unit.videos) else None
    elif kind == "error":
        unit = worker.job.unit
        raise WorkError(f"shard {unit.shard} of split {unit.split!r} cannot be built:\n{value}")
    elif kind == "done":
        num_videos = len(worker.job.unit.videos)
        worker.job = None
        return num_videos
    return 0


def _replace(worker: _Worker, work: Callable, silence: float | None) -> _Worker:
    """Puts a fresh process in place of a dead or silent one and gives it the same job."""
    job, video = worker.job, worker.video
    if silence is None:
        worker.process.join()
        how = f"its worker process died, {_exit_words(worker.process.exitcode)}"
    else:
        how = f"no sign of life for {silence:g} s"
    worker.end()
    job.deaths[video] += 1
    if job.deaths[video] >= MAX_DEATHS:
        if video is None:
            raise WorkError(
                f"{MAX_DEATHS} worker processes died on shard {job.unit.shard} before or after its videos "
                f"({_exit_words(worker.process.exitcode)}). If memory is short, give fewer --workers."
            )
        job.skip[video] = f"could not be decoded twice ({how})"
    fresh = _Worker(work)
    fresh.give(job)
    return fresh


def _exit_words(code: int | None) -> str:
    if code is None or code >= 0:
        return f"exit code {code}"
    name = signal.Signals(-code).name
    return f"{name}, often for want of memory" if name == "SIGKILL" else name


def _serve(pipe: multiprocessing.connection.Connection, work: Callable) -> None:
    """The worker process: does units until the parent ends it, or is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent tells us
    last = 0.0

    def send(kind: str, value=None) -> None:
        nonlocal last
        last = time.monotonic()
        try:
            pipe.send((kind, value))
        except OSError:
            os._exit(1)  # without the parent nobody wants this shard: leave at once, its temporary name unfinished

    def alive() -> None:
        if time.monotonic() - last > _SIGN_EVERY:
            send("alive")

    while True:
        try:
            unit, skip = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            work(unit, alive=alive, begins=lambda video: send("begin", video), skip=skip)
        except (UserError, OSError) as error:
            send("error", str(error))
            return
        except Exception:
            send("error", traceback.format_exc())
            return
        send("done")
