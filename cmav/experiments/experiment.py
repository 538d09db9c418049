"""A grid of runs: arms, which differ in what an experiment is about, and seeds. Each run is a row of whole commands."""

import dataclasses
import json
import shlex
import sys
from collections.abc import Mapping
from typing import Any

from etils import epath

from cmav.errors import UserError
from cmav.training.summary import flatten


@dataclasses.dataclass(frozen=True)
class Stage:
    """One command of every run.

    Attributes:
      command: module and flags, as a user would write them. `{run}` stands for the run's folder, `{seed}` for its seed
        and `{arm}` for the flags of its arm.
      numbers: JSON file that the command leaves, below the run's folder; of several that fit a pattern, the newest.
    """

    command: str
    numbers: str


@dataclasses.dataclass(frozen=True)
class Experiment:
    """What is compared, and by which numbers.

    Attributes:
      question: that the table answers, a sentence.
      stages: commands of a run in their order, by name.
      arms: flags of each, by the name of its row.
      columns: `<stage>/<number>` by heading. Metrics have the names that `summary.json` has.
      reference: the arm from which others differ in the table of differences.
      setup: how the data is made.
    """

    question: str
    stages: Mapping[str, Stage]
    arms: Mapping[str, str]
    columns: Mapping[str, str]
    reference: str
    setup: str


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """An arm with a seed, in a folder of its own."""

    arm: str
    seed: int
    folder: epath.Path
    experiment: Experiment

    @classmethod
    def of(cls, experiment: Experiment, workdir: epath.Path, arm: str, seed: int) -> "Run":
        name = "".join(letter if letter.isalnum() else "_" for letter in arm)
        return cls(arm, seed, workdir / f"{name}_{seed}", experiment)

    def command(self, stage: str, more: str = "") -> list[str]:
        """A stage's command line. `more` flags come last, and count."""
        text = self.experiment.stages[stage].command.format(
            run=shlex.quote(str(self.folder)), seed=self.seed, arm=self.experiment.arms[self.arm]
        )
        module, *arguments = shlex.split(f"{text} {more}")
        return [sys.executable, "-m", module, *arguments]

    def log(self, stage: str) -> epath.Path:
        """What the stage's command said."""
        return self.folder / f"{stage.replace(' ', '_')}.log"

    def done(self, stage: str, more: str = "") -> bool:
        """Whether the stage's numbers are there.

        Raises:
          UserError: where they are of another command.
        """
        path = self._record(stage)
        if not path.exists():
            return False
        made, wanted = json.loads(path.read_text())["command"], self.command(stage, more)[1:]
        if made != wanted:
            raise UserError(
                f"{path} is of another command:\n  {shlex.join(made)}\n  {shlex.join(wanted)}\n"
                "Give this experiment a --workdir of its own, or remove the run's folder."
            )
        return True

    def keep(self, stage: str, seconds: float, more: str = "") -> None:
        """Notes that a stage is done, by which command, in how many seconds, and what came of it.

        Raises:
          UserError: where the command has left no numbers.
        """
        pattern = self.experiment.stages[stage].numbers
        found = sorted(self.folder.glob(pattern), key=lambda path: path.stat().mtime)
        if not found:
            raise UserError(f"{self.folder} has no {pattern} after its command has ended: see {self.log(stage)}.")
        numbers = json.loads(found[-1].read_text())
        record = {"command": self.command(stage, more)[1:], "seconds": round(seconds, 1), "numbers": flatten(numbers)}
        self._record(stage).write_text(json.dumps(record, indent=2))

    def numbers(self) -> dict[str, float]:
        """What its columns show, by heading.

        Raises:
          UserError: where a stage has no number of that name.
        """
        values = {}
        for heading, key in self.experiment.columns.items():
            stage, _, name = key.partition("/")
            record = self._load(stage)
            if name not in record["numbers"]:
                raise UserError(f"{self._record(stage)} has no {name!r}, but {', '.join(record['numbers'])}.")
            values[heading] = float(record["numbers"][name])
        return values

    def interval(self, heading: str) -> tuple[float, float] | None:
        """Of what a column shows, over the clips of its evaluation; None where it has none."""
        stage, _, name = self.experiment.columns[heading].partition("/")
        ends = self._load(stage)["numbers"].get(f"{name}_interval")
        return tuple(ends) if ends else None

    def seconds(self) -> float:
        """Of all its commands."""
        return sum(self._load(stage)["seconds"] for stage in self.experiment.stages)

    def _record(self, stage: str) -> epath.Path:
        return self.folder / f"{stage.replace(' ', '_')}.json"

    def _load(self, stage: str) -> dict[str, Any]:
        return json.loads(self._record(stage).read_text())
