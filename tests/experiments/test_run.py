"""Grids of runs: what is made, what is not made again, and the table of them."""

import csv
import dataclasses
import shlex
import sys
import threading

import pytest
from absl import flags
from etils import epath
from ml_collections import config_flags

from cmav.errors import UserError
from cmav.experiments import run as command
from cmav.experiments.catalogue import EXPERIMENTS
from cmav.experiments.experiment import Experiment, Run, Stage
from cmav.experiments.run import Jobs
from cmav.experiments.table import Cell
from configs.sync_grid import MOUTH

FAKE = Experiment(
    question="Does adding help?",
    setup="make nothing",
    stages={
        "first": Stage("tests.experiments.fake_stage --out={run}/one.json --value={seed} {arm}", "one.json"),
        "the other": Stage("tests.experiments.fake_stage --out={run}/two.json --value={seed}", "tw*.json"),
    },
    arms={"plain": "", "+ one": "--add=1"},
    columns={"score": "first/score", "other": "the other/score"},
    reference="plain",
)


def list_runs(experiment, folder, seeds=3):
    return [Run.of(experiment, epath.Path(folder), arm, seed) for seed in range(seeds) for arm in experiment.arms]


def starts(runs):
    return [(run.folder / "starts").read_text() for run in runs]


def test_every_run_is_made_once_and_the_table_is_of_all(tmp_path):
    runs = list_runs(FAKE, tmp_path)
    for _ in range(2):  # The second time there is nothing to do.
        Jobs(2).make(runs)
        assert starts(runs) == ["xx"] * 6
    text = command.write_tables(FAKE, "fake", runs, epath.Path(tmp_path))
    assert "| plain | 1.000 ± 2.484 | 1.000 ± 2.484 |" in text
    assert "| + one | 2.000 ± 2.484 |" in text
    assert "| + one | +1.000 ± 0.000 | +0.000 ± 0.000 |" in text  # Of the same seeds: far surer than the means.
    assert "Does adding help?" in text and "--add=1" in text and "make nothing" in text
    assert (tmp_path / "table.md").read_text() == text + "\n"
    rows = list(csv.DictReader((tmp_path / "table.csv").open()))
    assert [(row["arm"], row["seed"], row["score"]) for row in rows[:3]] == [
        ("plain", "0", "0.0"),
        ("+ one", "0", "1.0"),
        ("plain", "1", "1.0"),
    ]
    assert (tmp_path / "table.png").read_bytes().startswith(b"\x89PNG")


def test_a_single_run_has_the_interval_over_its_clips(tmp_path):
    runs = list_runs(FAKE, tmp_path, seeds=1)
    Jobs(2).make(runs)
    text = command.write_tables(FAKE, "fake", runs, epath.Path(tmp_path))
    assert "| + one | 1.000 (0.000–1.000) | 0.000 (0.000–1.000) |" in text and "nan" not in text
    assert "One run of each arm" in text
    assert str(Cell((0.5,))) == "0.500"


def test_where_the_seed_changes_nothing_it_says_nothing_of_how_sure_a_number_is():
    same, other, varying = Cell((0.5, 0.5), (0.0, 1.0)), Cell((0.75, 0.75), (0.5, 1.0)), Cell((0.5, 0.75), (0.0, 1.0))
    assert str(same) == "0.500 (0.000–1.000)" and (other - same).signed() == "+0.250"
    assert str(varying) == "0.625 ± 1.588" and (varying - same).signed() == "+0.125 ± 1.588"


def test_a_run_that_fails_costs_no_other_and_is_made_again(tmp_path):
    failing = dataclasses.replace(FAKE, arms={"plain": "", "failing": "--fail_at=1"})
    runs = list_runs(failing, tmp_path)
    with pytest.raises(
        UserError, match=r"1 of 6 runs failed.*\n.*failing, seed 1: first ended with exit status 3"
    ) as e:
        Jobs(1).make(runs)
    log = str(e.value).rpartition("see ")[2]
    assert "what went wrong" in epath.Path(log).read_text()
    assert starts(runs) == ["xx", "xx", "xx", "x", "xx", "xx"]
    with pytest.raises(UserError, match="1 of 1 runs failed"):
        Jobs(1).make(runs)
    assert starts(runs) == ["xx", "xx", "xx", "xx", "xx", "xx"]


