"""kill -9 at random moments of training, with evaluation and saving in between; then the same command once more."""

import pathlib
import random
import re
import signal
import time
from collections.abc import Iterator

from tests import commands
from tests.faults import fault

STEPS = 12  # to a kill, so that there is something left to train at the last one


def make(folder: pathlib.Path, times: int, rng: random.Random) -> Iterator[fault.Row]:
    data = {"CMAV_DATA": str(fault.write_clips(folder / "clips"))}
    train = [*fault.TRAIN, "--config.checkpoint.every=1", "--config.evals.pretext.every=3"]
    train += [f"--config.phases[{phase}].steps={STEPS * times // 2}" for phase in range(2)]
    commands.run(*train, f"--workdir={folder / 'whole'}", **data)

    outputs, kills, within_saves = [], 0, 0
    run = folder / "killed"
    for number in range(times):
        begun = time.time()
        process = commands.start(*train, f"--workdir={run}", **data)
        # Some fall into the start, most into what follows the first step.
        if rng.random() < 0.9:
            commands.wait_for(lambda begun=begun: _has_saved_since(run, begun), process)
        time.sleep(rng.uniform(0, 4))
        kills += process.poll() is None
        process.send_signal(signal.SIGKILL)
        outputs.append(process.communicate()[0])
        within_saves += any(not path.name.isdecimal() for path in (run / "checkpoints").glob("*"))
        fault.progress(f"{number + 1} of {times} kills")
    outputs.append(commands.finish(commands.start(*train, f"--workdir={run}", **data)))
    resumed = [int(step) for output in outputs for step in re.findall(r"resuming at step (\d+)", output)]
    lost = [] if len(set(commands.digests(folder / "whole", run, **data))) == 1 else ["the end is another"]
    lost += [] if resumed == sorted(resumed) else ["a saved step"]
    yield fault.Row(
        f"kill -9 of training, {kills} times, {within_saves} of them within a save",
        fault.or_nothing(lost) + ("" if lost else ": the end is that of a run in one go, bit for bit"),
        f"“resuming at step …” ({len(resumed)}×); warnings: {fault.words(outputs)}",
    )


def _has_saved_since(run: pathlib.Path, begun: float) -> bool:
    return any(path.stat().st_mtime > begun for path in (run / "checkpoints").glob("[0-9]*"))


if __name__ == "__main__":
    fault.main(make, 50, "tests.faults.kills")
