"""What a plan must know of all videos at once, in 56 bytes each, so that two million of them are read in a second.

A NumPy array, one row a listed video:

| column      | meaning                                                                                        |
| ----------- | ---------------------------------------------------------------------------------------------- |
| `key`       | of the file, the part of it, and which row this is of those that are the same                  |
| `facts`     | of the label's name and the official splits                                                    |
| `source`    | of the path as listed                                                                          |
| `name`      | of what its clips are called                                                                   |
| `start`     | milliseconds                                                                                   |
| `end`       | milliseconds; -1: the video's end                                                              |
| `num_bytes` | size of the file when it was planned; -1: it was not there                                     |

The first four are hashes of 64 bits, the same on every machine. That two of two million are equal by chance has a
probability of one in ten million.
"""

import functools
import hashlib

import numpy as np

from cmav.media.videos import Videos

DTYPE = np.dtype(
    [
        ("key", "<u8"),
        ("facts", "<u8"),
        ("source", "<u8"),
        ("name", "<u8"),
        ("start", "<i8"),
        ("end", "<i8"),
        ("num_bytes", "<i8"),
    ]
)


def of(videos: Videos) -> np.ndarray:
    """The keys of listed videos, in their order: DTYPE [num_videos]. `source`, `name`, `num_bytes` are filled later."""
    found = np.zeros(len(videos), DTYPE)
    key, facts, starts, ends = (found[column] for column in ("key", "facts", "start", "end"))
    for place, video in enumerate(videos):
        start, end = round(video.start * 1000), -1 if video.end is None else round(video.end * 1000)
        key[place] = hashed(f"{video.source}\0{start}\0{end}")
        facts[place] = _facts_hash(video.label_name, video.splits)
        starts[place], ends[place] = start, end
    # Rows that are listed twice are two videos.
    order = np.argsort(found["key"], kind="stable")
    places, in_order = np.arange(len(found)), found["key"][order]
    is_first = np.append(True, in_order[1:] != in_order[:-1])[: len(found)]
    copies = places - np.maximum.accumulate(np.where(is_first, places, 0))
    for place in np.flatnonzero(copies).tolist():
        found["key"][order[place]] = hashed(f"{in_order[place]}\0{copies[place]}")
    return found


def complete(found: np.ndarray, videos: Videos) -> None:
    """Fills in what only a plan that is made anew needs."""
    sources, names, sizes = (found[column] for column in ("source", "name", "num_bytes"))
    for place, video in enumerate(videos):
        sources[place], names[place], sizes[place] = hashed(video.source), hashed(video.name), video.num_bytes


def digest(found: np.ndarray) -> str:
    """The same text for the same listing, in whatever order."""
    order = np.argsort(found["key"])
    state = hashlib.blake2b(digest_size=16)
    for column in ("key", "facts"):
        state.update(found[column][order].tobytes())
    return state.hexdigest()


def hashed(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


@functools.lru_cache(maxsize=100_000)
def _facts_hash(label_name: str, splits: tuple[str, ...]) -> int:
    return hashed("\0".join((label_name, *splits)))
