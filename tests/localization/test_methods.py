"""Methods by name: of what a network has, one is chosen or refused."""

import pytest

from cmav.errors import UserError
from cmav.localization.methods import choose


def test_without_a_name_it_is_the_networks_first():
    assert choose(None, ("guided", "pure")) == "guided"
    assert choose("pure", ("guided", "pure")) == "pure"


@pytest.mark.parametrize(
    ("method", "known", "said"),
    [
        ("cam", ("guided", "pure"), "no maps by the method 'cam': .* It has guided, pure"),
        ("cams", ("cam",), "no method 'cams'.*: choose of cam"),
        (None, (), "does not see and hear"),
        ("cam", (), "does not see and hear"),
    ],
)
def test_what_a_network_has_not_is_refused(method, known, said):
    with pytest.raises(UserError, match=said):
        choose(method, known)
