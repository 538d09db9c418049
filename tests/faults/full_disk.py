"""A full disk in a build, in training and in embedding; then more room, and the same command once more."""

import pathlib
import random
import subprocess
from collections.abc import Iterator

import numpy as np

from tests import commands
from tests.faults import fault


def make(folder: pathlib.Path, times: int, rng: random.Random) -> Iterator[fault.Row]:
    data = {"CMAV_DATA": str(fault.write_clips(folder / "clips"))}
    fault.write_videos(folder / "videos", 8)
    videos = f"--videos={folder / 'videos'}"
    train = [*fault.TRAIN, "--config.checkpoint.every=1"]
    embed = ["-m", "cmav.embed", videos, f"--checkpoint={folder / 'whole-training'}"]
    for place, command, flag, name, environment in (
        ("a build", [*fault.BUILD, videos, "--shards=4"], "--out", "", {}),
        ("training", train, "--workdir", "", data),
        ("embedding", embed, "--out", "features.npz", {}),
    ):
        whole = folder / f"whole-{place.split()[-1]}"
        whole.mkdir()
        commands.run(*command, f"{flag}={whole / name}".rstrip("/"), **environment)
        size = sum(path.stat().st_size for path in whole.rglob("*") if path.is_file())
        lost, outputs, failed = set(), [], 0
        for number in range(times):
            small = fault.mount(
                folder / f"small-{place.split()[-1]}-{number}", max(4096, round(size * rng.uniform(0.2, 0.8)))
            )
            process = commands.start(*command, f"{flag}={small / name}".rstrip("/"), **environment)
            outputs.append(process.communicate(timeout=600)[0])
            failed += process.returncode != 0
            if "Traceback" in outputs[-1]:
                lost.add("a traceback instead of a message")
            fault.mount(small, 2 * size + 2**24)
            process = commands.start(*command, f"{flag}={small / name}".rstrip("/"), **environment)
            output = process.communicate(timeout=600)[0]
            if process.returncode:
                lost.add(f"the work: given again, it ends with {fault.words(output)}")
            elif not _same(place, small, whole, data):
                lost.add("the end is another")
            lost.update(f"room, to {path.suffix}" for path in small.rglob("*") if path.name.endswith((".tmp", ".part")))
            subprocess.run(["umount", str(small)], check=True)
        yield fault.Row(
            f"full disk in {place}, {times} times ({failed} ended with an error)",
            fault.or_nothing(sorted(lost)) + ("" if lost else ": with more room, the same command ends the same"),
            fault.words(outputs),
        )


def _same(place: str, ours: pathlib.Path, theirs: pathlib.Path, data: dict[str, str]) -> bool:
    if place == "training":
        return len(set(commands.digests(ours, theirs, **data))) == 1
    if place == "embedding":
        both = [np.load(folder / "features.npz")["features"] for folder in (ours, theirs)]
        return np.array_equal(*both)
    return not fault.differing(ours, theirs)


if __name__ == "__main__":
    fault.in_namespace()
    fault.main(make, 2, "tests.faults.full_disk")
