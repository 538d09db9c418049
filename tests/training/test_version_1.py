"""A run of config version 1, which `run_version_1` keeps with what was said of it then, says the same today."""

import functools
import pathlib

import jax
import numpy as np
import pytest

from cmav.localization.task import LocalizationTask, find_maps
from cmav.training import frozen

RUN = pathlib.Path(__file__).parent / "run_version_1"
METHODS = ("cam", "attention", "similarity", "alignment")


@pytest.fixture(scope="module")
def expected():
    return dict(np.load(RUN / "expected.npz"))


@pytest.fixture(scope="module")
def inputs():
    """As they were drawn then: pictures of 16 pixels, two sounds, and pictures of 24 pixels; of two clips."""
    rng = np.random.default_rng(1)
    clip = frozen.load(str(RUN)).task.clip
    video = rng.integers(0, 255, (2, clip.num_frames, 16, 16, 3)).astype(np.uint8)
    audio = rng.integers(-9000, 9000, (2, 2, clip.num_samples, 2)).astype(np.int16)
    return video, audio, rng.integers(0, 255, (2, clip.num_frames, 24, 24, 3)).astype(np.uint8)


def assert_same(found, expected):
    """The same bits on the machine that wrote them; another machine adds in another order."""
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_its_network_answers_as_then(expected, inputs):
    network, (video, audio, _) = frozen.load(str(RUN)), inputs
    apply = jax.jit(functools.partial(network.task.apply, train=False))
    outputs, _ = apply(network.variables, {"video": video, "audio": audio})
    for name in ("logits", "video/times", "audio/times", "video/features", "audio/features"):
        assert_same(outputs[name], expected[name.replace("/", "__")])


def test_its_maps_are_those_of_then(expected, inputs):
    network, (_, audio, video) = frozen.load(str(RUN)), inputs
    task = LocalizationTask.of(network.task, size=24, stride=2)
    find = jax.jit(functools.partial(find_maps, task=task, methods=METHODS))
    found = find(network.variables, {"video": video, "audio": audio[:, 0]})
    assert found.keys() == {*METHODS, "heads"}
    for name, x in found.items():
        assert_same(x, expected[f"map__{name}"])


def test_its_features_are_those_of_then(expected, inputs):
    network, (video, audio, _) = frozen.load_to_embed(str(RUN)), inputs
    assert network.checksum() == expected["weights"]
    batch = network.task.batch_of(video, audio[:, 0], np.array([True, False]))
    outputs, _ = jax.jit(functools.partial(network.task.apply, train=False))(network.variables, batch)
    assert_same(outputs["features"], expected["embedding"])
