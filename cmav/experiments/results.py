"""What the runs of an experiment came to: tables as Markdown and CSV, a picture, and a page of all experiments."""

import csv
import io
import shlex
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence

from etils import epath
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cmav import tables
from cmav.errors import UserError
from cmav.evals import figures
from cmav.experiments.experiment import Experiment, Number, Run
from cmav.experiments.table import Cell

Grid = dict[str, dict[str, Cell | None]]  # by arm, by column; None: not every run of it has such a number
PAGE = "experiments.md"

_PANELS_ACROSS = {"arms": 5, "lines": 3}


def write(experiment: Experiment, name: str, runs: Sequence[Run], workdir: epath.Path) -> str:
    """Writes table.md, table.csv and table.png of runs that are done; returns the first's text.

    Raises:
      UserError: where no run has the number of a column.
    """
    numbers = {run: run.numbers() for run in runs}
    _check_columns(experiment, numbers)
    grids = make_grids(experiment, numbers)
    text = _markdown(experiment, name, grids, runs)
    (workdir / "table.md").write_text(text + "\n")
    (workdir / "table.csv").write_text(_csv(experiment, numbers))
    save_picture(experiment, grids, workdir / "table.png")
    return text


def write_page(names: Sequence[str], folder: epath.Path) -> epath.Path:
    """Joins the tables of the experiments that have one in `<folder>/<name>`, with links to their pictures.

    Raises:
      UserError: where none has one.
    """
    tables_of = {name: folder / name / "table.md" for name in names}
    found = {name: path.read_text() for name, path in tables_of.items() if path.exists()}
    if not found:
        raise UserError(f"no experiment has a table in {folder}: make one first, of {', '.join(names)}.")
    parts = [f"{_one_level_down(text)}\n\n![{name}]({name}/table.png)" for name, text in found.items()]
    path = folder / PAGE
    path.write_text("\n\n".join(["# Experiments", *parts]) + "\n")
    return path


def make_grids(experiment: Experiment, numbers: Mapping[Run, Mapping[str, Number | None]]) -> dict[str, Grid]:
    """The tables by title: one without, of the experiment's columns; of a sweep one of its values for each column."""

    def cell(arm: str, value: str, heading: str) -> Cell | None:
        found = [of_run[heading] for run, of_run in numbers.items() if (run.arm, run.value) == (arm, value)]
        if None in found:
            return None
        bound = "≥" if any(number.is_at_least for number in found) else ""
        return Cell(tuple(number.value for number in found), found[0].clips, bound)

    arms, columns, values = experiment.arms, experiment.columns, experiment.sweep.values
    if not experiment.sweep.name:
        (value,) = values
        return {"": {arm: {heading: cell(arm, value, heading) for heading in columns} for arm in arms}}
    return {
        heading: {arm: {value: cell(arm, value, heading) for value in values} for arm in arms} for heading in columns
    }


def _check_columns(experiment: Experiment, numbers: Mapping[Run, Mapping[str, Number | None]]) -> None:
    for heading, key in experiment.columns.items():
        if all(of_run[heading] is None for of_run in numbers.values()):
            stage = key.partition("/")[0]
            names = dict.fromkeys(name for run in numbers for name in run.names(stage))
            raise UserError(f"no run has {key!r}; of {stage!r} there are {', '.join(names)}.")


