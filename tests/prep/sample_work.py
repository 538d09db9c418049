"""Units of work for the tests of the worker processes, which import them from here; and doing without processes."""

import dataclasses
import os
import pathlib
import signal
import time

import numpy as np


@dataclasses.dataclass(frozen=True)
class SampleUnit:
    """Videos are what is to happen on them: "good", "crash", "hang", "crash once", "bomb", "hang in writing"."""

    folder: str
    shard: int
    videos: tuple[str, ...]
    split: str = "train"


def work(unit, *, alive, begins, skip):
    """Writes down what became of each video."""
    lines = []
    for number, video in enumerate(unit.videos):
        begins(number)
        alive()
        if number in skip:
            lines.append(skip[number])
            continue
        mark = pathlib.Path(unit.folder, f"seen-{unit.shard}-{number}")
        if video == "crash" or (video == "crash once" and not mark.exists()):
            mark.touch()
            os.kill(os.getpid(), signal.SIGSEGV)
        if video == "hang":
            time.sleep(600)
        if video == "bomb":
            np.ones(8 << 30, np.uint8)
        if video == "hang in writing":
            begins(None)
            time.sleep(600)
        lines.append("done")
    begins(len(unit.videos))
    if unit.videos[-1:] == ("slow to write",):
        time.sleep(3)
    if unit.videos[-1:] == ("never written",):
        time.sleep(600)
    pathlib.Path(unit.folder, f"{unit.shard}.txt").write_text("\n".join(lines))


def fail(unit, *, alive, begins, skip):
    """As where the disk is full."""
    begins(0)
    raise OSError("No space left on device")


def die_outside(unit, *, alive, begins, skip):
    """As where memory is too small even to start."""
    os.kill(os.getpid(), signal.SIGKILL)


def wait_for_ever(unit, *, alive, begins, skip):
    """Says who it is and goes on showing signs of life."""
    begins(0)
    pathlib.Path(unit.folder, "pid").write_text(str(os.getpid()))
    while True:
        time.sleep(0.05)
        alive()


def run_here(units, work, num_workers, *, on_progress=lambda num_videos: None):
    """In place of `workers.run`, whose processes take seconds to start."""
    for unit in units:
        work(unit)
        on_progress(len(unit.videos))
