"""Every config that comes with cmav loads, and describes the task that it names."""

import importlib
import pathlib

import pytest

from cmav import config as cmav_config
from cmav.optim import make_optimizer, make_schedule
from cmav.tasks import make_task

NAMES = sorted(path.stem for path in (pathlib.Path(__file__).parent.parent / "configs").glob("[a-z]*.py"))


@pytest.mark.parametrize("name", NAMES)
def test_configs_load_and_name_their_command(name):
    module = importlib.import_module(f"configs.{name}")
    assert f"python -m cmav.main --config=configs/{name}.py" in module.__doc__
    config = module.get_config()
    assert config.keys() == cmav_config.get_default().keys()
    make_optimizer(config.optim, make_schedule(config.optim, 10))
    for phase in config.phases:
        make_task(config, phase)


def test_the_papers_phases():
    config = importlib.import_module("configs.avs_cma").get_config()
    clips = [make_task(config, phase).clip for phase in config.phases]
    assert [clip.num_frames for clip in clips] == [32, 126]
    assert {clip.num_samples for clip in clips} == {88_200}
    assert sum(phase["steps"] for phase in config.phases) == 750_000


def test_a_mistyped_key_in_a_config_names_the_right_one():
    config = cmav_config.get_default()
    with pytest.raises(AttributeError, match="learning_rate"):
        config.optim.learning_rat = 0.1
