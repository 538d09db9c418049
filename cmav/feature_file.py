"""The file of features that `cmav.embed` writes and goes on with: NumPy's .npz, readable without pickle."""

import csv
import dataclasses
import json
import math
import os
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

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


class FeatureFile:
    """Rows of features, in the order in which they came, and what they were made with.

    Args:
      path: of the file, local. What is there already is read.
      metadata: what features are made with; anything that JSON can hold.
      origin: keys of the metadata that only say where that came from; they may differ from the file's.

    Attributes:
      rows: of the file, and those to be saved.

    Raises:
      UserError: where the file there was made with something else, or is no such file.
    """

    def __init__(self, path: str, metadata: Mapping[str, Any], origin: Sequence[str] = ()):
        self._path, self._metadata = path, dict(metadata)
        self.rows: list[Row] = self._load(origin) if os.path.exists(path) else []

    def save(self) -> None:
        """Writes all rows; whoever reads meanwhile, or after a kill, finds the file before or the file after."""
        columns = {name: np.array([getattr(row, name) for row in self.rows], dtype) for name, dtype in _DTYPES.items()}
        os.makedirs(os.path.dirname(os.path.abspath(self._path)), exist_ok=True)
        temporary = f"{self._path}.tmp"
        with open(temporary, "wb") as file:  # Opened here, because NumPy would put ".npz" after another name.
            np.savez(file, metadata=np.array(json.dumps(self._metadata)), **columns)
        os.replace(temporary, self._path)

    def _load(self, origin: Sequence[str]) -> list[Row]:
        try:
            with np.load(self._path, allow_pickle=False) as arrays:
                metadata = json.loads(str(arrays["metadata"]))
                columns = [arrays[name] for name in _DTYPES]
        except (OSError, ValueError, KeyError, IndexError, EOFError, zipfile.BadZipFile) as error:
            raise UserError(f"--out={self._path} is there, but is no file of features: choose another.") from error
        changed = [
            f"{name} was {metadata.get(name)}, is {value}"
            for name, value in self._metadata.items()
            if name not in origin and metadata.get(name) != value
        ]
        if changed:
            made = ", ".join(f"{name} {metadata.get(name)}" for name in origin)
            raise UserError(
                f"--out={self._path} holds features that were made otherwise ({made}):\n  "
                + "\n  ".join(changed)
                + "\nChoose another --out, or the same settings."
            )
        *scalars, features = columns
        return [Row(*row) for row in zip(*(column.tolist() for column in scalars), features, strict=True)]


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
