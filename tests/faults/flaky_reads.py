"""A file system that fails one read in a hundred: a build, training that resumes, evaluation and embedding on it."""

import pathlib
import random
import shutil
import subprocess
from collections.abc import Iterator

import numpy as np

from tests import commands
from tests.faults import fault

ONE_IN = 100


def make(folder: pathlib.Path, times: int, rng: random.Random) -> Iterator[fault.Row]:
    shim = folder / "flaky.so"
    source = pathlib.Path(__file__).with_name("flaky.c")
    subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", shim, source, "-ldl"], check=True)
    flaky = folder / "flaky"  # all below it fails at times
    fault.write_videos(flaky / "videos", 20)
    data = {"CMAV_DATA": str(fault.write_clips(flaky / "clips"))}
    build = [*fault.BUILD, f"--videos={flaky / 'videos'}", "--shards=4"]
    train = [*fault.TRAIN, "--config.checkpoint.every=3"]
    longer = ["--config.phases[1].steps=8"]
    embed = ["-m", "cmav.embed", f"--videos={flaky / 'videos'}"]
    commands.run(*build, f"--out={folder / 'built'}")
    commands.run(*train, f"--workdir={folder / 'run'}", **data)
    shutil.copytree(folder / "run", folder / "resumed")
    commands.run(*train, *longer, f"--workdir={folder / 'resumed'}", **data)
    commands.run(*embed, f"--checkpoint={folder / 'resumed'}", f"--out={folder / 'features.npz'}")

    def wrong_build(number: int) -> bool:
        return bool(fault.differing(flaky / f"built{number}", folder / "built"))

    def wrong_run(number: int, whole: str = "run") -> bool:
        return len(set(commands.digests(flaky / f"run{number}", folder / whole, **data))) > 1

    def wrong_end(number: int) -> bool:
        return wrong_run(number, "resumed")

    def wrong_features(number: int) -> bool:
        return not np.array_equal(*(np.load(path)["features"] for path in (out(number), folder / "features.npz")))

    def out(number: int) -> pathlib.Path:
        return flaky / f"features{number}.npz"

    for place, command, is_wrong in (
        ("a build", lambda n: [*build, f"--out={flaky / f'built{n}'}", "--verify"], wrong_build),
        ("training", lambda n: [*train, f"--workdir={flaky / f'run{n}'}"], wrong_run),
        ("resuming", lambda n: [*train, *longer, f"--workdir={flaky / f'run{n}'}"], wrong_end),
        ("embedding", lambda n: [*embed, f"--checkpoint={flaky / f'run{n}'}", f"--out={out(n)}"], wrong_features),
    ):
        lost, outputs, log = [], [], folder / f"log-{place.split()[-1]}"
        for number in range(times):
            shimmed = {"LD_PRELOAD": str(shim), "FLAKY_FOLDER": str(flaky), "FLAKY_LOG": str(log)}
            shimmed |= {"FLAKY_ONE_IN": str(ONE_IN), "FLAKY_SEED": str(rng.randrange(2**31))}
            process = commands.start(*command(number), **data, **shimmed)
            outputs.append(process.communicate(timeout=1200)[0])
            if process.returncode:
                lost.append(f"an end with exit status {process.returncode}")
            elif is_wrong(number):
                lost.append("the outcome is another")
        reads = log.read_bytes() if log.exists() else b""
        yield fault.Row(
            f"one read in {ONE_IN} fails (EIO) in {place}, {times} times: {reads.count(b'x')} of {len(reads)} reads",
            fault.or_nothing(lost),
            fault.words(outputs),
        )


if __name__ == "__main__":
    fault.main(make, 2, "tests.faults.flaky_reads")
