"""Which videos to build from: the media files of a folder, or the rows of a CSV file.

Labelled data sets are listed in their own forms: see `datasets.py`, which gives the same `Manifest`.
"""

import csv
import dataclasses
import functools
import io
import math
import mimetypes
import os
import posixpath
import sys
from collections.abc import Iterator, Mapping, Sequence

import tensorflow as tf

from cmav.data import storage
from cmav.errors import UserError
from cmav.media import labels
from cmav.media.videos import Video, Videos, named, stem

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
class Manifest:
    """Videos by split.

    Attributes:
      root: the folder that relative paths start from, absolute.
      splits: videos of each split, in a fixed order; the sizes of their files are not looked up yet.
      classes: names of the classes by number; empty where labels are numbers or absent.
      notes: what whoever builds from it should be told.
      sound_only: the files are sounds, of which clips without pictures are cut.
    """

    root: str
    splits: dict[str, Sequence[Video]]
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
    if storage.is_folder(videos):
        return walk(videos, split or DEFAULT_SPLIT)
    if storage.exists(videos):
        return read_csv(videos, split)
    raise ManifestError(f"--videos {videos}: there is no such folder or CSV file")


def walk(folder: str, split: str) -> Manifest:
    """Lists all files under a folder whose extension says that they are media, in sorted order."""
    root = absolute(folder)
    sources = sorted(name for name in files_below(root) if is_media(name))
    if not sources:
        raise ManifestError(
            f"--videos {folder}: no file there has the extension of a media file.\n"
            "To make videos to try: python data_prep/synthesize_videos.py --out videos"
        )
    return Manifest(root, {split: named(Video(source, stem(source)) for source in sources)})


def read_csv(path: str, split: str | None) -> Manifest:
    """Reads a CSV file with a header line and a row for each video, or part of one.

    Columns, in any order: `path` (absolute, or relative to the CSV's folder); optionally `start` and `end` (seconds),
    `label` (see `labels.class_list`), `split` (the split to build it into) and `splits` (official splits it belongs to,
    separated by ";": each can be opened by its name once the split that holds it is built). Others are not used.

    Raises:
      ManifestError: where a column or a value is wrong; names the row.
    """
    columns = next(_lines(path), (0, []))[1]
    columns = [name.strip().lower() for name in columns]
    if "path" not in columns:
        raise ManifestError(
            f"{path}: the header line has no column `path` (columns there: {', '.join(columns) or 'none'}; possible: "
            f"{', '.join(COLUMNS)})"
        )
    # Twice through the file: of millions of rows, only the videos are kept.
    classes, notes = _classes(path, columns) if "label" in columns else ((), ())
    videos, split_of_rows = Videos(), []
    for row in _rows(path, columns):
        videos.append(row.video(classes))
        split_of_rows.append(sys.intern(row.required("split")) if "split" in columns else split or DEFAULT_SPLIT)
    named(videos)
    places: dict[str, list[int]] = {}
    for place, name in enumerate(split_of_rows):
        places.setdefault(name, []).append(place)
    if not videos or (split and split not in places):
        found = ", ".join(sorted(places)) or "no rows at all"
        raise ManifestError(f"{path} lists no video of the split {split!r} (it lists: {found})")
    by_split = {name: videos.take(places[name]) for name in ([split] if split else sorted(places))}
    root = path.rpartition("/")[0] if "://" in path else os.path.dirname(os.path.abspath(path))
    unused = [name for name in columns if name not in COLUMNS]
    if unused:
        notes = (*notes, f"{path}: columns that are not used: {', '.join(unused)}")
    return Manifest(root, by_split, classes, notes)


def read_text(path: str) -> str:
    """Reads a list of any form.

    Raises:
      ManifestError: where it is not in UTF-8.
    """
    try:
        return storage.read_bytes(path).decode("utf-8-sig")
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


def _lines(path: str) -> Iterator[tuple[int, list[str]]]:
    """The lines of a CSV file that are not empty, the header's first, each with its number."""
    with io.TextIOWrapper(io.BytesIO(storage.read_bytes(path)), "utf-8-sig", newline="") as text:
        reader = csv.reader(text, skipinitialspace=True)
        try:
            for values in reader:
                if any(values):
                    yield reader.line_num, values
        except UnicodeDecodeError as error:
            raise ManifestError(f"{path} is not a text in UTF-8: {error}") from error
        except csv.Error as error:
            raise ManifestError(f"{path}, line {reader.line_num}: {error}") from error


def _rows(path: str, columns: Sequence[str]) -> Iterator["_Row"]:
    places = {name: place for place, name in enumerate(columns)}
    lines = _lines(path)
    next(lines)
    return (_Row(path, number, places, values) for number, values in lines)


@dataclasses.dataclass(frozen=True, slots=True)
class _Row:
    path: str
    line: int
    places: Mapping[str, int]
    values: Sequence[str]

    @property
    def where(self) -> str:
        return f"{self.path}, line {self.line}"

    def text(self, column: str) -> str:
        place = self.places.get(column, math.inf)
        return self.values[place].strip() if place < len(self.values) else ""

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
            name=stem(source),
            start=start,
            end=end,
            label=labels.class_number(label, classes),
            label_name=label,
            splits=tuple(name.strip() for name in self.text("splits").split(SPLITS_SEPARATOR) if name.strip()),
        )


def _classes(path: str, columns: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the classes, and what should be told of them."""
    listed = {row.text("label") for row in _rows(path, columns)}
    try:
        classes = labels.class_list(listed)
    except labels.LabelError as error:
        where = next(row.where for row in _rows(path, columns) if row.text("label") == error.label)
        raise ManifestError(f"{where}: {error}") from error
    note = labels.sparseness(listed, classes)
    return classes, (f"{path}: {note}",) if note else ()


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
