"""A plan as it lies in the dataset folder: a small head, and the videos of each shard in a file of their own.

`plan.json`, the head, is written last. It lists the parts of the plan: the first, and one for each time that the list
of videos has grown. A part has shards of its own, after those of the parts before it, and an array of keys (see
`keys.py`). `videos-<shard>.json` holds what a unit of work needs.
"""

import concurrent.futures
import dataclasses
import functools
import io
import itertools
import json
from collections.abc import Iterator, Sequence
from fractions import Fraction

import numpy as np
import tensorflow as tf

from cmav.data import layout, storage
from cmav.errors import UserError
from cmav.media.clips import ClipOptions
from cmav.media.videos import FIELDS, Video, Videos
from cmav.prep import files, keys

VERSION = 2  # of the form; the first had no number, and all videos in plan.json
NUM_THREADS = 16  # for small files


class PlanError(UserError):
    """The split cannot be built in this folder as asked. The message says why and what to do."""


class ShardVideos(Sequence[Video]):
    """The videos of a shard, read from the plan when one is asked for, and not by whoever only counts them."""

    def __init__(self, folder: str, split: str, shard: int, part: str, count: int):
        self._place, self._part, self._count = (folder, split, shard), part, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number):
        return self._videos[number]

    @functools.cached_property
    def _videos(self) -> tuple[Video, ...]:
        path = files.videos_path(*self._place)
        try:
            read = json.loads(files.read(path))
            if read["part"] != self._part:
                raise PlanError(
                    f"{path} is of another list of videos than {files.plan_path(*self._place[:2])}: two runs planned "
                    "the split at once, from different lists. Give the same command again once only one of them is left"
                )
            videos = (dict(zip(read["fields"], values, strict=True)) for values in read["videos"])
            return tuple(Video(**video | {"splits": tuple(video["splits"])}) for video in videos)
        except (tf.errors.NotFoundError, ValueError, KeyError, TypeError) as error:
            raise PlanError(
                f"{path} is missing or damaged ({error}); delete {files.plan_path(*self._place[:2])}, and the same "
                "command plans the split again"
            ) from error


@dataclasses.dataclass(frozen=True)
class Unit:
    """A unit of work: one shard, and the videos whose clips go into it.

    Attributes:
      folder: the dataset folder.
      root: the folder that the videos' relative paths start from.
      part: of the plan, to which the shard belongs; its report says so.
      is_staged: the split is finished already: the shard waits aside, until the split is finished anew.
      skip_gone: reject videos that were there when they were planned and are gone, in place of an error.
    """

    folder: str
    root: str
    split: str
    shard: int
    num_shards: int
    options: ClipOptions
    videos: Sequence[Video]
    part: str = ""
    is_staged: bool = False
    skip_gone: bool = False

    @property
    def path(self) -> str:
        """Where the shard is put."""
        if self.is_staged:
            return files.staged_path(self.folder, self.split, self.shard)
        return layout.shard_path(self.folder, self.split, self.shard, self.num_shards)


@dataclasses.dataclass(frozen=True)
class Part:
    """Videos that were planned at once. `listing` is the digest of their keys, `counts` the videos of each shard."""

    listing: str
    num_videos: int
    counts: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Plan:
    """All units of work of a split.

    Attributes:
      folder: the dataset folder.
      root: the folder that relative paths started from when it was planned or last grew; empty: not known.
      classes: names of the classes by number, empty where labels are numbers.
      is_labelled: whether any video has a label.
      official: names of the official splits that any video belongs to.
      listing: digest of the keys of all listed videos.
    """

    folder: str
    split: str
    options: ClipOptions
    classes: tuple[str, ...]
    is_labelled: bool
    official: tuple[str, ...]
    listing: str
    parts: tuple[Part, ...]
    root: str = dataclasses.field(default="", compare=False)

    @property
    def num_shards(self) -> int:
        return sum(len(part.counts) for part in self.parts)

    @property
    def num_videos(self) -> int:
        return sum(part.num_videos for part in self.parts)

    def keys(self) -> np.ndarray:
        """What is known of all videos at once: `keys.DTYPE` [num_videos]."""
        read = [files.read(files.keys_path(self.folder, self.split, part)) for part in range(len(self.parts))]
        return np.concatenate([np.load(io.BytesIO(data), allow_pickle=False) for data in read])

    def part_of(self, shard: int) -> Part:
        return self._shards[shard][0]

    def count(self, shard: int) -> int:
        """How many videos, or parts of long ones, a shard is made of."""
        return self._shards[shard][1]

    def shard_videos(self, shard: int) -> ShardVideos:
        return ShardVideos(self.folder, self.split, shard, self.part_of(shard).listing, self.count(shard))

    def videos(self) -> Iterator[Video]:
        """All videos, shard by shard, long ones in their parts. Takes its time: see `keys`."""
        with concurrent.futures.ThreadPoolExecutor(NUM_THREADS) as pool:
            for first in range(0, self.num_shards, 1000):  # not all at once
                shards = range(self.num_shards)[first : first + 1000]
                yield from itertools.chain.from_iterable(pool.map(lambda shard: self.shard_videos(shard)[:], shards))

    def unit(self, shard: int, folder: str, root: str, *, is_staged: bool = False, skip_gone: bool = False) -> Unit:
        videos, part = self.shard_videos(shard), self.part_of(shard).listing
        return Unit(folder, root, self.split, shard, self.num_shards, self.options, videos, part, is_staged, skip_gone)

    @functools.cached_property
    def _shards(self) -> list[tuple[Part, int]]:
        return [(part, count) for part in self.parts for count in part.counts]


