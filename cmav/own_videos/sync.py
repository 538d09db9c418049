"""Offsets between picture and sound of videos that need no shards. `python -m cmav.sync` is the command."""

import dataclasses
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from absl import logging
from etils import epath
from tqdm import tqdm

from cmav.data import storage
from cmav.errors import UserError, to_paste, within
from cmav.media import decoding, manifest
from cmav.media.streams import RejectedError
from cmav.offsets.calibration import Calibration
from cmav.offsets.course import Segment
from cmav.offsets.estimate import MIN_CONFIDENCE
from cmav.offsets.stretch import Stretch
from cmav.own_videos import fixed_video, offset_picture, offset_rows, sound_search
from cmav.own_videos.feature_file import Part
from cmav.own_videos.offsets import Found, clock, find_offsets
from cmav.own_videos.watch import picture_size
from cmav.tasks.base import Offsets, in_words
from cmav.training import frozen, run_config
from cmav.training.frozen import FrozenNetwork

MAX_SHIFT_MS = 1000.0
FOUND_COLUMNS = ("path", "seconds", "confidence", "verdict", "others")


@dataclasses.dataclass(frozen=True)
class Result:
    """What became of the videos.

    Attributes:
      rows: of all of them, as `cmav.own_videos.offset_rows` has them.
      num_new: how many are new.
      report: folder of the rows and of the pictures that they name.
      made_with: which network, and which shifts, in words.
    """

    rows: list[dict[str, Any]]
    num_new: int
    report: str
    made_with: str


def sync(
    videos: Sequence[str],
    checkpoint: str,
    out: str,
    *,
    max_shift_ms: float = MAX_SHIFT_MS,
    step_ms: float | None = None,
    hop_ms: float | None = None,
    min_confidence: float | None = None,
    fix: str | None = None,
    batch_size: int = 2,
    size: int | None = None,
    num_workers: int | None = None,
) -> Result:
    """Finds the offsets of videos, and writes all that `cmav.sync` says but the page.

    Args:
      videos: files, folders, CSV files as `cmav.media.manifest.read_csv` describes them.
      checkpoint: as `cmav.training.frozen.load` takes it, of a task that can be asked for offsets.
      out: the .csv or .json file, local.
      max_shift_ms: the greatest shift to try, to either side.
      step_ms: from a shift to the next, rounded to a stored frame of the network or a whole fraction of it; None: a
        frame.
      hop_ms: from a window to the next; None: an eighth of the network's clip.
      min_confidence: below it nothing is said; None: 0.5.
      fix: a folder for corrected copies, local; None: there are none.
      batch_size: stretches of video, of some windows each, that the network sees at a time.
      size: to which pictures are brought before the central crop, in pixels; None: as much larger than the crop as 256
        is than 224. Best is what the network's shards were built with.
      num_workers: processes that decode, each another video; None: one for each CPU core.

    Raises:
      UserError: where videos or checkpoint are not there, the network cannot be asked for offsets, the report was made
        with something else, or storage does not answer.
    """
    _check_out(out)
    wanted = _list(videos)
    network, calibration = _load(checkpoint)
    task = network.task
    size = picture_size(size, task.data_config.crop_size)
    stretch = Stretch.of(
        task,
        max_seconds=max_shift_ms / 1000,
        step_seconds=step_ms and step_ms / 1000,
        hop_seconds=hop_ms and hop_ms / 1000,
    )
    how = {
        "size": size,
        "batch_size": batch_size,
        "num_workers": num_workers,
        "min_confidence": MIN_CONFIDENCE if min_confidence is None else min_confidence,
    }
    metadata = {
        "run": network.run if "://" in network.run else os.path.abspath(network.run),
        "step": network.step,
        "weights": network.checksum(),
        "calibration": dataclasses.asdict(calibration) if calibration else None,
        "max_shift_ms": 1000 * stretch.shifts[-1],
        "step_ms": 1000 * stretch.step_seconds,
        "hop_ms": 1000 * stretch.hop / task.clip.stored_frame_rate,
        "size": size,
        "min_confidence": how["min_confidence"],
    }
    folder = f"{os.path.splitext(out)[0]}_report"
    kept = offset_rows.OffsetRows(folder, metadata, origin=("run",))
    todo = {part: video for part, video in wanted.items() if part not in kept.rows}
    logging.info(
        "%d videos, %d of them in %s already; step %d of %s",
        *(len(wanted), len(wanted) - len(todo), folder, network.step, network.run),
    )
    taken = {row["picture"] for row in kept.rows.values()}
    failures = {}
    found_videos = find_offsets(network, todo.values(), "", stretch, calibration, **how)
    for (part, video), found in zip(todo.items(), tqdm(found_videos, total=len(todo), disable=not todo), strict=True):
        if isinstance(found, str):
            failures[part] = offset_rows.failed_row(part, found)
            continue
        picture = _free_name(video.name, taken)
        offset_picture.draw(found, os.path.basename(part[0]), os.path.join(folder, picture))
        kept.add(offset_rows.make_row(part, found, picture))
    rows = [kept.rows[part] if part in kept.rows else failures[part] for part in wanted]
    if fix:
        _fix(rows, fix, lambda copies: find_offsets(network, copies, "", stretch, calibration, **how))
        kept.save()
    offset_rows.write_table(out, rows)
    made_with = f"Step {network.step} of {network.run}; shifts of up to {1000 * stretch.shifts[-1]:g} ms were tried."
    return Result(rows, len(todo) - len(failures), folder, made_with)


