"""What the benchmarks share: commands that are timed, and what their runs come to."""

import ctypes
import dataclasses
import json
import os
import pathlib
import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import Any

ROOT = pathlib.Path(__file__).parent.parent
_PR_SET_CHILD_SUBREAPER = 36  # of prctl(2)


@dataclasses.dataclass(frozen=True)
class Usage:
    """What a command took, with all processes that it started.

    Attributes:
      seconds: on the clock.
      cpu_seconds: of all cores together. Says more than the clock where other work runs beside.
      peak_bytes: resident memory of its largest process.
    """

    seconds: float
    cpu_seconds: float
    peak_bytes: int


def timed(command: Sequence[str | os.PathLike], **environment: str) -> Usage:
    """Runs a command from the repository's root. For Linux, and for a small process: what it starts seems as large.

    Raises:
      subprocess.CalledProcessError: where its exit status is not 0.
    """
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)  # Processes that outlive the command are waited for here.
    environment = {**os.environ, **environment}
    begun = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    )
    said = process.stderr.read()
    seconds = time.perf_counter() - begun
    usages = []
    while True:
        try:
            pid, status, usage = os.wait4(-process.pid, 0)
        except ChildProcessError:
            break
        usages.append(usage)
        if pid == process.pid:
            process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, stderr=said.decode(errors="replace"))
    cpu_seconds = sum(usage.ru_utime + usage.ru_stime for usage in usages)
    return Usage(seconds, cpu_seconds, max(usage.ru_maxrss for usage in usages) * 1024)  # Linux counts kilobytes.


def summary(values: Sequence[float]) -> dict[str, Any]:
    """Median, least and greatest of the runs, and each of them."""
    return {"median": statistics.median(values), "least": min(values), "most": max(values), "runs": list(values)}


def in_words(found: Mapping[str, Any]) -> str:
    """A summary as `median (least to most)`."""
    return f"{found['median']:.2f} ({found['least']:.2f} to {found['most']:.2f})"


def write(path: str | None, results: Mapping[str, Any]) -> None:
    if path:
        pathlib.Path(path).write_text(json.dumps(results, indent=2) + "\n")
