"""The trainer, in this process: steps, resuming, stopping, errors, and that what it trains learns."""

import functools
import io
import json
import os
import signal

import jax
import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util import tensor_util

from cmav import config as cmav_config
from cmav.configs import avs_cma
from cmav.data import pipeline
from cmav.errors import Preempted, UserError
from cmav.training import evaluate_run, phases, summary, train
from cmav.training.checkpoint import Checkpoints
from cmav.trees import flatten
from tests import fake_clips, tiny_config


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    fake_clips.write_dataset(folder, "train", 24, **tiny_config.CLIPS)
    fake_clips.write_dataset(folder, "validation", 11, num_labels=3, seed=1, **tiny_config.CLIPS)
    return folder


def make_config(data_dir):
    config = tiny_config.get_config()
    config.data.dir = str(data_dir)
    return config


@pytest.fixture
def config(data_dir):
    return make_config(data_dir)


@pytest.fixture(scope="module")
def whole(data_dir, tmp_path_factory):
    """The final state of a run in one go."""
    return train.train(make_config(data_dir), str(tmp_path_factory.mktemp("whole")))


def one_phase(config, steps: int, batch_size: int = 8) -> None:
    config.phases = (dict(frame_rate=10.0, batch_size=batch_size, steps=steps),)


def saved_steps(workdir) -> list[int]:
    return Checkpoints(str(workdir)).steps()


def assert_same(left, right):
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def test_phases_walk_steps_and_examples(config):
    config.phases = (dict(frame_rate=5, batch_size=4, steps=10), dict(frame_rate=10, batch_size=2, steps=5))
    first, second = phases.list_phases(config)
    assert (first.first_step, first.last_step, first.example_at(10)) == (0, 10, 40)
    assert (second.first_step, second.last_step, second.example_at(12)) == (10, 15, 44)
    assert [phases.phase_of(config, step) for step in (0, 10, 11, 15)] == [first, first, second, second]


def test_a_run_leaves_what_one_needs(config, tmp_path):
    state = train.train(config, str(tmp_path))
    assert int(state.step) == 12
    assert saved_steps(tmp_path) == [8, 10, 12]
    curves = summary.read_scalars(tmp_path)
    assert curves["train/loss"][0] == list(range(1, 13))
    assert all(0 <= share < 1 for share in curves["train/input_wait"][1])
    assert curves["train/input_wait"][1][0] > 0  # till the first batch is there
    numbers = json.loads((tmp_path / "summary.json").read_text())
    assert numbers["steps"] == 12
    assert numbers["parameters"] == sum(leaf.size for leaf in jax.tree.leaves(state.params))
    low, high = numbers["avs_accuracy_interval"]
    assert 0 <= low <= numbers["avs_accuracy"] <= high <= 1
    for picture in ("curves.png", "pretext_validation_per_label.png"):
        assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG")


def test_pictures_of_where_the_sound_is_on_their_own_schedule(config, tmp_path):
    with config.unlocked():
        config.evals.localization = cmav_config.get_default("avs").evals.localization
    settings = config.evals.localization
    settings.every, settings.methods, settings.pictures, settings.batch_size = 2, ("alignment",), 2, 4
    one_phase(config, 3)
    train.train(config, str(tmp_path))
    events = EventAccumulator(str(tmp_path), size_guidance={"tensors": 0})
    events.Reload()
    assert events.SummaryMetadata("localization/maps").plugin_data.plugin_name == "images"
    pictures = events.Tensors("localization/maps")
    assert [picture.step for picture in pictures] == [2, 3]
    width, height, *encoded = tensor_util.make_ndarray(pictures[-1].tensor_proto)
    shown = np.asarray(Image.open(io.BytesIO(encoded[0])))
    assert shown.shape == (int(height), int(width), 3) and shown.std() > 10
    saved = np.asarray(Image.open(tmp_path / "localization_validation.png").convert("RGB"))
    np.testing.assert_array_equal(saved, shown)
    curves = summary.read_scalars(tmp_path)
    assert curves["pretext/avs_accuracy"][0] == [3] and "localization/maps" not in curves
    assert json.loads((tmp_path / "summary.json").read_text())["steps"] == 3
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_folder_of_training_clips_is_enough(config, tmp_path, caplog):
    fake_clips.write_dataset(tmp_path / "clips", "train", 8, **tiny_config.CLIPS)
    config.data.dir = str(tmp_path / "clips")
    one_phase(config, 1)
    train.train(config, str(tmp_path / "run"))
    assert "training without evaluation" in caplog.text
    assert json.loads((tmp_path / "run" / "summary.json").read_text()).keys() == {"steps", "seconds", "parameters"}
    with pytest.raises(UserError, match="validation"):
        evaluate_run.evaluate(config, tmp_path / "run")


