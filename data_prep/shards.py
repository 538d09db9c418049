"""The unit of work: from a list of videos to one finished shard and its report."""

import dataclasses
import json
import os
from collections.abc import Callable, Iterator, Mapping

import tensorflow as tf

from cmav.data import index, schema
from data_prep import files
from data_prep.clips import cut
from data_prep.manifest import Video
from data_prep.media import RejectedError
from data_prep.plan import Plan, Unit


@dataclasses.dataclass(frozen=True)
class Report:
    """What became of a unit of work.

    Attributes:
      rows: of the index: (offset, length, seconds, has_audio, label) of each record, in order.
      rejects: (path, reason in words) of each video that gave no clips or lost something.
    """

    rows: list[tuple[int, int, float, bool, int]]
    rejects: list[tuple[str, str]]


def build(
    unit: Unit,
    *,
    alive: Callable[[], None] = lambda: None,
    begins: Callable[[int], None] = lambda video: None,
    skip: Mapping[int, str] | None = None,
) -> None:
    """Writes a shard and its report, each under a temporary name first. Done twice, it leaves the same bytes.

    Args:
      unit: what to do.
      alive: called often while a video is decoded.
      begins: called with the number of each video, within the unit, before it is opened, and with their count when
        all are done and only writing remains.
      skip: reasons by number of videos that are rejected unopened, because they have brought a worker down.

    Raises:
      OSError: where the dataset folder cannot be written to.
    """
    try:
        _write(unit, alive, begins, skip or {})
    except tf.errors.OpError as error:
        raise OSError(error.message) from error


def _write(unit: Unit, alive: Callable[[], None], begins: Callable[[int], None], skip: Mapping[int, str]) -> None:
    rows, rejects = [], []
    temporary = files.temporary_path(unit.folder, unit.split)
    offset = 0
    with tf.io.TFRecordWriter(temporary) as writer:
        for number, video in enumerate(unit.videos):
            begins(number)
            try:
                if number in skip:
                    raise RejectedError(skip[number])
                for clip in _clips(unit, video, alive):
                    record = schema.encode(clip)
                    writer.write(record)
                    rows.append((offset, len(record), clip.seconds, clip.has_audio, clip.label))
                    offset += len(record) + index.FRAME_OVERHEAD
            except RejectedError as error:
                rejects.append((video.source, str(error)))
        begins(len(unit.videos))
    shard = index.shard_path(unit.folder, unit.split, unit.shard, unit.num_shards)
    tf.io.gfile.rename(temporary, shard, overwrite=True)
    report = json.dumps({"rows": rows, "rejects": rejects}).encode()
    files.write_whole(files.report_path(unit.folder, unit.split, unit.shard), report, unit.folder, unit.split)


def _clips(unit: Unit, video: Video, alive: Callable[[], None]) -> Iterator[schema.Clip]:
    try:
        yield from cut(video, unit.root, unit.options, alive)
    except RejectedError:
        raise
    except Exception as error:
        # Files come in more states than anyone foresees. One of a million must not end a run of days, and its reason
        # in the rejects says what happened.
        raise RejectedError(f"unforeseen error ({type(error).__name__}: {error})") from error


def finished(folder: str, plan: Plan) -> set[int]:
    """Numbers of the shards that are there with their reports."""
    shards = range(plan.num_shards)
    reports = set(tf.io.gfile.listdir(files.build_folder(folder, plan.split)))
    present = set(tf.io.gfile.listdir(folder))
    return {
        shard
        for shard in shards
        if os.path.basename(files.report_path(folder, plan.split, shard)) in reports
        and os.path.basename(index.shard_path(folder, plan.split, shard, plan.num_shards)) in present
    }


def read_report(folder: str, split: str, shard: int) -> Report:
    with tf.io.gfile.GFile(files.report_path(folder, split, shard), "rb") as file:
        report = json.loads(file.read())
    return Report([tuple(row) for row in report["rows"]], [tuple(reject) for reject in report["rejects"]])
