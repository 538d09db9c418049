"""Which videos and records each official split of a labelled set has, and which videos it lacks."""

import dataclasses
import json
import posixpath
from collections.abc import Sequence

from data_prep.manifest import Video
from data_prep.plan import official_splits

MAX_NAMED = 3  # missing videos in the summary of a split


@dataclasses.dataclass(frozen=True)
class OfficialSplit:
    """What an official split has come to.

    Attributes:
      name: "test1", for example.
      num_listed: how many videos the list names.
      records: numbers of their records in the physical split, ascending.
      missing: videos of the list that gave no record, as listed.
    """

    name: str
    num_listed: int
    records: list[int]
    missing: list[str]

    def __str__(self) -> str:
        text = (
            f"{self.name}: {self.num_listed - len(self.missing):,} of the {self.num_listed:,} listed videos are there"
        )
        if not self.missing:
            return text
        named = ", ".join(map(posixpath.basename, self.missing[:MAX_NAMED])) + (
            ", ..." if len(self.missing) > MAX_NAMED else ""
        )
        return f"{text}; missing: {named} (all in rejects.csv)"


def collect(videos: Sequence[Video], record_videos: Sequence[Video]) -> list[OfficialSplit]:
    """Sorts records into official splits.

    Args:
      videos: all that are listed.
      record_videos: the video of each record of the physical split, in the order of the records.

    Returns:
      The official splits that any video belongs to, by name.
    """
    listed: dict[str, list[Video]] = {name: [] for name in sorted(official_splits(videos))}
    for video in videos:
        for name in dict.fromkeys(video.splits):
            listed[name].append(video)
    records: dict[str, list[int]] = {name: [] for name in listed}
    for number, video in enumerate(record_videos):
        for name in dict.fromkeys(video.splits):
            records[name].append(number)
    there = set(record_videos)
    return [
        OfficialSplit(name, len(videos), records[name], [video.source for video in videos if video not in there])
        for name, videos in listed.items()
    ]


def to_json(splits: Sequence[OfficialSplit]) -> bytes:
    """The form in which `cmav.data.index` reads them."""
    return json.dumps({s.name: {"listed": s.num_listed, "records": s.records} for s in splits}).encode()
