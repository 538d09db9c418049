"""The same moments of a video in two splits: what is measured on one would have been trained on in the other."""

import collections
import functools
import math
import os
from collections.abc import Iterable, Mapping

from cmav.errors import UserError
from cmav.media.videos import Video

MAX_NAMED = 3  # files in the error

_real_folder = functools.lru_cache(maxsize=65_536)(os.path.realpath)

# A part of a file: where the file really is, and seconds; None: the file's end.
Part = tuple[str, float, float | None]


class OverlapError(UserError):
    """Splits share moments of a video. The message says which."""


def check(splits: Mapping[str, Iterable[Part]]) -> None:
    """Checks that no moment of a file is in two splits. Within a split, parts may overlap.

    Raises:
      OverlapError: names files, parts and splits.
    """
    by_file = collections.defaultdict(list)
    for split, parts in splits.items():
        for path, start, end in parts:
            by_file[path].append((start, math.inf if end is None else end, split))
    shared = []
    for path, parts in by_file.items():
        if len(parts) > 1 and (pair := _overlapping(sorted(parts))):
            shared.append((path, *pair))
    if shared:
        named = "\n".join(f"  {path}: {_words(one)} and {_words(other)}" for path, one, other in shared[:MAX_NAMED])
        more = f"\n  … and {len(shared) - MAX_NAMED} more" * (len(shared) > MAX_NAMED)
        raise OverlapError(
            f"{len(shared)} {'file is' if len(shared) == 1 else 'files are'} in two splits:\n{named}{more}\n"
            "What is evaluated on one would have been seen in training. List each file, or each part of it, in one "
            "split (--validation_share divides a folder so), or give --allow_overlap."
        )


def real_parts(videos: Iterable[Video], root: str) -> list[Part]:
    """The parts of files that videos are, by where the files really are: behind links, wherever they are listed from.

    Args:
      videos: as listed.
      root: the folder that relative paths start from; local or remote.
    """
    return [(_real_path(root, video.source), video.start, video.end) for video in videos]


def _real_path(root: str, source: str) -> str:
    if "://" in source:
        return source
    if "://" in root:
        return f"{root.rstrip('/')}/{source}"
    path = os.path.join(root, source)
    # Folders are few and files are many: only a file that is a link itself is followed on its own.
    return (
        os.path.realpath(path)
        if os.path.islink(path)
        else os.path.join(_real_folder(os.path.dirname(path)), os.path.basename(path))
    )


def _overlapping(parts: list[tuple[float, float, str]]) -> tuple[tuple, tuple] | None:
    """Two parts of different splits that share a moment, of parts in the order of their starts."""
    latest: dict[str, tuple[float, float, str]] = {}  # of each split, the part that ends last so far
    for part in parts:
        start, end, split = part
        for other, before in latest.items():
            if other != split and before[1] > start:
                return before, part
        if split not in latest or latest[split][1] < end:
            latest[split] = part
    return None


def _words(part: tuple[float, float, str]) -> str:
    start, end, split = part
    if start == 0 and end == math.inf:
        return f"all of it in {split!r}"
    return f"{start:g} s to {'its end' if end == math.inf else f'{end:g} s'} in {split!r}"
