import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict, FrozenConfigDict

from cmav import config as cmav_config
from cmav.models import encoders
from cmav.models.positions import AddPositions, sinusoids

LAYERS = {
    "video": (("conv", 2, (5, 3, 3), (1, 2, 2)), ("pool", (1, 3, 3), (1, 2, 2)), ("conv", 2, (3, 3, 3), (2, 2, 2))),
    "audio": (("conv", 2, (9,), (4,)), ("pool", (4,), (2,)), ("conv", 2, (3,), (3,)), ("conv", 2, (3,), (1,))),
    "dilated": (("conv", 2, (9,), (4,)), ("pool", (4,), (1,), (2,)), ("conv", 2, (3,), (1,), (3,))),
}


@pytest.mark.parametrize(
    ("stream", "length"), [("video", 32), ("video", 27), ("audio", 400), ("audio", 333), ("dilated", 99)]
)
def test_times_are_the_centres_of_receptive_fields_found_by_gradients(stream, length):
    layers, rate = LAYERS[stream], 10.0
    config = ConfigDict(cmav_config.get_default().model)
    config.update(dtype="float32", hidden_size=4)
    config["video" if stream == "video" else "audio"].layers = layers
    encoder = (encoders.video if stream == "video" else encoders.audio)(FrozenConfigDict(config))
    shape = (1, length, 4, 4, 3) if stream == "video" else (1, length, 2)
    x = jnp.full(shape, 255.0 if stream == "video" else 32768.0)
    variables = jax.eval_shape(lambda x: encoder.init(jax.random.key(0), x, rate=rate, train=False), x)
    # Where everything is positive no ReLU is off, and a gradient of 0 means that the input is out of reach.
    variables = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.5), variables)
    tokens, backward = jax.vjp(jax.jit(lambda x: encoder.apply(variables, x, rate=rate, train=False)[1]["map"]), x)
    times = encoder.times(length, rate)
    assert len(times) == tokens.shape[1]

    def field(token):
        (gradient,) = backward(jnp.zeros_like(tokens).at[:, token].set(1.0))
        reached = np.flatnonzero(np.abs(gradient).sum(axis=(0, *range(2, x.ndim))))
        return reached[0], reached[-1]

    first, last = np.transpose([field(token) for token in range(len(times))])
    is_whole = last - first == max(last - first)  # The clip's ends hide a part of the others.
    assert is_whole.sum() >= 3
    np.testing.assert_allclose(times[is_whole], (first + last)[is_whole] / 2 / rate)


def test_token_counts_of_the_paper():
    model = FrozenConfigDict(cmav_config.get_default().model)
    assert len(encoders.video(model).times(126, 29.97)) == 8
    assert len(encoders.video(model).times(32, 7.5)) == 2
    assert len(encoders.audio(model).times(88_200, 21_000)) == 8


def test_both_streams_and_both_frame_rates_share_a_clock():
    model = FrozenConfigDict(cmav_config.get_default().model)
    full = encoders.video(model).times(126, 29.97)
    slow = encoders.video(model).times(32, 29.97 / 4)
    audio = encoders.audio(model).times(88_200, 21_000)
    np.testing.assert_allclose(np.diff(full), 16 / 29.97)
    np.testing.assert_allclose(np.diff(slow), 64 / 29.97)
    np.testing.assert_allclose(np.diff(audio), 12_288 / 21_000)
    for times in (full, slow, audio):
        assert 0 <= times[0] < times[-1] < 4.3


def test_sinusoids():
    times = np.array([0.0, 0.25, 3.0])
    table = sinusoids(times, 6)
    for i, wavelength in enumerate([1.0, 4.0, 16.0]):
        np.testing.assert_allclose(table[:, i], np.sin(2 * np.pi * times / wavelength), atol=1e-6)
        np.testing.assert_allclose(table[:, 3 + i], np.cos(2 * np.pi * times / wavelength), atol=1e-6)


def test_the_learned_table_fits_any_number_of_tokens():
    config = FrozenConfigDict(dict(positions="learned", fusion_tokens=8))
    module = AddPositions(config)
    variables = module.init(jax.random.key(0), jnp.zeros((1, 2, 4)), np.arange(2.0))
    table = variables["params"]["table"]
    np.testing.assert_allclose(module.apply(variables, jnp.zeros((1, 8, 4)), np.arange(8.0))[0], table, atol=1e-6)
    # Two tokens span four rows each, and the resizing averages them.
    two = module.apply(variables, jnp.zeros((1, 2, 4)), np.arange(2.0))[0]
    np.testing.assert_allclose(two, jax.image.resize(table, (2, 4), "linear"), atol=1e-6)


def test_none_adds_nothing():
    tokens = jnp.arange(8.0).reshape(1, 2, 4)
    module = AddPositions(FrozenConfigDict(dict(positions="none", fusion_tokens=8)))
    np.testing.assert_array_equal(module.apply({}, tokens, np.arange(2.0)), tokens)
