"""Holding out a share of the videos: each one's side follows from its name alone."""

import dataclasses
import hashlib
import os
from collections.abc import Sequence

from cmav.media.manifest import DEFAULT_SPLIT, Manifest, ManifestError
from cmav.media.videos import Videos

TRAIN, VALIDATION = DEFAULT_SPLIT, "validation"


def hold_out(listed: Manifest, share: float) -> Manifest:
    """Divides the one split of a manifest into `train` and `validation`.

    A video's side is drawn by a hash of its folder's and its own name, without the extension. So it stays where it is
    when videos are added, when all are moved together or transcoded, and on every machine; and all parts of a file are
    on one side. The share is that of a draw: of few videos, more or fewer are held out.

    Args:
      listed: of one split.
      share: of the files to hold out, above 0 and below 1.

    Raises:
      ManifestError: where one of the two would be empty, or the list has splits of its own.
    """
    if set(listed.splits) != {TRAIN}:
        raise ManifestError(
            f"--validation_share divides videos that are in no split yet, but the list has {', '.join(listed.splits)}: "
            "leave out the column `split`, or the flag"
        )
    videos = Videos(listed.splits[TRAIN])
    places: dict[str, list[int]] = {TRAIN: [], VALIDATION: []}
    for place, video in enumerate(videos):
        places[VALIDATION if is_held_out(video.source, share) else TRAIN].append(place)
    sides = {name: videos.take(side) for name, side in places.items()}
    files = {name: len({video.source for video in side}) for name, side in sides.items()}
    for name, count in files.items():
        if not count:
            raise ManifestError(
                f"--validation_share {share:g}: of {sum(files.values())} videos none falls into {name!r}; which side "
                "one is on depends on its name alone. Give another share, or build the splits one by one with --split."
            )
    note = f"{files[VALIDATION]:,} of {sum(files.values()):,} videos are held out as the split {VALIDATION!r}"
    return dataclasses.replace(listed, splits=sides, notes=(*listed.notes, note))


def is_held_out(source: str, share: float) -> bool:
    """Whether a file, by its path, is held out. A larger share holds out more beside the same ones."""
    parts: Sequence[str] = os.path.splitext(source)[0].rsplit("/", 2)
    key = "/".join(parts[-2:]).encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.sha256(key).digest()[:8]) < share * 2**64