def test_what_another_command_has_made_is_not_taken_for_it(tmp_path):
    runs = list_runs(FAKE, tmp_path, seeds=1)
    Jobs(2).make(runs)
    with pytest.raises(UserError, match=r"is of another command:\n.*\n.*--add=5\nGive this experiment a --workdir"):
        Jobs(1, more="--add=5").make(runs)
    assert starts(runs) == ["xx"] * 2


def test_asked_to_stop_its_commands_save_and_it_goes_on(tmp_path):
    waiting = dataclasses.replace(FAKE, arms={"plain": "", "waiting": "--wait"})
    runs = list_runs(waiting, tmp_path, seeds=1)
    jobs = Jobs(2)
    maker = threading.Thread(target=jobs.make, args=(runs,))
    maker.start()
    while not (runs[1].folder / "waiting").exists():
        maker.join(0.05)
        assert maker.is_alive()
    jobs.stop()
    maker.join(30)
    assert not maker.is_alive()
    assert (runs[1].folder / "one.saved").exists() and not runs[1].done("first")
    Jobs(2).make(list_runs(FAKE, tmp_path, seeds=1)[:1])  # What was done, or was not begun, is as it was.
    assert runs[0].done("the other")


def test_gpus_are_shared_in_turn(tmp_path, monkeypatch):
    seen = []

    class Process:
        def __init__(self, command, env, **_):
            seen.append((env.get("CUDA_VISIBLE_DEVICES"), env.get("XLA_PYTHON_CLIENT_MEM_FRACTION")))
            (epath.Path(next(a for a in command if "--out" in a).partition("=")[2])).write_text("{}")

        def wait(self):
            return 0

        def terminate(self):
            raise AssertionError("nobody asked for it")

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(command.subprocess, "Popen", Process)
    Jobs(1).make(list_runs(FAKE, tmp_path / "one", seeds=1))
    assert set(seen) == {(None, None)}
    seen.clear()
    Jobs(4, ["2", "3"]).make(list_runs(FAKE, tmp_path / "four"))
    assert {device for device, _ in seen} <= {"2", "3"} and {share for _, share in seen} == {"0.450"}


def test_an_experiment_is_named():
    for names in ([], ["cmac_part"], ["cmac_parts", "cmac_parts"]):
        with pytest.raises(UserError, match="name one experiment: cmac_parts"):
            command.main(names, 1, 1, [], None, "")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_its_commands_have_flags_that_their_configs_know(name, tmp_path, monkeypatch):
    experiment = EXPERIMENTS[name]
    assert experiment.reference in experiment.arms
    assert {key.partition("/")[0] for key in experiment.columns.values()} == set(experiment.stages)
    for arm in experiment.arms:
        run = Run.of(experiment, epath.Path(tmp_path), arm, 7)
        for stage in experiment.stages:
            _, _, module, *arguments = run.command(stage)
            monkeypatch.setattr(sys, "argv", [module, *arguments])  # Where ml_collections looks for overrides.
            values = flags.FlagValues()
            config_flags.DEFINE_config_file("config", lock_config=True, flag_values=values)
            for other in ("workdir", "split"):
                flags.DEFINE_string(other, None, "", flag_values=values)
            assert values([module, *arguments]) == [module], shlex.join(arguments)
            if name == "sync_grid":
                covered, shown = {"mouth covered": ((MOUTH,), ()), "only the mouth": ((), (MOUTH,))}.get(arm, ((), ()))
                assert (values.config.data.covered, values.config.data.shown) == (covered, shown)
            if name == "plateau":
                shares = {"shifted": (0, 0, 0), "half other": (0.5,) * 3, "other": (1, 1, 1), "curriculum": (1, 0.5, 0)}
                phases, negatives = values.config.phases, arm.removesuffix(" + alignment loss")
                assert tuple(phase["other_share"] for phase in phases) == shares[negatives]
                assert phases[1]["shift_seconds"] == ((4.0, 5.8) if negatives == "curriculum" else (2.0, 5.8))
                assert bool(values.config.loss.alignment_weight) == (negatives != arm)
            assert values.config.seed == 7 or "seed" not in experiment.stages[stage].command
