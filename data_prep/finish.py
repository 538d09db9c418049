"""From finished shards to a finished split: its index, official splits, class names, rejects, and TFDS's metadata."""

import collections
import concurrent.futures
import csv
import dataclasses
import io
import os
import re
import tempfile

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from cmav.data import index, layout, schema
from cmav.errors import UserError
from data_prep import files, official, shards
from data_prep.plan import Plan

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
    files.remove_temporary(folder, plan.split)
    numbers = range(plan.num_shards)
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        reports = list(pool.map(lambda shard: shards.read_report(folder, plan.split, shard), numbers))
    rejects = sorted(reject for report in reports for reject in report.rejects)
    rows, record_videos = [], []
    for shard, report in zip(numbers, reports, strict=True):
        videos = plan.shard_videos(shard)
        rows += [(shard, *row) for row in report.rows]
        record_videos += [videos[number] for number in report.videos]
    rows = np.array(rows, index.INDEX_DTYPE)
    _write_rejects(folder, plan.split, rejects)
    reasons = collections.Counter(general_reason(reason) for _, reason in rejects)
    if not len(rows):
        words = "\n".join(f"  {count} x {reason}" for reason, count in reasons.most_common())
        raise NoClipsError(
            f"no clip could be cut from the {len(plan.videos)} videos of split {plan.split!r}:\n{words}\n"
            f"See {tf.io.gfile.join(folder, REJECTS_NAME)}. Shorter clips: --clip_seconds."
        )
    official_splits = official.collect(plan.videos, record_videos)
    path = layout.official_path(folder, plan.split)
    if official_splits:
        files.write_whole(path, official.to_json(official_splits), folder, plan.split)
    elif tf.io.gfile.exists(path):
        tf.io.gfile.remove(path)  # of a split of this name that was deleted
    if any(video.label_name for video in plan.videos) and plan.classes:
        names = "".join(f"{name}\n" for name in plan.classes)
        files.write_whole(layout.classes_path(folder), names.encode(), folder, plan.split)
    buffer = io.BytesIO()
    np.save(buffer, rows)
    files.write_whole(layout.index_path(folder, plan.split), buffer.getvalue(), folder, plan.split)
    _write_metadata(folder, plan)
    return Summary(
        num_videos=len(plan.videos),
        num_clips=len(rows),
        num_silent=int((~rows["has_audio"]).sum()),
        seconds=float(rows["seconds"].sum(dtype=np.float64)),
        num_bytes=int((rows["length"] + index.FRAME_OVERHEAD).sum()),
        rejects=reasons,
        official=official_splits,
    )


def general_reason(reason: str) -> str:
    """A reason without its details, which stand in brackets at its end."""
    return re.sub(r" \(.*\)$", "", reason, flags=re.DOTALL)


def _write_rejects(folder: str, split: str, rejects: list[tuple[str, str]]) -> None:
    """Writes the split's rejects, and those of all splits to the top of the folder."""
    own = tf.io.gfile.join(files.build_folder(folder, split), REJECTS_NAME)
    files.write_whole(own, _to_csv(rejects), folder, split)
    together = b""
    for path in sorted(tf.io.gfile.glob(tf.io.gfile.join(folder, "build", "*", REJECTS_NAME))):
        with tf.io.gfile.GFile(path, "rb") as file:
            together += file.read()
    header = _to_csv([("path", "reason")])
    files.write_whole(tf.io.gfile.join(folder, REJECTS_NAME), header + together, folder, split)


def _to_csv(rows: list[tuple[str, str]]) -> bytes:
    buffer = io.StringIO(newline="")
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue().encode("utf-8", "backslashreplace")


def _write_metadata(folder: str, plan: Plan) -> None:
    """Writes TFDS's metadata for all finished splits of the folder."""
    splits, size = [], plan.options.size
    with tempfile.TemporaryDirectory() as stage:
        for split in layout.physical_splits(folder):
            found = index.SplitIndex.load(folder, split)
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
        for name in sorted(os.listdir(stage)):
            if name.endswith(".json"):
                with open(os.path.join(stage, name), "rb") as file:
                    files.write_whole(tf.io.gfile.join(folder, name), file.read(), folder, plan.split)