def _markdown(experiment: Experiment, name: str, grids: Mapping[str, Grid], runs: Sequence[Run]) -> str:
    seeds = len({run.seed for run in runs})
    more = f" --also={shlex.quote(runs[0].more)}" if runs[0].more else ""
    kept = (
        f"Mean of {seeds} seeds, and its 95% interval (Student's t); in brackets, where all seeds come to the same "
        "number, the one over the clips that it is of."
        if seeds > 1
        else "One run of each arm; in brackets the 95% interval over the clips that its number is of."
    )
    cells = [cell for grid in grids.values() for row in grid.values() for cell in row.values()]
    if any(cell and cell.bound for cell in cells):
        kept += " ≥: some runs were over before it was known."
    if None in cells:
        kept += " Empty: not every run of it has such a number."
    beside = _beside(experiment, runs)
    parts = [f"# {name}\n\n{experiment.question} Data: {experiment.setup}.", kept]
    for title, grid in grids.items():
        if title:
            parts.append(f"## {title}, by {experiment.sweep.name}")
        parts.append(_table(grid, str, beside))
        if differences := _differences(grid, experiment.reference):
            parts.append(f"Differences from “{experiment.reference}” within seeds:")
            parts.append(_table(differences, Cell.signed))
    parts.append(
        f"`python -m cmav.experiments.run {name} --seeds={seeds}{more}` makes of each arm and seed (here seed 0):"
    )
    parts.append("```sh\n" + "\n".join(_commands(experiment, runs)) + "\n```")
    return "\n\n".join(parts)


def _table(grid: Grid, show: Callable[[Cell], str], beside: Mapping[str, Mapping[str, str]] = {}) -> str:
    """Arms as rows. `beside` are more columns: text by arm, by heading."""
    columns = list(next(iter(grid.values())))
    rows = (
        [
            arm,
            *("" if cell is None else show(cell) for cell in row.values()),
            *(more.get(arm, "") for more in beside.values()),
        ]
        for arm, row in grid.items()
    )
    return tables.markdown(["", *columns, *beside], rows)


def _differences(grid: Grid, reference: str) -> Grid:
    return {
        arm: {
            column: None if cell is None or grid[reference][column] is None else cell - grid[reference][column]
            for column, cell in row.items()
        }
        for arm, row in grid.items()
        if arm != reference
    }


def _beside(experiment: Experiment, runs: Sequence[Run]) -> dict[str, dict[str, str]]:
    """What the tables have of each arm beside what is measured: by heading, by arm."""
    by_arm = {arm: [run for run in runs if run.arm == arm] for arm in experiment.arms}
    published = {
        heading: {arm: f"{number:.3f}" for arm, number in of_arms.items()}
        for heading, of_arms in experiment.published.items()
    }
    counts = {arm: of_arm[0].parameters() for arm, of_arm in by_arm.items()}
    parameters = {arm: f"{count / 1e6:.2f}M" for arm, count in counts.items() if count}
    minutes = {arm: f"{statistics.fmean(run.seconds() for run in of_arm) / 60:.1f}" for arm, of_arm in by_arm.items()}
    return {**published, **({"parameters": parameters} if parameters else {}), "minutes a run": minutes}


def _csv(experiment: Experiment, numbers: Mapping[Run, Mapping[str, Number | None]]) -> str:
    sweep = experiment.sweep.name
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    writer.writerow(["arm", *([sweep] if sweep else []), "seed", *experiment.columns, "parameters", "seconds"])
    for run, of_run in numbers.items():
        shown = ["" if x is None else f"{'≥' if x.is_at_least else ''}{x.value}" for x in of_run.values()]
        value = [run.value] if sweep else []
        writer.writerow([run.arm, *value, run.seed, *shown, run.parameters() or "", run.seconds()])
    return file.getvalue()


def _commands(experiment: Experiment, runs: Sequence[Run]) -> Iterator[str]:
    """The stages of the reference, and what other arms and values have instead."""
    first = {run.arm: run for run in reversed(runs)}
    for stage in experiment.stages:
        yield _command(first[experiment.reference], stage)
    for arm, flags in experiment.arms.items():
        if arm in experiment.instead:
            yield f"# {arm}:"
            yield from (_command(first[arm], stage) for stage in experiment.instead[arm])
        else:
            yield f"# {arm}: {flags.strip() or 'nothing else'}"
    if experiment.sweep.name:
        for value, flags in experiment.sweep.values.items():
            yield f"# {experiment.sweep.name} {value}: {flags.strip() or 'nothing else'}"


def _command(run: Run, stage: str) -> str:
    return shlex.join(["python", *run.command(stage)[1:]])


def whole_seeds(runs: Sequence[Run]) -> list[Run]:
    """The runs of those seeds of which all runs are done: differences are within seeds."""
    missing = {run.seed for run in runs if not all(run.done(stage) for stage in run.stages)}
    return [run for run in runs if run.seed not in missing]


