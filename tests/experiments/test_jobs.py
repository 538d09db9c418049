"""Runs of an experiment: what is made, what is not made again, and what comes of failures and of being stopped."""

import dataclasses
import threading

import pytest
from etils import epath

from cmav.errors import UserError
from cmav.experiments import jobs
from cmav.experiments.experiment import Stage
from cmav.experiments.jobs import Jobs
from tests.experiments.fake_experiment import COMMAND, FAKE, SWEPT, runs_of


def starts(runs):
    return [(run.folder / "starts").read_text() for run in runs]


def test_every_run_is_made_once(tmp_path):
    runs = runs_of(FAKE, tmp_path)
    for _ in range(2):  # The second time there is nothing to do.
        Jobs(2).make(runs)
        assert starts(runs) == ["xx"] * 6


def test_a_sweep_has_a_run_for_every_arm_value_and_seed(tmp_path):
    runs = runs_of(SWEPT, tmp_path, seeds=2)
    assert [(run.arm, run.value, run.seed) for run in runs] == [
        (arm, value, seed) for seed in (0, 1) for value in ("once", "ten times") for arm in ("plain", "+ one")
    ]
    assert len({run.folder for run in runs}) == 8 and str(runs[3]) == "+ one, how often ten times, seed 0"
    Jobs(2).make(runs)
    assert [run.numbers()["score"].value for run in runs] == [0, 1, 0, 10, 1, 2, 10, 20]


def test_commands_know_their_seed_and_its_official_split(tmp_path):
    stages = {"first": Stage("module --seed={seed} --split={split} {arm}", "one.json")}
    runs = runs_of(dataclasses.replace(FAKE, stages=stages), tmp_path, seeds=4)
    assert [run.command("first")[2:] for run in runs if run.arm == "+ one"] == [
        ["module", f"--seed={seed}", f"--split={split}", "--add=1"] for seed, split in enumerate((1, 2, 3, 1))
    ]


def test_an_arm_may_have_another_command_and_more_flags_count_for_the_first_of_each(tmp_path):
    own = {"plain": {"first": Stage(COMMAND.replace("one.json", "own.json") + " --add=5", "own.json")}}
    runs = runs_of(dataclasses.replace(FAKE, instead=own), tmp_path, seeds=1, more="--times=2")
    Jobs(2).make(runs)
    assert [run.numbers()["score"].value for run in runs] == [10, 2]
    assert [run.numbers()["other"].value for run in runs] == [0, 0]
    assert not (runs[0].folder / "one.json").exists()


def test_a_run_that_fails_costs_no_other_and_is_made_again(tmp_path):
    failing = dataclasses.replace(FAKE, arms={"plain": "", "failing": "--fail_at=1"})
    runs = runs_of(failing, tmp_path)
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
    runs = runs_of(FAKE, tmp_path, seeds=1)
    Jobs(2).make(runs)
    with pytest.raises(UserError, match=r"is of another command:\n.*\n.*--add=5\nGive this experiment a --workdir"):
        Jobs(1).make(runs_of(FAKE, tmp_path, seeds=1, more="--add=5"))
    assert starts(runs) == ["xx"] * 2


def test_asked_to_stop_its_commands_save_and_it_goes_on(tmp_path):
    waiting = dataclasses.replace(FAKE, arms={"plain": "", "waiting": "--wait"})
    runs = runs_of(waiting, tmp_path, seeds=1)
    worker = Jobs(2)
    maker = threading.Thread(target=worker.make, args=(runs,))
    maker.start()
    while not (runs[1].folder / "waiting").exists():
        maker.join(0.05)
        assert maker.is_alive()
    worker.stop()
    maker.join(30)
    assert not maker.is_alive()
    assert (runs[1].folder / "one.saved").exists() and not runs[1].done("first")
    Jobs(2).make(runs_of(FAKE, tmp_path, seeds=1)[:1])  # What was done, or was not begun, is as it was.
    assert runs[0].done("the other")
    # It goes on, and takes as long as both starts.
    waited = float((runs[1].folder / "first.seconds").read_text())
    (going_on,) = runs_of(dataclasses.replace(waiting, arms={"waiting": ""}, reference="waiting"), tmp_path, seeds=1)
    Jobs(1).make([going_on])
    assert waited > 0 and going_on.seconds() > waited


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
    monkeypatch.setattr(jobs.subprocess, "Popen", Process)
    Jobs(1).make(runs_of(FAKE, tmp_path / "one", seeds=1))
    assert set(seen) == {(None, None)}
    seen.clear()
    Jobs(4, ["2", "3"]).make(runs_of(FAKE, tmp_path / "four"))
    assert {device for device, _ in seen} <= {"2", "3"} and {share for _, share in seen} == {"0.450"}
