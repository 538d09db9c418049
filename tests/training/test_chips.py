import pytest

from cmav.errors import UserError
from cmav.training import chips


@pytest.mark.parametrize(
    ("name", "chip", "devices", "topology"),
    [
        ("v4-32", "TPU v4 core", 32, "v4:2x2x4"),
        ("v5e-8", "TPU v5e", 8, "v5e:2x4"),
        ("v5p-8", "TPU v5p", 4, "v5p:2x2x1"),
        ("h100", "NVIDIA H100 80GB HBM3", 1, "1x1x1"),
        ("4xh200", "NVIDIA H200 141GB HBM3e", 4, "1x1x4"),
    ],
)
def test_slices_have_the_names_that_people_use(name, chip, devices, topology):
    found = chips.find(name)
    assert (found.chip.name, found.devices, found.topology) == (chip, devices, topology)


@pytest.mark.parametrize("name", ["v4-7", "v9-8", "b52", "0xh100", "", "v4"])
def test_what_is_not_known_is_answered_with_what_is(name):
    with pytest.raises(UserError, match=r"v4-8"):
        chips.find(name)


def test_a_slices_topology_has_as_many_places_as_chips():
    for kind, topologies in chips.TOPOLOGIES.items():
        cores = 2 if kind in ("v4", "v5p") else 1
        for devices, topology in topologies.items():
            places = 1
            for side in topology.split("x"):
                places *= int(side)
            assert cores * places == devices, (kind, devices)
