"""SIGTERM at random moments of training, and of evaluation; then the same command once more."""

import pathlib
import random
import re
import signal
import time
from collections.abc import Iterator

from tests import commands
from tests.faults import fault


def make(folder: pathlib.Path, times: int, rng: random.Random) -> Iterator[fault.Row]:
    data = {"CMAV_DATA": str(fault.write_clips(folder / "clips", num_held_out=400))}
    for place, every in (("training", 10_000), ("evaluation", 1)):
        train = [*fault.TRAIN, "--config.checkpoint.every=10000", f"--config.evals.pretext.every={every}"]
        steps = (1000 if place == "training" else 4) * (times + 1)
        train += [f"--config.phases[{phase}].steps={steps // 2}" for phase in range(2)]
        run = folder / place
        outputs, codes, waited, saved = [], [], [], []
        for _ in range(times):
            with (folder / "said").open("w") as said:
                process = commands.start(*train, f"--workdir={run}", output=said, **data)
                said_so = lambda: re.search(r"step +\d+/", (folder / "said").read_text())  # noqa: E731
                commands.wait_for(lambda said_so=said_so: bool(said_so()), process)
                time.sleep(rng.uniform(0.2, 2))
                asked = time.monotonic()
                process.send_signal(signal.SIGTERM)
                codes.append(process.wait(300))
                waited.append(time.monotonic() - asked)
            outputs.append((folder / "said").read_text())
            saved += re.findall(r"saved step (\d+)", outputs[-1])
        lost = [] if len(saved) == times else [f"what was done since the last save, {times - len(saved)} times"]
        lost += [] if set(codes) == {143} else [f"exit statuses {sorted(set(codes))} instead of 143"]
        yield fault.Row(
            f"SIGTERM in {place}, {times} times",
            fault.or_nothing(lost),
            f"“asked to stop: saved step …” after at most {max(waited):.1f} s; warnings: {fault.words(outputs)}",
        )


if __name__ == "__main__":
    fault.main(make, 5, "tests.faults.sigterm")
