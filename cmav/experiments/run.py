"""Makes every run of an experiment, and one table of them.

python -m cmav.experiments.run cmac_parts
python -m cmav.experiments.run cmac_parts --seeds=5 --jobs=4 --devices=0,1
python -m cmav.experiments.run --summary

Runs that are done are not made again: stopped by Ctrl-C or SIGTERM, the same command goes on. Leaves `table.md` (means
with 95% intervals, Student's t over the seeds, and differences within seeds; of a single seed, or where no two seeds
differ, the intervals over the clips), `table.csv` (a line for each run) and `table.png` in the work folder,
`runs/experiments/<name>`, and each run's checkpoints and logs in a folder of its own. Where some runs failed, the table
is of the seeds that are whole. With --summary nothing is run: the tables that there are are joined to a page,
`runs/experiments/experiments.md`. What is done is known by its commands: who changes a config file that they name must
remove the runs that were made with it.
"""

import signal
from collections.abc import Sequence

from absl import flags
from etils import epath

from cmav import cli
from cmav.errors import Preempted, UserError
from cmav.experiments import results
from cmav.experiments.catalogue import EXPERIMENTS
from cmav.experiments.jobs import Jobs

FOLDER = "runs/experiments"


def main(names: Sequence[str], seeds: int, jobs: int, devices: Sequence[str], workdir: str | None, more: str) -> None:
    if len(names) != 1 or names[0] not in EXPERIMENTS:
        raise UserError(f"name one experiment: {', '.join(EXPERIMENTS)}. All flags: --help.")
    cli.check_alone()
    name, experiment = names[0], EXPERIMENTS[names[0]]
    folder = epath.Path(workdir or f"{FOLDER}/{name}")
    folder.mkdir(parents=True, exist_ok=True)
    runs = experiment.runs(folder, seeds, more)
    # Most runs compile the same networks.
    worker = Jobs(jobs, devices, {"JAX_COMPILATION_CACHE_DIR": str(folder / "xla_cache")})
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        worker.make(runs)
    except KeyboardInterrupt:
        raise Preempted("asked to stop: the commands have saved where they were; the same command goes on.") from None
    finally:  # One run that fails takes no other's numbers along.
        if whole := results.whole_seeds(runs):
            text = results.write(experiment, name, whole, folder)
            print(f"{text}\nwrote table.md, table.csv and table.png in {folder}")


def summarize(names: Sequence[str], workdir: str | None) -> None:
    if names:
        raise UserError(f"--summary is of all experiments that have a table: leave out {' '.join(names)}.")
    print(f"wrote {results.write_page(list(EXPERIMENTS), epath.Path(workdir or FOLDER))}")


if __name__ == "__main__":
    _SEEDS = flags.DEFINE_integer("seeds", 3, "Runs of each arm, with seeds from 0.", lower_bound=1)
    _JOBS = flags.DEFINE_integer("jobs", 1, "Runs at a time.", lower_bound=1)
    _DEVICES = flags.DEFINE_list("devices", [], "GPUs by number, e.g. 0,1, which the jobs share in turn.")
    _WORKDIR = flags.DEFINE_string(
        "workdir", None, f"Folder of the runs. Default: {FOLDER}/<experiment>. With --summary, of all experiments."
    )
    _MORE = flags.DEFINE_string(
        "also", "", "Flags for every run's first command, e.g. --also='--config.phases[0].steps=100'."
    )
    _SUMMARY = flags.DEFINE_bool("summary", False, "Run nothing; join the tables of all experiments to a page.")
    cli.run(
        lambda names: (
            summarize(names, _WORKDIR.value)
            if _SUMMARY.value
            else main(names, _SEEDS.value, _JOBS.value, _DEVICES.value, _WORKDIR.value, _MORE.value)
        ),
        takes_arguments=True,
    )
