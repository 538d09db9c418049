"""A task says itself what its own section of the config means to a run; nothing else knows the section by name."""

import json
from unittest import mock

import pytest

from cmav import config as cmav_config
from cmav.errors import UserError
from cmav.tasks import TASKS, class_of, list_sections
from cmav.tasks.avs import Avs
from cmav.tasks.base import Section
from cmav.training import inheritance, run_config
from tests import tiny_config
from tests.training.test_pretrained import save_run


class Counting(Avs):
    """A task that is newer than other tasks' runs, with a section of its own."""

    section = Section("counting", inherited=("largest",), kept=("shown",), may_change=("weight",))


def counting_config(**settings):
    config = tiny_config.get_config()
    config.task = "counting"
    with config.unlocked():
        config.counting = {"largest": 3, "shown": 1, "weight": 1.0, "seed": 0, **settings}
    return config


@pytest.fixture(autouse=True)
def known():
    with (
        mock.patch.dict(TASKS, {"counting": Counting}),
        mock.patch.dict(
            cmav_config._TASK_DEFAULTS,
            {"counting": lambda config: config.update({"counting": counting_config().counting})},
        ),
    ):
        yield


def test_sections_have_the_keys_that_are_named():
    for name, task in TASKS.items():
        if section := task.section:
            named = {*section.inherited, *section.kept, *section.may_change}
            assert named and named <= set(cmav_config.get_default(name)[section.name]), name
    assert [section.name for section in list_sections()] == ["cmac", "action", "counting"]
    with pytest.raises(UserError, match=r"config\.task='avz' is not known: choose one of avs, "):
        class_of("avz")


def test_a_run_takes_over_what_the_task_names(tmp_path):
    theirs = counting_config(largest=9, shown=8, weight=7.0)
    save_run(tmp_path / "theirs", theirs)
    other = counting_config()
    other.init.checkpoint = str(tmp_path / "theirs")
    started = inheritance.resolve_config(other, str(tmp_path / "mine"), {}).counting.to_dict()
    assert started == {"largest": 9, "shown": 1, "weight": 1.0, "seed": 0}
    went_on = inheritance.resolve_config(counting_config(), str(tmp_path / "theirs"), {}).counting.to_dict()
    assert went_on == {"largest": 9, "shown": 8, "weight": 1.0, "seed": 0}
    overridden = inheritance.resolve_config(other, str(tmp_path / "mine"), {"counting.largest": 5})
    assert overridden.counting.largest == 5


def test_runs_of_tasks_without_the_section_can_be_started_from(tmp_path):
    save_run(tmp_path / "avs", tiny_config.get_config())
    config = counting_config(largest=9)
    config.init.checkpoint = str(tmp_path / "avs")
    assert inheritance.resolve_config(config, str(tmp_path / "mine"), {}).counting.largest == 9
    save_run(tmp_path / "theirs", config)
    avs = tiny_config.get_config()
    avs.init.checkpoint = str(tmp_path / "theirs")
    assert "counting" not in inheritance.resolve_config(avs, str(tmp_path / "mine"), {})


def test_what_may_change_when_a_run_goes_on(tmp_path):
    run_config.write(counting_config(), tmp_path, step=0)
    run_config.check_can_go_on(counting_config(weight=0.0), tmp_path, step=7)
    with pytest.raises(UserError, match=r"counting\.seed: 0 in the run, 1 now"):
        run_config.check_can_go_on(counting_config(seed=1), tmp_path, step=7)


def test_a_file_without_the_section_of_a_task_that_came_later(tmp_path):
    run_config.write(tiny_config.get_config(), tmp_path, step=0)
    content = json.loads((tmp_path / "config.json").read_text())
    default = cmav_config.get_default()
    (tmp_path / "config.json").write_text(json.dumps({key: x for key, x in content.items() if key != "cmac"}))
    assert run_config.read(tmp_path).cmac.to_dict() == default.cmac.to_dict()
    (tmp_path / "config.json").write_text(json.dumps({**content, "task": "cmac", "cmac": {}}))
    with pytest.raises(UserError, match=r"config\.json is damaged.*cmac has no .*embed_size"):
        run_config.read(tmp_path)
