"""The file of features that `cmav.embed` writes and goes on with: NumPy's .npz, readable without pickle."""

import contextlib
import csv
import dataclasses
import json
import math
import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any

import numpy as np

from cmav.data import storage
from cmav.errors import UserError

# A video, or a part of one: path, start and end in seconds; None: the file's end.
Part = tuple[str, float, float | None]


@dataclasses.dataclass(frozen=True)
class Row:
    """Features of a part of a video, or of a second of it. The fields are the file's columns; see `cmav.embed`."""

    path: str
    start: float
    end: float  # NaN: the file's end
    seconds: float
    has_audio: bool
    label: str
    note: str
    features: np.ndarray  # float32 [size]

    @property
    def part(self) -> Part:
        return self.path, self.start, None if math.isnan(self.end) else self.end


_DTYPES = {
    "path": str,
    "start": np.float64,
    "end": np.float64,
    "seconds": np.float64,
    "has_audio": np.bool_,
    "label": str,
    "note": str,
    "features": np.float32,
}
# NumPy's text is as wide in every row as in the longest: a note of 5,000 characters would be 20 GB in a million rows.
NOTE_CHARACTERS = 200
MAX_PENDING = 4096  # rows in memory
_BLOCK = 4096  # rows that are copied at a time


class FeatureFile:
    """Rows of features, in the order in which they came, and what they were made with. Few of them are in memory.

    New rows are written to a folder beside the file, `<path>.parts`, a file for each saving, named by the number of its
    first row. `finish` joins them to the file.

    Args:
      path: of the file, local. What is there already is gone on with.
      metadata: what features are made with; anything that JSON can hold.
      origin: keys of the metadata that only say where that came from; they may differ from the file's.

    Attributes:
      parts: the videos, or parts of them, that there are rows of.
      num_rows: of the file, and those to be saved.

    Raises:
      UserError: where the file there was made with something else, or is no such file.
    """

    def __init__(self, path: str, metadata: Mapping[str, Any], origin: Sequence[str] = ()):
        self._path, self._metadata, self._origin = path, dict(metadata), origin
        self._folder = f"{path}.parts"
        self._pending: list[Row] = []
        self.parts: set[Part] = set()
        self.num_rows = 0
        self._size: int | None = None  # of the features
        self._saved: list[str] = []
        if os.path.exists(path):
            self._take(path)
        for name in sorted(os.listdir(self._folder)) if os.path.isdir(self._folder) else ():
            part = os.path.join(self._folder, name)
            if name.endswith(".npz") and int(name.removesuffix(".npz")) >= self.num_rows:
                self._take(part)
                self._saved.append(part)
            else:  # It was joined already, or never finished, when something was killed.
                os.remove(part)

    def add(self, rows: Sequence[Row]) -> None:
        """Adds rows, which are saved by and by.

        Raises:
          ValueError: for features of another size than those before.
        """
        for row in rows:
            self._size = len(row.features) if self._size is None else self._size
            if len(row.features) != self._size:
                raise ValueError(f"{row.path}: {len(row.features)} features, not {self._size} as of the rows before")
        self.parts.update(row.part for row in rows)
        self._pending += rows
        self.num_rows += len(rows)
        if len(self._pending) >= MAX_PENDING:
            self.save()

    def save(self) -> None:
        """Writes the rows that are not yet written: after a kill they are there, or none of them is."""
        if not self._pending:
            return
        columns = {
            name: np.array([getattr(row, name) for row in self._pending], dtype) for name, dtype in _DTYPES.items()
        }
        columns["note"] = columns["note"].astype(f"U{NOTE_CHARACTERS}")
        os.makedirs(self._folder, exist_ok=True)
        part = os.path.join(self._folder, f"{self.num_rows - len(self._pending):012d}.npz")
        with open(f"{part}.tmp", "wb") as file:
            np.savez(file, metadata=np.array(json.dumps(self._metadata)), **columns)
        os.replace(f"{part}.tmp", part)
        self._saved.append(part)
        self._pending = []

    def finish(self) -> None:
        """Joins what was saved to the file; whoever reads meanwhile finds the file before or the file after."""
        self.save()
        if not self._saved:
            return
        storage.patiently(self._write_joined, self._path)
        for part in self._saved:
            os.remove(part)
        self._saved = []
        os.rmdir(self._folder)

    def _write_joined(self) -> None:
        sources = [path for path in (self._path, *self._saved) if os.path.exists(path)]
        temporary = f"{self._path}.tmp"
        try:
            with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
                with archive.open("metadata.npy", "w") as member:
                    np.lib.format.write_array(member, np.array(json.dumps(self._metadata)), allow_pickle=False)
                for name in _DTYPES:
                    _join(archive, name, sources, self.num_rows)
        except BaseException:  # such as a full disk, of which it should leave what it took
            with contextlib.suppress(OSError):
                os.remove(temporary)
            raise
        os.replace(temporary, self._path)

    def _take(self, path: str) -> None:
        """Checks what a file's rows were made with, and counts them."""

        def read() -> tuple[dict[str, Any], dict[str, _Column]]:
            with np.load(path, allow_pickle=False) as arrays:
                metadata = json.loads(str(arrays["metadata"]))
            columns = {name: _Column(path, name) for name in _DTYPES}
            for blocks in zip(*(columns[name].blocks() for name in ("path", "start", "end")), strict=True):
                keys = zip(*(block.tolist() for block in blocks), strict=True)
                self.parts.update((video, start, None if math.isnan(end) else end) for video, start, end in keys)
            return metadata, columns

        try:
            metadata, columns = storage.patiently(read, path)
        except (OSError, ValueError, KeyError, IndexError, EOFError, zipfile.BadZipFile) as error:
            raise UserError(f"--out={path} is there, but is no file of features: choose another.") from error
        changed = [
            f"{name} was {metadata.get(name)}, is {value}"
            for name, value in self._metadata.items()
            if name not in self._origin and metadata.get(name) != value
        ]
        if changed:
            made = ", ".join(f"{name} {metadata.get(name)}" for name in self._origin)
            raise UserError(
                f"--out={self._path} holds features that were made otherwise ({made}):\n  "
                + "\n  ".join(changed)
                + "\nChoose another --out, or the same settings."
            )
        num_rows, self._size = columns["features"].shape
        self.num_rows += num_rows


