"""Whole commands in processes of their own, and what a run has come to."""

import hashlib
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import IO, Any

import jax
import numpy as np

from cmav.training.checkpoint import ARRAY_ITEMS, Checkpoints

ROOT = pathlib.Path(__file__).parent.parent


def start(*command, output: IO | int = subprocess.PIPE, **environment) -> subprocess.Popen:
    """Starts Python with a command's arguments; its output and its errors come in one stream, or go to a file."""
    return subprocess.Popen(
        [sys.executable, *map(str, command)],
        cwd=ROOT,
        stdout=output,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={
            **os.environ,
            "JAX_PLATFORMS": "cpu",
            "TF_CPP_MIN_LOG_LEVEL": "2",
            "PYTHONPATH": os.pathsep.join([str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]),
            **environment,
        },
    )


def devices(count: int) -> dict[str, str]:
    """The environment in which a process has so many devices."""
    return {"XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={count}"}


def run(*command, **environment) -> str:
    """What a command says that must succeed."""
    return finish(start(*command, **environment))


def finish(process: subprocess.Popen, seconds: float = 600) -> str:
    output, _ = process.communicate(timeout=seconds)
    assert process.returncode == 0, f"exit status {process.returncode}\n{output[-3000:]}"
    return output


def wait_for(condition: Callable[[], bool], process: subprocess.Popen, seconds: float = 300) -> None:
    """Waits until something is so, as long as the process lives."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, (process.communicate()[0] or "")[-3000:]
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.02)


def digests(*workdirs: str | os.PathLike, **environment) -> list[str]:
    """Of each run, step and hash of all arrays of its newest whole checkpoint. Runs that end the same have the same."""
    return run("-m", "tests.commands", *workdirs, **environment).splitlines()[-len(workdirs) :]


def digest(items: Any) -> str:
    """A hash of the arrays of a tree, and of their places."""
    content = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(items):
        content.update(jax.tree_util.keystr(path).encode() + np.asarray(leaf).tobytes())
    return content.hexdigest()


def main(workdirs: Sequence[str]) -> None:
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    for workdir in workdirs:
        checkpoints = Checkpoints(workdir)
        items, metadata = checkpoints.restore_as_saved(ARRAY_ITEMS, sharding)
        checkpoints.close()
        print(f"step {metadata['step']} {digest(items)}")


if __name__ == "__main__":
    main(sys.argv[1:])
