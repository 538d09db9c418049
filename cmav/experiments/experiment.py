"""A grid of runs: arms, which differ in what an experiment is about, and seeds. Each run is a row of whole commands.

A sweep is one more axis, such as the number of training videos. An experiment without one has a single value, without a
name and without flags.
"""

import dataclasses
import json
import shlex
import sys
from collections.abc import Callable, Mapping
from typing import Any

from etils import epath

from cmav.data import storage
from cmav.errors import UserError
from cmav.training.summary import flatten

NUM_SPLITS = 3  # official ones, of datasets that have them


@dataclasses.dataclass(frozen=True)
class Stage:
    """One command of every run.

    Attributes:
      command: module and flags, as a user would write them. `{run}` stands for the run's folder, `{seed}` for its seed,
        `{split}` for the number of an official split, from 1, which seeds take in turn, and `{arm}` and `{value}` for
        the flags of its arm and of its value. Flags of a config come after `--config=…` itself.
      numbers: JSON file that the command leaves, below the run's folder; of several that fit a pattern, the newest.
      more_numbers: computes more of them from the folder of that file. `<name>_is_at_least`, where it is true, says
        that the run was over before the number was known.
    """

    command: str
    numbers: str
    more_numbers: Callable[[epath.Path], Mapping[str, Any]] | None = None


@dataclasses.dataclass(frozen=True)
class Sweep:
    """What is varied beside the arms.

    Attributes:
      name: what the values are of.
      values: flags of each, by its name.
    """

    name: str
    values: Mapping[str, str]


NO_SWEEP = Sweep("", {"": ""})


@dataclasses.dataclass(frozen=True)
class Experiment:
    """What is compared, and by which numbers.

    Attributes:
      question: that the table answers, a sentence.
      stages: commands of a run in their order, by name.
      arms: flags of each, by the name of its row.
      columns: `<stage>/<number>` by heading. Metrics have the names that `summary.json` has. An arm may lack one.
      reference: the arm from which others differ in the table of differences.
      setup: how the data is made.
      sweep: what is varied beside the arms.
      instead: of arms that take other commands, by arm: stages in the place of those of the same names.
      published: numbers of others for an arm, by arm, by a heading that says whose they are and of what data.
      chance: what somebody who knows nothing gets, by heading; for the picture.
    """

    question: str
    stages: Mapping[str, Stage]
    arms: Mapping[str, str]
    columns: Mapping[str, str]
    reference: str
    setup: str
    sweep: Sweep = NO_SWEEP
    instead: Mapping[str, Mapping[str, Stage]] = dataclasses.field(default_factory=dict)
    published: Mapping[str, Mapping[str, float]] = dataclasses.field(default_factory=dict)
    chance: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def stages_of(self, arm: str) -> dict[str, Stage]:
        return {**self.stages, **self.instead.get(arm, {})}

    def runs(self, workdir: epath.Path, seeds: int, more: str = "") -> "list[Run]":
        """Every run, with seeds from 0. `more` flags are for the first stage of each."""
        return [
            Run(self, arm, value, seed, workdir / _folder(arm, value, str(seed)), more)
            for seed in range(seeds)
            for value in self.sweep.values
            for arm in self.arms
        ]


