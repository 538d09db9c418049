"""What is to be cut: one video, and lists of millions of them."""

import dataclasses
import marshal
import math
import operator
import os
from collections.abc import Iterable, Sequence

import numpy as np

from cmav.data import schema


@dataclasses.dataclass(frozen=True, slots=True)
class Video:
    """One video to cut, or a part of one.

    Attributes:
      source: the path as listed: relative to the folder, or as the CSV gives it.
      name: what its clips are called: the file's stem where no other file has it, else the path as listed.
      start: seconds from the first frame at which to begin, rounded to milliseconds.
      end: seconds from the first frame at which to end; None: the video's end.
      label: number of the class, -1 where there is none.
      label_name: as listed, empty where there is none.
      splits: official splits that it belongs to.
      num_bytes: size of the file; -1 where it is not there; None where nobody has looked yet.
    """

    source: str
    name: str
    start: float = 0.0
    end: float | None = None
    label: int = schema.NO_LABEL
    label_name: str = ""
    splits: tuple[str, ...] = ()
    num_bytes: int | None = None

    def path(self, root: str) -> str:
        """Where the file is, given the folder that relative paths start from."""
        return self.source if "://" in self.source else os.path.join(root, self.source)


FIELDS = tuple(field.name for field in dataclasses.fields(Video))
_values = operator.attrgetter(*FIELDS)


class Videos(Sequence[Video]):
    """A list of videos, each packed into about 150 bytes: of two million as objects the lists alone take gigabytes."""

    def __init__(self, videos: Iterable[Video] = ()):
        self._packed = list(videos._packed) if isinstance(videos, Videos) else [_pack(video) for video in videos]

    def __len__(self) -> int:
        return len(self._packed)

    def __getitem__(self, place: int | slice) -> "Video | Videos":
        if not isinstance(place, slice):
            return _unpack(self._packed[place])
        part = Videos()
        part._packed = self._packed[place]
        return part

    def __iter__(self):
        return map(_unpack, self._packed)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None

    def append(self, video: Video) -> None:
        self._packed.append(_pack(video))

    def replace(self, place: int, **changes) -> None:
        """Changes a video where it is."""
        self._packed[place] = _pack(dataclasses.replace(self[place], **changes))

    def take(self, places: Iterable[int]) -> "Videos":
        """Those at some places, in this order."""
        part = Videos()
        part._packed = [self._packed[place] for place in places]
        return part


def _pack(video: Video) -> bytes:
    return marshal.dumps(_values(video))


def _unpack(packed: bytes) -> Video:
    return Video(*marshal.loads(packed))


def named(videos: Iterable[Video]) -> Videos:
    """Gives each video the name from which its clips are called, so that no two clips are called the same.

    Files that share a stem are called by their paths. Of rows that overlap in one file, the later ones get ~2, ~3, ...
    """
    result = videos if isinstance(videos, Videos) else Videos(videos)
    # Hashes in place of texts: two that are equal by chance would only have a file called by its path.
    sources, stems = np.empty((2, len(result)), np.int64)
    is_stem = np.empty(len(result), bool)
    for i, video in enumerate(result):
        name = stem(video.source)
        sources[i], stems[i], is_stem[i] = hash(video.source), hash(name), video.name == name
    _, first, rows_of, num_rows = np.unique(sources, return_index=True, return_inverse=True, return_counts=True)
    stems_of_files, num_files = np.unique(stems[first], return_counts=True)
    shares_stem = np.isin(stems, stems_of_files[num_files > 1])
    in_parts = num_rows[rows_of] > 1
    for i in np.flatnonzero(~in_parts & (shares_stem | ~is_stem)).tolist():
        source = result[i].source
        result.replace(i, name=source if shares_stem[i] else stem(source))
    _name_parts(result, np.flatnonzero(in_parts).tolist(), shares_stem)
    return result


def _name_parts(videos: Videos, numbers: list[int], shares_stem: np.ndarray) -> None:
    """Names the videos of files that have several."""
    order = sorted((videos[i].source, videos[i].start, i) for i in numbers)
    source, row, covered = None, 1, 0.0
    for _, _, i in order:
        video = videos[i]
        source, row, covered = (video.source, 1, 0.0) if video.source != source else (source, row + 1, covered)
        name = video.source if shares_stem[i] else stem(video.source)
        overlaps = row > 1 and video.start < covered
        covered = max(covered, math.inf if video.end is None else video.end)
        videos.replace(i, name=f"{name}~{row}" if overlaps else name)


def stem(source: str) -> str:
    """The file's name without folder and extension."""
    name = source.rpartition("/")[2]
    without = name.rpartition(".")[0]
    return without if without.strip(".") else name
