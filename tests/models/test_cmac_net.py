"""The network of CMAC against plain NumPy: embeddings, both attentions, what silence does to them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import FrozenConfigDict

from cmav.models import cmac_net
from cmav.models.cmac_net import CmacNet
from tests import tiny_config
from tests.models import fake_variables

RATES = dict(frame_rate=10.0, sample_rate=1000)
B, T, S, SIZE = 3, 8, 800, 16


@functools.cache
def make_net(**cmac):
    config = tiny_config.get_cmac_config()
    config.cmac.update(cmac)
    return CmacNet(FrozenConfigDict(config.model), FrozenConfigDict(config.cmac))


@functools.cache
def inputs():
    rng = np.random.default_rng(0)
    video = rng.integers(0, 256, (B, T, SIZE, SIZE, 3)).astype(np.uint8)
    audio = rng.integers(-8000, 8000, (B, S, 2)).astype(np.int16)
    return video, audio, np.ones(B, bool)


@functools.cache
def variables_of(net):
    init = functools.partial(net.init, train=False, **RATES)
    return fake_variables.draw(jax.eval_shape(init, jax.random.key(0), *inputs()))


def run(net, *args, **kwargs):
    return jax.device_get(
        jax.jit(functools.partial(net.apply, train=False, **RATES))(variables_of(net), *args, **kwargs)
    )


def train(net):
    """A function that applies a network as in training, and gives its new statistics beside its output."""
    options = dict(train=True, mutable=["batch_stats"], rngs={"dropout": jax.random.key(0)}, **RATES)
    return jax.jit(functools.partial(net.apply, **options))


def softmax(x):
    x = np.exp(x - x.max(axis=-1, keepdims=True))
    return x / x.sum(axis=-1, keepdims=True)


def at_length_1(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def by_hand(net, out, stream):
    """Pure attention's logits, embeddings of places, and the clips', float64, from the map and the parameters."""
    params = jax.tree.map(lambda x: np.asarray(x, np.float64), variables_of(net)["params"])
    stats = variables_of(net)["batch_stats"]["head"][stream]["norm"]
    head, fc = params["head"][stream], params["backbone"][f"{stream}_encoder"]["fc"]
    x = out[f"{stream}/map"].astype(np.float64)
    x = x.reshape(*x.shape[:2], -1, x.shape[-1])
    times, half = out[f"{stream}/times"], net.config.hidden_size // 2
    angles = 2 * np.pi * times[:, None] / np.geomspace(1.0, 16.0, half)
    tokens = x @ fc["kernel"] + fc["bias"]
    tokens += np.concatenate([np.sin(angles), np.cos(angles)], axis=-1)[:, None]
    places = np.maximum(tokens @ head["hidden"]["kernel"] + head["hidden"]["bias"], 0) @ head["embedding"]["kernel"]
    pure = (x @ head["scorer"]["kernel"] + head["scorer"]["bias"])[..., 0]
    all_places = places.reshape(len(places), -1, places.shape[-1])
    weights = softmax(pure.reshape(len(pure), -1)) if net.cmac.pooling == "attention" else np.ones(pure[0].size)
    pooled = (weights[..., None] * all_places).sum(axis=1) / np.sum(weights, axis=-1, keepdims=True)

    def standardised(y):
        return (y - stats["mean"]) / np.sqrt(stats["var"] + 1e-5)

    return pure, standardised(places), at_length_1(standardised(pooled))


@pytest.mark.parametrize("pooling", ["attention", "mean"])
def test_embeddings_and_attentions_are_those_of_numpy(pooling):
    temperatures = {"video": 0.3, "audio": 0.7}
    net = make_net(pooling=pooling, **{f"{stream}_guided_temperature": x for stream, x in temperatures.items()})
    out = run(net, *inputs())
    found = {stream: by_hand(net, out, stream) for stream in ("video", "audio")}
    for stream, other in (("video", "audio"), ("audio", "video")):
        pure, places, embedding = found[stream]
        np.testing.assert_allclose(out[f"{stream}/embedding"], embedding, atol=1e-4)
        np.testing.assert_allclose(out[f"{stream}/pure"].reshape(pure.shape), pure, rtol=1e-3, atol=1e-4)
        guided = np.einsum("btpe,be->btp", at_length_1(places), found[other][2]) / temperatures[stream]
        np.testing.assert_allclose(out[f"{stream}/guided"].reshape(pure.shape), guided, rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(out["features"], np.concatenate([out["video/embedding"], out["audio/embedding"]], 1))


def test_outputs_have_the_shapes_of_the_maps():
    out = run(make_net(), *inputs())
    for stream, axes in (("video", 2), ("audio", 1)):
        shape = out[f"{stream}/map"].shape[:-1]
        assert len(shape) == 2 + axes and min(shape[1:]) > 1
        assert out[f"{stream}/pure"].shape == out[f"{stream}/guided"].shape == shape
        assert len(out[f"{stream}/times"]) == shape[1]


def test_in_training_clips_are_standardised_over_the_batch():
    """Whatever the weights: each dimension of what is brought to length 1 has mean 0 and variance 1."""
    net = make_net()
    out, changed = train(net)(variables_of(net), *inputs())
    for stream in ("video", "audio"):
        assert abs(np.asarray(out[f"{stream}/embedding"]).mean(axis=0)).max() < 0.7  # not all on one side
        before = variables_of(net)["batch_stats"]["head"][stream]["norm"]["mean"]
        assert np.abs(changed["batch_stats"]["head"][stream]["norm"]["mean"] - before).max() > 1e-4


def test_silence_has_no_part_in_the_statistics_and_no_features():
    net = make_net()
    video, audio, _ = inputs()
    silent, apply = np.array([True, False, True]), train(net)

    def statistics(audio):
        _, changed = apply(variables_of(net), video, audio, silent)
        return changed["batch_stats"]["head"]["audio"]

    other = audio.copy()
    other[1] = 12345
    jax.tree.map(np.testing.assert_array_equal, statistics(audio), statistics(other))
    out = run(net, video, audio, silent)
    size = net.cmac.embed_size
    assert not out["features"][1, size:].any() and out["features"][1, :size].any() and out["features"][0, size:].any()


def test_maps_are_shares_of_the_attention():
    net = make_net()
    out = run(net, *inputs())
    assert net.map_methods().keys() == {"guided", "pure"}
    for name, method in net.map_methods().items():
        found = np.asarray(method.find(net, variables_of(net), out))
        logits = out[f"video/{name}"].astype(np.float64)
        share = softmax(logits.reshape(*logits.shape[:2], -1)).reshape(logits.shape)
        np.testing.assert_allclose(found[:, 0], share * logits[0, 0].size - 1, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found.mean(axis=(-2, -1)), 0, atol=1e-5)


def test_the_temperature_is_learned_where_asked():
    net = make_net(learn_temperature=True, temperature=0.2)
    params = jax.jit(functools.partial(net.init, train=False, **RATES))(jax.random.key(0), *inputs())

    @jax.jit
    @jax.value_and_grad
    def temperature(params):
        return net.apply(params, *inputs(), train=False, **RATES)["temperature"]

    assert temperature(params)[0] == pytest.approx(0.2)
    params["params"]["head"]["log_temperature"] = jnp.float32(-20.0)
    least, gradient = temperature(params)
    assert least == pytest.approx(cmac_net.LEAST_TEMPERATURE)
    assert gradient["params"]["head"]["log_temperature"] > 0  # It can leave the least again.
    assert "log_temperature" not in variables_of(make_net())["params"]["head"]
