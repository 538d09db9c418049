"""Which videos to build from: the media files of a folder, or the rows of a CSV file.

Labelled data sets are listed in their own forms: see `datasets.py`, which gives the same `Manifest`.
"""

import bisect
import collections
import csv
import dataclasses
import functools
import io
import math
import mimetypes
import os
import posixpath
from collections.abc import Iterator, Sequence

import tensorflow as tf

from cmav.data import schema
from cmav.errors import UserError

DEFAULT_SPLIT = "train"
COLUMNS = ("path", "start", "end", "label", "split", "splits")
SPLITS_SEPARATOR = ";"

# What Python's own table, which does not depend on the machine, does not have.
_MORE_EXTENSIONS = (
    "3g2 3gp 3gpp amr asf divx dv f4v flac flv m2t m2ts m2v m4a m4v mj2 mkv mpv mts mxf nut ogg ogm ogv opus qt rm rmvb"
    " ts vob wma wmv y4m"
)


class ManifestError(UserError):
    """The list of videos cannot be used. The message says where and what to do."""


@dataclasses.dataclass(frozen=True)
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
      num_bytes: size of the file; -1 where it is not there.
    """

    source: str
    name: str
    start: float = 0.0
    end: float | None = None
    label: int = schema.NO_LABEL
    label_name: str = ""
    splits: tuple[str, ...] = ()
    num_bytes: int = -1

    def path(self, root: str) -> str:
        """Where the file is, given the folder that relative paths start from."""
        return self.source if "://" in self.source else os.path.join(root, self.source)


@dataclasses.dataclass(frozen=True)
class Manifest:
    """Videos by split.

    Attributes:
      root: the folder that relative paths start from, absolute.
      splits: videos of each split, in a fixed order.
      classes: names of the classes by number; empty where labels are numbers or absent.
      notes: what whoever builds from it should be told.
      sound_only: the files are sounds, of which clips without pictures are cut.
    """

    root: str
    splits: dict[str, list[Video]]
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    sound_only: bool = False


def read(videos: str, split: str | None) -> Manifest:
    """Lists the videos of a folder or of a CSV file.

    Args:
      videos: a folder, walked to its depth, or a CSV file (see `read_csv`).
      split: the split to build; None: each one that the CSV lists, or `train` where it lists none.

    Raises:
      ManifestError: where there is nothing to build from or the CSV is wrong.
    """
    if tf.io.gfile.isdir(videos):
        listed = walk(videos, split or DEFAULT_SPLIT)
    elif tf.io.gfile.exists(videos):
        listed = read_csv(videos, split)
    else:
        raise ManifestError(f"--videos {videos}: there is no such folder or CSV file")
    return with_sizes(listed)


def walk(folder: str, split: str) -> Manifest:
    """Lists all files under a folder whose extension says that they are media, in sorted order."""
    root = absolute(folder)
    sources = sorted(name for name in files_below(root) if is_media(name))
    if not sources:
        raise ManifestError(
            f"--videos {folder}: no file there has the extension of a media file.\n"
            "To make videos to try: python data_prep/synthesize_videos.py --out videos"
        )
    return Manifest(root, {split: named([Video(source, "") for source in sources])})


def read_csv(path: str, split: str | None) -> Manifest:
    """Reads a CSV file with a header line and a row for each video, or part of one.

    Columns, in any order: `path` (absolute, or relative to the CSV's folder); optionally `start` and `end` (seconds),
    `label` (a number, or a name: names are numbered in sorted order over the whole file), `split` (the split to build
    it into) and `splits` (official splits it belongs to, separated by ";": each can be opened by its name once the
    split that holds it is built). Others are not used.

    Raises:
      ManifestError: where a column or a value is wrong; names the row.
    """
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""), skipinitialspace=True)
    reader.fieldnames = [name.strip().lower() for name in reader.fieldnames or ()]
    if "path" not in reader.fieldnames:
        columns = ", ".join(reader.fieldnames) or "none"
        raise ManifestError(
            f"{path}: the header line has no column `path` (columns there: {columns}; possible: {', '.join(COLUMNS)})"
        )
    has_splits = "split" in reader.fieldnames
    rows = [_Row(f"{path}, line {reader.line_num}", row) for row in reader if any(row.values())]
    classes = _class_list([row.text("label") for row in rows])
    videos = named([row.video(classes) for row in rows])
    by_split: dict[str, list[Video]] = {}
    for row, video in zip(rows, videos, strict=True):
        by_split.setdefault(row.required("split") if has_splits else split or DEFAULT_SPLIT, []).append(video)
    if not rows or (split and split not in by_split):
        found = ", ".join(sorted(by_split)) or "no rows at all"
        raise ManifestError(f"{path} lists no video of the split {split!r} (it lists: {found})")
    root = path.rpartition("/")[0] if "://" in path else os.path.dirname(os.path.abspath(path))
    unused = [name for name in reader.fieldnames if name not in COLUMNS]
    notes = (f"{path}: columns that are not used: {', '.join(unused)}",) if unused else ()
    return Manifest(root, {split: by_split[split]} if split else dict(sorted(by_split.items())), classes, notes)


def read_text(path: str) -> str:
    """Reads a list of any form.

    Raises:
      ManifestError: where it is not in UTF-8.
    """
    with tf.io.gfile.GFile(path, "rb") as file:
        data = file.read()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path} is not a text in UTF-8: {error}") from error


def is_media(name: str) -> bool:
    """Whether the extension says that a file holds video or sound."""
    extension = os.path.splitext(name)[1].lower()
    return extension in _media_extensions()


@functools.cache
def _media_extensions() -> frozenset[str]:
    # A fresh MimeTypes has Python's table only; the module's functions would mix in the machine's.
    known = mimetypes.MimeTypes().types_map[True].items()
    media = {extension for extension, kind in known if kind.startswith(("video/", "audio/"))}
    return frozenset(media.union(f".{name}" for name in _MORE_EXTENSIONS.split()))


@dataclasses.dataclass(frozen=True)
class _Row:
    where: str
    values: dict[str, str]

    def text(self, column: str) -> str:
        return (self.values.get(column) or "").strip()

    def required(self, column: str) -> str:
        if not self.text(column):
            raise ManifestError(f"{self.where}: `{column}` is empty")
        return self.text(column)

    def seconds(self, column: str) -> float | None:
        text = self.text(column)
        try:
            value = float(text or 0)
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or value < 0:
            raise ManifestError(f"{self.where}: `{column}` must be a number of seconds, not {text!r}")
        return round(value, 3) if text else None

    def video(self, classes: Sequence[str]) -> Video:
        start, end = self.seconds("start") or 0.0, self.seconds("end")
        if end is not None and end <= start:
            raise ManifestError(f"{self.where}: `end` ({end:g}) must be greater than `start` ({start:g})")
        label = self.text("label")
        if len(label.splitlines()) > 1:
            raise ManifestError(f"{self.where}: `label` has more than one line")
        source = self.required("path")
        return Video(
            source=source if "://" in source else posixpath.normpath(source),
            name="",
            start=start,
            end=end,
            label=_class_number(label, classes),
            label_name=label,
            splits=tuple(name.strip() for name in self.text("splits").split(SPLITS_SEPARATOR) if name.strip()),
        )


def _class_list(labels: Sequence[str]) -> tuple[str, ...]:
    """Names of the classes, sorted; empty where all labels are numbers."""
    names = {label for label in labels if label}
    return () if all(name.isdecimal() for name in names) else tuple(sorted(names))


def _class_number(label: str, classes: Sequence[str]) -> int:
    if not label:
        return schema.NO_LABEL
    return bisect.bisect_left(classes, label) if classes else int(label)


def named(videos: Sequence[Video]) -> list[Video]:
    """Gives each video the name from which its clips are called, so that no two clips are called the same.

    Files that share a stem are called by their paths. Of rows that overlap in one file, the later ones get ~2, ~3, ...
    """
    files_of_stem = collections.Counter(stem(source) for source in {video.source for video in videos})
    order = sorted(range(len(videos)), key=lambda i: (videos[i].source, videos[i].start, i))
    result = list(videos)
    source, row, covered = None, 1, 0.0
    for i in order:
        video = videos[i]
        source, row, covered = (video.source, 1, 0.0) if video.source != source else (source, row + 1, covered)
        name = stem(video.source) if files_of_stem[stem(video.source)] == 1 else video.source
        overlaps = row > 1 and video.start < covered
        covered = max(covered, math.inf if video.end is None else video.end)
        result[i] = dataclasses.replace(video, name=f"{name}~{row}" if overlaps else name)
    return result


def with_sizes(listed: Manifest) -> Manifest:
    """Looks up the sizes of all files."""
    splits = {name: [_with_size(video, listed.root) for video in videos] for name, videos in listed.splits.items()}
    return dataclasses.replace(listed, splits=splits)


def _with_size(video: Video, root: str) -> Video:
    path = video.path(root)
    try:  # tf.io.gfile knows no local names that are not Unicode
        num_bytes = tf.io.gfile.stat(path).length if "://" in path else os.stat(path).st_size
    except (OSError, tf.errors.OpError):
        return video
    return dataclasses.replace(video, num_bytes=num_bytes)


def stem(source: str) -> str:
    """The file's name without folder and extension."""
    return posixpath.splitext(posixpath.basename(source))[0]


def absolute(folder: str) -> str:
    """The folder's path, local or remote, without a slash at its end."""
    return folder.rstrip("/") if "://" in folder else os.path.abspath(folder)


def files_below(root: str) -> Iterator[str]:
    """Paths of all files below a folder, relative to it, with "/" between their parts."""
    if "://" in root:
        for folder, _, names in tf.io.gfile.walk(root):
            yield from (f"{folder.rstrip('/')}/{name}"[len(root) + 1 :] for name in names)
        return
    # Folders behind links belong to the data set too, each once: links may go round in circles.
    seen = set()
    for folder, subfolders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        for name in names:
            yield os.path.relpath(os.path.join(folder, name), root).replace(os.sep, "/")
