"""The plan of a split: which video goes into which shard, fixed before the first shard is written.

It lies in the dataset folder (`files.plan_path`). Whoever works on the split, now or later, on this machine or another,
finds the same units of work in it: that is why a killed run continues where it was and ends with the same bytes.
"""

import dataclasses
import json
import math
import os
import re
from collections.abc import Iterable
from fractions import Fraction

import tensorflow as tf

from cmav.errors import UserError
from data_prep import files
from data_prep.clips import ClipOptions
from data_prep.manifest import Manifest, Video

VIDEOS_PER_SHARD = 32  # of one 10 s clip each, 2 to 6 MB: shards of 60 to 200 MB
MIN_SHARDS = 16  # where there are that many videos, so that a small set is built in parallel too


class PlanError(UserError):
    """The split cannot be built in this folder as asked. The message says why and what to do."""


@dataclasses.dataclass(frozen=True)
class Unit:
    """A unit of work: one shard, and the videos whose clips go into it.

    Attributes:
      folder: the dataset folder.
      root: the folder that the videos' relative paths start from.
    """

    folder: str
    root: str
    split: str
    shard: int
    num_shards: int
    options: ClipOptions
    videos: tuple[Video, ...]


@dataclasses.dataclass(frozen=True)
class Plan:
    """All units of work of a split. `classes` are the names of labels by number, empty where labels are numbers."""

    split: str
    num_shards: int
    options: ClipOptions
    classes: tuple[str, ...]
    videos: tuple[Video, ...]

    def shard_videos(self, shard: int) -> tuple[Video, ...]:
        """Every n-th video, so that shards are alike although neighbours in a folder often are."""
        return self.videos[shard :: self.num_shards]

    def unit(self, shard: int, folder: str, root: str) -> Unit:
        return Unit(folder, root, self.split, shard, self.num_shards, self.options, self.shard_videos(shard))


def auto_shards(num_videos: int) -> int:
    """The number of shards for so many videos, on any machine."""
    return max(min(num_videos, MIN_SHARDS), math.ceil(num_videos / VIDEOS_PER_SHARD), 1)


def settle(folder: str, manifest: Manifest, split: str, options: ClipOptions, num_shards: int) -> Plan:
    """Returns the plan of a split: the one that the folder holds where it is the same, else a new one, now written.

    Args:
      folder: the dataset folder.
      manifest: the videos.
      split: the split to build, one of the manifest's.
      options: what the clips are to be.
      num_shards: 0 chooses by the number of videos that are there.

    Raises:
      PlanError: where the folder holds the split, or a part of it, from another list of videos or with other options.
    """
    check_split_name(split)
    videos = manifest.splits[split]
    others = [load(folder, name) for name in _planned_splits(folder) if name != split]
    _check_same_form(options, others)
    _check_official_splits(manifest, split, others)
    classes, videos = _one_class_list(manifest, videos, split, others)
    videos = _unique_names(videos, split, others)
    num_there = sum(video.num_bytes >= 0 for video in videos)
    plan = Plan(split, num_shards or auto_shards(num_there), options, classes, tuple(videos))
    path = files.plan_path(folder, split)
    if not tf.io.gfile.exists(path):
        tf.io.gfile.makedirs(files.build_folder(folder, split))
        files.write_whole(path, _to_json(plan), folder, split)
    found = load(folder, split)
    if found != plan:
        raise PlanError(
            f"{folder} holds the split {split!r}, or a part of it, built otherwise: {_difference(found, plan)}.\n"
            "To continue it, run the same command as then. To build anew, choose another --out or --split, or delete\n"
            f"  {files.build_folder(folder, split)}  {folder}/*-{split}.npy  {folder}/*-{split}.json  "
            f"{folder}/clips-{split}.tfrecord-*"
        )
    return found


