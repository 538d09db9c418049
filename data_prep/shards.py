"""The unit of work: from a list of videos to one finished shard and its report."""

import dataclasses
import json
import os
from collections.abc import Callable, Iterator, Mapping

import tensorflow as tf

from cmav.data import index, layout, schema
from data_prep import files
from data_prep.clips import cut
from data_prep.manifest import Video
from data_prep.media import RejectedError
from data_prep.plan import Plan, PlanError, Unit
from data_prep.sounds import cut_sound


@dataclasses.dataclass(frozen=True)
class Report:
    """What became of a unit of work.

    Attributes:
      rows: of the index: (offset, length, seconds, has_audio, label) of each record, in order.
      videos: number, within the unit, of the video that each record is from.
      rejects: (path, reason in words) of each video that gave no clips or lost something.
    """

    rows: list[tuple[int, int, float, bool, int]]
    videos: list[int]
    rejects: list[tuple[str, str]]


Cutter = Callable[[Unit, Video, Callable[[], None]], Iterator[schema.Clip]]


def cut_file(unit: Unit, video: Video, alive: Callable[[], None]) -> Iterator[schema.Clip]:
    """Yields the clips of a file; see `clips.cut` and `sounds.cut_sound`."""
    return (cut_sound if unit.options.sound_only else cut)(video, unit.root, unit.options, alive)


def build(
    unit: Unit,
    *,
    cutter: Cutter = cut_file,
    alive: Callable[[], None] = lambda: None,
    begins: Callable[[int | None], None] = lambda video: None,
    skip: Mapping[int, str] | None = None,
) -> None:
    """Writes a shard and its report, each under a temporary name first. Done twice, it leaves the same bytes.

    Args:
      unit: what to do.
      cutter: yields the clips of a video of the unit; is asked for one video after the other, in order.
      alive: called often while a video is decoded.
      begins: called with the number of each video, within the unit, before it is opened, and with their count when
        all are done and only writing remains; with None before a clip is written, and with its video's number after.
      skip: reasons by number of videos that are rejected unopened, because they have brought a worker down.

    Raises:
      OSError: where the dataset folder cannot be written to.
    """
    try:
        _write(unit, cutter, alive, begins, skip or {})
    except tf.errors.OpError as error:
        raise OSError(error.message) from error


def _write(
    unit: Unit, cutter: Cutter, alive: Callable[[], None], begins: Callable[[int | None], None], skip: Mapping[int, str]
) -> None:
    rows, videos, rejects = [], [], []
    temporary = files.temporary_path(unit.folder, unit.split)
    offset = 0
    with tf.io.TFRecordWriter(temporary) as writer:
        for number, video in enumerate(unit.videos):
            begins(number)
            try:
                if number in skip:
                    raise RejectedError(skip[number])
                for clip in _clips(unit, video, cutter, alive):
                    record = schema.encode(clip)
                    begins(None)
                    writer.write(record)
                    begins(number)
                    rows.append((offset, len(record), clip.seconds, clip.has_audio, clip.label))
                    videos.append(number)
                    offset += len(record) + index.FRAME_OVERHEAD
            except RejectedError as error:
                rejects.append((video.source, str(error)))
        begins(len(unit.videos))
    shard = layout.shard_path(unit.folder, unit.split, unit.shard, unit.num_shards)
    tf.io.gfile.rename(temporary, shard, overwrite=True)
    report = json.dumps({"rows": rows, "videos": videos, "rejects": rejects}).encode()
    files.write_whole(files.report_path(unit.folder, unit.split, unit.shard), report, unit.folder, unit.split)


def _clips(unit: Unit, video: Video, cutter: Cutter, alive: Callable[[], None]) -> Iterator[schema.Clip]:
    try:
        yield from cutter(unit, video, alive)
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
        and os.path.basename(layout.shard_path(folder, plan.split, shard, plan.num_shards)) in present
    }


def read_report(folder: str, split: str, shard: int) -> Report:
    """Reads what became of a unit.

    Raises:
      PlanError: where the report is damaged, or an older version of this program wrote it.
    """
    path = files.report_path(folder, split, shard)
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            report = json.loads(file.read())
        rejects = [tuple(reject) for reject in report["rejects"]]
        return Report([tuple(row) for row in report["rows"]], report["videos"], rejects)
    except (ValueError, KeyError, TypeError) as error:
        raise PlanError(
            f"{path} is damaged or of an older version ({error!r}); delete it, and the same command builds its "
            "shard anew"
        ) from error