@dataclasses.dataclass(frozen=True)
class Number:
    """What a run came to in a column.

    Attributes:
      value: the number.
      clips: its 95% interval over the clips that it is of; None: it has none.
      is_at_least: the run was over before the number was known, which is so much or more.
    """

    value: float
    clips: tuple[float, float] | None = None
    is_at_least: bool = False


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """An arm with a value and a seed, in a folder of its own. `more` flags of its first command count most."""

    experiment: Experiment
    arm: str
    value: str
    seed: int
    folder: epath.Path
    more: str = ""

    def __str__(self) -> str:
        value = f", {self.experiment.sweep.name} {self.value}" if self.value else ""
        return f"{self.arm}{value}, seed {self.seed}"

    @property
    def stages(self) -> dict[str, Stage]:
        return self.experiment.stages_of(self.arm)

    def command(self, stage: str) -> list[str]:
        """A stage's command line."""
        text = self.stages[stage].command.format(
            run=shlex.quote(str(self.folder)),
            seed=self.seed,
            split=self.seed % NUM_SPLITS + 1,
            arm=self.experiment.arms[self.arm],
            value=self.experiment.sweep.values[self.value],
        )
        module, *arguments = shlex.split(f"{text} {self.more if stage == next(iter(self.stages)) else ''}")
        return [sys.executable, "-m", module, *arguments]

    def log(self, stage: str) -> epath.Path:
        """What the stage's command said."""
        return self.folder / f"{stage.replace(' ', '_')}.log"

    def done(self, stage: str) -> bool:
        """Whether the stage's numbers are there.

        Raises:
          UserError: where they are of another command.
        """
        path = self._record(stage)
        if not path.exists():
            return False
        made, wanted = self._load(stage)["command"], self.command(stage)[1:]
        if made != wanted:
            raise UserError(
                f"{path} is of another command:\n  {shlex.join(made)}\n  {shlex.join(wanted)}\n"
                "Give this experiment a --workdir of its own, or remove the run's folder."
            )
        return True

    def spend(self, stage: str, seconds: float) -> None:
        """Notes that the stage's command ran for so long, whether or not to its end."""
        storage.write_text(self._spent(stage), f"{self._seconds_spent(stage) + seconds:.3f}")

    def keep(self, stage: str) -> None:
        """Notes that a stage is done, by which command, in how many seconds, and what came of it.

        Raises:
          UserError: where the command has left no numbers.
        """
        pattern, more_numbers = self.stages[stage].numbers, self.stages[stage].more_numbers
        found = sorted(self.folder.glob(pattern), key=lambda path: path.stat().mtime)
        if not found:
            raise UserError(f"{self.folder} has no {pattern} after its command has ended: see {self.log(stage)}.")
        numbers = flatten(json.loads(found[-1].read_text()))
        if more_numbers:
            numbers |= more_numbers(found[-1].parent)
        record = {"command": self.command(stage)[1:], "seconds": self._seconds_spent(stage), "numbers": numbers}
        storage.write_text(self._record(stage), json.dumps(record, indent=2))

    def numbers(self) -> dict[str, Number | None]:
        """What its columns show, by heading; None where its commands have left no such number."""
        return {heading: self._number(*key.split("/", 1)) for heading, key in self.experiment.columns.items()}

    def names(self, stage: str) -> list[str]:
        """Of all numbers of a stage."""
        return list(self._load(stage)["numbers"])

    def parameters(self) -> int | None:
        """Of the network that it trained first; None where it trained none, or where that is not known."""
        counts = (self._load(stage)["numbers"].get("parameters") for stage in self.stages)
        return next((count for count in counts if count), None)

    def seconds(self) -> float:
        """Of all its commands, earlier starts counted in."""
        return sum(self._load(stage)["seconds"] for stage in self.stages)

    def _number(self, stage: str, name: str) -> Number | None:
        numbers = self._load(stage)["numbers"]
        if name not in numbers:
            return None
        ends = numbers.get(f"{name}_interval")
        return Number(float(numbers[name]), tuple(ends) if ends else None, numbers.get(f"{name}_is_at_least", False))

    def _spent(self, stage: str) -> epath.Path:
        return self.folder / f"{stage.replace(' ', '_')}.seconds"

    def _seconds_spent(self, stage: str) -> float:
        path = self._spent(stage)
        return float(path.read_text()) if path.exists() else 0.0

    def _record(self, stage: str) -> epath.Path:
        return self.folder / f"{stage.replace(' ', '_')}.json"

    def _load(self, stage: str) -> dict[str, Any]:
        return json.loads(self._record(stage).read_text())


def _folder(*names: str) -> str:
    return "_".join("".join(letter if letter.isalnum() else "_" for letter in name) for name in names if name)