def _one_level_down(text: str) -> str:
    """Markdown with deeper headings; in code, what looks like one is a comment."""
    lines, is_code = [], False
    for line in text.strip().splitlines():
        is_code ^= line.startswith("```")
        lines.append(line if is_code or not line.startswith("#") else f"#{line}")
    return "\n".join(lines)


def save_picture(experiment: Experiment, grids: Mapping[str, Grid], path: epath.Path) -> None:
    """Means with their intervals as a PNG, a panel for each column heading; of a sweep, lines over its values."""
    if experiment.sweep.name:
        _save_lines(experiment, grids, path)
    else:
        (grid,) = grids.values()
        _save_arms(experiment, grid, path)


def _save_arms(experiment: Experiment, grid: Grid, path: epath.Path) -> None:
    """An arm below the other, and every run as a dot."""
    headings = list(next(iter(grid.values())))
    size = 2.1, 0.9 + 0.35 * len(grid)
    figure, panels = _panels(len(headings), _PANELS_ACROSS["arms"], size, margin=1.8, sharey=True)
    for axes, heading in zip(panels, headings, strict=True):
        for place, row in enumerate(grid.values()):
            if cell := row[heading]:
                axes.errorbar(cell.mean, place, xerr=_errors(cell), color="tab:blue", capsize=3, marker=_marker(cell))
                axes.plot(cell.values, [place] * len(cell.values), ".", color="tab:orange", markersize=4)
        if heading in experiment.chance:
            axes.axvline(experiment.chance[heading], color="grey", linestyle=":")
        axes.set_title(heading, fontsize=9)
        axes.tick_params(labelsize=8)
        axes.grid(axis="x", alpha=0.3)
    panels[0].set_yticks(range(len(grid)), list(grid))
    panels[0].invert_yaxis()  # of all, for they share it
    figures.save(figure, path)


def _save_lines(experiment: Experiment, grids: Mapping[str, Grid], path: epath.Path) -> None:
    """A line for each arm."""
    figure, panels = _panels(len(grids), _PANELS_ACROSS["lines"], (5.0, 4.0))
    for axes, (heading, grid) in zip(panels, grids.items(), strict=True):
        for number, (arm, row) in enumerate(grid.items()):
            shift = 0.06 * (number - (len(grid) - 1) / 2)  # so that intervals do not hide each other
            points = [(place + shift, cell) for place, cell in enumerate(row.values()) if cell]
            places, means = [place for place, _ in points], [cell.mean for _, cell in points]
            (line,) = axes.plot(places, means, label=arm)
            for place, cell in points:
                style = {"color": line.get_color(), "capsize": 3, "marker": _marker(cell)}
                axes.errorbar(place, cell.mean, yerr=_errors(cell), **style)
        if heading in experiment.chance:
            axes.axhline(experiment.chance[heading], color="grey", linestyle=":", label="chance")
        axes.set(title=heading, xlabel=experiment.sweep.name)
        axes.set_xticks(range(len(experiment.sweep.values)), list(experiment.sweep.values))
        axes.grid(axis="y", alpha=0.3)
    panels[0].legend(frameon=False)
    figures.save(figure, path)


def _panels(
    count: int, across: int, size: tuple[float, float], margin: float = 0.0, **options: bool
) -> tuple[Figure, list[Axes]]:
    """A figure of so many panels, each of a size in inches."""
    columns = min(count, across)
    rows = -(-count // columns)
    figure = Figure(figsize=(margin + size[0] * columns, rows * size[1]), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False, **options).ravel())
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
    for axes in panels[count:]:
        axes.set_visible(False)
    return figure, panels[:count]


def _errors(cell: Cell) -> list[list[float]] | None:
    """Down and up from the mean, as Matplotlib has them: not negative, as rounding could make them."""
    if cell.interval is None:
        return None
    low, high = cell.interval
    return [[max(cell.mean - low, 0)], [max(high - cell.mean, 0)]]


def _marker(cell: Cell) -> str:
    return "^" if cell.bound else "o"
