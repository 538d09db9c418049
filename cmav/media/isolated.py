"""Work in a process of its own, which may crash, hang, or ask for all memory: that costs the work, and nothing else.

Decoders are C code that meets files of every kind. So whoever decodes does it in a `Worker`, which says how it ended.

On Linux workers are forks of one process that has imported what they need, TensorFlow above all: each would take two
seconds of a core for that. TensorFlow does not survive a fork once it has computed; that process never does, and has
but one thread.
"""

import contextlib
import ctypes
import errno
import gc
import multiprocessing
import multiprocessing.connection
import multiprocessing.forkserver
import os
import resource
import signal
import sys
import threading
import time
import traceback
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from cmav.errors import UserError

MAX_SILENCE = 300.0  # seconds without a sign of life; enough for a slow network disk
MAX_START = 600.0  # seconds until a process has imported what it needs, of a network disk on a busy machine
MAX_MEMORY = 4 << 30  # bytes of a process, beside what its libraries take at their import
MAX_DEATHS = 2  # on one piece of work, before it is given up
_SIGN_EVERY = 1.0  # seconds
_SIGN, _ITEM, _ERROR, _NO_MEMORY, _DONE = range(5)
_FORKS = sys.platform == "linux"  # elsewhere a fork after imports is not sound
_IMPORTED = ["tensorflow", "cmav.media.clips"]  # before the forks; what else the work needs comes after

_process_lock = threading.Lock()  # multiprocessing looks after the children of all threads without one


class DiedError(Exception):
    """The process died, or showed no sign of life. The message says how."""


class FailedError(Exception):
    """The work raised an error. The message is that of a UserError or an OSError, else the traceback."""


def get_ready() -> bool:
    """Begins to import what workers need, if that has not begun. To be called before long imports of one's own.

    Returns:
      Whether workers can be forked; else each imports for itself.
    """
    if not _FORKS:
        return False
    with _process_lock, _environment(TF_USE_LEGACY_KERAS="1", OPENBLAS_NUM_THREADS="1"):
        multiprocessing.forkserver.set_forkserver_preload(_IMPORTED)
        try:
            multiprocessing.forkserver.ensure_running()
        except OSError:  # There is no folder for its socket, or its path is longer than a socket's may be.
            return False
    return True