def test_one_step_of_the_papers_config_shrunken(config, tmp_path):
    paper = avs_cma.get_config()
    for key in ("dir", "stored_frame_rate", "sample_rate", "clip_seconds", "crop_size", "shift_seconds"):
        paper.data[key] = config.data[key]
    for key in ("video", "audio", "hidden_size", "mlp_size"):
        paper.model[key] = config.model[key]
    paper.phases = (dict(frame_rate=10.0, batch_size=2, steps=1),)
    paper.evals.pretext.batch_size = 4
    paper.optim.frozen = ("backbone/video_encoder/layer_0",)
    state = train.train(paper, str(tmp_path))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(jax.device_get(state.params)))
    means = {
        path: np.asarray(leaf) for path, leaf in flatten(state.model_state["batch_stats"]).items() if "mean" in path
    }
    still = {path for path, mean in means.items() if not mean.any()}  # as they were made
    assert still == {"backbone/video_encoder/layer_0/norm/mean"} and len(means) > 3


def test_a_curriculum_of_negatives(config, tmp_path):
    """Other videos, a mixture, shifts; with lines of progress that begin in one phase and end in the next."""
    clips = dict(frame_rate=10.0, batch_size=8, steps=3)
    config.phases = (
        {**clips, "other_share": 1.0},
        {**clips, "other_share": 0.5},
        {**clips, "shift_seconds": (2.0, 3.0)},
    )
    config.log_every = 2
    with config.unlocked():
        config.evals.correspondence = cmav_config.correspondence_evaluator(config, every=6)
    train.train(config, str(tmp_path / "whole"))
    curves = summary.read_scalars(tmp_path / "whole")
    steps = {kind: curves[f"train/accuracy_{kind}"][0] for kind in ("aligned", "other", "shifted")}
    assert steps == {"aligned": [2, 4, 6, 8, 9], "other": [2, 4, 6], "shifted": [4, 6, 8, 9]}
    assert all(np.isfinite(values).all() for _, values in curves.values())
    assert curves["correspondence/avc_accuracy"][0] == [6, 9] and curves["pretext/avs_accuracy"][0] == [9]
    numbers = json.loads((tmp_path / "whole" / "summary.json").read_text())
    assert {"avs_accuracy", "avs_accuracy_shifted", "clips"} <= set(numbers)
    assert {"avc_accuracy", "avc_accuracy_interval", "avc_accuracy_other", "avc_clips"} <= set(numbers)
    assert {path.name for path in (tmp_path / "whole").glob("*per_label.png")} == {
        *("pretext_validation_per_label.png", "correspondence_validation_per_label.png")
    }


@pytest.mark.parametrize("stop_after", [5, 6, 9])  # within the first phase, at its end, within the second
def test_resuming_is_exact(config, whole, tmp_path, monkeypatch, stop_after):
    real = train.Trainer._save

    def save_and_die(self, state, step):
        real(self, state, step)
        if step >= stop_after:
            self.checkpoints.wait()
            raise KeyboardInterrupt

    config.checkpoint.every = stop_after
    with monkeypatch.context() as patch:
        patch.setattr(train.Trainer, "_save", save_and_die)
        with pytest.raises(KeyboardInterrupt):
            train.train(config, str(tmp_path))
    assert_same(train.train(config, str(tmp_path)), whole)


def test_sigterm_saves_and_the_same_call_goes_on(config, whole, tmp_path, monkeypatch):
    real = train.Trainer._write_metrics

    def write_and_terminate(self, step, task):
        if step == 7:
            os.kill(os.getpid(), signal.SIGTERM)
        real(self, step, task)

    with monkeypatch.context() as patch:
        patch.setattr(train.Trainer, "_write_metrics", write_and_terminate)
        with pytest.raises(Preempted, match="step 7"):
            train.train(config, str(tmp_path))
    assert saved_steps(tmp_path)[-1] == 7
    assert_same(train.train(config, str(tmp_path)), whole)


def test_a_finished_run_started_again_does_nothing_new(config, tmp_path):
    first = train.train(config, str(tmp_path))
    assert_same(train.train(config, str(tmp_path)), first)


def test_a_loss_that_is_not_finite_stops_the_run(config, tmp_path):
    one_phase(config, 12)
    config.checkpoint.every = 1
    config.optim.name, config.optim.learning_rate, config.optim.momentum = "sgd", 1e30, 0.0
    with pytest.raises(train.NonFiniteLossError) as raised:
        train.train(config, str(tmp_path))
    message = str(raised.value)
    assert "learning rate 1e+30" in message
    assert message.count("fake") == 8  # every clip of the batch
    # What was saved is from before the step that failed, and finite losses led to it.
    failed = int(message.split("loss of step ")[1].split()[0])
    assert saved_steps(tmp_path)[-1] < failed


