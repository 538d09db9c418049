"""What the benchmarks measure. None of their numbers is checked: they are of the machine."""

import subprocess
import sys

import pytest

from benchmarks import measuring, start

linux = pytest.mark.skipif(sys.platform != "linux", reason="counts processes as Linux does")
BURN = "import time; end = time.process_time() + 0.5\nwhile time.process_time() < end: pass"
# A process that outlives the one that started it, as those that fork a build's workers do.
ORPHAN = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {BURN!r}])"


@linux
def test_processes_that_outlive_their_command_are_counted():
    usage = measuring.timed([sys.executable, "-c", ORPHAN])
    assert usage.cpu_seconds >= 0.5 and usage.seconds >= 0.5 and usage.peak_bytes > 1 << 20


@linux
def test_a_command_that_fails_is_no_measurement():
    with pytest.raises(subprocess.CalledProcessError) as error:
        measuring.timed([sys.executable, "-c", "raise SystemExit('no videos')"])
    assert "no videos" in error.value.stderr


def test_summaries_keep_every_run():
    assert measuring.summary([3.0, 1.0, 2.0]) == {"median": 2.0, "least": 1.0, "most": 3.0, "runs": [3.0, 1.0, 2.0]}


def test_the_log_tells_when_the_first_step_is_done():
    lines = ["I1 train.py:173] a new run; its network", "I1 progress.py:29] step   1/350  loss 2", "] step  11/350"]
    assert [key for line in lines for key, mark in start.MARKS.items() if mark.search(line)] == ["network", "step"]