class Worker:
    """A process that does one piece of work at a time. Where it dies, the next piece is given to a fresh one.

    Args:
      work: called in the process with the arguments of `call`, and with `send`, which takes an item for the caller, and
        `alive`, to be called often. A function that a fresh process can import, or a `functools.partial` of one; so
        none of `__main__`, which the process does not import.
      max_silence: seconds after which a process that neither sends an item nor is alive is killed. May be set anew
        while items come.
      max_memory: bytes that it may take. Past that, it meets MemoryError, or dies.
    """

    def __init__(self, work: Callable[..., None], max_silence: float = MAX_SILENCE, max_memory: int = MAX_MEMORY):
        self.max_silence = max_silence
        self._work, self._max_memory = work, max_memory
        self._process: multiprocessing.process.BaseProcess | None = None
        self._ended = False
        self._start()

    def call(self, *args: Any) -> Iterator[Any]:
        """Yields what the work sends, in order, until it returns. One call at a time; whoever leaves early kills it.

        Raises:
          DiedError: where the process dies, or needs too much memory, or is killed for its silence, or by `end`.
          FailedError: where the work raises an error.
        """
        if self._ended:
            raise DiedError("its worker process was ended")
        if self._process is None:
            self._start()
        done = False
        try:
            with contextlib.suppress(ConnectionError):  # it is dead already, which the pipe shows when it is read
                self._pipe.send(args)
            while True:
                kind, value = self._receive()
                if kind == _DONE:
                    done = True
                    return
                if kind == _ERROR:
                    raise FailedError(value)
                if kind == _NO_MEMORY:
                    raise DiedError(
                        f"it needs more memory than a worker may take, {self._max_memory / (1 << 30):g} GiB"
                    )
                yield value
        finally:
            if not done:
                self._kill()

    def end(self) -> None:
        """Ends the process for good, whatever it does. May be called from another thread than the one that calls it."""
        self._ended = True
        if (process := self._process) is not None:
            _kill(process)

    def _start(self) -> None:
        context = multiprocessing.get_context("forkserver" if get_ready() else "spawn")
        self._pipe, theirs = context.Pipe()
        args = (theirs, self._work, self._max_memory, dict(os.environ))
        process = context.Process(target=_serve, args=args, daemon=True)
        try:
            with _process_lock, _without_main(), _environment(TF_USE_LEGACY_KERAS="1"):
                process.start()
        except EOFError as error:  # of the process that forks: it could not, and has said why
            raise OSError(errno.EAGAIN, "no worker process could be started") from error
        theirs.close()
        self._process, self._has_started = process, False
        if self._ended:  # meanwhile, by another thread
            process.kill()

    def _receive(self) -> tuple[int, Any]:
        """Waits for an item, or the end. A process that waits until somebody takes its item is not silent."""
        while True:
            limit = self.max_silence if self._has_started else max(self.max_silence, MAX_START)
            try:
                if not self._pipe.poll(limit):
                    raise DiedError(f"no sign of life for {limit:g} s")
                kind, value = self._pipe.recv()
            except (EOFError, OSError):
                multiprocessing.connection.wait([self._process.sentinel])
                with _process_lock:
                    self._process.join()
                raise DiedError(f"its worker process died, {_exit_words(self._process.exitcode)}") from None
            self._has_started = True
            if kind != _SIGN:
                return kind, value

    def _kill(self) -> None:
        process, self._process = self._process, None
        _kill(process)
        self._pipe.close()


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
    """A process that is started meanwhile does not import the program again that starts it, as spawned ones do.

    That would take as long as the program's own start, would need Keras where the program does, and would run a script
    that does not ask for its `__name__` a second time.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextlib.contextmanager
def _environment(**variables: str) -> Iterator[None]:
    """Variables that a process which is started meanwhile has.

    With `TF_USE_LEGACY_KERAS`, it imports TensorFlow alone: a third sooner, and with 100 MB less. TensorFlow imports
    Keras at once, which imports scikit-learn and Matplotlib. Not so the Keras of old, which TensorFlow can do without
    where it is not installed. Here, it would be missed: TensorBoard's writers ask for Keras. With
    `OPENBLAS_NUM_THREADS`, NumPy starts no threads.
    """
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _kill(process: multiprocessing.process.BaseProcess) -> None:
    process.kill()
    multiprocessing.connection.wait([process.sentinel])
    with _process_lock:
        process.join()


def _exit_words(code: int | None) -> str:
    if code is None or code >= 0:
        return f"exit code {code}"
    name = signal.Signals(-code).name
    return f"{name}, often for want of memory" if name in ("SIGKILL", "SIGABRT") else name


def _serve(
    pipe: multiprocessing.connection.Connection, work: Callable, max_memory: int, environment: Mapping[str, str]
) -> None:
    """The process: does what it is given until the parent ends it, or is gone."""
    os.environ.update(environment)  # as it is now: a fork has that of its parent
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent tells us
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    _limit_memory(max_memory)
    gc.freeze()  # What is imported stays: a collection need not look at it.
    last = 0.0

    def tell(kind: int, value: Any = None) -> None:
        nonlocal last
        try:
            pipe.send((kind, value))
        except OSError:
            os._exit(1)  # without the parent nobody wants this: leave at once, whatever is half written
        last = time.monotonic()

    def alive() -> None:
        if time.monotonic() - last > _SIGN_EVERY:
            tell(_SIGN)

    tell(_SIGN)
    while True:
        try:
            args = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            work(*args, send=lambda item: tell(_ITEM, item), alive=alive)
        except MemoryError:
            tell(_NO_MEMORY)
            return
        except (UserError, OSError) as error:
            tell(_ERROR, str(error))
            return
        except Exception:
            tell(_ERROR, traceback.format_exc())
            return
        tell(_DONE)
        release_memory()


def release_memory() -> None:
    """Gives memory that is free back to the system: else a worker keeps the most that any of its videos took."""
    gc.collect()
    with contextlib.suppress(AttributeError, OSError):  # of glibc alone
        ctypes.CDLL(None).malloc_trim(0)


def _limit_memory(max_memory: int) -> None:
    """Sets what the process may take beside what it has, where the system can: Linux counts its private pages."""
    if sys.platform != "linux":
        return
    with open("/proc/self/statm") as file:
        data = int(file.read().split()[5]) * os.sysconf("SC_PAGE_SIZE")
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = data + max_memory
    if hard == resource.RLIM_INFINITY or limit < hard:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


def _end_with_the_parent() -> None:
    """Ends the process when its parent is gone, even where a decoder hangs."""
    multiprocessing.connection.wait([multiprocessing.parent_process().sentinel])
    os._exit(1)
