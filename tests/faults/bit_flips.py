"""Single bits flipped at random: in a dataset's files, in checkpoints, in source videos."""

import contextlib
import pathlib
import random
import shutil
from collections import Counter
from collections.abc import Iterator

import jax
import tensorflow as tf

from cmav.data import schema
from cmav.data.index import DAMAGE, DatasetError, SplitIndex
from cmav.errors import UserError
from cmav.training.checkpoint import ARRAY_ITEMS, Checkpoints
from tests import commands
from tests.faults import fault


def make(folder: pathlib.Path, times: int, rng: random.Random) -> Iterator[fault.Row]:
    yield from _in_shards(folder, times, rng)
    yield from _in_checkpoints(folder, times, rng)
    yield from _in_videos(folder, times, rng)


def _in_shards(folder: pathlib.Path, times: int, rng: random.Random) -> Iterator[fault.Row]:
    clips = fault.write_clips(folder / "clips")
    whole = _records(clips)
    for what, pattern in (("shards", "*train.tfrecord-*"), ("the index", "index-train.npy")):
        counts, said = Counter(), []
        fault.progress(f"{times} bits of {what}")
        for path, place, bit in fault.draw_bits(sorted(clips.glob(pattern)), times, rng):
            with fault.flipped(path, place, bit):
                try:
                    records = _records(clips)
                except (DatasetError, UserError) as error:
                    counts["the split, which is refused"] += 1
                    said.append(str(error))
                    continue
            bad = [number for number, record in enumerate(records) if isinstance(record, str)]
            said += [records[number] for number in bad]
            wrong = [n for n, record in enumerate(records) if n not in bad and record != whole[n]]
            if len(records) != len(whole) or wrong:
                counts["unnoticed: a record or its row is another"] += 1
            else:
                counts["no record" if not bad else "the record" if len(bad) == 1 else "several records"] += 1
        yield fault.Row(f"a bit of {what} flipped, {times} times", _listed(counts), fault.kinds(said))


def _records(clips: pathlib.Path) -> list[bytes | str]:
    """Each record with its row's columns, or what is said of its damage."""
    index = SplitIndex.load(str(clips), "train")
    found = []
    for number in range(len(index)):
        try:
            data = index.read(number)
            schema.parse(tf.constant(data))
            row = index.rows[number]
            found.append(data + repr((float(row["seconds"]), bool(row["has_audio"]), int(row["label"]))).encode())
        except DAMAGE as error:
            found.append(str(error))
    return found


def _in_checkpoints(folder: pathlib.Path, times: int, rng: random.Random) -> Iterator[fault.Row]:
    data = {"CMAV_DATA": str(folder / "clips")}
    run = folder / "run"
    commands.run(*fault.TRAIN, "--config.checkpoint.every=6", f"--workdir={run}", **data)
    newest = sorted(path for path in (run / "checkpoints" / "12").rglob("*") if path.is_file())
    whole, counts, said = _restored(run), Counter(), []
    for number, (path, place, bit) in enumerate(fault.draw_bits(newest, times, rng)):
        if number % 100 == 0:
            fault.progress(f"bit {number} of {times} of checkpoints")
        with fault.flipped(path, place, bit), fault.hearing() as heard:
            try:
                found = _restored(run)
            except Exception as error:
                counts[f"the run, though the step before is whole ({type(error).__name__})"] += 1
                said.append(str(error))
                continue
        said += heard
        same = "nothing: the bit does not matter" if found == whole else "unnoticed: other numbers"
        counts[same if found[0] == 12 else "the damaged step: the one before is used"] += 1
    yield fault.Row(f"a bit of the newest checkpoint flipped, {times} times", _listed(counts), fault.kinds(said))


def _restored(run: pathlib.Path) -> tuple[int, str]:
    checkpoints = Checkpoints(str(run))
    with contextlib.closing(checkpoints):
        items, metadata = checkpoints.restore_as_saved(ARRAY_ITEMS, jax.sharding.SingleDeviceSharding(jax.devices()[0]))
    return metadata["step"], commands.digest(items)


def _in_videos(folder: pathlib.Path, times: int, rng: random.Random) -> Iterator[fault.Row]:
    (original,) = fault.write_videos(folder / "original", 1)
    videos = folder / "videos"
    videos.mkdir()
    fault.progress(f"a build of {times} videos with a flipped bit")
    for number, (_, place, bit) in enumerate(fault.draw_bits([original], times, rng)):
        fault.flip_a_bit(pathlib.Path(shutil.copy(original, videos / f"flipped{number:04d}.mp4")), place, bit)
    for number in range(10):
        shutil.copy(original, videos / f"whole{number}.mp4")
    process = commands.start(*fault.BUILD, f"--videos={videos}", f"--out={folder / 'built'}")
    process.communicate(timeout=3600)
    index = SplitIndex.load(str(folder / "built"), "train")
    clips = [schema.parse(tf.constant(index.read(number)))["clip_id"].numpy().decode() for number in range(len(index))]
    given = {clip.rpartition("_")[0] for clip in clips}
    rejects = (folder / "built" / "rejects.csv").read_text().splitlines()[1:]
    named = {line.partition(",")[0].removesuffix(".mp4") for line in rejects}
    num_whole = sum(name.startswith("whole") for name in given - named)
    given, named = ({name for name in names if name.startswith("flipped")} for names in (given, named))
    counts = Counter(
        {
            "gave its clip": len(given - named),
            "rejected, by name": len(named - given),
            "gave a clip and was rejected": len(given & named),
            "without a word": times - len(given | named),
        }
    )
    if num_whole != 10 or process.returncode:
        counts[f"whole videos ({10 - num_whole} of 10; exit status {process.returncode})"] = 1
    yield fault.Row(
        f"a bit of a video flipped, {times} videos beside 10 whole ones",
        _listed(+counts),
        fault.kinds(line.partition(",")[2] for line in rejects),
    )


def _listed(counts: Counter) -> str:
    return ", ".join(f"{what} ({count}×)" for what, count in counts.most_common())


if __name__ == "__main__":
    fault.main(make, 1000, "tests.faults.bit_flips")
