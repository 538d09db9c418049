"""Methods by name: of what a network has, one is chosen or refused."""

import pytest

from cmav.errors import UserError
from cmav.localization.methods import choose, list_methods
from cmav.tasks import make_task
from tests import tiny_config


def test_without_a_name_it_is_the_networks_first():
    assert choose(None, ("guided", "pure")) == "guided"
    assert choose("pure", ("guided", "pure")) == "pure"


@pytest.mark.parametrize(
    ("method", "known", "said"),
    [
        ("attention", ("cam", "similarity"), "no maps by the method 'attention': choose one of cam, similarity"),
        ("cams", ("cam",), "no maps by the method 'cams': choose one of cam"),
        (None, (), "has no maps of where the sound is"),
        ("cam", (), "has no maps of where the sound is"),
    ],
)
def test_what_a_network_has_not_is_refused(method, known, said):
    with pytest.raises(UserError, match=said):
        choose(method, known)


@pytest.mark.parametrize(
    ("mode", "names"),
    [("full", {"attention", "similarity", "alignment"}), ("vision_only", set()), ("audio_only", set())],
)
def test_methods_are_the_networks_own(mode, names):
    config = tiny_config.get_action_config()
    config.action.mode, config.action.num_classes = mode, 3
    methods = list_methods(make_task(config, config.phases[0]))
    assert methods.keys() == names and all(method.meaning.endswith(".") for method in methods.values())
