"""A frozen network looks at one's own videos: their windows are decoded, put to it in batches, and sorted by video."""

import concurrent.futures
import dataclasses
import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import jax
import numpy as np

from cmav import distributed
from cmav.frozen import FrozenNetwork

T = TypeVar("T")
Example = dict[str, np.ndarray]
Answer = Any  # a tree of arrays


@dataclasses.dataclass(frozen=True)
class Window:
    """Where a window lies, in seconds from the file's first frame, and whether its video has sound."""

    start: float
    end: float
    has_audio: bool


@dataclasses.dataclass(frozen=True)
class Seen:
    """What a network says of a video.

    Attributes:
      windows: in order; none: nothing of the video could be decoded.
      answers: a tree of NumPy arrays for each window.
      note: what of the video was lost, and why; empty: nothing.
    """

    windows: list[Window]
    answers: list[Answer]
    note: str


def watch(
    network: FrozenNetwork,
    videos: Iterable[Any],
    root: str,
    answer: Callable[[Mapping[str, Any], Mapping[str, jax.Array]], Answer],
    *,
    size: int,
    spacing: Any,
    batch_size: int,
    num_threads: int | None = None,
) -> Iterator[Seen]:
    """Yields what the network says of each video, in order.

    Args:
      network: whose task makes the examples.
      videos: `data_prep.manifest.Video`s.
      root: the folder that their relative paths start from.
      answer: (variables, batch) -> arrays with a row for each row of the batch; compiled here.
      size: width and height of the pictures before the crop, in pixels.
      spacing: a `cmav.data.own_videos.Spacing`: where the windows lie.
      batch_size: windows that the network sees at a time; rounded up to what divides over the devices.
      num_threads: videos that are decoded at the same time; None: one for each CPU core.
    """
    from cmav.data import own_videos

    make_example = own_videos.example_maker(network.task)

    def examples(video: Any) -> Iterator[tuple[Window, Example]]:
        for clip in own_videos.windows(video, root, network.task.clip, size, spacing):
            yield Window(clip.start_seconds, clip.start_seconds + clip.seconds, clip.has_audio), make_example(clip)

    compiled = jax.jit(answer)
    items = in_batches(
        _one_after_another(ahead(map(examples, videos), num_threads or os.cpu_count() or 1)),
        lambda batch: compiled(network.variables, distributed.to_devices(batch, network.mesh)),
        math.ceil(batch_size / network.mesh.size) * network.mesh.size,
    )
    windows, answers = [], []
    for item, said in items:
        if isinstance(item, Window):
            windows.append(item)
            answers.append(said)
        else:
            yield Seen(windows, answers, item)
            windows, answers = [], []


def ahead(iterators: Iterable[Iterator[T]], num_threads: int) -> Iterator[Iterator[T]]:
    """Yields the iterators in turn, each to be used up before the next, while threads are at work on those to come.

    An iterator's items are made one ahead of who takes them, in at most `num_threads` iterators at a time.
    """
    coming, end = iter(iterators), object()
    under_way: deque[tuple[Iterator[T], concurrent.futures.Future]] = deque()
    with concurrent.futures.ThreadPoolExecutor(num_threads, "cmav-videos") as threads:

        def items(iterator: Iterator[T], future: concurrent.futures.Future) -> Iterator[T]:
            while (item := future.result()) is not end:
                future = threads.submit(next, iterator, end)
                yield item

        while True:
            while len(under_way) < num_threads and (iterator := next(coming, None)) is not None:
                under_way.append((iterator, threads.submit(next, iterator, end)))
            if not under_way:
                return
            yield items(*under_way.popleft())


def in_batches(
    items: Iterable[tuple[Any, Example | None]], answer: Callable[[Example], Answer], batch_size: int
) -> Iterator[tuple[Any, Answer | None]]:
    """Yields the items in order, with the network's answer, NumPy, in the place of each example.

    The devices work on a batch while the next one is being decoded. The last batch is padded with zeros.
    """
    tags: list[tuple[Any, bool]] = []
    examples: list[Example] = []

    def ask() -> tuple[list[tuple[Any, bool]], Answer]:
        if not examples:
            return tags, None
        padding = [{key: np.zeros_like(x) for key, x in examples[0].items()}] * (batch_size - len(examples))
        rows = examples + padding
        return tags, answer({key: np.stack([row[key] for row in rows]) for key in rows[0]})

    def finish(tags: list[tuple[Any, bool]], answers: Answer) -> Iterator[tuple[Any, Answer | None]]:
        answers, row = jax.device_get(answers), 0
        for tag, has_example in tags:
            yield tag, jax.tree.map(lambda x, row=row: x[row], answers) if has_example else None
            row += has_example

    before: tuple[list, Answer] = ([], None)
    for tag, example in items:
        tags.append((tag, example is not None))
        if example is not None:
            examples.append(example)
        if len(examples) == batch_size:
            asked = ask()
            tags, examples = [], []
            yield from finish(*before)
            before = asked
    yield from finish(*before)
    yield from finish(*ask())


def _one_after_another(
    videos: Iterable[Iterator[tuple[Window, Example]]],
) -> Iterator[tuple[Window, Example] | tuple[str, None]]:
    """Yields the windows of all videos, and after those of each what was lost of it, or an empty text."""
    from data_prep.media import RejectedError

    for windows in videos:
        note = ""
        try:
            yield from windows
        except RejectedError as error:
            note = str(error)
        except Exception as error:  # One video must not take the others down, whatever it makes a library raise.
            note = f"unforeseen error ({type(error).__name__}: {error})"
        yield note, None
