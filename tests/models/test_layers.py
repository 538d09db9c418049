import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict, FrozenConfigDict

from cmav import config as cmav_config
from cmav.configs import demo
from cmav.errors import UserError
from cmav.models import encoders
from cmav.models import layers as model_layers
from tests.models import fake_variables

NETWORKS = {
    "paper": cmav_config.PAPER_VIDEO_LAYERS,
    "demo": demo.get_config().model.video.layers,
    # Pools and even kernels where strides are removed, and layers without a stride after them.
    "mixed": (
        ("conv", 3, (1, 3, 3), (1, 2, 2)),
        ("pool", (1, 2, 2), (1, 2, 2)),
        ("conv", 4, (3, 4, 4), (2, 1, 1)),
        ("pool", (1, 5, 3), (1, 3, 3)),
        ("conv", 4, (1, 2, 3), (1, 1, 1)),
        ("pool", (2, 3, 3), (1, 1, 1)),
    ),
    # Dilated before it is made finer.
    "dilated": (
        ("conv", 3, (1, 3, 3), (1, 2, 2)),
        ("pool", (1, 3, 3), (1, 1, 1), (1, 2, 2)),
        ("conv", 3, (1, 3, 3), (2, 2, 2)),
        ("conv", 3, (1, 3, 3), (1, 1, 1), (1, 2, 2)),
    ),
}


def _encoder(layers):
    """With few channels, as each layer keeps to itself which those are."""
    narrow = tuple((kind, min(args[0], 4), *args[1:]) if kind == "conv" else (kind, *args) for kind, *args in layers)
    config = ConfigDict(cmav_config.get_default().model)
    config.update(dtype="float32", remat="none", hidden_size=4)
    config.video.layers = narrow
    return encoders.video(FrozenConfigDict(config))


def _map(encoder, variables, x):
    return jax.jit(lambda x: encoder.apply(variables, x, rate=10.0, train=False)[1]["map"])(x)


def _shapes(encoder, frames):
    return jax.eval_shape(functools.partial(encoder.init, rate=10.0, train=False), jax.random.key(0), frames)


