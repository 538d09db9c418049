"""The unit of work: from a list of videos to one finished shard and its report."""

import dataclasses
import errno
import json
from collections.abc import Callable, Iterator, Mapping

import av
import tensorflow as tf

from cmav.data import index, schema, storage
from cmav.errors import UserError
from cmav.media.clips import cut
from cmav.media.streams import RejectedError
from cmav.media.videos import Video
from cmav.prep import files, lookup
from cmav.prep.plan_files import Plan, PlanError, Unit
from cmav.prep.sounds import cut_sound


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


class GoneError(UserError):
    """A file that was there when it was planned is not there any more."""


def cut_file(unit: Unit, video: Video, alive: Callable[[], None]) -> Iterator[schema.Clip]:
    """Yields the clips of a file; see `clips.cut` and `sounds.cut_sound`.

    Raises:
      GoneError: where it was there when the split was planned, and is gone: a disk may have vanished.
    """
    try:
        yield from (cut_sound if unit.options.sound_only else cut)(video, unit.root, unit.options, alive)
    except RejectedError as error:
        path = video.path(unit.root)
        was_there = video.num_bytes is not None and video.num_bytes >= 0
        if was_there and not unit.skip_gone and lookup.size(path) < 0:
            raise GoneError(
                f"{path} was there when the split {unit.split!r} was planned, and is gone ({error}). Has its disk "
                "vanished? Bring it back and give the same command again; what is finished is kept. If the file is "
                "gone for good, add --skip_gone: it is then listed in rejects.csv"
            ) from error
        raise


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
      StorageError: where a video cannot be read for now.
      GoneError: where a video has vanished since it was planned.
    """
    try:
        _write(unit, cutter, alive, begins, skip or {})
    except tf.errors.OpError as error:
        raise OSError(error.message) from error


def _write(
    unit: Unit, cutter: Cutter, alive: Callable[[], None], begins: Callable[[int | None], None], skip: Mapping[int, str]
) -> None:
    rows, videos, rejects = [], [], []
    report = files.report_path(unit.folder, unit.split, unit.shard)
    offset = 0
    with files.temporary(unit.folder, unit.split) as unfinished:
        with tf.io.TFRecordWriter(unfinished) as writer:
            for number, video in enumerate(unit.videos):
                begins(number)
                try:
                    if number in skip:
                        raise RejectedError(skip[number])
                    for clip in _clips(unit, video, cutter, alive):
                        record = _encode(clip)
                        begins(None)
                        writer.write(record)
                        begins(number)
                        rows.append((offset, len(record), clip.seconds, clip.has_audio, clip.label))
                        videos.append(number)
                        offset += len(record) + index.FRAME_OVERHEAD
                except RejectedError as error:
                    rejects.append((video.source, str(error)))
            begins(len(unit.videos))
        num_bytes = lookup.size(unfinished)
        if num_bytes != offset:
            raise OSError(errno.EIO, f"{offset} bytes were written for {unit.path}, but {num_bytes} are there")
        files.rename(unfinished, unit.path)
    data = json.dumps({"rows": rows, "videos": videos, "rejects": rejects, "part": unit.part}).encode()
    files.write_whole(report, data, unit.folder, unit.split)


def _encode(clip: schema.Clip) -> bytes:
    try:
        return schema.encode(clip)
    except ValueError as error:
        raise RejectedError(f"a clip of it breaks the record contract ({error})") from error


def _clips(unit: Unit, video: Video, cutter: Cutter, alive: Callable[[], None]) -> Iterator[schema.Clip]:
    try:
        yield from cutter(unit, video, alive)
    except (RejectedError, UserError, MemoryError):
        raise
    except Exception as error:
        if _is_of_the_machine(error):
            raise storage.StorageError(
                f"{video.path(unit.root)}: {storage.words(error)}. The fault is not the file's, and it has not been "
                "rejected: give the same command again when the machine or its storage is well"
            ) from error
        # Files come in more states than anyone foresees. One of a million must not end a run of days, and its reason
        # in the rejects says what happened.
        raise RejectedError(f"unforeseen error ({type(error).__name__}: {error})") from error


def _is_of_the_machine(error: Exception) -> bool:
    """Whether an error says nothing of the file: storage that does not answer, too many open files, no memory."""
    if storage.may_pass(error) or isinstance(error, tf.errors.ResourceExhaustedError):
        return True
    return isinstance(error, OSError) and not isinstance(error, av.FFmpegError)


def finished(folder: str, plan: Plan) -> set[int]:
    """Numbers of the shards that are there with their reports, at the top or waiting to be put there."""
    present = files.shard_names(folder, plan.split)
    built = set(files.names(files.build_folder(folder, plan.split)))

    def is_in(path: str) -> bool:
        return path.rpartition("/")[2] in built

    return {
        shard
        for shard in range(plan.num_shards)
        if is_in(files.report_path(folder, plan.split, shard))
        and (shard in present or is_in(files.staged_path(folder, plan.split, shard)))
    }


def read_report(folder: str, plan: Plan, shard: int) -> Report:
    """Reads what became of a unit.

    Raises:
      PlanError: where the report is damaged, of another list of videos, or of an older version of this program.
    """
    path = files.report_path(folder, plan.split, shard)
    try:
        report = json.loads(files.read(path))
        if report.get("part", "") not in ("", plan.part_of(shard).listing):
            raise ValueError("of another list of videos")
        rejects = [tuple(reject) for reject in report["rejects"]]
        return Report([tuple(row) for row in report["rows"]], report["videos"], rejects)
    except (ValueError, KeyError, TypeError) as error:
        raise PlanError(
            f"{path} is damaged or of an older version ({error!r}); delete it, and the same command builds its "
            "shard anew"
        ) from error
