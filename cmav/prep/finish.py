"""From finished shards to a finished split: its index, official splits, class names, rejects, and TFDS's metadata.

Another machine may finish the same split at the same time, or another split of the folder. What belongs to a split is
the same whoever writes it. What the splits have in common is derived from what lies in the folder and written, until
what is derived no longer changes: whoever writes last has seen the other's split.
"""

import collections
import concurrent.futures
import contextlib
import csv
import dataclasses
import io
import os
import re
import tempfile
import time

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from cmav.data import index, layout, schema, storage
from cmav.errors import UserError
from cmav.prep import files, official, shards
from cmav.prep.plan_files import NUM_THREADS, Plan

REJECTS_NAME = "rejects.csv"


class NoClipsError(UserError):
    """Not one clip could be cut. The message says why."""


@dataclasses.dataclass(frozen=True)
class Summary:
    """What a split has come to."""

    num_videos: int
    num_clips: int
    num_silent: int
    seconds: float
    num_bytes: int
    rejects: collections.Counter  # number of videos by reason, without its details
    official: list[official.OfficialSplit]

    def __str__(self) -> str:
        lines = [
            f"{self.num_videos:,} videos -> {self.num_clips:,} clips, {self.seconds / 3600:,.3f} hours, "
            f"{self.num_bytes / 1e9:,.3f} GB; {self.num_silent:,} clips are silent"
        ]
        lines += [f"{count:6,} x {reason}" for reason, count in self.rejects.most_common()]
        return "\n".join([*lines, *map(str, self.official)])


def finish(folder: str, plan: Plan) -> Summary:
    """Writes all that makes finished shards a split. Done twice, it leaves the same bytes.

    Raises:
      NoClipsError: where there is no clip in any shard; the rejects are written all the same.
    """
    files.remove_abandoned(folder, plan.split)
    rows, rejects, official_splits = _collected(folder, plan)
    own = tf.io.gfile.join(files.build_folder(folder, plan.split), REJECTS_NAME)
    files.write_whole(own, _to_csv(rejects), folder, plan.split)
    reasons = collections.Counter(general_reason(reason) for _, reason in rejects)
    if not len(rows):
        files.write_whole(tf.io.gfile.join(folder, REJECTS_NAME), _all_rejects(folder), folder, plan.split)
        words = "\n".join(f"  {count} x {reason}" for reason, count in reasons.most_common())
        raise NoClipsError(
            f"no clip could be cut from the {plan.num_videos} videos of split {plan.split!r}:\n{words}\n"
            f"See {tf.io.gfile.join(folder, REJECTS_NAME)}. Shorter clips: --clip_seconds."
        )
    _put_in_place(folder, plan)
    path = layout.official_path(folder, plan.split)
    if official_splits:
        files.write_whole(path, official.to_json(official_splits), folder, plan.split)
    else:
        files.remove(path)  # of a split of this name that was deleted
    if plan.is_labelled and plan.classes:
        names = "".join(f"{name}\n" for name in plan.classes)
        files.write_whole(layout.classes_path(folder), names.encode(), folder, plan.split)
    files.write_whole(layout.index_path(folder, plan.split), index.encode_index(rows), folder, plan.split)
    _write_common(folder, plan)
    return Summary(
        num_videos=plan.num_videos,
        num_clips=len(rows),
        num_silent=int((~rows["has_audio"]).sum()),
        seconds=float(rows["seconds"].sum(dtype=np.float64)),
        num_bytes=int((rows["length"] + index.FRAME_OVERHEAD).sum()),
        rejects=reasons,
        official=official_splits,
    )


def _collected(folder: str, plan: Plan) -> tuple[np.ndarray, list[tuple[str, str]], list[official.OfficialSplit]]:
    """The index's rows, the rejects, and the official splits, from the reports of all shards."""
    collector = official.Collector(plan.official)
    rows, rejects = [], []

    def read(shard: int) -> tuple[np.ndarray, shards.Report]:
        report = shards.read_report(folder, plan, shard)
        return np.array([(shard, *row) for row in report.rows], index.INDEX_DTYPE), report

    with concurrent.futures.ThreadPoolExecutor(NUM_THREADS) as pool:
        for first in range(0, plan.num_shards, 1000):  # not all at once
            numbers = range(plan.num_shards)[first : first + 1000]
            for shard, (shard_rows, report) in zip(numbers, pool.map(read, numbers), strict=True):
                rows.append(shard_rows)
                rejects += report.rejects
                if plan.official:
                    collector.add(plan.shard_videos(shard)[:], report.videos)
    return np.concatenate(rows), sorted(rejects), collector.splits()