@pytest.mark.parametrize(
    ("network", "size", "strides"),
    [
        ("paper", (64, 96), (1, 4, 16)),
        ("paper", (50, 35), (2, 8)),
        ("demo", (40, 40), (4, 8)),
        ("demo", (37, 58), (4,)),
        ("mixed", (48, 36), (2, 4)),
        ("mixed", (37, 29), (2, 4)),
        ("dilated", (24, 21), (2,)),
    ],
)
def test_a_finer_map_has_the_same_values_at_the_same_centres(network, size, strides):
    layers = NETWORKS[network]
    frames = 127.5 * (1 + np.random.default_rng(0).normal(size=(1, 4, *size, 3)).astype(np.float32))
    ordinary = _encoder(layers)
    variables = fake_variables.draw(_shapes(ordinary, frames))
    values = np.asarray(_map(ordinary, variables, frames))
    centres = _encoder(layers).places(size)
    assert np.std(values) > 0.01  # Not all is cut off by the ReLUs.
    for stride in strides:
        finer_layers = model_layers.finer(layers, stride)
        finer_values = _map(_encoder(finer_layers), variables, frames)
        assert finer_values.shape[2:4] == tuple(-(-length // stride) for length in size)
        same = []
        for finer_centres, ordinary_centres in zip(_encoder(finer_layers).places(size), centres, strict=True):
            np.testing.assert_allclose(np.diff(finer_centres), np.diff(finer_centres)[0])
            distances = abs(ordinary_centres[:, None] - finer_centres)
            assert distances.min(axis=1).max() < 1e-9
            same.append(distances.argmin(axis=1))
        np.testing.assert_allclose(finer_values[:, :, same[0]][:, :, :, same[1]], values, atol=1e-5)


@pytest.mark.parametrize(("network", "stride"), [("paper", 4), ("demo", 4), ("mixed", 4)])
def test_weights_and_times_stay_as_they_are(network, stride):
    layers = NETWORKS[network]
    finer_layers = model_layers.finer(layers, stride)
    frames = np.zeros((1, 4, 32, 32, 3), np.float32)
    assert _shapes(_encoder(finer_layers), frames) == _shapes(_encoder(layers), frames)
    times = [model_layers.field_centres(some, 30, axis=0) for some in (layers, finer_layers)]
    np.testing.assert_array_equal(*times)


def test_location_centres_are_those_of_receptive_fields_found_by_gradients():
    layers, size = model_layers.finer(NETWORKS["mixed"], 4), (112, 96)
    encoder = _encoder(layers)
    frames = np.full((1, 2, *size, 3), 255, np.float32)
    # Where everything is positive no ReLU is off, and a gradient of 0 means that the input is out of reach.
    variables = jax.tree.map(lambda leaf: np.full(leaf.shape, 0.5, np.float32), _shapes(encoder, frames))
    rows, columns = _encoder(layers).places(size)
    row, column = 13, 12  # Far enough from the borders to see only picture.
    gradient = jax.jit(
        jax.grad(lambda x: encoder.apply(variables, x, rate=10.0, train=False)[1]["map"][0, 0, row, column].sum())
    )
    field = np.asarray(gradient(frames)).any(axis=(0, 1, 4))
    ys, xs = np.flatnonzero(field.any(axis=1)), np.flatnonzero(field.any(axis=0))
    assert ys[0] > 0 and ys[-1] < size[0] - 1 and xs[0] > 0 and xs[-1] < size[1] - 1
    np.testing.assert_allclose(rows[row], (ys[0] + ys[-1] + 1) / 2 / size[0])
    np.testing.assert_allclose(columns[column], (xs[0] + xs[-1] + 1) / 2 / size[1])


def test_finer_layers_of_the_paper():
    assert model_layers.finer(cmav_config.PAPER_VIDEO_LAYERS, 4) == (
        ("conv", 64, (5, 7, 7), (1, 1, 1)),
        ("pool", (1, 3, 3), (1, 2, 2)),
        ("conv", 64, (3, 3, 3), (2, 2, 2)),
        ("conv", 64, (3, 3, 3), (2, 1, 1)),
        ("conv", 64, (3, 3, 3), (2, 1, 1), (1, 2, 2)),
        ("conv", 64, (3, 3, 3), (2, 1, 1), (1, 4, 4)),
    )


@pytest.mark.parametrize("layers", NETWORKS.values(), ids=NETWORKS)
def test_the_maps_own_stride_changes_nothing(layers):
    stride = math.prod(layer.strides[1] for layer in model_layers.parse(layers))
    assert model_layers.finer(layers, stride) == layers


def test_layers_are_read_from_lists_too():
    layers = ConfigDict(
        {"layers": [["conv", 4, [3, 3, 3], [1, 2, 2]], ["pool", [1, 3, 3], [1, 1, 1], [1, 2, 2]]]}
    ).layers
    expected = (
        model_layers.Layer("conv", 4, (3, 3, 3), (1, 2, 2), (1, 1, 1)),
        model_layers.Layer("pool", None, (1, 3, 3), (1, 1, 1), (1, 2, 2)),
    )
    assert model_layers.parse(layers) == expected
    assert model_layers.parse([layer.to_config() for layer in expected]) == expected


@pytest.mark.parametrize("stride", [0, 1, 3, 32])
def test_a_stride_that_is_not_there_is_refused(stride):
    with pytest.raises(UserError, match=rf"stride of {stride} pixels: choose one of 4, 8, 16 .*the map itself has 16"):
        model_layers.finer(NETWORKS["demo"], stride)


def test_unequal_strides_of_height_and_width_are_refused():
    layers = (("conv", 4, (3, 3, 3), (1, 2, 2)), ("pool", (1, 3, 3), (1, 2, 1)))
    with pytest.raises(UserError, match=r"equal strides in height and width.*\('pool', \(1, 3, 3\), \(1, 2, 1\)\)"):
        model_layers.finer(layers, 2)


def test_location_centres_are_those_of_receptive_fields():
    layers = (
        ("conv", 8, (3, 7, 3), (2, 2, 1)),
        ("pool", (1, 3, 3), (1, 2, 2)),
        ("conv", 8, (3, 3, 5), (1, 2, 2)),
        ("conv", 8, (1, 4, 1), (1, 1, 1)),
    )
    height, width = 96, 40

    def run_layers(x):
        x = x[None, :, :, None]
        for *_, kernel, strides in layers:
            ones, dimensions = jnp.ones((*kernel[1:], 1, 1)), ("NHWC", "HWIO", "NHWC")
            x = jax.lax.conv_general_dilated(x, ones, strides[1:], "SAME", dimension_numbers=dimensions)
        return x[0, :, :, 0]

    rows, columns = _encoder(layers).places((height, width))
    assert (len(rows), len(columns)) == jax.eval_shape(run_layers, jnp.ones((height, width))).shape
    row, column = 5, 4  # Far enough from the borders to see only picture.
    field = np.asarray(jax.grad(lambda x: run_layers(x)[row, column])(jnp.ones((height, width)))) > 0
    ys, xs = np.flatnonzero(field.any(axis=1)), np.flatnonzero(field.any(axis=0))
    np.testing.assert_allclose(rows[row], (ys[0] + ys[-1] + 1) / 2 / height)
    np.testing.assert_allclose(columns[column], (xs[0] + xs[-1] + 1) / 2 / width)