def load(folder: str, split: str) -> Plan:
    """Reads the plan of a split.

    Raises:
      PlanError: where there is none, or it is damaged.
    """
    path = files.plan_path(folder, split)
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            return _from_json(file.read())
    except tf.errors.NotFoundError as error:
        raise PlanError(f"{folder} holds no plan of a split {split!r}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise PlanError(f"{path} is damaged ({error}); delete it and build the split again") from error


def check_split_name(split: str) -> None:
    """Raises PlanError where TFDS could not read a split of this name."""
    if not re.fullmatch(r"[A-Za-z0-9_-]*[A-Za-z0-9][A-Za-z0-9_-]*", split) or split == "all":
        raise PlanError(
            f"a split cannot be called {split!r}: use letters, digits, - and _, such as train, validation or test"
            ' (TFDS keeps "all" for itself)'
        )


def _planned_splits(folder: str) -> list[str]:
    paths = tf.io.gfile.glob(files.plan_path(folder, "*"))
    return sorted(os.path.basename(os.path.dirname(path)) for path in paths)


def _check_same_form(options: ClipOptions, others: list[Plan]) -> None:
    """The splits of a folder hold clips of one form: what trains on one is evaluated on another."""
    for other in others:
        for key in ("size", "frame_rate", "sample_rate"):
            theirs, ours = getattr(other.options, key), getattr(options, key)
            if theirs != ours:
                raise PlanError(
                    f"--{key} is {ours}, but the split {other.split!r} of the same folder was built with {theirs}: "
                    f"give --{key} {theirs}, or another --out"
                )


def _check_official_splits(manifest: Manifest, split: str, others: list[Plan]) -> None:
    """An official split lies within one physical split, and its name is not that of a physical one."""
    physical = {*manifest.splits, *(other.split for other in others)}
    owners = {other.split: other.videos for other in others} | manifest.splits
    ours = official_splits(owners.pop(split))
    for name in sorted(ours & physical):
        raise PlanError(
            f"{name!r} is an official split (column `splits`) of videos of the split {split!r}, and also the name of a "
            "split of the same folder that has shards of its own: call one of them otherwise"
        )
    for owner, videos in sorted(owners.items()):
        theirs = official_splits(videos)
        if split in theirs:
            raise PlanError(
                f"a split cannot be called {split!r} here: that is an official split of the split {owner!r} of the "
                "same folder. Choose another --split or --out"
            )
        for name in sorted(ours & theirs):
            raise PlanError(
                f"the official split {name!r} has videos both in the split {split!r} and in {owner!r} of the same "
                "folder, but must lie within one: build all of them into one split (a CSV without the column `split`)"
            )


def official_splits(videos: Iterable[Video]) -> set[str]:
    """Names of the official splits that any of these videos belongs to."""
    return {name for video in videos for name in video.splits}


def _one_class_list(
    manifest: Manifest, videos: list[Video], split: str, others: list[Plan]
) -> tuple[tuple[str, ...], list[Video]]:
    """Numbers the classes as the folder's other splits do, so that a label means the same in all of them."""
    labelled = [other for other in others if any(video.label_name for video in other.videos)]
    if not labelled or not any(video.label_name for video in videos):
        return manifest.classes, videos
    classes = labelled[0].classes
    if classes == manifest.classes:
        return classes, videos
    unknown = sorted({video.label_name for video in videos if video.label_name} - set(classes))
    if not classes or unknown:
        raise PlanError(
            f"the labels of the split {split!r} do not fit those of {labelled[0].split!r} in the same folder"
            + (f" (not among them: {', '.join(unknown[:5])})" if classes else " (numbers there, names here)")
            + ".\nList both splits in one CSV with a column `split`, so that they share one list of classes."
        )
    numbers = {name: number for number, name in enumerate(classes)}
    return classes, [dataclasses.replace(video, label=numbers.get(video.label_name, -1)) for video in videos]


def _unique_names(videos: list[Video], split: str, others: list[Plan]) -> list[Video]:
    """Puts the split before names that another split of the folder has too: clip ids are unique in a dataset."""
    taken = {video.name for other in others for video in other.videos}
    return [
        dataclasses.replace(video, name=f"{split}/{video.name}") if video.name in taken else video for video in videos
    ]


def _difference(found: Plan, asked: Plan) -> str:
    """The first difference, in words."""
    was, now = _options(found), _options(asked)
    changed = [f"--{key} was {was[key]}, is now {now[key]}" for key in was if was[key] != now[key]]
    old, new = {v.source: v for v in found.videos}, {v.source: v for v in asked.videos}
    gone, added = sorted(old.keys() - new.keys()), sorted(new.keys() - old.keys())
    if added:
        changed.append(f"{len(added)} more videos are listed ({added[0]} ...)")
    if gone:
        changed.append(f"{len(gone)} videos are no longer listed ({gone[0]} ...)")
    other = [source for source in sorted(old.keys() & new.keys()) if old[source] != new[source]]
    if other:
        before, after = dataclasses.asdict(old[other[0]]), dataclasses.asdict(new[other[0]])
        keys = ", ".join(f"{key} was {before[key]}, is now {after[key]}" for key in before if before[key] != after[key])
        changed.append(f"{len(other)} videos changed ({other[0]}: {keys})")
    return "; ".join(changed) or "the order of the videos changed"


def _options(plan: Plan) -> dict:
    options = dataclasses.asdict(plan.options)
    return {key: str(value) if isinstance(value, Fraction) else value for key, value in options.items()} | {
        "shards": plan.num_shards
    }


def _to_json(plan: Plan) -> bytes:
    head = {"split": plan.split, "options": _options(plan), "classes": plan.classes}
    videos = [json.dumps(dataclasses.asdict(video)) for video in plan.videos]
    return (json.dumps(head)[:-1] + ', "videos": [\n' + ",\n".join(videos) + "\n]}\n").encode()


def _from_json(data: bytes) -> Plan:
    plan = json.loads(data)
    options = plan["options"]
    num_shards = options.pop("shards")
    for key in ("clip_seconds", "frame_rate"):
        options[key] = Fraction(options[key])
    videos = tuple(Video(**video | {"splits": tuple(video["splits"])}) for video in plan["videos"])
    return Plan(plan["split"], num_shards, ClipOptions(**options), tuple(plan["classes"]), videos)
