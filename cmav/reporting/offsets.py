"""The page of a folder of videos: by how much is the sound of each off?"""

import os
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from etils import epath

from cmav.reporting import page
from cmav.reporting.media import Media

_INTRODUCTION = (
    "By how much picture and sound are apart, as a network hears it that was trained to tell whether they are in sync. "
    "Positive offsets: the sound is late."
)


def write_page(folder: str, rows: Sequence[Mapping[str, Any]], footer: str) -> str:
    """Writes `index.html` into the folder that has the rows' pictures. Returns its path.

    Args:
      folder: of the report.
      rows: as `cmav.own_videos.offset_rows` has them.
      footer: as text.
    """
    media = Media(epath.Path(folder))
    names = _names(rows)
    table = page.table(
        ("video", "offset", "95% interval", "confidence", "verdict"),
        [(escape(name), _cells(row)) for name, row in zip(names, rows, strict=True)],
        "Milliseconds; positive: the sound is late. Empty: it cannot be told, or there is no calibration.",
    )
    pictures = [
        f"<h3>{escape(name)}</h3>\n<figure>{media.image(epath.Path(folder) / row['picture'], row['verdict'])}"
        f"<figcaption>{escape(_caption(row))}</figcaption></figure>"
        for name, row in zip(names, rows, strict=True)
        if row.get("picture")
    ]
    sections = [page.Section("All videos", table)]
    if pictures:
        sections.append(page.Section("Curves", "\n".join(pictures)))
    path = os.path.join(folder, "index.html")
    with open(path, "w", encoding="utf-8", errors="xmlcharrefreplace") as file:
        file.write(page.render("Is the sound in time?", _INTRODUCTION, sections, f"<p>{escape(footer)}</p>"))
    return path


def _names(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Of the videos, as short as the folder that all are in allows."""
    paths = [row["path"] for row in rows]
    common = os.path.commonpath([os.path.dirname(path) for path in paths]) if all(map(os.path.isabs, paths)) else ""
    names = [os.path.relpath(path, common) if common else path for path in paths]
    parts = [f" ({row['start']:g} s)" if row["start"] else "" for row in rows]
    return [name + part for name, part in zip(names, parts, strict=True)]


def _cells(row: Mapping[str, Any]) -> list[str]:
    if row["offset_ms"] is None:
        offset = interval = ""
    else:
        offset = f"{row['offset_ms']:+.0f}"
        interval = "" if row["low_ms"] is None else f"{row['low_ms']:+.0f} to {row['high_ms']:+.0f}"
    confidence = "" if row["confidence"] is None else f"{row['confidence']:.2f}"
    verdict = escape(row["verdict"])
    if "fixed_verdict" in row:
        name = f"corrected, {os.path.basename(row['fixed'])}" if row["fixed"] else "not corrected"
        verdict += f"<small>{escape(name)}: {escape(row['fixed_verdict'])}</small>"
    return [offset, interval, confidence, verdict]


def _caption(row: Mapping[str, Any]) -> str:
    return f"{row['verdict']}. {row['note']}" if row["note"] else row["verdict"]
