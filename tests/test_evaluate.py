"""Evaluating what is there: a finished run, the runs of several splits, and a network that never was fine-tuned."""

import json
import shutil

import jax
import numpy as np
import pytest
from etils import epath

from cmav import config as cmav_config
from cmav.errors import UserError
from cmav.evals import evaluators
from cmav.evaluate import with_evaluators
from cmav.tasks import make_task
from cmav.tasks.base import Classes
from cmav.training import evaluate_run, splits, summary, train
from tests import fake_clips, tiny_config

NUM_CLIPS, STEPS = 12, 2


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """Two official splits of 12 videos, each with 4 for testing and the rest for training."""
    folder = tmp_path_factory.mktemp("clips")
    fake_clips.write_dataset(folder, "all", NUM_CLIPS, num_labels=3, **tiny_config.CLIPS)
    views = {}
    for number, test in ((1, range(0, 4)), (2, range(4, 8))):
        views[f"test{number}"] = {"listed": 4, "records": list(test)}
        views[f"train{number}"] = {"listed": 8, "records": [n for n in range(NUM_CLIPS) if n not in test]}
    (folder / "splits-all.json").write_text(json.dumps(views))
    (folder / "classes.txt").write_text("jump\nrun\nclap\n")
    return folder


def make_config(data_dir):
    config = tiny_config.get_action_config()
    config.data.dir = str(data_dir)
    config.phases = (dict(frame_rate=10.0, batch_size=4, steps=STEPS),)
    config.optim.learning_rate = 3e-2
    return config


@pytest.fixture(scope="module")
def run(data_dir, tmp_path_factory):
    """Folders of a run on each split, as of `python -m cmav.finetune --splits=1,2`, and the last state of the first.

    The second is a copy of the first, to save time; it is evaluated on other videos.
    """
    workdir = tmp_path_factory.mktemp("runs") / "tiny"
    state = train.train(*splits.numbered(make_config(data_dir), str(workdir), 1))
    shutil.copytree(workdir / "split1", workdir / "split2")
    return workdir, state


@pytest.fixture
def workdir(run):
    return run[0]


def another_network(data_dir):
    """What a config file says that knows nothing of the run: all defaults, but where the data is, and what is asked."""
    config = cmav_config.get_default("action")
    config.data.dir = str(data_dir)
    config.init.checkpoint = ""
    config.action.eval_clips = 4
    config.evals.action.batch_size = 8
    return config


def test_a_run_is_evaluated_as_it_was_trained(data_dir, workdir):
    run = epath.Path(workdir / "split1")
    metrics = evaluate_run.evaluate(another_network(data_dir), run)
    at_the_end = json.loads((run / "summary.json").read_text())
    assert metrics["step"] == STEPS
    assert metrics["action/videos"] == metrics["action/videos_listed"] == 4
    for key in ("top1", "top5", "mean_class_accuracy", "clip_loss"):
        assert metrics[f"action/{key}"] == pytest.approx(at_the_end[key], abs=1e-5), key
    assert json.loads((run / "eval_test1_2.json").read_text()) == metrics
    assert (run / "action_test1_confusion.png").exists()


def test_the_command_line_counts_for_more_than_the_run(data_dir, workdir):
    with pytest.raises(UserError, match="another network"):
        evaluate_run.evaluate(
            another_network(data_dir), epath.Path(workdir / "split1"), overrides={"model.hidden_size": 64}
        )