def _put_in_place(folder: str, plan: Plan) -> None:
    """Gives all shards their names at the top, where shards were added to the split, or built again.

    The index goes first and comes back last: in between the split cannot be opened. Whatever is left of this by a kill,
    the next run finishes.
    """
    moves, superseded = [], []
    # In this order: what another machine moves in between is then in both lists, and not in none.
    staged = set(files.names(files.build_folder(folder, plan.split)))
    present = files.shard_names(folder, plan.split)
    for shard in range(plan.num_shards):
        target = layout.shard_path(folder, plan.split, shard, plan.num_shards)
        there = [tf.io.gfile.join(folder, name) for name in present.get(shard, ())]
        waiting = files.staged_path(folder, plan.split, shard)
        if os.path.basename(waiting) in staged:
            there.insert(0, waiting)
        elif target in there:
            there.remove(target)
            superseded += there
            continue
        if not there:  # Another machine is giving it its name just now.
            continue
        moves.append((there[0], target))
        superseded += [path for path in there[1:] if path != target]
    if not moves and not superseded:
        return
    files.remove(layout.index_path(folder, plan.split))
    with concurrent.futures.ThreadPoolExecutor(NUM_THREADS) as pool:
        list(pool.map(lambda move: files.rename(*move, is_shared=True), moves))
        list(pool.map(files.remove, superseded))


def general_reason(reason: str) -> str:
    """A reason without its details, which stand in brackets at its end."""
    return re.sub(r" \(.*\)$", "", reason, flags=re.DOTALL)


def _to_csv(rows: list[tuple[str, str]]) -> bytes:
    buffer = io.StringIO(newline="")
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue().encode("utf-8", "backslashreplace")


def _write_common(folder: str, plan: Plan) -> None:
    """Writes what the finished splits of the folder have in common: TFDS's metadata, and the list of rejects."""
    written = None
    while (common := _metadata(folder, plan.options.size) | {REJECTS_NAME: _all_rejects(folder)}) != written:
        for name, data in common.items():
            files.write_whole(tf.io.gfile.join(folder, name), data, folder, plan.split)
        written = common


def _all_rejects(folder: str) -> bytes:
    """The rejects of all splits, those that have no clips among them."""
    together = _to_csv([("path", "reason")])
    build = tf.io.gfile.join(folder, "build")
    for split in files.names(build):
        with contextlib.suppress(tf.errors.NotFoundError):
            together += files.read(tf.io.gfile.join(build, split, REJECTS_NAME))
    return together


def _open(folder: str, split: str) -> index.SplitIndex | None:
    """Opens a split; None where another machine is finishing it anew, which will then list it."""
    for tries_left in range(4, -1, -1):
        try:
            return index.SplitIndex.load(folder, split)
        except index.DatasetError:
            if not storage.exists(layout.index_path(folder, split)):
                return None
            if not tries_left:
                raise
            time.sleep(1)
    return None


def _metadata(folder: str, size: int) -> dict[str, bytes]:
    """TFDS's metadata for all finished splits of the folder, by the name of the file."""
    splits = []
    with tempfile.TemporaryDirectory() as stage:
        for split in layout.physical_splits(folder):
            found = _open(folder, split)
            if found is None:
                continue
            template = tfds.core.ShardedFileTemplate(
                data_dir=stage,
                template=schema.FILENAME_TEMPLATE,
                dataset_name=schema.DATASET_NAME,
                split=split,
                filetype_suffix="tfrecord",
            )
            lengths = np.bincount(found.rows["shard"], minlength=found.num_shards).tolist()
            num_bytes = int(found.rows["length"].sum())
            splits.append(tfds.core.SplitInfo(split, lengths, num_bytes, template))
            # TFDS wants each split that it finds on disk to be described, and in the folder there may be unfinished
            # ones. So it writes beside a stand-in for one shard of each finished split, from where we copy.
            open(layout.shard_path(stage, split, 0, found.num_shards), "wb").close()
        tfds.folder_dataset.write_metadata(
            data_dir=stage,
            features=schema.tfds_features(size),
            split_infos=splits,
            version="1.0.0",
            filename_template=schema.FILENAME_TEMPLATE,
            description="Audio-visual clips, built by cmav's data_prep/build_tfrecords.py.",
            check_data=False,
        )
        written = {}
        for name in sorted(os.listdir(stage)):
            if name.endswith(".json"):
                with open(os.path.join(stage, name), "rb") as file:
                    written[name] = file.read()
        return written