class _Column:
    """An array of an .npz file, of which only some rows are in memory at a time.

    Attributes:
      shape, dtype: of the array.

    Raises:
      KeyError, ValueError, OSError: where there is no such array.
    """

    def __init__(self, path: str, name: str):
        self._path, self._name = path, f"{name}.npy"
        with self._open() as member:
            self.shape, self.dtype = _read_header(member)

    def blocks(self) -> Iterator[np.ndarray]:
        """Yields the rows, some at a time."""
        with self._open() as member:
            _read_header(member)
            row = self.dtype.itemsize * math.prod(self.shape[1:])
            for first in range(0, self.shape[0], _BLOCK):
                count = min(_BLOCK, self.shape[0] - first)
                data = member.read(count * row)
                yield np.frombuffer(data, self.dtype).reshape(count, *self.shape[1:])

    @contextlib.contextmanager
    def _open(self) -> Iterator[IO[bytes]]:
        with zipfile.ZipFile(self._path) as archive, archive.open(self._name) as member:
            yield member


def _read_header(member: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    version = np.lib.format.read_magic(member)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran_order, dtype = read(member)
    if (fortran_order and len(shape) > 1) or dtype.hasobject:
        raise ValueError("not an array of this program")
    return shape, dtype


def _join(archive: zipfile.ZipFile, name: str, sources: Sequence[str], num_rows: int) -> None:
    """Writes an array of all rows, one block after the other. Text is compressed: most of it is padding."""
    columns = [_Column(path, name) for path in sources]
    dtype = max((column.dtype for column in columns), key=lambda dtype: dtype.itemsize)
    if name == "note":
        dtype = _note_dtype(columns)
    info = zipfile.ZipInfo(f"{name}.npy")
    info.compress_type = zipfile.ZIP_DEFLATED if dtype.kind == "U" else zipfile.ZIP_STORED
    header = {"descr": dtype.str, "fortran_order": False, "shape": (num_rows, *columns[0].shape[1:])}
    with archive.open(info, "w", force_zip64=True) as member:
        np.lib.format.write_array_header_1_0(member, header)
        for column in columns:
            for block in column.blocks():
                member.write(np.ascontiguousarray(block.astype(dtype)).tobytes())


def _note_dtype(columns: Sequence[_Column]) -> np.dtype:
    """As wide as the longest note, at most `NOTE_CHARACTERS`: most files have none."""
    longest = max((len(text) for column in columns for block in column.blocks() for text in block.tolist()), default=0)
    return np.dtype(f"U{min(max(longest, 1), NOTE_CHARACTERS)}")


def write_failures(path: str, failures: Sequence[tuple[Part, str]]) -> None:
    """Writes what failed and why as a CSV that --videos takes; removes the file where nothing did."""
    if not failures:
        if os.path.exists(path):
            os.remove(path)
        return
    with open(path, "w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "start", "end", "reason"])
        for (video, start, end), reason in failures:
            writer.writerow([video, start, "" if end is None else end, reason])
