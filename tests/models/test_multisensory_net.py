"""The network that fuses early: its pairs, its maps, and what is left of it where there is no sound."""

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
from cmav.models.multisensory_net import MultisensoryNet, cam
from tests import tiny_config
from tests.models import fake_variables

RATES = dict(frame_rate=10.0, sample_rate=4000)
B, K, T, S, SIZE = 2, 3, 12, 4800, 40
HEARD = np.array([True, False])


def make_config(audio="multisensory", **settings):
    model = tiny_config.get_config().model
    model.video = cmav_config.encoder("video", "multisensory", width=2)
    if audio == "multisensory":
        model.audio = cmav_config.encoder("audio", "multisensory", width=2)
    elif audio == "log_mel_2d":
        small = dict(width=2, mels=8, blocks=(1,), strides=((2, 2), (1, 1)))
        model.audio = cmav_config.encoder("audio", "log_mel_2d", **small)
    model.update(settings)
    return FrozenConfigDict(model)


def make_action_net(mode="full", **settings):
    action = cmav_config.get_default("action").action
    action.update(mode=mode, num_classes=5, hidden_size=12)
    return ActionNet(make_config(**settings), FrozenConfigDict(action))


@functools.cache
def inputs():
    rng = np.random.default_rng(0)
    video = rng.integers(0, 256, (B, T, SIZE, SIZE, 3)).astype(np.uint8)
    loudness = np.array([8000, 500, 30]).reshape(K, 1, 1)
    return video, (loudness * rng.uniform(-1, 1, (B, K, S, 2))).astype(np.int16)


@functools.cache
def variables_of(net):
    video, audio = inputs()
    more = (audio,) if isinstance(net, MultisensoryNet) else (audio[:, 0], HEARD)
    init = functools.partial(net.init, train=False, **RATES)
    return fake_variables.draw(jax.eval_shape(init, jax.random.key(0), video, *more))


@functools.cache
def predictor(net):
    return jax.jit(functools.partial(net.apply, variables_of(net), train=False, **RATES))


@pytest.mark.parametrize("audio", ["multisensory", "conv1d", "log_mel_2d"])
def test_every_documented_output_has_its_shape(audio):
    net = MultisensoryNet(make_config(audio))
    apply = functools.partial(net.apply, train=False, **RATES)
    logits, out = jax.eval_shape(apply, variables_of(net), *inputs())
    assert logits.shape == (B, K) and logits.dtype == jnp.float32
    fused = {key.partition("/")[2]: x.shape for key, x in out.items() if key.startswith("fused/")}
    before, after = (B, K, 3, 5, 5, 4), (B, K, 2, 2, 2, 16)
    assert fused == {
        **{"merge": before, "layer_0": before, "layer_1": before},
        **{"layer_2": (B, K, 2, 3, 3, 8), "layer_3": (B, K, 2, 3, 3, 8)},
        **{"layer_4": after, "layer_5": after, "map": after, "features": (B, K, 16)},
    }
    assert out["video/map"].shape == (B, 3, 5, 5, 2) and out["audio/map"].shape[:2] == (B, K)
    assert set(variables_of(net)["params"]) == {"backbone", "head"}
    assert set(variables_of(net)["params"]["backbone"]) == {"video_encoder", "audio_encoder"}


def test_audios_at_once_equal_each_by_itself_and_streams_that_were_encoded_apart():
    net = MultisensoryNet(make_config())
    video, audio = inputs()
    logits, out = predictor(net)(video, audio)
    assert np.ptp(logits, axis=1).min() > 1e-3  # Each sound matters.
    for k in range(K):
        alone, out_alone = predictor(net)(video, audio[:, k : k + 1])
        np.testing.assert_allclose(alone[:, 0], logits[:, k], atol=1e-5)
        np.testing.assert_allclose(out_alone["fused/map"][:, 0], out["fused/map"][:, k], atol=1e-5)

    @jax.jit
    def apart(variables):
        apply = functools.partial(net.apply, variables)
        pictures = apply(video, frame_rate=10.0, method="encode_video")
        sounds = [apply(audio[:, k], sample_rate=4000, method="encode_audio") for k in range(K)]
        return apply(pictures, jnp.stack(sounds, axis=1), None, None, method="pair_logits")  # It needs no times.

    np.testing.assert_allclose(apart(variables_of(net)), logits, atol=1e-5)


