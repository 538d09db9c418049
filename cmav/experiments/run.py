"""Makes every run of an experiment, and one table of them.

python -m cmav.experiments.run cmac_parts
python -m cmav.experiments.run cmac_parts --seeds=5 --jobs=4 --devices=0,1

Runs that are done are not made again: stopped by Ctrl-C or SIGTERM, the same command goes on. Leaves `table.md` (means
with 95% intervals, Student's t over the seeds, and differences within seeds; of a single seed, or where no two seeds
differ, the intervals over the clips), `table.csv` (a line for each run) and `table.png` in the work folder, and each
run's checkpoints and logs in a folder of its own.
"""

import csv
import datetime
import io
import os
import queue
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

from absl import flags, logging
from etils import epath
from matplotlib.figure import Figure

from cmav import cli, tables
from cmav.errors import Preempted, UserError
from cmav.evals import figures
from cmav.experiments.catalogue import EXPERIMENTS
from cmav.experiments.experiment import Experiment, Run
from cmav.experiments.table import Cell

_PANELS_ACROSS = 5


class Jobs:
    """Makes runs, several at a time, each stage in a process of its own.

    Args:
      jobs: how many at a time.
      devices: GPUs by number, which the jobs share in turn; none: every job sees what there is.
      environment: of the processes, beside this one's.
      more: flags for each run's first stage, by which all arms differ from the experiment as it is written.
    """

    def __init__(self, jobs: int, devices: Sequence[str] = (), environment: Mapping[str, str] = {}, more: str = ""):
        self._jobs, self._devices, self._more = jobs, devices, more
        self._environment = {**os.environ, **environment}
        self._slots: queue.SimpleQueue[int] = queue.SimpleQueue()
        for slot in range(jobs):
            self._slots.put(slot)
        self._running: set[subprocess.Popen] = set()
        self._stopped = threading.Event()
        self._lock = threading.Lock()

    def make(self, runs: Sequence[Run]) -> None:
        """Makes those that are not done.

        Raises:
          UserError: where a command fails, after all others are done; or, before any, where what is done is of other
            commands.
          KeyboardInterrupt: where it was asked to stop. The commands that ran have saved where they are.
        """
        waiting = [run for run in runs if not all(self._is_done(run, stage) for stage in run.experiment.stages)]
        logging.info("%d runs, %d of them done", len(runs), len(runs) - len(waiting))
        started, failed = time.monotonic(), []
        pool = ThreadPoolExecutor(self._jobs)
        try:
            futures = {pool.submit(self._make, run): run for run in waiting}
            for done, future in enumerate(as_completed(futures), start=1):
                run, failure = futures[future], future.result()
                if failure:
                    failed.append(failure)
                    logging.warning("%s", failure)
                left = (time.monotonic() - started) / done * (len(waiting) - done)
                told = f"; about {datetime.timedelta(seconds=round(left))} left" if done < len(waiting) else ""
                logging.info("%d of %d: %s, seed %d%s", done, len(waiting), run.arm, run.seed, told)
        finally:
            self.stop()  # Of what still runs only where this is left by an exception, such as Ctrl-C's.
            pool.shutdown(cancel_futures=True)
        if failed:
            raise UserError("\n".join([f"{len(failed)} of {len(waiting)} runs failed; the others are done.", *failed]))

    def stop(self) -> None:
        """Asks all commands to stop, as a scheduler would: training saves first."""
        with self._lock:
            self._stopped.set()
            for process in self._running:
                process.terminate()

    def _more_of(self, run: Run, stage: str) -> str:
        return self._more if stage == next(iter(run.experiment.stages)) else ""

    def _is_done(self, run: Run, stage: str) -> bool:
        return run.done(stage, self._more_of(run, stage))

    def _make(self, run: Run) -> str | None:
        """Returns what went wrong, None where nothing did."""
        slot = self._slots.get()
        try:
            run.folder.mkdir(parents=True, exist_ok=True)
            for stage in run.experiment.stages:
                more = self._more_of(run, stage)
                if run.done(stage, more):
                    continue
                started = time.monotonic()
                status = self._execute(run.command(stage, more), run.log(stage), slot)
                if self._stopped.is_set():
                    return None
                if status:
                    return f"{run.arm}, seed {run.seed}: {stage} ended with exit status {status}, see {run.log(stage)}"
                run.keep(stage, time.monotonic() - started, more)
        except UserError as error:
            return f"{run.arm}, seed {run.seed}: {error}"
        finally:
            self._slots.put(slot)
        return None

    def _execute(self, command: Sequence[str], log: epath.Path, slot: int) -> int:
        environment = self._environment
        if self._devices:
            environment = environment | {"CUDA_VISIBLE_DEVICES": self._devices[slot % len(self._devices)]}
        if self._jobs > 1:  # JAX takes three quarters of a GPU for itself.
            sharing = -(-self._jobs // max(len(self._devices), 1))
            environment = {"XLA_PYTHON_CLIENT_MEM_FRACTION": f"{0.9 / sharing:.3f}", **environment}
        with open(log, "a") as file:
            with self._lock:
                if self._stopped.is_set():
                    return 0
                process = subprocess.Popen(  # In a session of its own: Ctrl-C is for us, who ask it to save.
                    command, stdout=file, stderr=subprocess.STDOUT, env=environment, start_new_session=True
                )
                self._running.add(process)
            try:
                return process.wait()
            finally:
                with self._lock:
                    self._running.discard(process)


def write_tables(experiment: Experiment, name: str, runs: Sequence[Run], workdir: epath.Path) -> str:
    """Writes table.md, table.csv and table.png of runs that are done; returns the first's text."""
    numbers = {run: run.numbers() for run in runs}
    by_arm = {arm: [run for run in runs if run.arm == arm] for arm in experiment.arms}
    cells = {
        arm: {
            heading: Cell(tuple(numbers[run][heading] for run in of_arm), of_arm[0].interval(heading))
            for heading in experiment.columns
        }
        for arm, of_arm in by_arm.items()
    }
    minutes = {arm: Cell(tuple(run.seconds() / 60 for run in of_arm)).mean for arm, of_arm in by_arm.items()}
    reference = cells[experiment.reference]
    seeds = len(by_arm[experiment.reference])
    text = "\n\n".join(
        [
            f"# {name}\n\n{experiment.question} Data: {experiment.setup}.",
            f"Mean of {seeds} seeds, and its 95% interval (Student's t); in brackets, where all seeds come to the same "
            "number, the one over the clips that it is of."
            if seeds > 1
            else "One run of each arm; in brackets the 95% interval over the clips that its number is of.",
            tables.markdown(
                ["", *experiment.columns, "minutes a run"],
                ([arm, *map(str, row.values()), f"{minutes[arm]:.1f}"] for arm, row in cells.items()),
            ),
            f"Differences from “{experiment.reference}” within seeds:",
            tables.markdown(
                ["", *experiment.columns],
                (
                    [arm, *((cell - reference[heading]).signed() for heading, cell in row.items())]
                    for arm, row in cells.items()
                    if arm != experiment.reference
                ),
            ),
            f"`python -m cmav.experiments.run {name} --seeds={seeds}` makes of each arm and seed (here seed 0):",
            "```sh\n" + "\n".join(_commands(experiment, runs)) + "\n```",
        ]
    )
    (workdir / "table.md").write_text(text + "\n")
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    writer.writerow(["arm", "seed", *experiment.columns, "seconds"])
    writer.writerows([run.arm, run.seed, *values.values(), run.seconds()] for run, values in numbers.items())
    (workdir / "table.csv").write_text(file.getvalue())
    save_picture(cells, workdir / "table.png")
    return text


def _commands(experiment: Experiment, runs: Sequence[Run]) -> list[str]:
    """The stages of the reference, and what other arms have instead."""
    run = next(run for run in runs if run.arm == experiment.reference)
    lines = [shlex.join(["python", *run.command(stage)[1:]]) for stage in experiment.stages]
    return lines + [f"# {arm}: {flags_.strip() or 'nothing else'}" for arm, flags_ in experiment.arms.items()]


def save_picture(cells: Mapping[str, Mapping[str, Cell]], path: epath.Path) -> None:
    """A panel for each column: means with their intervals, and every run as a dot, as a PNG."""
    arms, headings = list(cells), list(next(iter(cells.values())))
    columns = min(len(headings), _PANELS_ACROSS)
    rows = -(-len(headings) // columns)
    figure = Figure(figsize=(1.8 + 2.1 * columns, rows * (0.9 + 0.35 * len(arms))), layout="constrained")
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    for axes, heading in zip(panels, headings, strict=False):
        for place, arm in enumerate(arms):
            cell = cells[arm][heading]
            axes.errorbar(cell.mean, place, xerr=cell.half_width, marker="o", color="tab:blue", capsize=3)
            axes.plot(cell.values, [place] * len(cell.values), ".", color="tab:orange", markersize=4)
        axes.set_title(heading, fontsize=9)
        axes.tick_params(labelsize=8)
        axes.grid(axis="x", alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in panels[len(headings) :]:
        axes.set_visible(False)
    panels[0].set_yticks(range(len(arms)), arms)
    panels[0].invert_yaxis()  # of all, for they share it
    figures.save(figure, path)


def main(names: Sequence[str], seeds: int, jobs: int, devices: Sequence[str], workdir: str | None, more: str) -> None:
    if len(names) != 1 or names[0] not in EXPERIMENTS:
        raise UserError(f"name one experiment: {', '.join(EXPERIMENTS)}. All flags: --help.")
    cli.check_alone()
    name, experiment = names[0], EXPERIMENTS[names[0]]
    folder = epath.Path(workdir or f"runs/{name}")
    folder.mkdir(parents=True, exist_ok=True)
    runs = [Run.of(experiment, folder, arm, seed) for seed in range(seeds) for arm in experiment.arms]
    # Most runs compile the same networks.
    worker = Jobs(jobs, devices, {"JAX_COMPILATION_CACHE_DIR": str(folder / "xla_cache")}, more)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        worker.make(runs)
    except KeyboardInterrupt:
        raise Preempted("asked to stop: the commands have saved where they were; the same command goes on.") from None
    text = write_tables(experiment, name, runs, folder)
    print(f"{text}\nwrote table.md, table.csv and table.png in {folder}")


if __name__ == "__main__":
    _SEEDS = flags.DEFINE_integer("seeds", 3, "Runs of each arm, with seeds from 0.", lower_bound=1)
    _JOBS = flags.DEFINE_integer("jobs", 1, "Runs at a time.", lower_bound=1)
    _DEVICES = flags.DEFINE_list("devices", [], "GPUs by number, e.g. 0,1, which the jobs share in turn.")
    _WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the runs. Default: runs/<experiment>.")
    _MORE = flags.DEFINE_string(
        "also", "", "Flags for every run's first command, e.g. --also='--config.phases[0].steps=100'."
    )
    cli.run(
        lambda names: main(names, _SEEDS.value, _JOBS.value, _DEVICES.value, _WORKDIR.value, _MORE.value),
        takes_arguments=True,
    )
