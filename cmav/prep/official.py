"""Which videos and records each official split of a labelled set has, and which videos it lacks."""

import dataclasses
import json
import posixpath
from collections.abc import Sequence

from cmav.media.videos import Video

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


class Collector:
    """Sorts the records of a physical split into official splits, shard by shard."""

    def __init__(self, names: Sequence[str]):
        """Args: names, of the official splits."""
        self._num_listed = dict.fromkeys(names, 0)
        self._records: dict[str, list[int]] = {name: [] for name in names}
        self._missing: dict[str, list[str]] = {name: [] for name in names}
        self._num_records = 0

    def add(self, videos: Sequence[Video], record_videos: Sequence[int]) -> None:
        """Takes the next shard.

        Args:
          videos: all of the shard.
          record_videos: number, within the shard, of the video that each record is from, in the order of the records.
        """
        there = set(record_videos)
        for number, video in enumerate(videos):
            for name in dict.fromkeys(video.splits):
                self._num_listed[name] += 1
                if number not in there:
                    self._missing[name].append(video.source)
        for record, number in enumerate(record_videos, start=self._num_records):
            for name in dict.fromkeys(videos[number].splits):
                self._records[name].append(record)
        self._num_records += len(record_videos)

    def splits(self) -> list[OfficialSplit]:
        """The official splits, by name."""
        return [
            OfficialSplit(name, self._num_listed[name], records, sorted(self._missing[name]))
            for name, records in sorted(self._records.items())
        ]


def to_json(splits: Sequence[OfficialSplit]) -> bytes:
    """The form in which `cmav.data.index` reads them."""
    return json.dumps({s.name: {"listed": s.num_listed, "records": s.records} for s in splits}).encode()