def load(folder: str, split: str) -> Plan:
    """Reads the head of a split's plan. One of the form without a version is written anew in today's.

    Raises:
      PlanError: where there is none, or it is damaged.
    """
    path = files.plan_path(folder, split)
    try:
        head = json.loads(files.read(path))
        options = dict(head["options"])
        num_shards = options.pop("shards")
        for key in ("clip_seconds", "frame_rate"):
            options[key] = Fraction(options[key])
        options = ClipOptions(**options)
        if "version" not in head:
            return _renewed(folder, split, options, head, num_shards)
        if head["version"] != VERSION:
            raise PlanError(f"{path} is of form {head['version']}, which a newer cmav has written; use that one")
        parts = tuple(Part(part["listing"], part["num_videos"], tuple(part["counts"])) for part in head["parts"])
        classes, official = tuple(head["classes"]), tuple(head["official"])
        return Plan(
            folder, split, options, classes, head["is_labelled"], official, head["listing"], parts, head["root"]
        )
    except tf.errors.NotFoundError as error:
        raise PlanError(f"{folder} holds no plan of a split {split!r}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise PlanError(f"{path} is damaged ({error}); delete it and build the split again") from error


def planned_splits(folder: str) -> list[str]:
    """Names of the splits of a dataset folder that have a plan, sorted."""
    build = tf.io.gfile.join(folder, "build")
    return [name for name in files.names(build) if storage.exists(files.plan_path(folder, name))]


def write(plan: Plan, found: np.ndarray, shards: Sequence[Sequence[Video]]) -> None:
    """Writes the last part of a plan, with its keys and the videos of its shards, and then the head."""
    folder, split = plan.folder, plan.split
    tf.io.gfile.makedirs(files.build_folder(folder, split))
    first = plan.num_shards - len(shards)
    listing = plan.parts[-1].listing

    def write_videos(number: int) -> None:
        values = [[getattr(video, field) for field in FIELDS] for video in shards[number]]
        data = json.dumps({"part": listing, "fields": FIELDS, "videos": values}).encode()
        files.write_whole(files.videos_path(folder, split, first + number), data, folder, split)

    with concurrent.futures.ThreadPoolExecutor(NUM_THREADS) as pool:
        list(pool.map(write_videos, range(len(shards))))
    buffer = io.BytesIO()
    np.save(buffer, found)
    files.write_whole(files.keys_path(folder, split, len(plan.parts) - 1), buffer.getvalue(), folder, split)
    head = {
        "version": VERSION,
        "split": split,
        "options": options_in_words(plan),
        "classes": plan.classes,
        "is_labelled": plan.is_labelled,
        "official": plan.official,
        "listing": plan.listing,
        "root": plan.root,
        "parts": [dataclasses.asdict(part) for part in plan.parts],
    }
    files.write_whole(files.plan_path(folder, split), json.dumps(head).encode() + b"\n", folder, split)


def options_in_words(plan: Plan) -> dict:
    """What was asked for, as flags have it. `shards` is of the first part."""
    options = dataclasses.asdict(plan.options)
    return {key: str(value) if isinstance(value, Fraction) else value for key, value in options.items()} | {
        "shards": len(plan.parts[0].counts)
    }


def _renewed(folder: str, split: str, options: ClipOptions, head: dict, num_shards: int) -> Plan:
    """The plan of a folder in which plan.json holds all videos, the shards having every n-th of them."""
    videos = Videos(Video(**video | {"splits": tuple(video["splits"])}) for video in head["videos"])
    found = keys.of(videos)
    keys.complete(found, videos)
    listing = keys.digest(found)
    shards = [videos[shard::num_shards] for shard in range(num_shards)]
    part = Part(listing, len(videos), tuple(map(len, shards)))
    is_labelled = any(video.label_name for video in videos)
    official = sorted({name for video in videos for name in video.splits})
    plan = Plan(folder, split, options, tuple(head["classes"]), is_labelled, tuple(official), listing, (part,))
    write(plan, found, shards)
    return plan
