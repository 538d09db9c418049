"""Units of work in parallel on one machine, in processes that may die (`cmav.media.isolated`).

Each worker says which video it begins. Where it dies or falls silent, its unit is given to a fresh process; a video
that does it again is rejected, and the run goes on.
"""

import collections
import concurrent.futures
import functools
import queue
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from cmav.errors import UserError
from cmav.media import isolated

# Seconds that writing may take without a sign of life: what closes a shard may send all of it to a bucket.
MAX_WRITING = 1800.0


class WorkError(UserError):
    """The run cannot go on: nothing can be written, or workers die whatever they do."""


class Unit(Protocol):
    """What this module must know of a unit of work: `plan.Unit` is one."""

    split: str
    shard: int
    videos: Sequence


def run(
    units: Sequence[Unit],
    work: Callable[..., None],
    num_workers: int,
    *,
    on_progress: Callable[[int], None] = lambda num_videos: None,
    max_silence: float = isolated.MAX_SILENCE,
    max_writing: float = MAX_WRITING,
    max_memory: int = isolated.MAX_MEMORY,
) -> None:
    """Does units of work in parallel processes. What was finished stays finished if this is killed.

    Args:
      units: what to do.
      work: does one unit, as `shards.build` does; a function that a fresh process can import.
      num_workers: processes at a time.
      on_progress: called with the number of videos that are done so far.
      max_silence: seconds after which a worker that shows no sign of life on a video is killed.
      max_writing: the same, where it writes, and before and after the videos.
      max_memory: bytes that a worker may take beside its libraries.

    Raises:
      WorkError: where writing fails, or workers die outside of any video.
    """
    if not units:
        return
    done = dict.fromkeys(range(len(units)), 0)  # videos of each unit
    num_workers = min(num_workers, len(units))
    serve = functools.partial(_serve, work)
    workers = [isolated.Worker(serve, max_writing, max_memory) for _ in range(num_workers)]
    free: queue.SimpleQueue[isolated.Worker] = queue.SimpleQueue()
    for worker in workers:
        free.put(worker)

    def build(number: int) -> None:
        worker = free.get()
        try:
            for at in _videos_at_work(units[number], worker, max_silence, max_writing):
                done[number] = at
            done[number] = len(units[number].videos)
        finally:
            free.put(worker)  # After an error too: a thread that waits for one could not be ended.

    with concurrent.futures.ThreadPoolExecutor(num_workers, "cmav-workers") as threads:
        building = [threads.submit(build, number) for number in range(len(units))]
        try:
            waiting = building
            while waiting:
                finished, waiting = concurrent.futures.wait(waiting, 1.0, concurrent.futures.FIRST_COMPLETED)
                for future in finished:
                    future.result()
                on_progress(sum(done.values()))
        finally:
            threads.shutdown(wait=False, cancel_futures=True)
            for worker in workers:
                worker.end()


def _videos_at_work(unit: Unit, worker: isolated.Worker, max_silence: float, max_writing: float) -> Iterator[int]:
    """Does a unit. Yields the number, within it, of each video that is begun."""
    skip: dict[int, str] = {}
    deaths: collections.Counter[int | None] = collections.Counter()
    where = f"shard {unit.shard} of split {unit.split!r}"
    while True:
        video = None
        worker.max_silence = max_writing
        try:
            for at in worker.call(unit, skip):
                video = at if at is not None and at < len(unit.videos) else None
                worker.max_silence = max_writing if video is None else max_silence
                if at is not None:
                    yield at
            return
        except isolated.FailedError as error:
            raise WorkError(f"{where} cannot be built:\n{error}") from error
        except isolated.DiedError as death:
            deaths[video] += 1
            if deaths[video] < isolated.MAX_DEATHS:
                continue
            if video is None:
                raise WorkError(
                    f"{isolated.MAX_DEATHS} worker processes were lost on {where} while they wrote, or before or after "
                    f"its videos ({death}). If memory is short, give fewer --workers; if they fell silent, see whether "
                    "the dataset folder can be written to. Then give the same command again."
                ) from death
            skip[video] = f"could not be decoded twice ({death})"


def _serve(work: Callable[..., None], unit: Unit, skip: dict[int, str], *, send: Callable, alive: Callable) -> None:
    """In the worker: does a unit, and sends the number of the video at work; None while a clip is written."""
    latest = None

    def begins(video: int | None) -> None:
        nonlocal latest
        if video is not None and video != latest:
            isolated.release_memory()
            latest = video
        send(video)

    work(unit, alive=alive, begins=begins, skip=skip)