def test_the_mean_of_a_map_is_the_logit_less_its_bias():
    net = MultisensoryNet(make_config())
    variables = variables_of(net)
    logits, out = predictor(net)(*inputs())
    assert set(net.map_methods()) == {"cam"}
    found = cam(net, variables, out)
    bias = variables["params"]["head"]["logit"]["bias"]
    np.testing.assert_allclose(found.mean(axis=(2, 3, 4)) + bias, logits, atol=1e-5)
    # A place that is dark adds nothing, and one that is twice as active twice as much.
    rows = np.array([0.0, 2.0]).reshape(2, 1)
    changed = cam(net, variables, {"fused/map": out["fused/map"] * rows[..., None]})
    np.testing.assert_allclose(changed, found * rows, atol=1e-5)


def test_gradients_of_every_parameter_are_finite_and_there():
    net = MultisensoryNet(make_config(remat="encoders"))
    variables = variables_of(MultisensoryNet(make_config()))

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def step(params):
        (logits, _), changed = net.apply(
            {**variables, "params": params}, *inputs(), train=True, mutable=["batch_stats"], **RATES
        )
        return (logits * jnp.arange(1.0, 1 + K)).sum(), changed

    (_, changed), gradients = step(variables["params"])
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves((changed, gradients)))
    assert jax.tree.structure(changed["batch_stats"]) == jax.tree.structure(variables["batch_stats"])
    kernels = [leaf for leaf in jax.tree.leaves(gradients) if leaf.ndim > 1]
    assert min(abs(kernel).max() for kernel in kernels) > 0


def test_a_clip_without_sound_is_as_in_the_network_that_only_sees():
    net, (video, audio) = make_action_net(), inputs()
    _, out = predictor(net)(video, audio[:, 0], HEARD)
    only = make_action_net("vision_only")
    backbone = variables_of(only)["params"]["backbone"]
    assert set(backbone) == {"video_encoder"} and "sound" not in backbone["video_encoder"]["fusion"]
    shared = jax.tree.map(lambda fresh: fresh, variables_of(net))

    def part(theirs, ours):
        """What a network of pictures has, of the other's numbers."""
        return {name: part(x, ours[name]) if isinstance(x, dict) else ours[name] for name, x in theirs.items()}

    variables = {
        name: {**tree, "backbone": part(tree["backbone"], shared[name]["backbone"])}
        for name, tree in variables_of(only).items()
    }
    seen = jax.jit(functools.partial(only.apply, train=False, **RATES))(variables, video, None, HEARD)[1]["features"]
    np.testing.assert_allclose(out["features"][1], seen[1], atol=1e-5)
    assert np.abs(out["features"][0] - seen[0]).max() > 1e-3
    assert out["features"].shape == (B, 16) and not net.map_methods()
    other, _ = predictor(net)(video, audio[:, 1], HEARD)
    logits, _ = predictor(net)(video, audio[:, 0], HEARD)
    np.testing.assert_array_equal(np.any(logits != other, axis=1), HEARD)


def test_a_clip_without_sound_does_not_move_the_statistics_of_sound():
    net, (video, audio) = make_action_net(), inputs()

    @jax.jit
    def statistics(audio):
        apply = functools.partial(net.apply, train=True, mutable=["batch_stats"], rngs={"dropout": jax.random.key(0)})
        _, changed = apply(variables_of(net), video, audio, HEARD, **RATES)
        return changed["batch_stats"]["backbone"]

    stats, others = statistics(audio[:, 0]), statistics(audio[:, 0] * HEARD[:, None, None])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), stats, others)


def test_a_network_that_needs_the_streams_apart_is_not_made_of_it():
    net = AvsNet(make_config())
    with pytest.raises(UserError, match=r"config\.model\.video\.name='multisensory' mixes the sound"):
        jax.eval_shape(functools.partial(net.init, train=False, **RATES), jax.random.key(0), *inputs())
