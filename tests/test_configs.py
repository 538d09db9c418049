"""Every config that comes with cmav loads, and describes the task that it names."""

import importlib
import pathlib
import re

import pytest

from cmav import config as cmav_config
from cmav.evals.evaluators import EVALUATORS
from cmav.tasks import make_task
from cmav.training.optim import make_optimizer, make_schedule

NAMES = sorted(path.stem for path in (pathlib.Path(__file__).parent.parent / "configs").glob("[a-z]*.py"))


@pytest.mark.parametrize("name", NAMES)
def test_configs_load_and_name_their_command(name):
    module = importlib.import_module(f"configs.{name}")
    assert re.search(rf"python -m cmav\.(main|finetune|evaluate) --config=configs/{name}\.py", module.__doc__)
    config = module.get_config()
    assert config.keys() == cmav_config.get_default(config.task).keys()
    for evaluator in config.evals.values():
        assert evaluator.type in EVALUATORS and evaluator.every and evaluator.batch_size
    make_optimizer(config.optim, make_schedule(config.optim, 10))
    if config.task == "action" and not config.action.num_classes:
        config.action.num_classes = 8  # Otherwise the dataset says.
    for phase in config.phases:
        make_task(config, phase)


def test_the_papers_phases():
    config = importlib.import_module("configs.avs_cma").get_config()
    clips = [make_task(config, phase).clip for phase in config.phases]
    assert [clip.num_frames for clip in clips] == [32, 126]
    assert {clip.num_samples for clip in clips} == {88_200}
    assert sum(phase["steps"] for phase in config.phases) == 750_000


@pytest.mark.parametrize("name", ["finetune_ucf101", "finetune_hmdb51"])
def test_the_papers_fine_tuning(name):
    config = importlib.import_module(f"configs.{name}").get_config()
    task = make_task(config, config.phases[0])
    assert (task.clip.num_frames, task.clip.num_samples, task.num_views) == (77, 53_760, 25)
    (phase,) = config.phases
    assert (phase["batch_size"], phase["steps"], config.action.dropout, config.data.flip) == (16, 30_000, 0.5, False)
    schedule = make_schedule(config.optim, phase["steps"])
    rates = [float(schedule(step)) for step in (0, 9_999, 10_000, 29_999)]
    assert rates == pytest.approx([3e-5, 3e-5, 1.5e-5, 0.75e-5]) and config.optim.name == "adam"


def test_a_mistyped_key_in_a_config_names_the_right_one():
    config = cmav_config.get_default()
    with pytest.raises(AttributeError, match="learning_rate"):
        config.optim.learning_rat = 0.1


def test_the_curriculum_has_as_many_steps_as_the_demo():
    demo, curriculum = (importlib.import_module(f"configs.{name}").get_config() for name in ("demo", "demo_curriculum"))
    assert sum(phase["steps"] for phase in curriculum.phases) == demo.phases[0]["steps"]
    assert [make_task(curriculum, phase).partner_share(train=True) for phase in curriculum.phases] == [1.0, 0.5, 0.0]
    assert {one.negatives for one in curriculum.evals.values() if one.type == "pretext"} == {"shifted", "other"}
