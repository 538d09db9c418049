"""What is known of files before any is decoded: how large they are, and how long the long ones."""

import concurrent.futures
import dataclasses
import json
import os
import pathlib
import tempfile
from collections.abc import Callable, Mapping, Sequence

import tensorflow as tf

from cmav.data.storage import patiently
from cmav.media.streams import SEEKABLE_FORMATS, RejectedError, StreamReader, video_stream
from cmav.media.videos import Video, Videos
from cmav.prep import workers

NUM_THREADS = 64  # each waits for a disk or a bucket
_PER_TASK = 1000  # files
_PER_UNIT = 64  # headers


def size(path: str) -> int:
    """Size of a file in bytes; -1 where it is not there.

    Raises:
      StorageError: where storage does not answer.
    """
    try:  # tf.io.gfile knows no local names that are not Unicode
        return patiently(lambda: tf.io.gfile.stat(path).length if "://" in path else os.stat(path).st_size, path)
    except (OSError, ValueError, tf.errors.OpError):
        return -1


def complete(videos: Videos, root: str) -> None:
    """Looks up the sizes of files that are not known yet, many at a time.

    Raises:
      StorageError: where storage does not answer.
    """

    def look(first: int) -> list[tuple[int, int]]:
        part = enumerate(videos[first : first + _PER_TASK], start=first)
        return [(place, size(video.path(root))) for place, video in part if video.num_bytes is None]

    with concurrent.futures.ThreadPoolExecutor(NUM_THREADS) as pool:
        for found in pool.map(look, range(0, len(videos), _PER_TASK)):
            for place, num_bytes in found:
                videos.replace(place, num_bytes=num_bytes)


@dataclasses.dataclass(frozen=True)
class _Headers:
    """A unit of work for `workers.run`: headers to read, by decoders that may crash. The seconds go to a file."""

    root: str
    out: str
    split: str
    shard: int
    videos: Sequence[Video]


def seconds(videos: Sequence[Video], root: str, split: str, num_workers: int) -> list[float | None]:
    """How long videos are by their headers, from the first frame; None where it is not known, or seeking is no use."""
    with tempfile.TemporaryDirectory() as folder:
        units = [
            _Headers(root, os.path.join(folder, f"{first}.json"), split, number, videos[first : first + _PER_UNIT])
            for number, first in enumerate(range(0, len(videos), _PER_UNIT))
        ]
        workers.run(units, read_headers, num_workers)
        return [value for unit in units for value in json.loads(pathlib.Path(unit.out).read_text())]


def read_headers(
    unit: _Headers,
    *,
    alive: Callable[[], None] = lambda: None,
    begins: Callable[[int], None] = lambda video: None,
    skip: Mapping[int, str] | None = None,
) -> None:
    """Does a unit of work; as `shards.build`."""
    found = []
    for number, video in enumerate(unit.videos):
        begins(number)
        found.append(None if number in (skip or {}) else _header_seconds(video.path(unit.root), alive))
    begins(len(unit.videos))
    pathlib.Path(unit.out).write_text(json.dumps(found))


def _header_seconds(path: str, alive: Callable[[], None]) -> float | None:
    try:
        reader = StreamReader(path, video_stream, alive)
    except RejectedError:
        return None
    try:
        stream, container = reader.stream, reader.stream.container
        if container.format.name not in SEEKABLE_FORMATS:
            return None
        if stream.duration:
            return float(stream.duration * stream.time_base)
        return container.duration / 1e6 if container.duration else None
    finally:
        reader.close()
