"""How long a training takes from its command to the end of its first step.

    python -m benchmarks.start [--config configs/demo.py] [--json start.json]

Starts the command anew for each run, and takes the time at which its log says how far it is: "network" until the
network is there (flags, imports, index, checks, initialisation), "step" until the loss of the first step is told
(the input pipeline, compiling, the step). Three ways: without the persistent compilation cache, with an empty one
("cold"), and with that which the run before has filled ("warm"). The ways alternate.
"""

import argparse
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

from benchmarks import measuring

# What the log says when a part has ended.
MARKS = {"network": re.compile(r"\] a new run"), "step": re.compile(r"\] step +1/")}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/demo.py", help="default: %(default)s")
    parser.add_argument("--repeats", type=int, default=3, help="of each way (default: %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write all numbers there")
    args = parser.parse_args()
    runs = {"without": [], "cold": [], "warm": []}
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(args.repeats):
            cache = os.path.join(scratch, f"cache{number}")
            for way, folder in (("without", ""), ("cold", cache), ("warm", cache)):
                runs[way].append(until_first_step(args.config, pathlib.Path(scratch, f"{way}{number}"), folder))
    results = {way: {key: measuring.summary([run[key] for run in of]) for key in of[0]} for way, of in runs.items()}
    results["ratio"] = measuring.summary(
        [a["step"] / b["step"] for a, b in zip(runs["without"], runs["warm"], strict=True)]
    )
    print("seconds since the command, and seconds of a core by then; median (least to most)")
    for way in runs:
        print(f"{way:8}" + "; ".join(f"{key} {measuring.in_words(found)}" for key, found in results[way].items()))
    print(f"without / warm: {measuring.in_words(results['ratio'])}")
    measuring.write(args.json, results)
    return 0


def until_first_step(config: str, workdir: pathlib.Path, cache: str) -> dict[str, float]:
    """Seconds, and seconds of a core, until each of the marks. The training is killed after the last.

    Raises:
      RuntimeError: where it ends before.
    """
    command = [sys.executable, "-m", "cmav.main", f"--config={config}", f"--workdir={workdir}", "--config.log_every=1"]
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": cache}
    begun = time.perf_counter()
    found, said = {}, []
    with subprocess.Popen(command, cwd=measuring.ROOT, env=environment, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            said.append(line)
            for key, mark in MARKS.items():
                if mark.search(line):
                    found |= {key: time.perf_counter() - begun, f"{key}_cpu": _cpu_seconds(process.pid)}
            if len(found) == 2 * len(MARKS):
                process.kill()
                return found
    raise RuntimeError(f"exit status {process.returncode} before the first step\n{''.join(said[-20:])}")


def _cpu_seconds(pid: int) -> float:
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    sys.exit(main())
