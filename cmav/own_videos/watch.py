"""A frozen network looks at one's own videos: their windows are decoded, put to it in batches, and sorted by video."""

import contextlib
import dataclasses
import math
import os
import queue
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from cmav import distributed
from cmav.errors import UserError
from cmav.media import decoding
from cmav.media.streams import RejectedError
from cmav.media.windows import example_maker, send_windows
from cmav.training.frozen import FrozenNetwork

MAX_BYTES_AHEAD = 256 << 20  # of decoded windows of each video that is under way

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
    num_workers: int | None = None,
    sees: Any = None,
) -> Iterator[Seen]:
    """Yields what the network says of each video, in order.

    Args:
      network: whose task makes the examples.
      videos: `cmav.media.manifest.Video`s.
      root: the folder that their relative paths start from.
      answer: (variables, batch) -> arrays with a row for each row of the batch; compiled here.
      size: width and height of the pictures before the crop, in pixels.
      spacing: a `cmav.media.Spacing`: where the windows lie.
      batch_size: windows that the network sees at a time; rounded up to what divides over the devices.
      num_workers: processes that decode, each another video; None: one for each CPU core.
      sees: what a window is: `clip`, its shape, and `only_example`, which makes the network's example of it; None: the
        network's task.

    Raises:
      UserError: where storage does not answer.
    """
    sees = sees or network.task
    make_example, clip = example_maker(sees.only_example), sees.clip
    videos = list(videos)
    num_workers = min(num_workers or os.cpu_count() or 1, len(videos))
    with contextlib.ExitStack() as stack:
        workers = [decoding.worker() for _ in range(num_workers)]
        free: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for worker in workers:
            free.put(worker)

        def examples(video: Any) -> Iterator[tuple[Window, Example]]:
            worker = free.get()  # There is one: as many videos are under way as there are workers.
            try:
                for one in decoding.read(worker, send_windows, video, root, clip, size, spacing):
                    yield window_of(one), make_example(one)
            finally:
                free.put(worker)

        coming = decoding.ahead(map(examples, videos), max(num_workers, 1), windows_ahead(clip, size))
        stack.callback(coming.close)
        stack.callback(lambda: [worker.end() for worker in workers])  # before that: then no thread waits for one
        yield from _by_video(coming, network, answer, batch_size)


def picture_size(size: int | None, crop_size: int) -> int:
    """Width and height of pictures before the central crop, as much larger as 256 is than 224 where `size` is None.

    Raises:
      UserError: where `size` is smaller than the crop.
    """
    if size is None:
        return round(crop_size * 256 / 224)
    if size < crop_size:
        raise UserError(f"--size={size} is smaller than the network's crop of {crop_size} pixels.")
    return size


def window_of(clip: Any) -> Window:
    """Where a `schema.Clip` lies."""
    return Window(clip.start_seconds, clip.start_seconds + clip.seconds, clip.has_audio)


def windows_ahead(clip: Any, size: int) -> int:
    """How many windows of a clip's shape, of pictures of this size, may wait for the network."""
    return max(2, MAX_BYTES_AHEAD // (clip.stored_frames * size * size * 3))


def _by_video(
    videos: Iterable[Iterator[tuple[Window, Example]]], network: FrozenNetwork, answer: Callable, batch_size: int
) -> Iterator[Seen]:
    compiled = jax.jit(answer)
    items = in_batches(
        _one_after_another(videos),
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


def in_batches(
    items: Iterable[tuple[Any, Example | None]], answer: Callable[[Example], Answer], batch_size: int
) -> Iterator[tuple[Any, Answer | None]]:
    """Yields the items in order, with the network's answer, NumPy, in the place of each example.

    The devices work on a batch while the next one is being decoded. The last batch is padded with zeros.
    """
    tags: list[tuple[Any, bool]] = []
    examples: list[Example] = []

    def run() -> tuple[list[tuple[Any, bool]], Answer]:
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
            pending = run()
            tags, examples = [], []
            yield from finish(*before)
            before = pending
    yield from finish(*before)
    yield from finish(*run())


def _one_after_another(
    videos: Iterable[Iterator[tuple[Window, Example]]],
) -> Iterator[tuple[Window, Example] | tuple[str, None]]:
    """Yields the windows of all videos, and after those of each what was lost of it, or an empty text."""
    for windows in videos:
        note = ""
        try:
            yield from windows
        except RejectedError as error:
            note = str(error)
        yield note, None
