import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import FrozenConfigDict

from cmav import config as cmav_config
from cmav.errors import UserError
from cmav.models.alignment import moment_evidence
from cmav.models.avs_net import AvsNet, FusionHead
from cmav.models.encoders.layered import scale_samples
from cmav.models.encoders.video import scale_frames
from tests import tiny_config
from tests.models import fake_variables

RATES = dict(frame_rate=10.0, sample_rate=1000)
B, K, T, S, SIZE = 2, 3, 20, 2000, 16


def make_net(**settings):
    model = tiny_config.get_config().model
    with model.unlocked():
        model.update_from_flattened_dict(settings)
    return AvsNet(FrozenConfigDict(model))


@functools.cache
def inputs():
    rng = np.random.default_rng(0)
    video = rng.integers(0, 256, (B, T, SIZE, SIZE, 3)).astype(np.uint8)
    audio = rng.integers(-8000, 8000, (B, K, S, 2)).astype(np.int16)
    return video, audio


@functools.cache
def variables_of(net):
    init = functools.partial(net.init, train=False, **RATES)
    return fake_variables.draw(jax.eval_shape(init, jax.random.key(0), *inputs()))


def predict(net, video, audio, variables=None):
    """Without jit: the operations are compiled one by one, and most tests share them."""
    return net.apply(variables or variables_of(net), video, audio, train=False, **RATES)


def loss_and_gradients(variables, net):
    def loss(params):
        (logits, _), changed = net.apply(
            {**variables, "params": params}, *inputs(), train=True, mutable=["batch_stats"], **RATES
        )
        return (logits * jnp.arange(1.0, 1 + K)).sum(), changed

    return jax.value_and_grad(loss, has_aux=True)(variables["params"])


def assert_close(a, b, **tolerance):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **tolerance), a, b)


def test_every_documented_output_has_its_shape():
    net = make_net()
    logits, out = predict(net, *inputs())
    size, heads = net.config.hidden_size, net.config.num_heads
    n, m = 10, 13
    shapes = {
        "video/layer_0": (B, T, 8, 8, 8),
        "video/layer_1": (B, T, 4, 4, 8),
        "video/layer_2": (B, n, 2, 2, 16),
        "video/map": (B, n, 2, 2, 16),
        "video/tokens": (B, n, size),
        "video/times": (n,),
        "video/features": (B, K, m, size),  # The guided block took the audio's queries.
        "audio/layer_0": (B, K, 400, 8),
        "audio/layer_1": (B, K, 100, 16),
        "audio/layer_2": (B, K, 25, 16),
        "audio/layer_3": (B, K, m, 16),
        "audio/map": (B, K, m, 16),
        "audio/tokens": (B, K, m, size),
        "audio/times": (m,),
        "audio/features": (B, K, n, size),
        "co_attention/0/video/guided": (B, K, m, size),
        "co_attention/0/video/guided/weights": (B, K, heads, m, n),
        "co_attention/0/video/self": (B, K, m, size),
        "co_attention/0/video/self/weights": (B, K, heads, m, m),
        "co_attention/0/audio/guided": (B, K, n, size),
        "co_attention/0/audio/guided/weights": (B, K, heads, n, m),
        "co_attention/0/audio/self": (B, K, n, size),
        "co_attention/0/audio/self/weights": (B, K, heads, n, n),
        "fusion/hidden": (B, K, 32),
    }
    assert {key: x.shape for key, x in out.items()} == shapes
    assert logits.shape == (B, K) and logits.dtype == jnp.float32
    np.testing.assert_allclose(out["co_attention/0/video/guided/weights"].sum(axis=-1), 1, atol=1e-5)


def test_parameters_are_named_subtrees():
    params = variables_of(make_net())["params"]
    assert set(params) == {"backbone", "head"}
    assert set(params["backbone"]) == {"video_encoder", "audio_encoder", "co_attention"}
    assert set(params["backbone"]["co_attention"]) == {
        "0_video_guided",
        "0_audio_guided",
        "0_video_self",
        "0_audio_self",
    }


@pytest.mark.parametrize("attention", ["cma", "aga", "vga"])
def test_the_papers_network_has_15m_parameters(attention):
    model = cmav_config.get_default().model
    model.attention = attention
    video = jax.ShapeDtypeStruct((1, 32, 224, 224, 3), jnp.uint8)
    audio = jax.ShapeDtypeStruct((1, 2, 88_200, 2), jnp.int16)
    init = functools.partial(AvsNet(FrozenConfigDict(model)).init, train=False, frame_rate=7.5, sample_rate=21_000)
    variables = jax.eval_shape(init, jax.random.key(0), video, audio)
    assert 14.5e6 <= sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) <= 15.5e6
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}


