"""How many labels does pretraining save? One table: ways to use a network, by labelled videos per class.

python -m cmav.experiments.label_budgets --config=configs/finetune_world.py --config.init.checkpoint=runs/demo

Each cell is the mean top-1 accuracy over runs, which differ in all that chance decides: run i has seed i, which draws
the labelled videos, the weights that are not loaded, and the order of training, and the i-th official split. The runs
of a column share these, so that the last rows can compare within runs. Intervals are 95%, Student's t over the runs.
Runs that are already in the work folder are not made again.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from absl import flags, logging
from etils import epath
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from cmav import cli, distributed, processes, tables
from cmav.data import storage
from cmav.errors import UserError
from cmav.evals import figures
from cmav.experiments.table import Cell
from cmav.training.phases import list_phases

ALL = "all"
NUM_SPLITS = 3


def _scratch(config: ConfigDict) -> None:
    config.action.mode = "scratch"


def _vision_only(config: ConfigDict) -> None:
    config.action.mode = "vision_only"


def _full(config: ConfigDict) -> None:
    config.action.mode = "full"


def _frozen_probe(config: ConfigDict) -> None:
    config.action.mode = "full"
    probe = dict(type="probe", every=1, batch_size=32, layers=("video/layer_*", "audio/layer_*"), folds=())
    with config.unlocked():
        config.evals = ConfigDict({"probe": {**probe, "cs": (1e-4, 1e-3, 1e-2, 1e-1)}})


METHODS: dict[str, Callable[[ConfigDict], None]] = {
    "scratch": _scratch,
    "vision only": _vision_only,
    "full": _full,
    "frozen probe": _frozen_probe,
}
# Differences within runs: what pretraining gives, and what the sound gives.
COMPARISONS = (("full", "scratch"), ("full", "vision only"))


Table = dict[str, dict[str, Cell]]  # by method, by budget


def run_config(base: ConfigDict, method: str, budget: str, run: int) -> ConfigDict:
    """The config of one run.

    Raises:
      UserError: for a budget that is neither a positive number nor "all".
    """
    if budget != ALL and not (budget.isdecimal() and int(budget)):
        raise UserError(f"--budgets: {budget!r} is neither a number of videos, from 1, nor {ALL!r}.")
    config = base.copy_and_resolve_references()
    split = run % NUM_SPLITS + 1
    config.data.train_split, config.data.eval_split = f"train{split}", f"test{split}"
    config.seed = base.seed + run
    config.action.videos_per_class = 0 if budget == ALL else int(budget)
    METHODS[method](config)
    for settings in config.evals.values():
        settings.every = list_phases(config)[-1].last_step  # Only what a run comes to is of interest.
    return config


def top1_of(config: ConfigDict, workdir: epath.Path, overrides: Mapping[str, Any]) -> float:
    """Makes one run, or reads what it came to."""
    from cmav.evals.evaluators import EVALUATORS
    from cmav.training.evaluate_run import evaluate
    from cmav.training.finetune import finetune

    path = workdir / "summary.json"
    made = processes.from_lead(storage.read_json(path) if processes.is_lead() and path.exists() else None)
    if made:
        return made["top1"]
    if not any(EVALUATORS[settings.type].needs_head for settings in config.evals.values()):
        metrics = evaluate(config, workdir, overrides=overrides)
        if processes.is_lead():
            path.write_text(json.dumps({"top1": metrics["probe/top1"]}))
        return metrics["probe/top1"]
    return finetune(config, str(workdir), overrides)["top1"]


def make_table(
    base: ConfigDict,
    workdir: epath.Path,
    methods: Sequence[str],
    budgets: Sequence[str],
    num_runs: int,
    overrides: Mapping[str, Any],
) -> Table:
    """Makes every run and returns the table."""
    for method in methods:
        if method not in METHODS:
            raise UserError(f"--methods: {method!r} is not known; there are {', '.join(METHODS)}.")
    table: Table = {method: {} for method in methods}
    total = len(methods) * len(budgets) * num_runs
    done = 0
    for budget in budgets:
        for method in methods:
            top1 = []
            for run in range(num_runs):
                config = run_config(base, method, budget, run)
                folder = workdir / f"{method.replace(' ', '_')}_{budget}_{run}"
                top1.append(top1_of(config, folder, overrides))
                done += 1
                logging.info("run %d of %d: %s, %s per class: top-1 %.3f", done, total, method, budget, top1[-1])
            table[method][budget] = Cell(tuple(top1))
    return table


def write(table: Table) -> str:
    """The table, and below it the differences within runs."""
    budgets = list(next(iter(table.values())))
    rows = [[method, *map(str, cells.values())] for method, cells in table.items()]
    for one, other in COMPARISONS:
        if one in table and other in table:
            rows.append([f"{one} − {other}", *((table[one][b] - table[other][b]).signed() for b in budgets)])
    return tables.markdown(["", *(f"{budget} per class" for budget in budgets)], rows)


def save_picture(table: Table, chance: float, path: epath.Path) -> None:
    """Accuracy over labels, a line for each method, as a PNG."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    budgets = list(next(iter(table.values())))
    for offset, (method, cells) in enumerate(table.items()):
        places = [place + 0.06 * (offset - (len(table) - 1) / 2) for place in range(len(budgets))]
        means, errors = zip(*((cell.mean, cell.half_width) for cell in cells.values()), strict=True)
        axes.errorbar(places, means, yerr=errors, marker="o", capsize=3, label=method)
    axes.axhline(chance, color="grey", linestyle=":", label="chance")
    axes.set(xlabel="labelled videos per class", ylabel="top-1 accuracy of held-out videos", ylim=(0, 1.02))
    axes.set_xticks(range(len(budgets)), budgets)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figures.save(figure, path)


def main(config: ConfigDict, methods: Sequence[str], budgets: Sequence[str], num_runs: int) -> None:
    distributed.initialize(flags.FLAGS.distributed)
    from cmav.data.index import load_classes

    workdir = epath.Path(flags.FLAGS.workdir or "runs/label_budgets")
    jax.config.update("jax_compilation_cache_dir", str(workdir / "xla_cache"))  # Most runs compile the same networks.
    table = make_table(config, workdir, methods, budgets, num_runs, cli.overrides())
    if not processes.is_lead():
        return
    text = write(table)
    numbers = {method: {budget: cell.values for budget, cell in cells.items()} for method, cells in table.items()}
    (workdir / "table.md").write_text(text + "\n")
    (workdir / "table.json").write_text(json.dumps(numbers, indent=2))
    num_classes = config.action.num_classes or len(load_classes(config.data.dir))
    save_picture(table, 1 / num_classes, workdir / "table.png")
    print(f"{text}\nwrote table.md, table.json and table.png in {workdir}")


if __name__ == "__main__":
    _CONFIG = cli.define_flags(default_config="configs/finetune_world.py")
    _METHODS = flags.DEFINE_list("methods", list(METHODS), "Rows of the table.")
    _BUDGETS = flags.DEFINE_list("budgets", ["1", "5", "20", ALL], "Labelled videos per class.")
    _RUNS = flags.DEFINE_integer("runs", 3, "Runs of each cell.", lower_bound=2)
    cli.run(lambda: main(cli.read_config(_CONFIG), _METHODS.value, _BUDGETS.value, _RUNS.value))