def find(
    sound: str,
    videos: Sequence[str],
    checkpoint: str,
    out: str,
    *,
    min_confidence: float | None = None,
    batch_size: int = 8,
    size: int | None = None,
    num_workers: int | None = None,
) -> list[dict[str, Any]]:
    """Finds where in long videos a short sound belongs. `cmav.sync` says what is written.

    Args:
      sound: a file with the sound, at least as long as the network's clip.
      videos: as `sync` takes them, like all that follow but `batch_size`.
      checkpoint: of the network.
      out: the table.
      min_confidence: below it nothing is said.
      batch_size: windows that the network sees at a time.
      size: of its pictures.
      num_workers: processes that decode.

    Returns:
      A dict for each video, with the columns of the table.

    Raises:
      UserError: as `sync`; and where there is no sound in `sound`, or too little.
    """
    _check_out(out)
    wanted = _list(videos)
    network, calibration = _load(checkpoint)
    clip = network.task.clip
    with within("--find"):
        samples = sound_search.read_sound(sound, clip.sample_rate)
    found = sound_search.find_sound(
        network,
        samples,
        list(wanted.values()),
        calibration,
        size=picture_size(size, network.task.data_config.crop_size),
        batch_size=batch_size,
        num_workers=num_workers,
    )
    rows = []
    for (path, start, end), place in zip(wanted, found, strict=True):
        row = {"path": path, "start": start, "end": end, "seconds": None, "confidence": None, "others": ""}
        if isinstance(place, str):
            rows.append({**row, "verdict": f"cannot tell: {place}"})
            continue
        # It may well belong to the video's first moment.
        reading = dataclasses.replace(place.reading, at_the_end=False)
        if calibration:
            row["confidence"] = round(reading.confidence, 3)
        row["others"] = " ".join(f"{start + other:.2f}" for other in place.others(3, clip.seconds))
        if reading.doubt(MIN_CONFIDENCE if min_confidence is None else min_confidence):
            rows.append({**row, "verdict": "cannot tell: no place stands out"})
            continue
        seconds = round(start + reading.peak, 3)
        verdict = f"the sound belongs at {clock(seconds)} ({seconds:.2f} s)" + (
            "" if calibration else " (not calibrated)"
        )
        rows.append({**row, "seconds": seconds, "verdict": verdict})
    offset_rows.write_table(out, rows, FOUND_COLUMNS)
    return rows


def _check_out(out: str) -> None:
    if "://" in out or not out.endswith((".csv", ".json")):
        raise UserError(f"--out={out} must be a local file that ends with .csv or .json.")