def test_audios_at_once_equal_each_by_itself():
    net = make_net()
    video, audio = inputs()
    logits, out = predict(net, video, audio)
    predict_jit = jax.jit(functools.partial(predict, net))
    for k in range(K):
        alone, out_alone = predict_jit(video, audio[:, k : k + 1])
        np.testing.assert_allclose(alone[:, 0], logits[:, k], atol=1e-5)
        for key in ("audio/features", "video/features", "co_attention/0/video/self/weights"):
            np.testing.assert_allclose(out_alone[key][:, 0], out[key][:, k], atol=1e-5)


def test_the_head_adds_what_moments_have_in_common_times_a_factor():
    plain, net = make_net(), make_net(fusion_moments=0.2)
    variables = variables_of(net)
    head = variables["params"]["head"]
    assert set(variables["params"]["head"]) - set(variables_of(plain)["params"]["head"]) == {"log_moments_factor"}
    factor = np.log(3.0)
    head = {**head, "log_moments_factor": jnp.float32(factor)}
    variables = {**variables, "params": {**variables["params"], "head": head}}
    logits, out = predict(net, *inputs(), variables)
    without, _ = predict(plain, *inputs(), variables)
    tokens = out["video/tokens"][:, None], out["audio/tokens"]
    evidence = moment_evidence(*tokens, out["video/times"], out["audio/times"], 0.2)
    assert float(jnp.abs(evidence).min()) > 1e-3
    np.testing.assert_allclose(logits - without, 3 * evidence, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("settings", [{}, {"fusion_moments": 0.2}, {"positions": "learned"}, {"depth": 0}])
def test_streams_encoded_apart_give_the_same_logits(settings):
    net = make_net(**settings)
    video, audio = inputs()
    logits, out = predict(net, video, audio)

    def apply(*args, **kwargs):
        return net.apply(variables_of(net), *args, **kwargs)

    pictures = apply(video, frame_rate=RATES["frame_rate"], method="encode_video")
    sounds = [apply(audio[:, k], sample_rate=RATES["sample_rate"], method="encode_audio") for k in range(K)]
    apart = apply(pictures, jnp.stack(sounds, axis=1), out["video/times"], out["audio/times"], method="pair_logits")
    np.testing.assert_allclose(apart, logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("attention", "video_sees_audio", "audio_sees_video"),
    [("cma", True, True), ("aga", True, False), ("vga", False, True)],
)
def test_which_stream_sees_which(attention, video_sees_audio, audio_sees_video):
    net = make_net(attention=attention, depth=2)
    video, audio = inputs()
    _, out = predict(net, video, audio)
    _, other_audio = predict(net, video, audio[:, ::-1].copy())
    _, other_video = predict(net, 255 - video, audio)

    def changes(key, other):
        return bool(jnp.abs(other[key] - out[key]).max() > 1e-3)

    assert changes("audio/features", other_audio) and changes("video/features", other_video)
    assert changes("video/features", other_audio) == video_sees_audio
    assert changes("audio/features", other_video) == audio_sees_video


def test_remat_changes_neither_values_nor_names():
    model = tiny_config.get_config().model
    # What is rematerialised, and little else.
    small = {"depth": 0, "video.layers": model.video.layers[:2], "audio.layers": model.audio.layers[:2]}
    plain = make_net(remat="none", **small)
    variables = variables_of(plain)
    (loss, stats), gradients = jax.jit(functools.partial(loss_and_gradients, net=plain))(variables)
    for remat in ("stem", "encoders"):
        net = make_net(remat=remat, **small)
        assert jax.tree.structure(variables_of(net)) == jax.tree.structure(variables)
        (other_loss, other_stats), other_gradients = jax.jit(functools.partial(loss_and_gradients, net=net))(variables)
        np.testing.assert_allclose(other_loss, loss, rtol=1e-5)
        assert_close(other_stats, stats, rtol=1e-5, atol=1e-6)
        assert_close(other_gradients, gradients, rtol=1e-3, atol=1e-3)


def test_lowerings_give_one_network():
    variables = variables_of(make_net())
    logits = {low: predict(make_net(conv_lowering=low), *inputs(), variables)[0] for low in ("native", "folded_taps")}
    np.testing.assert_allclose(logits["native"], logits["folded_taps"], atol=1e-4)


def test_bfloat16_is_near_float32_and_its_state_is_float32():
    variables = variables_of(make_net())
    logits, _ = predict(make_net(), *inputs(), variables)
    low, out = jax.jit(functools.partial(predict, make_net(dtype="bfloat16")))(*inputs(), variables)
    assert out["video/map"].dtype == out["audio/features"].dtype == jnp.bfloat16
    assert low.dtype == jnp.float32
    np.testing.assert_allclose(low, logits, atol=0.1 * float(jnp.abs(logits).max()))
    (_, stats), gradients = jax.eval_shape(
        functools.partial(loss_and_gradients, net=make_net(dtype="bfloat16")), variables
    )
    assert {leaf.dtype for leaf in jax.tree.leaves((stats, gradients))} == {jnp.dtype("float32")}


def test_batch_norm_learns_the_statistics_of_the_batch():
    net = make_net()
    variables = variables_of(net)
    _, changed = net.apply(variables, *inputs(), train=True, mutable=["batch_stats"], **RATES)
    old = variables["batch_stats"]["backbone"]["video_encoder"]["layer_0"]["norm"]["mean"]
    new = changed["batch_stats"]["backbone"]["video_encoder"]["layer_0"]["norm"]["mean"]
    kernel = variables["params"]["backbone"]["video_encoder"]["layer_0"]["kernel"]
    y = jax.lax.conv_general_dilated(
        scale_frames(inputs()[0]), kernel, (1, 2, 2), "SAME", dimension_numbers=("NDHWC", "DHWIO", "NDHWC")
    )
    momentum = net.config.batch_norm_momentum
    np.testing.assert_allclose(new, momentum * old + (1 - momentum) * y.mean(axis=(0, 1, 2, 3)), atol=1e-5)


@pytest.mark.parametrize("positions", ["seconds", "learned", "none"])
def test_weights_of_one_frame_rate_fit_another(positions):
    net = make_net(positions=positions)
    video, audio = inputs()
    apply = functools.partial(net.apply, train=False, sample_rate=1000, frame_rate=5.0)
    slow, out = jax.eval_shape(apply, variables_of(net), video[:, ::2], audio)
    assert out["video/tokens"].shape[1] == 5 and slow.shape == (B, K)


@pytest.mark.parametrize(("fusion", "sees_order", "width"), [("flatten", True, 2 * 8 * 32), ("mean", False, 2 * 32)])
def test_fusion_sees_the_order_of_tokens_or_their_mean(fusion, sees_order, width):
    head = FusionHead(make_net(fusion=fusion).config)
    rng = np.random.default_rng(0)
    video, audio = (rng.normal(size=(B, K, tokens, 32)).astype(np.float32) for tokens in (10, 13))
    variables = head.init(jax.random.key(0), video, audio)
    assert set(variables["params"]) == {"hidden", "logit"}
    assert variables["params"]["hidden"]["kernel"].shape == (width, 32)
    logits, other = (head.apply(variables, video, x)[0] for x in (audio, audio[:, :, ::-1]))
    assert bool(jnp.abs(logits - other).max() > 1e-3) == sees_order


def test_inputs_are_scaled():
    np.testing.assert_allclose(scale_frames(np.array([0, 255], np.uint8)), [-1, 1])
    samples = np.array([-32768, -328, 0, 3277], np.int16)
    x = samples / 32768
    np.testing.assert_allclose(scale_samples(samples, "none"), x, atol=1e-6)
    expected = np.sign(x) * np.log(1 + 255 * np.abs(x)) / np.log(256)
    np.testing.assert_allclose(scale_samples(samples, "mu_law"), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(attention="cam"), "config.model.attention='cam'.*cma, aga, vga"),
        (dict(fusion="max"), "config.model.fusion='max'.*flatten, mean"),
        (dict(dtype="float64"), "config.model.dtype='float64'"),
        (dict(fusion_moments=-0.1), "config.model.fusion_moments=-0.1 must be a temperature, or 0"),
        (dict(num_heads=5), "multiple of config.model.num_heads=5"),
        ({"audio.companding": "a_law"}, "config.model.audio.companding='a_law'.*mu_law, none"),
        ({"audio.name": "conv2d"}, "config.model.audio.name='conv2d'.*conv1d"),
        ({"audio.name": "conv3d"}, "config.model.audio.name='conv3d'.*conv1d"),
        ({"video.width": 8}, r'config.model.video: .*encoder\("video", "conv3d"\)'),
        ({"audio.layers": (("conv", 8, (3,)),)}, r"config.model.audio.layers\[0\].*is not a layer"),
        ({"video.layers": (("pool", (3, 3), (1, 1)),)}, r"config.model.video.layers\[0\].*3 positive"),
        ({"video.layers": (("pool", (1, 3, 3), (1, 1, 1), 2),)}, r"config.model.video.layers\[0\].*dilation"),
        ({"audio.layers": (("conv", 8, (3,), (2,), (2,)),)}, "a stride and a dilation along the same axis"),
    ],
)
def test_mistakes_are_named(settings, message):
    with pytest.raises(UserError, match=message):
        jax.eval_shape(functools.partial(make_net(**settings).init, train=False, **RATES), jax.random.key(0), *inputs())