def test_after_such_a_stop_a_run_goes_on_as_the_message_advises(config, tmp_path):
    """With a smaller learning rate, a warm-up, and clipping; and what was changed is kept."""
    config.phases = config.phases[:1]
    config.optim.name, config.optim.momentum = "sgd", 0.0
    before = jax.device_get(train.train(config, str(tmp_path)).params)
    one = dict(config.phases[0])
    config.phases = ({**one, "steps": 8},)
    changes = {"optim.clip_norm": 1e-3, "optim.learning_rate": 1e-2, "optim.warmup_steps": 5}
    config.update_from_flattened_dict(changes)
    after = jax.device_get(train.train(config, str(tmp_path)).params)
    kept = json.loads((tmp_path / "config.json").read_text())["changes"]
    assert [one["step"] for one in kept] == [6] and {"phases[0].steps", *changes} == set(kept[0]["keys"])
    assert kept[0]["keys"]["optim.clip_norm"] == [0.0, 1e-3]
    moved = [np.linalg.norm(a - b) for a, b in zip(jax.tree.leaves(after), jax.tree.leaves(before), strict=True)]
    assert 1e-6 < np.linalg.norm(moved) < 1e-4  # two steps of at most 0.01 · 0.001, and the decay


def test_damaged_records_cost_themselves_only(config, tmp_path):
    folder = tmp_path / "clips"
    index = fake_clips.write_dataset(folder, "train", 24, **tiny_config.CLIPS)
    fake_clips.write_dataset(folder, "validation", 8, seed=1, **tiny_config.CLIPS)
    shard = folder / "clips-train.tfrecord-00000-of-00002"
    data = bytearray(shard.read_bytes())
    data[int(index.rows[3]["offset"]) + 100] ^= 0xFF
    shard.write_bytes(bytes(data))
    config.data.dir = str(folder)
    one_phase(config, 6)
    config.data.max_bad_fraction = 0.05
    assert int(train.train(config, str(tmp_path / "run")).step) == 6
    config.data.max_bad_fraction = 0.0
    with pytest.raises(pipeline.TooManyBadRecordsError):
        train.train(config, str(tmp_path / "strict"))


def test_a_checkpoint_of_another_network_is_refused(config, tmp_path):
    """By its arrays, where no config.json says what its network is."""
    one_phase(config, 1)
    train.train(config, str(tmp_path))
    (tmp_path / "config.json").unlink()
    config.model.hidden_size = 64
    with pytest.raises(UserError, match="another network"):
        train.train(config, str(tmp_path))
    assert not (tmp_path / "config.json").exists()


def test_evaluation_answers_the_same_questions_whatever_the_batch(config, tmp_path):
    one_phase(config, 2)
    train.train(config, str(tmp_path))
    metrics = []
    for batch_size in (8, 3, 16):  # 11 clips: padded, padded, and all in one padded batch
        config.evals.pretext.batch_size = batch_size
        metrics.append(evaluate_run.evaluate(config, tmp_path))
    assert metrics[0]["pretext/clips"] == 11
    for other in metrics[1:]:
        for key, value in metrics[0].items():
            assert other[key] == pytest.approx(value, abs=1e-5), key


def test_it_learns_and_the_control_does_not(config, tmp_path, tmp_path_factory, monkeypatch):
    # So many steps that it pays to optimize them (see conftest.py).
    options = {"xla_backend_optimization_level": 3, "xla_cpu_use_fusion_emitters": True}
    monkeypatch.setattr(jax, "jit", functools.partial(jax.jit, compiler_options=options))
    folder = tmp_path_factory.mktemp("more_clips")
    fake_clips.write_dataset(folder, "train", 160, **tiny_config.CLIPS)
    fake_clips.write_dataset(folder, "validation", 64, seed=1, **tiny_config.CLIPS)
    config.data.dir = str(folder)
    one_phase(config, 250, batch_size=16)
    config.log_every = config.checkpoint.every = 250
    config.evals.pretext.batch_size = 64
    accuracy = {}
    for shift_both in (False, True):
        config.data.shift_both = shift_both
        workdir = tmp_path / str(shift_both)
        train.train(config, str(workdir))
        accuracy[shift_both] = evaluate_run.evaluate(config, workdir)
    assert accuracy[False]["pretext/avs_accuracy_low"] > 0.6
    control = accuracy[True]
    assert control["pretext/avs_accuracy_low"] < 0.5 < control["pretext/avs_accuracy_high"]