def test_every_curve_that_is_to_be_drawn_is_there(data_dir, workdir):
    config = make_config(data_dir)
    panels = evaluators.list_panels(config, make_task(config, config.phases[0]))
    curves = summary.read_scalars(workdir / "split1")
    assert len(panels) == 2
    for panel in panels:
        assert curves[panel.train][0] == [1, 2]
        assert curves[panel.held_out][0] == [2]
    assert {"action/top1_low", "action/top1_high"} <= curves.keys()
    assert [panel.chance for panel in panels] == pytest.approx([np.log(3), 1 / 3])
    assert (workdir / "split1" / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_the_mean_over_the_runs_of_the_splits(data_dir, workdir, capsys):
    # An override that is older than the split's number must not bring its split back.
    overrides = {"data.eval_split": "test1"}
    rows = evaluate_run.evaluate_splits(another_network(data_dir), str(workdir), [1, 2], overrides=overrides)
    written = json.loads((workdir / "splits.json").read_text())
    first = json.loads((workdir / "split1" / "summary.json").read_text())
    second = evaluate_run.evaluate(another_network(data_dir), epath.Path(workdir / "split2"), split="test2")
    assert rows[2]["top1"] == second["action/top1"]
    assert (workdir / "split2" / "eval_test2_2.json").exists()
    losses = [first["clip_loss"], second["action/clip_loss"]]
    assert losses[0] != losses[1]
    assert written["mean"]["clip_loss"] == pytest.approx(np.mean(losses), abs=1e-6)
    assert written["std"]["clip_loss"] == pytest.approx(np.std(losses, ddof=1), abs=1e-6)
    assert "| mean " in capsys.readouterr().out


def test_a_split_without_a_run_is_named_before_anything_is_evaluated(data_dir, workdir, monkeypatch):
    monkeypatch.setattr(evaluate_run, "evaluate", lambda *args, **kwargs: pytest.fail("evaluated"))
    with pytest.raises(UserError, match=r"split 3: no checkpoints in .*split3"):
        evaluate_run.evaluate_splits(another_network(data_dir), str(workdir), [1, 3, 2])
    with pytest.raises(UserError, match=r"split 2: config\.evals\.action: batch_size=0"):
        config = another_network(data_dir)
        config.evals.action.batch_size = 0
        evaluate_run.evaluate_splits(config, str(workdir), [2, 1])


class FeatureSum:
    """Stands for an evaluator that looks at features: tells which backbone it was given, and of which step."""

    needs, needs_head, settings = Classes, False, ()

    def __init__(self, config, data, task, mesh, split):
        pass

    def run(self, state):
        yield "sum", digest(state.params["backbone"])
        yield "step", int(state.step)
        yield "picture", np.zeros((4, 4, 3), np.uint8)

    def write_report(self, folder):
        return []


def digest(tree):
    return float(sum(np.abs(np.asarray(leaf)).sum() for leaf in jax.tree.leaves(tree)))


def test_a_network_that_never_was_fine_tuned(data_dir, run, tmp_path, monkeypatch):
    monkeypatch.setitem(evaluators.EVALUATORS, "probe", FeatureSum)
    workdir, state = run
    config = another_network(data_dir)
    config.init.checkpoint = str(workdir / "split1")
    fresh = epath.Path(tmp_path / "probe")
    with pytest.raises(UserError, match="train first:"):  # Its head would be a fresh one, and the answers chance.
        evaluate_run.evaluate(config, fresh)

    config.evals = {"features": dict(type="probe", every=1, batch_size=8, layers=(), cs=(), folds=())}
    metrics = evaluate_run.evaluate(config, fresh)
    expected = pytest.approx(digest(state.params["backbone"]), rel=1e-6)
    assert metrics == {"step": 0, "features/sum": expected, "features/step": 0}
    assert (fresh / "eval_test1_0.json").exists()
    with pytest.raises(UserError, match="step 7"):
        evaluate_run.evaluate(config, fresh, step=7)

    config.init.load = ()  # Of the same form, with nothing loaded; or of the config's own, where no run is named.
    assert evaluate_run.evaluate(config, fresh)["features/sum"] not in (0, expected)
    config.init.checkpoint = ""
    own = make_config(data_dir)
    own.init, own.evals = config.init, config.evals
    assert evaluate_run.evaluate(own, fresh)["features/sum"] not in (0, expected)
    own.init.load = ("backbone",)
    with pytest.raises(UserError, match="train first:"):
        evaluate_run.evaluate(own, fresh)


def test_only_some_evaluators():
    config = cmav_config.get_default()
    chosen = with_evaluators(config, ["localization"])
    assert list(chosen.evals) == ["localization"] and chosen.evals.localization == config.evals.localization
    assert chosen.is_locked and list(config.evals) == ["localization", "pretext"]
    for names in (["pretext", "lokalization"], []):
        with pytest.raises(UserError, match=r"--only=.*: choose of the config.s evaluators, localization, pretext"):
            with_evaluators(config, names)


def test_what_other_evaluators_left_stays(data_dir, workdir, tmp_path, monkeypatch):
    """Of the same split and step; where not all of a run's evaluators are asked, and no whole evaluation is made."""
    runs = tmp_path / "runs"
    shutil.copytree(workdir, runs)
    config = another_network(data_dir)
    evaluate_run.evaluate_splits(config, str(runs), [1, 2])
    path = runs / "split1" / "eval_test1_2.json"
    whole = json.loads(path.read_text())

    monkeypatch.setitem(evaluators.EVALUATORS, "probe", FeatureSum)
    config.evals = {"action": config.evals.action, "features": dict(type="probe", every=1, batch_size=8)}
    some = with_evaluators(config, ["features"])
    path.write_text(json.dumps({**whole, "features/gone": 1.0}))
    rows = evaluate_run.evaluate_splits(some, str(runs), [1, 2], keep_others=True)
    both = json.loads(path.read_text())
    assert both == {**whole, "features/sum": both["features/sum"], "features/step": STEPS}
    written = json.loads((runs / "splits.json").read_text())
    assert {"top1", "sum"} <= set(written["mean"]) and rows[1]["top1"] == whole["action/top1"]

    evaluate_run.evaluate(some, epath.Path(runs / "split1"), "test1")
    assert set(json.loads(path.read_text())) == {"step", "features/sum", "features/step"}
    path.write_text("{")
    with pytest.raises(UserError, match=r"eval_test1_2\.json is damaged"):
        evaluate_run.evaluate(some, epath.Path(runs / "split1"), "test1", keep_others=True)


def test_evaluators_see_the_step_of_the_checkpoint_and_their_pictures_are_no_metrics(data_dir, workdir, monkeypatch):
    monkeypatch.setitem(evaluators.EVALUATORS, "action", FeatureSum)
    metrics = evaluate_run.evaluate(another_network(data_dir), epath.Path(workdir / "split1"))
    assert metrics["step"] == metrics["action/step"] == STEPS
    assert "action/picture" not in metrics
