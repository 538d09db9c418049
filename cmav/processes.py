"""What the processes of a job tell one another: to stop, that one has failed, what only one or each of them knows.

A process that fails must not leave the others waiting for it. JAX by itself lets it wait for them in turn: of two
processes, an exception in one ended both after 300 s, and a kill of one ended the other after 100 s (measured). So
whoever fails says so (`fail`), and the others watch for that. A process that is killed can say nothing: its 100 s stay.
"""

import contextlib
import itertools
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection
from typing import Any, NoReturn

import jax
import numpy as np
from absl import logging
from jax._src import distributed as jax_distributed  # The only way to the key-value store of the processes.
from jax.experimental import multihost_utils

from cmav.errors import Preempted

POLL_SECONDS = 1.0  # between two looks whether another process has failed
TOGETHER_SECONDS = 20.0  # for the others to take part in what a process does on the way out of an error
_FAILURE, _LEFT = "cmav/failure", "cmav/left"  # keys of the store that the processes share
_is_failing = threading.Event()  # this process


def are_several() -> bool:
    """Whether this process is one of several of a job. Touches no device, as `jax.process_count()` does."""
    return jax_distributed.global_state.num_processes > 1


def is_lead() -> bool:
    """Whether this is the process that writes what all of them know."""
    return jax_distributed.global_state.process_id == 0


class Preemption:
    """Tells whether the job was asked to stop (SIGTERM), at the same point on all processes. One at a time."""

    _current: "Preemption | None" = None
    # With several processes JAX's own handler hears the signal, and they agree on a number of this count to stop at.
    _points = itertools.count(1)

    def __init__(self):
        self._asked = False
        if not are_several():
            self._previous = signal.signal(signal.SIGTERM, self._on_signal)
        Preemption._current = self

    def _on_signal(self, signum, frame):
        self._asked = True

    def reached(self) -> bool:
        """Called by all processes, equally often. With several, it is true at the first call that none has made yet."""
        return _several_reached() if are_several() else self._asked

    def close(self) -> None:
        Preemption._current = None
        if not are_several():
            signal.signal(signal.SIGTERM, self._previous)


def stop_if_asked() -> None:
    """For long work of many parts, between two of them. Called by all processes, equally often.

    Raises:
      Preempted: where the job was asked to stop. Of a single process only where somebody listens (`Preemption`): else
        the signal has ended it.
    """
    listener = Preemption._current
    if _several_reached() if are_several() else listener is not None and listener.reached():
        raise Preempted("asked to stop.")


def _several_reached() -> bool:
    return multihost_utils.reached_preemption_sync_point(next(Preemption._points))


def watch_for_failures() -> None:
    """Ends this process, with the message and status 1, soon after another process of the job has called `fail`."""
    client = jax_distributed.global_state.client

    def watch() -> None:
        while not _is_failing.wait(POLL_SECONDS):
            try:
                message = client.key_value_try_get(_FAILURE)
            except jax.errors.JaxRuntimeError:
                continue  # None has; or the job is over, or JAX is about to end it.
            print(f"\nError: {message}", file=sys.stderr)
            _leave()

    threading.Thread(target=watch, name="cmav-failures", daemon=True).start()


def fail(message: str) -> None:
    """Ends this process with status 1 and has the others end with the message. Of a single process it does nothing."""
    if not are_several():
        return
    _is_failing.set()
    told = f"process {jax.process_index()} of {jax.process_count()} has failed, and with it the job:\n{message}"
    with contextlib.suppress(jax.errors.JaxRuntimeError):  # Another has failed before, and perhaps brought this about.
        jax_distributed.global_state.client.key_value_set(_FAILURE, told)
    # Until the others have looked: once this process is gone its connections are broken, which they would report
    # instead.
    time.sleep(3 * POLL_SECONDS)
    _leave()


def try_together(action: Callable[[], None]) -> None:
    """Does on the way out of an error what needs the other processes, which may not be on their way out.

    Where they are not, and wait for this one elsewhere, it is given up after `TOGETHER_SECONDS`.
    """
    if not are_several():
        action()
        return
    thread = threading.Thread(target=action, name="cmav-together", daemon=True)
    thread.start()
    thread.join(TOGETHER_SECONDS)


def from_lead(value: Any) -> Any:
    """What process 0 has here, on all processes: anything JSON can hold. Called by all of them together."""
    if not are_several():
        return value
    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    length = int(multihost_utils.broadcast_one_to_all(np.int32(len(text))))
    text = np.resize(text, length)  # That of the others does not count.
    return json.loads(np.asarray(multihost_utils.broadcast_one_to_all(text)).astype(np.uint8).tobytes())


def union(numbers: Collection[int]) -> set[int]:
    """All processes' numbers, from 0 to 2^31, together. Called by all of them together; they wait for one another."""
    if not are_several():
        return set(numbers)
    longest = int(multihost_utils.process_allgather(np.int32(len(numbers))).max())
    if not longest:
        return set()
    padded = np.full(longest, -1, np.int32)
    padded[: len(numbers)] = list(numbers)
    return set(multihost_utils.process_allgather(padded).ravel().tolist()) - {-1}


def _leave() -> NoReturn:
    """Ends this process at once with status 1: at an ordinary exit JAX waits for the other processes.

    The first process has the store: it goes last, when the others have read what is in there.
    """
    state = jax_distributed.global_state
    logging.flush()
    sys.stdout.flush()
    sys.stderr.flush()
    deadline = time.monotonic() + TOGETHER_SECONDS
    with contextlib.suppress(jax.errors.JaxRuntimeError):  # The first process is gone already.
        state.client.key_value_set(f"{_LEFT}/{state.process_id}", "1", allow_overwrite=True)
        while is_lead() and time.monotonic() < deadline:
            if len(state.client.key_value_dir_get(_LEFT)) == state.num_processes:
                break
            time.sleep(POLL_SECONDS / 10)
    os._exit(1)
