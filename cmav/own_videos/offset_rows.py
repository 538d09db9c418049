"""What was found of the offsets of videos: kept line by line, and written as a table.

A row is a dict that JSON can hold. Times are in seconds from the video's first frame, offsets in milliseconds, positive
where the sound is late:

| key                                 | meaning                                                                     |
| ----------------------------------- | --------------------------------------------------------------------------- |
| `path`, `start`, `end`              | the video, absolute, and the part of it; `end` null: the file's end          |
| `offset_ms`                         | null: it cannot be told                                                     |
| `low_ms`, `high_ms`, `confidence`   | see `cmav.offsets.estimate.Estimate`                                        |
| `verdict`                           | in words                                                                    |
| `segments`                          | where the offset changes: `start`, `end`, `first_ms`, `last_ms` of each part |
| `shifts_ms`, `curve`                | the shifts that were tried, and the log-likelihood of each; null: none      |
| `picture`                           | of the curve; its name in the folder of the report                          |
| `note`                              | what of the video was lost, or empty                                        |
| `fixed`, `fixed_verdict`            | with `--fix`: the corrected copy, and what is said of it or why there is none |
"""

import csv
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from cmav.errors import UserError
from cmav.own_videos.feature_file import Part
from cmav.own_videos.offsets import Found

COLUMNS = ("path", "offset_ms", "low_ms", "high_ms", "confidence", "verdict")
_PART_COLUMNS = ("start", "end")
_FIX_COLUMNS = ("fixed", "fixed_verdict")
NAME = "rows.jsonl"


class OffsetRows:
    """The rows of a report's folder, in a file of lines whose first says what they were made with.

    A line is written as soon as its video is done; one that was cut off by a kill is not there.

    Args:
      folder: of the report; local. What is there already is gone on with.
      metadata: what rows are made with; anything that JSON can hold.
      origin: keys of the metadata that only say where that came from; they may differ from the file's.

    Attributes:
      rows: by part, in the order in which they came.

    Raises:
      UserError: where the file there was made with something else, or is no such file.
    """

    def __init__(self, folder: str, metadata: Mapping[str, Any], origin: Sequence[str] = ()):
        self._path, self._metadata = os.path.join(folder, NAME), dict(metadata)
        self.rows: dict[Part, dict[str, Any]] = {}
        os.makedirs(folder, exist_ok=True)
        if os.path.exists(self._path):
            self._take(origin)
        self.save()

    def add(self, row: dict[str, Any]) -> None:
        self.rows[part_of(row)] = row
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(_line(row))

    def save(self) -> None:
        """Writes all rows anew, after some of them were changed."""
        with open(f"{self._path}.tmp", "w", encoding="utf-8") as file:
            file.writelines(map(_line, (self._metadata, *self.rows.values())))
        os.replace(f"{self._path}.tmp", self._path)

    def _take(self, origin: Sequence[str]) -> None:
        with open(self._path, encoding="utf-8") as file:
            lines = file.read().split("\n")[:-1]  # What has no end was cut off.
        try:
            metadata, *rows = map(json.loads, lines)
            changed = [
                f"{name} was {metadata.get(name)}, is {value}"
                for name, value in self._metadata.items()
                if name not in origin and metadata.get(name) != value
            ]
            self.rows = {part_of(row): row for row in rows}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{self._path} is no file of offsets: choose another --out.") from error
        if changed:
            raise UserError(
                f"{self._path} holds offsets that were found otherwise:\n  "
                + "\n  ".join(changed)
                + "\nChoose another --out, or the same settings."
            )


def make_row(part: Part, found: Found, picture: str) -> dict[str, Any]:
    """A row of what was found."""
    path, start, end = part
    said = found.estimate
    rounded = {name: _rounded(getattr(said, name), 1) for name in ("offset_ms", "low_ms", "high_ms")}
    return {
        "path": path,
        "start": start,
        "end": end,
        **rounded,
        "confidence": _rounded(said.confidence, 3),
        "verdict": said.verdict,
        "segments": [
            {
                "start": round(one.start, 2),
                "end": round(one.end, 2),
                "first_ms": round(1000 * one.first, 1),
                "last_ms": round(1000 * one.last, 1),
            }
            for one in found.segments
        ],
        "shifts_ms": np.round(1000 * found.scores.shifts, 3).tolist(),
        "curve": [_rounded(value, 3) for value in found.curve.tolist()],
        "picture": picture,
        "note": found.note,
    }


def failed_row(part: Part, reason: str) -> dict[str, Any]:
    """A row of a video of which nothing can be decoded."""
    path, start, end = part
    nothing = dict.fromkeys(("offset_ms", "low_ms", "high_ms", "confidence"))
    verdict = f"cannot tell: {reason}"
    return {"path": path, "start": start, "end": end, **nothing, "verdict": verdict, "segments": [], "note": reason}


def part_of(row: Mapping[str, Any]) -> Part:
    return row["path"], row["start"], row["end"]


def write_table(path: str, rows: Iterable[Mapping[str, Any]], columns: Sequence[str] = COLUMNS) -> None:
    """Writes rows as JSON where the path ends with `.json`, else as a CSV with these columns.

    The CSV also has `start` and `end` where some row is of a part of a video, and `fixed` and `fixed_verdict` where
    some file was corrected.
    """
    rows = list(rows)
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with open(f"{path}.tmp", "w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        if path.endswith(".json"):
            json.dump(rows, file, indent=1)
        else:
            columns = [*columns]
            if any(row["start"] or row["end"] is not None for row in rows):
                columns[1:1] = _PART_COLUMNS
            if any("fixed_verdict" in row for row in rows):
                columns += _FIX_COLUMNS
            writer = csv.DictWriter(file, columns, extrasaction="ignore")
            writer.writeheader()
            writer.writerows({key: "" if value is None else value for key, value in row.items()} for row in rows)
    os.replace(f"{path}.tmp", path)


def _line(content: Mapping[str, Any]) -> str:
    return json.dumps(content, allow_nan=False) + "\n"


def _rounded(value: float | None, digits: int) -> float | None:
    """None for what is no number, which JSON does not have."""
    return None if value is None or not np.isfinite(value) else round(value, digits)
