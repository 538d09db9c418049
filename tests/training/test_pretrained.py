"""Starting from another run: what is loaded, what is said, and that a wrong checkpoint is told from a right one."""

import json
import logging
import os
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cmav.errors import UserError
from cmav.tasks import make_task
from cmav.training import inheritance, phases, pretrained, run_config
from cmav.training.checkpoint import Checkpoints
from cmav.trees import flatten
from tests import tiny_config
from tests.models import fake_variables


def variables_of(config, seed=1):
    task = make_task(config, config.phases[-1])
    variables = fake_variables.draw(jax.eval_shape(task.init, jax.random.key(0)), seed)
    return {"params": variables["params"], "model_state": {"batch_stats": variables["batch_stats"]}}


def save_run(folder, config, steps=(6, 12)):
    """A run of the synchronization task, with other weights at every step. Returns the items of the last."""
    run_config.write(config, folder, 0)
    checkpoints = Checkpoints(str(folder))
    for step in steps:
        items = jax.tree.map(jnp.asarray, variables_of(config, seed=step))
        checkpoints.save(step, {**items, "opt_state": {}}, {"step": step, "task": config.task, "seconds": 0.0})
        checkpoints.wait()
    checkpoints.close()
    return items


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A pretraining run that was saved at the end of its 5 Hz phase (step 6) and of its 10 Hz phase (step 12)."""
    folder = tmp_path_factory.mktemp("pretrained") / "runs" / "avs"
    return folder, save_run(folder, tiny_config.get_config())


def action_config(checkpoint, **action):
    config = tiny_config.get_action_config()
    config.init.checkpoint = str(checkpoint)
    config.action.num_classes = 3
    config.action.update(action)
    return config


def start(config):
    """What a run begins with: drawn by NumPy where nothing is loaded."""
    return pretrained.start_from(jax.tree.map(jnp.asarray, variables_of(config, seed=99)), config)


def test_the_backbone_is_loaded_and_the_head_is_fresh(run, caplog):
    folder, saved = run
    caplog.set_level(logging.INFO)
    config = action_config(folder)
    items, fresh = start(config), variables_of(config, seed=99)
    for tree, theirs in (
        (items["params"], saved["params"]),
        (items["model_state"]["batch_stats"], saved["model_state"]["batch_stats"]),
    ):
        for path, leaf in flatten(tree["backbone"]).items():
            np.testing.assert_array_equal(leaf, flatten(theirs["backbone"])[path])
    for path, leaf in flatten(items["params"]["head"]).items():
        np.testing.assert_array_equal(leaf, flatten(fresh["params"]["head"])[path])
    said = caplog.text
    assert "starting from checkpoint 12" in said and "task 'avs'" in said
    loaded, kept_fresh, not_used = (
        line for line in said.splitlines() if line.startswith(("  loaded", "  fresh", "  not used"))
    )
    assert "backbone/video_encoder" in loaded and "head" not in loaded
    assert "head/hidden, head/logits" in kept_fresh and "head/logit" in not_used


@pytest.mark.parametrize(("step", "phase"), [(6, 0), (12, 1)])
def test_a_checkpoint_of_each_frame_rate_loads(run, step, phase):
    folder, _ = run
    config = tiny_config.get_config()
    assert phases.phase_of(config, step).settings == config.phases[phase]
    params = start(action_config(folder / "checkpoints" / str(step)))["params"]
    expected = variables_of(config, seed=step)["params"]["backbone"]
    np.testing.assert_array_equal(params["backbone"]["video_encoder"]["fc"]["kernel"],
                                  expected["video_encoder"]["fc"]["kernel"])  # fmt: skip


def test_named_subtrees_only(run):
    folder, saved = run
    config = action_config(folder)
    config.init.load = ("backbone/audio_encoder",)
    params = start(config)["params"]["backbone"]
    theirs = saved["params"]["backbone"]
    np.testing.assert_array_equal(params["audio_encoder"]["fc"]["kernel"], theirs["audio_encoder"]["fc"]["kernel"])
    assert np.any(params["video_encoder"]["fc"]["kernel"] != theirs["video_encoder"]["fc"]["kernel"])
    config.init.load = ("backbon",)
    with pytest.raises(UserError, match=r"config\.init\.load.*'backbon'.*backbone/video_encoder"):
        start(config)


def test_vision_only_takes_the_half_that_it_has(run, caplog):
    caplog.set_level(logging.INFO)
    items = start(action_config(run[0], mode="vision_only"))
    assert set(items["params"]["backbone"]) == {"video_encoder", "co_attention"}
    assert "backbone/audio_encoder" in caplog.text.split("not used")[1]


def test_scratch_loads_nothing(run, tmp_path):
    """`create_state` asks before it loads, and no network is taken over."""
    config = action_config(run[0], mode="scratch")
    config.model.num_heads = 8
    assert not pretrained.is_wanted(config)
    assert inheritance.resolve_config(config, str(tmp_path), {}).model.num_heads == 8
    assert pretrained.is_wanted(action_config(run[0]))


def test_a_network_that_does_not_fit_is_told_by_its_arrays(run, tmp_path):
    config = action_config(run[0])
    config.model.hidden_size = 64
    with pytest.raises(UserError, match=r"params/backbone/\S+ is \(.*32.*\) in the checkpoint, \(.*64.*\) here"):
        start(config)
    other = tiny_config.get_config()
    other.model.attention = "vga"
    save_run(tmp_path, other)
    with pytest.raises(UserError, match=r"params/backbone/co_attention/0_video_guided/\S+ is not in the checkpoint"):
        start(action_config(tmp_path))


def test_places(run, tmp_path, monkeypatch):
    folder, _ = run
    assert pretrained.locate(str(folder)) == (str(folder), None)
    assert pretrained.locate(f"{folder}/checkpoints/6/") == (str(folder), 6)
    assert pretrained.locate(f"{folder}/checkpoints") == (str(folder), None)
    with pytest.raises(UserError, match=r"no checkpoints in /nowhere/checkpoints"):
        pretrained.locate("/nowhere")
    with pytest.raises(UserError, match=r"no checkpoint of step 7.*\[6, 12\]"):
        start(action_config(folder / "checkpoints" / "7"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"no pretrained run in runs/[^\n]*\n  cmav train avs_cma"):
        pretrained.locate("newest")


def test_the_newest_pretrained_run(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, task, age in (("old", "avs", 200), ("new", "avs", 100), ("newer", "action", 50), ("newest", "avs", 0)):
        shutil.copytree(run[0], tmp_path / "runs" / name)
        config = json.loads((tmp_path / "runs" / name / "config.json").read_text())
        (tmp_path / "runs" / name / "config.json").write_text(json.dumps({**config, "task": task}))
        for step in (tmp_path / "runs" / name / "checkpoints").iterdir():
            os.utime(step, (10**9 - age, 10**9 - age))
    shutil.rmtree(tmp_path / "runs" / "newest" / "checkpoints")  # It has only just begun.
    assert pretrained.locate("newest") == ("runs/new", None)


def test_the_network_is_the_runs_and_the_command_line_counts_for_more(run, tmp_path):
    config = action_config(run[0])
    config.model.num_heads, config.model.dropout, config.data.crop_size = 8, 0.1, 20
    config.phases = (dict(frame_rate=5.0, batch_size=4, steps=3),)
    overrides = {"model.dropout": 0.3, "phases[0].steps": 7}
    resolved = inheritance.resolve_config(config, str(tmp_path), overrides)
    assert (resolved.model.num_heads, resolved.model.dropout, resolved.data.crop_size) == (4, 0.3, 16)
    assert resolved.phases == (dict(frame_rate=10.0, batch_size=4, steps=7),)
    assert resolved.model.video.layers == tiny_config.get_config().model.video.layers  # Tuples again.
    make_task(resolved, resolved.phases[0])
    assert config.model.num_heads == 8
    config.init.inherit = False
    assert inheritance.resolve_config(config, str(tmp_path), overrides).model.num_heads == 8


@pytest.mark.parametrize(("theirs", "ours"), [((), ((0.0, 0.0, 1.0, 0.5),)), (((0.5, 0.0, 1.0, 1.0),), ())])
def test_parts_that_are_covered_as_in_another_run_are_told(tmp_path, caplog, theirs, ours):
    pretrained_config, config = tiny_config.get_config(), action_config(tmp_path / "other")
    pretrained_config.data.covered, config.data.covered = theirs, ours
    save_run(tmp_path / "other", pretrained_config, steps=(3,))
    assert inheritance.resolve_config(config, str(tmp_path / "run"), {}).data.covered == theirs
    told = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]
    assert len(told) == 1 and f"config.data.covered is {theirs}" in told[0] and f"not {ours}" in told[0]
    caplog.clear()
    chosen = inheritance.resolve_config(config, str(tmp_path / "run"), {"data.covered": ours})
    assert chosen.data.covered == ours and "covered is" not in caplog.text


def test_a_run_that_has_begun_keeps_its_network(run, tmp_path):
    own = tiny_config.get_config()
    own.model.num_heads = 2
    save_run(tmp_path, own, steps=(3,))
    config = action_config("/gone")
    assert inheritance.resolve_config(config, str(tmp_path), {}).model.num_heads == 2
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config\.json is damaged"):
        inheritance.resolve_config(config, str(tmp_path), {})
