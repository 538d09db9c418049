"""Worker processes of a build killed at random moments, as the kernel does when memory is short."""

import os
import pathlib
import random
import signal
import time
from collections.abc import Iterator

from tests import commands
from tests.faults import fault


def make(folder: pathlib.Path, times: int, rng: random.Random) -> Iterator[fault.Row]:
    fault.write_videos(folder / "videos", 20 * times, seconds=8.0)
    build = [*fault.BUILD, f"--videos={folder / 'videos'}", f"--shards={4 * times}"]
    commands.run(*build, f"--out={folder / 'whole'}")
    process = commands.start(*build, f"--out={folder / 'killed'}")
    kills, seen = 0, {}
    while process.poll() is None and kills < times:
        time.sleep(0.05)
        for worker in _workers(process.pid):
            due = seen.setdefault(worker, time.monotonic() + rng.uniform(1, 4))  # the first seconds are imports
            if time.monotonic() > due and kills < times:
                os.kill(worker, signal.SIGKILL)
                kills += 1
                seen[worker] = float("inf")
    output = process.communicate(timeout=600)[0]
    lost = [f"exit status {process.returncode}"] if process.returncode else []
    lost += [f"{name} differs" for name in fault.differing(folder / "killed", folder / "whole")]
    yield fault.Row(f"worker processes killed (SIGKILL), {kills} times", fault.or_nothing(lost), fault.words(output))


def _workers(build: int) -> list[int]:
    """Forks of a process that the build has started (`cmav.media.isolated`)."""
    try:
        return [worker for child in _children(build) if b"forkserver" in _command(child) for worker in _children(child)]
    except FileNotFoundError:
        return []


def _children(pid: int) -> list[int]:
    return list(map(int, pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def _command(pid: int) -> bytes:
    return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()


if __name__ == "__main__":
    fault.main(make, 5, "tests.faults.workers")
