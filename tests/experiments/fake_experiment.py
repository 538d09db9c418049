"""Experiments whose commands are `fake_stage.py`."""

import dataclasses

from etils import epath

from cmav.experiments.experiment import Experiment, Run, Stage, Sweep

COMMAND = "tests.experiments.fake_stage --out={run}/one.json --value={seed} {arm} {value}"
FAKE = Experiment(
    question="Does adding help?",
    setup="make nothing",
    stages={
        "first": Stage(COMMAND, "one.json"),
        "the other": Stage("tests.experiments.fake_stage --out={run}/two.json --value={seed}", "tw*.json"),
    },
    arms={"plain": "", "+ one": "--add=1"},
    columns={"score": "first/score", "other": "the other/score"},
    reference="plain",
)
SWEPT = dataclasses.replace(
    FAKE, sweep=Sweep("how often", {"once": "--times=1", "ten times": "--times=10"}), chance={"score": 2.5}
)


def runs_of(experiment: Experiment, folder, seeds: int = 3, more: str = "") -> list[Run]:
    return experiment.runs(epath.Path(folder), seeds, more)
