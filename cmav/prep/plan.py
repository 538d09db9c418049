"""The plan of a split: which video goes into which shard, fixed before the first shard is written.

It lies in the dataset folder (see `plan_files.py`). Whoever works on the split, now or later, on this machine or
another, finds the same units of work in it: that is why a killed run continues where it was and ends with the same
bytes. Where the list has grown, new videos get shards of their own behind the others, whose records stay what they are.
"""

import dataclasses
import re
from collections.abc import Iterable, Sequence

import numpy as np

from cmav.data import storage
from cmav.media.clips import ClipOptions
from cmav.media.manifest import Manifest
from cmav.media.videos import Video, Videos
from cmav.prep import dealing, files, keys, lookup, overlap, plan_files
from cmav.prep.dealing import auto_shards as auto_shards
from cmav.prep.plan_files import Part, Plan, PlanError, load
from cmav.prep.plan_files import Unit as Unit


def resolve(
    folder: str,
    manifest: Manifest,
    split: str,
    options: ClipOptions,
    num_shards: int,
    *,
    skip_gone: bool = False,
    num_workers: int = 1,
    allow_overlap: bool = False,
) -> Plan:
    """Returns the plan of a split: the one that the folder holds where the list is the same, else a new or grown one.

    Args:
      folder: the dataset folder.
      manifest: the videos, whose names, labels and sizes are completed where they lie.
      split: the split to build, one of the manifest's.
      options: what the clips are to be.
      num_shards: 0 chooses by what the videos will come to.
      skip_gone: keep videos in the plan that are no longer listed.
      num_workers: processes that read the headers of long videos.
      allow_overlap: the same moments of a video may be in several splits.

    Raises:
      OverlapError: where new videos are in a split that the folder holds and the manifest does not list.
      PlanError: where the folder holds the split, or a part of it, with other options, or from a list that had videos
        which are gone or were labelled otherwise.
      StorageError: where storage does not answer.
    """
    check_split_name(split)
    listed = manifest.splits[split]
    videos = listed if isinstance(listed, Videos) else Videos(listed)
    found = keys.of(videos)
    before = load(folder, split) if storage.exists(files.plan_path(folder, split)) else None
    others = [load(folder, name) for name in plan_files.planned_splits(folder) if name != split]
    if before is not None:
        _check_same_options(before, options, num_shards)
        if before.listing == keys.digest(found):
            return before
        new = _grown(before, videos, found, skip_gone)
        if not len(new):
            return before
        videos, found = videos.take(new.tolist()), found[new]
    _check_same_form(options, others)
    _check_official_splits(manifest, split, others)
    if not allow_overlap:
        _check_overlap(manifest, split, videos, others)
    classes = _one_class_list(manifest, videos, split, others if before is None else [before, *others])
    _unique_names(videos, split, others if before is None else [before, *others])
    lookup.complete(videos, manifest.root)
    keys.complete(found, videos)
    planned = before or Plan(folder, split, options, (), False, (), "", ())
    shards = dealing.deal(videos, manifest.root, split, options, num_shards if before is None else 0, num_workers)
    part = Part(keys.digest(found), len(videos), tuple(map(len, shards)))
    grown = dataclasses.replace(
        planned,
        classes=classes,
        is_labelled=planned.is_labelled or any(video.label_name for video in videos),
        official=tuple(sorted({*planned.official, *official_splits(videos)})),
        listing=keys.digest(found if before is None else np.concatenate([before.keys(), found])),
        parts=(*planned.parts, part),
        root=manifest.root,
    )
    plan_files.write(grown, found, shards)
    resolved = load(folder, split)
    if resolved != grown:
        raise PlanError(
            f"{folder}: another run has planned the split {split!r} at the same time from another list of videos. "
            "Let only one of them run, and give its command again"
        )
    return resolved


def check_split_name(split: str) -> None:
    """Raises PlanError where TFDS could not read a split of this name."""
    if not re.fullmatch(r"[A-Za-z0-9_-]*[A-Za-z0-9][A-Za-z0-9_-]*", split) or split == "all":
        raise PlanError(
            f"a split cannot be called {split!r}: use letters, digits, - and _, such as train, validation or test"
            ' (TFDS keeps "all" for itself)'
        )


def _check_overlap(manifest: Manifest, split: str, videos: Videos, others: list[Plan]) -> None:
    """Against the splits that other commands built. Those of the manifest are compared before all work."""
    ours = None
    for other in others:
        if other.split not in manifest.splits:
            ours = ours or overlap.real_parts(videos, manifest.root)
            overlap.check({split: ours, other.split: overlap.real_parts(other.videos(), other.root or manifest.root)})


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
    owners = {other.split: set(other.official) for other in others}
    owners |= {name: official_splits(videos) for name, videos in manifest.splits.items()}
    ours = owners.pop(split)
    for name in sorted(ours & physical):
        raise PlanError(
            f"{name!r} is an official split (column `splits`) of videos of the split {split!r}, and also the name of a "
            "split of the same folder that has shards of its own: call one of them otherwise"
        )
    for owner, theirs in sorted(owners.items()):
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


