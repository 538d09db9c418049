"""Evaluation in a run that trains: after saving, and made up where something came between."""

import json
import os
import signal

import pytest
from etils import epath

from cmav import cli
from cmav.errors import Preempted, UserError
from cmav.evals.pretext import PretextEvaluator
from cmav.training import evaluate_run, summary, train
from cmav.training.checkpoint import Checkpoints
from tests import fake_clips, tiny_config


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    fake_clips.write_dataset(folder, "train", 16, **tiny_config.CLIPS)
    fake_clips.write_dataset(folder, "validation", 11, seed=1, **tiny_config.CLIPS)
    return folder


def make_config(data_dir):
    """Two evaluators, due at step 4 and at the last, 6; checkpoints are not due before step 100."""
    config = tiny_config.get_config()
    config.data.dir = str(data_dir)
    config.phases = (dict(frame_rate=5.0, batch_size=8, steps=4), dict(frame_rate=10.0, batch_size=8, steps=2))
    config.checkpoint.every = 100
    config.evals.pretext.every = 4
    with config.unlocked():
        config.evals.second = config.evals.pretext.copy_and_resolve_references()
    config.evals.second.seed = 1  # other pairs
    return config


@pytest.fixture
def config(data_dir):
    return make_config(data_dir)


@pytest.fixture(scope="module")
def whole(data_dir, tmp_path_factory):
    """The numbers of a run in one go, and its scalars in TensorBoard."""
    folder = tmp_path_factory.mktemp("whole")
    train.train(make_config(data_dir), str(folder))
    return numbers_of(folder)


def numbers_of(folder):
    numbers = json.loads((folder / "summary.json").read_text())
    curves = summary.read_scalars(folder)
    for key in ("train/steps_per_second", "train/input_wait"):  # They tell of the machine.
        curves.pop(key, None)
    return {key: value for key, value in numbers.items() if key != "seconds"}, curves


def interrupt(monkeypatch, seed, step, what):
    """Has `what` done when the evaluator of this seed begins with this step. Returns the list of what was begun."""
    begun, real = [], PretextEvaluator.answer

    def answer(self, state):
        begun.append((self._config.seed, int(state.step)))
        if begun[-1] == (seed, step):
            what()
        return real(self, state)

    monkeypatch.setattr(PretextEvaluator, "answer", answer)
    return begun


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)


def die():
    raise KeyboardInterrupt


@pytest.mark.parametrize(("what", "error"), [(terminate, Preempted), (die, KeyboardInterrupt)])
@pytest.mark.parametrize("step", [4, 6])
def test_a_run_that_is_stopped_in_an_evaluation_makes_up_for_that_one_alone(
    config, whole, tmp_path, monkeypatch, step, what, error
):
    with monkeypatch.context() as patch:
        interrupt(patch, 1, step, what)
        with pytest.raises(error):
            train.train(config, str(tmp_path))
    assert Checkpoints(str(tmp_path)).steps()[-1] == step
    begun = interrupt(monkeypatch, 1, None, None)
    train.train(config, str(tmp_path))
    assert begun == {4: [(1, 4), (0, 6), (1, 6)], 6: [(1, 6)]}[step]
    assert numbers_of(tmp_path) == whole


def test_an_evaluator_may_be_none_of_training(config, tmp_path, monkeypatch):
    config.evals.second.every = 0
    begun = interrupt(monkeypatch, 1, None, None)
    train.train(config, str(tmp_path))
    train.train(config, str(tmp_path))  # It has ended, and is evaluated again.
    assert begun == [(0, 4), (0, 6), (0, 6)]
    begun.clear()
    assert "second/avs_accuracy" in evaluate_run.evaluate(config, epath.Path(tmp_path))
    assert begun == [(0, 6), (1, 6)]


def test_a_run_that_was_killed_before_the_evaluation_was_noted_is_evaluated_again(config, whole, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        interrupt(patch, 1, 6, die)
        with pytest.raises(KeyboardInterrupt):
            train.train(config, str(tmp_path))
    note = tmp_path / "evaluated.json"
    note.write_text(note.read_text()[:-5])  # cut off by a kill
    begun = interrupt(monkeypatch, 1, None, None)
    train.train(config, str(tmp_path))
    assert begun == [(0, 6), (1, 6)]
    assert numbers_of(tmp_path) == whole


def test_a_run_that_has_ended_is_evaluated_again(config, whole, tmp_path, monkeypatch):
    train.train(config, str(tmp_path))
    begun = interrupt(monkeypatch, 1, None, None)
    trainer = train.Trainer(config, str(tmp_path))
    trainer.run()
    assert begun == [(0, 6), (1, 6)]
    assert numbers_of(tmp_path) == whole
    assert trainer.summary == json.loads((tmp_path / "summary.json").read_text())


@pytest.mark.parametrize("kind", [RuntimeError, UserError])
def test_an_evaluators_error_names_it_and_leaves_the_step_saved(config, tmp_path, monkeypatch, capsys, kind):
    def fail():
        raise kind("no boxes")

    begun = interrupt(monkeypatch, 1, 4, fail)
    with pytest.raises(kind, match="no boxes") as raised:
        train.train(config, str(tmp_path))
    first, second = raised.value.__notes__
    assert "evaluator 'second' (config.evals.second), at step 4" in first and "Step 4 is saved" in second
    assert Checkpoints(str(tmp_path)).steps() == [4]
    # It fails again, at once and without training; and goes on without the evaluator.
    del begun[:]
    if kind is UserError:
        assert cli._exit_on_user_error(lambda: train.train(config, str(tmp_path))) == 1
        assert "Error: no boxes\nThis is of the evaluator 'second'" in capsys.readouterr().err
        assert begun == [(1, 4)]
    with config.unlocked():
        del config.evals.second
    assert int(train.train(config, str(tmp_path)).step) == 6
