"""Scalars and pictures beside TensorBoard: here to a stand-in for Weights & Biases."""

import sys
import types

import numpy as np
import pytest

from cmav.errors import UserError
from cmav.training import preflight, trackers, train
from tests import fake_clips, tiny_config


class FakeWandb(types.ModuleType):
    """Keeps what it is told."""

    def __init__(self):
        super().__init__("wandb")
        self.started, self.logged, self.finished = [], [], 0
        self.Image = lambda image: ("image", image.shape)

    def init(self, **settings):
        self.started.append(settings)
        return self

    def log(self, values, step):
        self.logged.append((step, values))

    def finish(self):
        self.finished += 1


@pytest.fixture
def wandb(monkeypatch):
    module = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


def make_config(folder, *names):
    fake_clips.write_dataset(folder / "data", "train", 12, **tiny_config.CLIPS)
    config = tiny_config.get_config()
    config.data.dir, config.data.eval_split, config.log_every = str(folder / "data"), "train", 3
    config.trackers = names
    return config


def test_a_run_is_followed_and_is_the_same_when_it_goes_on(wandb, tmp_path):
    config = make_config(tmp_path, "wandb")
    for steps in (3, 6):
        config.phases = (dict(config.phases[0], steps=steps),)
        train.train(config, str(tmp_path / "run"))
    first, again = wandb.started
    assert first["id"] == again["id"] and first["resume"] == "allow"
    assert first["name"] == "run" and first["config"]["optim"]["name"] == config.optim.name
    steps = [step for step, values in wandb.logged if "train/loss" in values]
    assert steps == [3, 6] and wandb.finished == 2
    (values,) = (values for step, values in wandb.logged if step == 3 and "train/loss" in values)
    assert {"train/learning_rate", "train/grad_norm", "train/input_wait", "train/steps_per_second"} <= set(values)
    assert any("pretext/avs_accuracy_low" in values for _, values in wandb.logged)


def test_pictures(wandb, tmp_path):
    writer = trackers.WandbWriter(tiny_config.get_config(), str(tmp_path / "x"))
    writer.write_images(4, {"maps": np.zeros((2, 5, 6, 3))})
    assert wandb.logged == [(4, {"maps": [("image", (5, 6, 3))] * 2})]
    trackers.WandbWriter(tiny_config.get_config(), str(tmp_path / "more" / "x"))
    assert wandb.started[0]["id"] != wandb.started[1]["id"]  # of the same name, but another run


def test_what_is_not_there_is_said_before_anything_is_trained(tmp_path, monkeypatch):
    config = make_config(tmp_path, "tensorboards")
    with pytest.raises(UserError, match="'tensorboards': there is wandb"):
        preflight.plan(config, str(tmp_path / "run"), None)
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match="pip install wandb"):
        trackers.make_writer(make_config(tmp_path / "more", "wandb"), str(tmp_path / "run"), is_lead=True)
