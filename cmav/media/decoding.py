"""Reading one's own videos in processes that may die: a file that crashes, hangs or swells its decoder costs itself."""

import contextlib
import dataclasses
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

from cmav.errors import UserError
from cmav.media import isolated
from cmav.media.streams import RejectedError

T = TypeVar("T")
Reader = Callable[..., None]  # (*args, send=, alive=); may raise RejectedError


@dataclasses.dataclass(frozen=True)
class _Lost:
    reason: str


def worker(max_silence: float = isolated.MAX_SILENCE, max_memory: int = isolated.MAX_MEMORY) -> isolated.Worker:
    """A process for `read`. Whoever has it ends it."""
    return isolated.Worker(_serve, max_silence, max_memory)


def read(worker: isolated.Worker, reader: Reader, *args: Any) -> Iterator[Any]:
    """Yields what `reader(*args, send=, alive=)` sends from the process. Where that dies, a fresh one does it again.

    Raises:
      RejectedError: after what could be had. Says what was lost, and why.
      UserError: where storage does not answer.
    """
    num_given = 0
    for _ in range(isolated.MAX_DEATHS):
        lost = None
        try:
            for number, item in enumerate(worker.call(reader, *args)):
                if isinstance(item, _Lost):
                    lost = item
                elif number >= num_given:
                    num_given += 1
                    yield item
        except isolated.DiedError as error:
            death = error
            continue
        except isolated.FailedError as error:
            raise UserError(str(error)) from error
        if lost is not None:
            raise RejectedError(lost.reason)
        return
    raise RejectedError(f"could not be decoded twice ({death})")


def _serve(reader: Reader, *args: Any, send: Callable[[Any], None], alive: Callable[[], None]) -> None:
    """In the process."""
    try:
        reader(*args, send=send, alive=alive)
    except RejectedError as error:
        send(_Lost(str(error)))
    except (UserError, MemoryError):
        raise
    except Exception as error:  # One video must not take the others down, whatever it makes a library raise.
        send(_Lost(f"unforeseen error ({type(error).__name__}: {error})"))


def ahead(iterators: Iterable[Iterator[T]], num_threads: int, depth: int) -> Iterator[Iterator[T]]:
    """Yields the iterators in turn, each to be used up before the next, while threads are at work on those to come.

    Args:
      iterators: at most `num_threads` of them are under way at a time.
      num_threads: see above.
      depth: items of each that may be made before somebody takes them.
    """
    coming = iter(iterators)
    under_way: deque[Ahead[T]] = deque()
    try:
        while True:
            while len(under_way) < num_threads and (iterator := next(coming, None)) is not None:
                under_way.append(Ahead(iterator, depth))
            if not under_way:
                return
            yield under_way[0]
            under_way.popleft().stop()
    finally:
        for one in under_way:
            one.stop()


class Ahead(Generic[T]):
    """An iterator of the items of another, which a thread makes up to `depth` items ahead of who takes them."""

    def __init__(self, iterator: Iterator[T], depth: int):
        self._iterator = iterator
        self._items: queue.Queue[tuple[bool, Any]] = queue.Queue(depth)
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._make, name="cmav-videos", daemon=True)
        self._thread.start()

    def __iter__(self) -> "Ahead[T]":
        return self

    def __next__(self) -> T:
        is_item, value = self._items.get()
        if is_item:
            return value
        self._items.put((False, value))  # whoever asks again hears the same
        raise StopIteration if value is None else value

    def stop(self) -> None:
        """Ends the thread, at the next item that it has. Not `close`, which `yield from` would call."""
        self._left.set()
        self._thread.join()

    def _make(self) -> None:
        error = None
        try:
            with contextlib.closing(self._iterator) if hasattr(self._iterator, "close") else contextlib.nullcontext():
                for item in self._iterator:
                    if not self._put(True, item):
                        return
        except BaseException as raised:  # for whoever takes the items
            error = raised
        self._put(False, error)

    def _put(self, is_item: bool, value: Any) -> bool:
        while not self._left.is_set():
            with contextlib.suppress(queue.Full):
                self._items.put((is_item, value), timeout=0.1)
                return True
        return False
