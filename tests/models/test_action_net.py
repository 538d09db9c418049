"""The action network: silent clips, single streams, and its parameters beside `AvsNet`'s."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import FrozenConfigDict

from cmav import config as cmav_config
from cmav.errors import UserError
from cmav.models.action_net import ActionNet
from cmav.models.avs_net import AvsNet
from cmav.trees import flatten
from tests import tiny_config
from tests.models import fake_variables

RATES = dict(frame_rate=10.0, sample_rate=1000)
B, T, S, SIZE, CLASSES = 4, 15, 1500, 16, 5
HEARD = np.array([True, False, True, False])


def make_net(mode="full", attention="cma", depth=1, **action):
    model = tiny_config.get_config().model
    model.attention, model.depth = attention, depth
    settings = cmav_config.get_default("action").action
    settings.update(mode=mode, num_classes=CLASSES, hidden_size=12, **action)
    return ActionNet(FrozenConfigDict(model), FrozenConfigDict(settings))


@functools.cache
def inputs():
    rng = np.random.default_rng(0)
    video = rng.integers(0, 256, (B, T, SIZE, SIZE, 3)).astype(np.uint8)
    audio = rng.integers(-8000, 8000, (B, S, 2)).astype(np.int16)
    audio[~HEARD] = 0
    return video, audio


@functools.cache
def variables_of(net):
    init = functools.partial(net.init, train=False, **RATES)
    return fake_variables.draw(jax.eval_shape(init, jax.random.key(0), *inputs(), HEARD))


@functools.cache
def jitted(net):
    return jax.jit(functools.partial(net.apply, train=False, **RATES))


def predict(net, video, audio, heard, variables=None):
    return jitted(net)(variables or variables_of(net), video, audio, jnp.asarray(heard))


def test_features_are_the_means_of_the_final_tokens():
    net = make_net()
    variables, (video, audio) = variables_of(net), inputs()
    logits, out = predict(net, video, audio, np.full(B, True))
    # The same backbone in the synchronization network, which takes K audios.
    backbone = {"params": {"backbone": variables["params"]["backbone"]}, "batch_stats": variables["batch_stats"]}
    avs = AvsNet(net.config)
    fresh = fake_variables.draw(
        jax.eval_shape(functools.partial(avs.init, train=False, **RATES), jax.random.key(0), video, audio[:, None])
    )
    backbone["params"]["head"] = fresh["params"]["head"]
    _, expected = jitted(avs)(backbone, video, audio[:, None])
    for stream in ("video", "audio"):
        np.testing.assert_allclose(
            out[f"{stream}/features"], expected[f"{stream}/features"][:, 0].mean(axis=1), atol=1e-5
        )
    np.testing.assert_array_equal(
        out["features"], np.concatenate([out["video/features"], out["audio/features"]], axis=-1)
    )
    head = variables["params"]["head"]
    hidden = np.maximum(np.asarray(out["features"]) @ head["hidden"]["kernel"] + head["hidden"]["bias"], 0)
    np.testing.assert_allclose(logits, hidden @ head["logits"]["kernel"] + head["logits"]["bias"], atol=1e-4)
    assert logits.shape == (B, CLASSES) and logits.dtype == jnp.float32


@pytest.mark.parametrize(("attention", "depth"), [("cma", 1), ("cma", 2), ("aga", 1), ("vga", 1)])
def test_a_silent_clip_is_seen_as_by_the_vision_only_network(attention, depth):
    both, alone = make_net(attention=attention, depth=depth), make_net("vision_only", attention, depth)
    variables, (video, audio) = variables_of(both), inputs()
    _, out = predict(both, video, audio, HEARD)

    def part(tree, like):
        return {key: part(tree[key], value) if isinstance(value, dict) else tree[key] for key, value in like.items()}

    own = variables_of(alone)
    weights = {**own, "params": {**own["params"], "backbone": None}, "batch_stats": None}
    weights["params"]["backbone"] = part(variables["params"]["backbone"], own["params"]["backbone"])
    weights["batch_stats"] = part(variables["batch_stats"], own["batch_stats"])
    _, expected = predict(alone, video, None, HEARD, weights)
    np.testing.assert_allclose(out["features"][~HEARD, :32], expected["features"][~HEARD], atol=1e-5)
    np.testing.assert_array_equal(out["audio/features"][~HEARD], 0)
    assert np.abs(out["features"][HEARD, :32] - expected["features"][HEARD]).max() > 1e-2 or attention == "vga"
    # Nor do the samples of a clip that is said to be silent matter.
    _, noisy = predict(both, video, audio + 999 * ~HEARD[:, None, None], HEARD)
    np.testing.assert_array_equal(noisy["features"], out["features"])


def test_a_network_of_one_stream_has_only_its_parameters():
    full = {path.removeprefix("backbone/") for path in flatten(variables_of(make_net())["params"])}
    assert any(path.startswith("co_attention/0_audio_guided") for path in full)
    for mode, stream, other in (("vision_only", "video", "audio"), ("audio_only", "audio", "video")):
        variables = variables_of(make_net(mode))
        paths = {path.removeprefix("backbone/") for path in flatten(variables["params"])}
        assert paths < full
        assert any(path.startswith(f"{stream}_encoder") for path in paths)
        assert not any(other in path for path in paths)
        assert set(variables["batch_stats"]["backbone"]) == {f"{stream}_encoder"}


def test_silence_stays_out_of_the_statistics():
    net = make_net(standardise=True)
    video, audio = inputs()
    before = variables_of(net)["batch_stats"]

    options = dict(train=True, mutable=["batch_stats"], rngs={"dropout": jax.random.key(0)}, **RATES)
    apply = jax.jit(functools.partial(net.apply, **options))

    def train(rows):
        (_, out), changed = apply(variables_of(net), video[rows], audio[rows], jnp.asarray(HEARD[rows]))
        return changed["batch_stats"]["backbone"], changed["batch_stats"]["head"]["norm"], out["features"]

    everyone, head, features = train(np.arange(B))
    only_heard, _, _ = train(np.flatnonzero(HEARD))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        everyone["audio_encoder"], only_heard["audio_encoder"],
    )  # fmt: skip
    assert not np.allclose(everyone["video_encoder"]["layer_0"]["norm"]["mean"],
                           only_heard["video_encoder"]["layer_0"]["norm"]["mean"], atol=1e-4)  # fmt: skip
    batch_mean = np.concatenate([features[:, :32].mean(axis=0), features[HEARD, 32:].mean(axis=0)])
    expected = 0.9 * before["head"]["norm"]["mean"] + 0.1 * batch_mean
    np.testing.assert_allclose(head["mean"], expected, rtol=1e-4, atol=1e-6)

    silent, head, _ = train(np.flatnonzero(~HEARD))
    jax.tree.map(np.testing.assert_array_equal, silent["audio_encoder"], before["backbone"]["audio_encoder"])
    for key, x in before["head"]["norm"].items():
        np.testing.assert_array_equal(head[key][32:], x[32:])
        assert np.all(head[key][:32] != x[:32])


def test_a_batch_of_silence_has_a_finite_gradient_and_none_of_the_audio():
    net = make_net(standardise=True)
    variables, (video, audio) = variables_of(net), inputs()

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def loss(params, noise):
        (logits, out), _ = net.apply(
            {**variables, "params": params}, video, audio * 0 + noise, np.zeros(B, bool), train=True,
            mutable=["batch_stats"], rngs={"dropout": jax.random.key(0)}, **RATES,
        )  # fmt: skip
        return (logits**2).sum(), out

    for noise in (0, np.random.default_rng(0).integers(-99, 99, audio.shape).astype(np.int16)):
        (value, out), grads = loss(variables["params"], noise)
        assert np.isfinite(value) and all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((out, grads)))
        assert not any(np.any(leaf) for leaf in jax.tree.leaves(grads["backbone"]["audio_encoder"]))
        assert np.any(grads["backbone"]["video_encoder"]["layer_0"]["kernel"])


def test_standardised_features_of_silence_are_zero_as_they_are_without():
    net = make_net(standardise=True)
    variables, (video, audio) = variables_of(net), inputs()
    head = variables["params"]["head"]
    logits, out = predict(net, video, audio, HEARD)
    norm = variables["batch_stats"]["head"]["norm"]
    standardised = (np.asarray(out["features"]) - norm["mean"]) / np.sqrt(norm["var"] + 1e-5)
    standardised[~HEARD, 32:] = 0
    hidden = np.maximum(standardised @ head["hidden"]["kernel"] + head["hidden"]["bias"], 0)
    np.testing.assert_allclose(logits, hidden @ head["logits"]["kernel"] + head["logits"]["bias"], atol=1e-4)


def test_an_unknown_mode_is_named():
    with pytest.raises(UserError, match=r"action\.mode='blind'.*vision_only"):
        variables_of(make_net("blind"))