def _load(checkpoint: str) -> tuple[FrozenNetwork, Calibration | None]:
    """The network and its calibration, or None where it has none."""
    network = frozen.load(checkpoint)
    if Offsets not in network.task.abilities:
        raise UserError(
            f"--checkpoint={checkpoint}: offsets need {in_words(Offsets)}, and the network of this run has not that."
        )
    calibration = Calibration.load(epath.Path(network.run))
    if calibration and calibration.fitted_on["step"] != network.step:
        logging.warning(
            "%s has a calibration of step %d, not of step %d", network.run, calibration.fitted_on["step"], network.step
        )
        calibration = None
    if not calibration:
        config = run_config.read(network.run)
        can_be = config is not None and any(settings.type == "offset" for settings in config.evals.values())
        logging.warning(
            "%s is not calibrated: how sure an offset is will not be said.%s",
            network.run,
            f" Its evaluation does that:{to_paste('cmav', 'evaluate', network.run)}" if can_be else "",
        )
    return network, calibration


def _list(paths: Sequence[str]) -> dict[Part, manifest.Video]:
    """The videos, or parts of them, by path, start and end; with absolute paths."""
    videos = []
    for path in paths:
        if storage.is_folder(path) or path.lower().endswith(".csv"):
            listed = manifest.read(path, None)
            for video in itertools.chain.from_iterable(listed.splits.values()):
                videos.append(dataclasses.replace(video, source=video.path(listed.root)))
        elif storage.exists(path):
            source = path if "://" in path else os.path.abspath(path)
            videos.append(manifest.Video(source, manifest.stem(path)))
        else:
            raise UserError(f"{path}: there is no such video, folder or CSV.")
    return {(video.source, video.start, video.end): video for video in videos}


def _fix(
    rows: Sequence[dict[str, Any]], folder: str, find: Callable[[Sequence[manifest.Video]], Iterator[Found | str]]
) -> None:
    """Writes corrected copies, looks at them again, and tells the rows.

    Args:
      rows: those that have a copy already are left as they are.
      folder: of the copies.
      find: what `find_offsets` yields of videos.
    """
    if "://" in folder:
        raise UserError(f"--fix={folder} must be a local folder.")
    os.makedirs(folder, exist_ok=True)
    done = [row["fixed"] for row in rows if row.get("fixed") and os.path.exists(row["fixed"])]
    taken = {os.path.basename(path) for path in done if os.path.dirname(path) == os.path.abspath(folder)}
    copied = []
    worker = decoding.worker()
    try:
        for row in rows:
            is_off = row["segments"] or not row["verdict"].startswith("in time")
            if row["offset_ms"] is None or not is_off or row.get("fixed") in done:
                continue
            row["fixed"] = None
            if row["start"] or row["end"] is not None or "://" in row["path"]:
                row["fixed_verdict"] = "only whole videos on this machine are corrected"
            elif len(row["segments"]) > 1:
                row["fixed_verdict"] = "its offset jumps: cut it there, and correct the parts"
            else:
                target = os.path.abspath(fixed_video.target_of(row["path"], folder, taken))
                line = row["segments"][0] if row["segments"] else {}
                first, last = (line.get(key, row["offset_ms"]) / 1000 for key in ("first_ms", "last_ms"))
                segment = Segment(line.get("start", 0.0), line.get("end", 1.0), first, last)
                try:
                    said = fixed_video.fix(worker, row["path"], target, segment)
                except RejectedError as error:
                    row["fixed_verdict"] = str(error)
                else:
                    copied.append((row, target, said))
    finally:
        worker.end()
    copies = [manifest.Video(target, manifest.stem(target)) for _, target, _ in copied]
    for (row, target, said), found in zip(copied, find(copies), strict=True):
        again = found if isinstance(found, str) else found.estimate.verdict
        row["fixed"], row["fixed_verdict"] = target, f"{again} ({said})"


def _free_name(name: str, taken: set[str]) -> str:
    """A file's name for the picture of a video of this name, that no other has."""
    stem = name.replace("/", "_").lstrip(".") or "video"
    names = (f"{stem}~{number}.png" if number > 1 else f"{stem}.png" for number in itertools.count(1))
    free = next(one for one in names if one not in taken)
    taken.add(free)
    return free