def _one_class_list(manifest: Manifest, videos: Videos, split: str, plans: Sequence[Plan]) -> tuple[str, ...]:
    """Numbers the classes as what the folder holds does, so that a label means the same in all of it."""
    labelled = [plan for plan in plans if plan.is_labelled]
    names = {video.label_name for video in videos if video.label_name}
    if not labelled or not names:
        # Of this split itself the list stays what it is, whatever the CSV's other rows have become.
        return next((plan.classes for plan in labelled if plan.split == split), manifest.classes)
    classes = labelled[0].classes
    if classes == manifest.classes:
        return classes
    unknown = sorted(names - set(classes))
    if not classes or unknown:
        theirs = (
            "that are there already" if labelled[0].split == split else f"of {labelled[0].split!r} in the same folder"
        )
        raise PlanError(
            f"the labels of the split {split!r} do not fit those {theirs}"
            + (f" (not among them: {', '.join(unknown[:5])})" if classes else " (numbers there, names here)")
            + ", whose numbers would change.\nList all videos in one CSV, with a column `split` where there are "
            "several splits, so that they share one list of classes, and build it into another --out."
        )
    numbers = {name: number for number, name in enumerate(classes)}
    for place, video in enumerate(videos):
        if video.label_name:
            videos.replace(place, label=numbers[video.label_name])
    return classes


def _unique_names(videos: Videos, split: str, plans: Sequence[Plan]) -> None:
    """Puts the split before names that the folder has already: clip ids are unique in a dataset."""
    if not plans:
        return
    taken = np.unique(np.concatenate([plan.keys()["name"] for plan in plans]))
    hashes = np.fromiter((keys.hashed(video.name) for video in videos), np.uint64, len(videos))
    clashes = np.flatnonzero(np.isin(hashes, taken)).tolist()
    all_names = np.union1d(taken, hashes) if clashes else taken
    renamed: dict[str, str] = {}
    for place in clashes:
        name = videos[place].name
        if name not in renamed:
            tries = (
                f"{split}/{name}{more}" for more in ("", *(f"~{number}" for number in range(2, len(all_names) + 3)))
            )
            renamed[name] = next(new for new in tries if not _contains(all_names, keys.hashed(new)))
        videos.replace(place, name=renamed[name])


def _contains(ascending: np.ndarray, value: int) -> bool:
    place = np.searchsorted(ascending, np.uint64(value))
    return place < len(ascending) and int(ascending[place]) == value


def _grown(before: Plan, videos: Videos, found: np.ndarray, skip_gone: bool) -> np.ndarray:
    """Numbers of the videos that a list has beyond those of a plan.

    Raises:
      PlanError: where videos of the plan are gone from the list, or their labels or official splits have changed.
    """
    planned = before.keys()
    old, order = np.sort(planned["key"]), np.argsort(planned["key"])
    gone = planned[~np.isin(planned["key"], found["key"])]
    if len(gone) and not skip_gone:
        raise PlanError(
            f"{len(gone)} videos of the split {before.split!r} are no longer listed ({_an_example(before, gone)} ...), "
            f"but were when it was planned in {before.folder}. Has a disk vanished, or a file been moved? Bring them "
            "back and give the same command again. If they are gone for good, add --skip_gone: clips that were cut "
            f"from them stay, and the others are rejected. {_to_build_anew(before)}"
        )
    is_new = ~np.isin(found["key"], old)
    both = np.flatnonzero(~is_new)
    was = planned["facts"][order[np.searchsorted(old, found["key"][both])]]
    changed = both[found["facts"][both] != was]
    if len(changed):
        now = videos[int(changed[0])]
        raise PlanError(
            f"{len(changed)} videos of the split {before.split!r} are labelled otherwise than when it was planned in "
            f"{before.folder} ({now.source}: now {now.label_name!r}, official splits {list(now.splits)}). Their clips "
            f"would keep the old labels. {_to_build_anew(before)}"
        )
    return np.flatnonzero(is_new)


def _an_example(plan: Plan, rows: np.ndarray) -> str:
    """The path of one of these videos."""
    places = {(int(row["source"])) for row in rows}
    return next((video.source for video in plan.videos() if keys.hashed(video.source) in places), "")


def _check_same_options(before: Plan, options: ClipOptions, num_shards: int) -> None:
    was = plan_files.options_in_words(before)
    now = plan_files.options_in_words(dataclasses.replace(before, options=options))
    if num_shards and num_shards != before.num_shards:
        now["shards"] = num_shards
    changed = [f"--{key} was {was[key]}, is now {now[key]}" for key in was if was[key] != now[key]]
    if changed:
        raise PlanError(
            f"{before.folder} holds the split {before.split!r}, or a part of it, built otherwise: "
            f"{'; '.join(changed)}.\nTo continue it, run the same command as then. {_to_build_anew(before)}"
        )


def _to_build_anew(plan: Plan) -> str:
    folder, split = plan.folder, plan.split
    return (
        "To build anew, choose another --out or --split, or delete\n"
        f"  {files.build_folder(folder, split)}  {folder}/*-{split}.npy  {folder}/*-{split}.json  "
        f"{folder}/clips-{split}.tfrecord-*"
    )
