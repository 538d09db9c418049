import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import FrozenConfigDict

from cmav.models import avs_net, maps
from cmav.models.avs_net import AvsNet
from tests import tiny_config
from tests.models import fake_variables

RATES = dict(frame_rate=10.0, sample_rate=1000)
B, K, T, S, HEIGHT, WIDTH = 2, 3, 8, 800, 16, 24
TIMES, TOKENS, ROWS, COLUMNS, HEADS = 4, 5, 2, 3, 4

# Maps begin where the encoders end: these are as short as can be.
VIDEO_LAYERS = (("conv", 8, (3, 3, 3), (2, 4, 4)), ("pool", (1, 2, 2), (1, 2, 2)))
AUDIO_LAYERS = (("conv", 16, (25,), (20,)), ("pool", (8,), (8,)))
OTHER = dict(attention="aga", positions="learned", num_heads=2)  # than tiny_config's


@functools.cache
def make_net(**settings):
    model = tiny_config.get_config().model
    model.video.layers, model.audio.layers = VIDEO_LAYERS, AUDIO_LAYERS
    model.update(settings)
    return AvsNet(FrozenConfigDict(model))


@functools.cache
def inputs():
    rng = np.random.default_rng(0)
    video = rng.integers(0, 256, (B, T, HEIGHT, WIDTH, 3)).astype(np.uint8)
    audio = rng.integers(-8000, 8000, (B, K, S, 2)).astype(np.int16)
    return video, audio


@functools.cache
def variables_of(net):
    init = functools.partial(net.init, train=False, **RATES)
    return fake_variables.draw(jax.eval_shape(init, jax.random.key(0), *inputs()))


@functools.cache
def run(**settings):
    """A network, its variables, logits and intermediates."""
    net = make_net(**settings)
    variables = variables_of(net)
    return net, variables, *jax.jit(functools.partial(net.apply, train=False, **RATES))(variables, *inputs())


def logits_from_map(net, variables, video_map, audio_tokens, out):
    @jax.jit
    def apply(*args):
        return net.apply(variables, *args, out["video/times"], out["audio/times"], method="logits_from_map")

    return apply(video_map, audio_tokens)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_maps_are_of_every_audio_moment_and_location(dtype):
    net = make_net(dtype=dtype)
    variables = variables_of(net)

    def all_maps():
        _, out = net.apply(variables, *inputs(), train=False, **RATES)
        return {name: method.find(net, variables, out) for name, method in net.map_methods().items()}

    shapes = jax.eval_shape(all_maps)
    assert {name: x.shape for name, x in shapes.items()} == {
        "cam": (B, K, TIMES, ROWS, COLUMNS),
        "attention": (B, K, HEADS, TIMES, ROWS, COLUMNS),
        "similarity": (B, K, TIMES, ROWS, COLUMNS),
        "alignment": (B, K, TIMES, ROWS, COLUMNS),
    }
    assert {x.dtype for x in shapes.values()} == {jnp.dtype("float32")}


def test_class_activation_of_a_gap_linear_head_is_zhous_cam():
    rng = np.random.default_rng(1)
    video_map = rng.normal(size=(B, 3, 4, 5, 6)).astype(np.float32)
    weights = rng.normal(size=(6, K)).astype(np.float32)
    bias = np.float32(0.7)

    def logits_of(x):
        return x.mean(axis=(1, 2, 3)) @ weights + bias

    activation = maps.class_activation(logits_of, jnp.asarray(video_map))
    zhou = np.einsum("ck,bthwc->bkthw", weights, video_map)
    np.testing.assert_allclose(activation, zhou, atol=1e-5)
    np.testing.assert_allclose(activation.mean(axis=(2, 3, 4)) + bias, logits_of(video_map), atol=1e-5)


@pytest.mark.parametrize("settings", [dict(), OTHER])
def test_logits_go_on_from_the_map(settings):
    net, variables, logits, out = run(**settings)
    again = logits_from_map(net, variables, out["video/map"], out["audio/tokens"], out)
    np.testing.assert_allclose(again, logits, atol=1e-5)


def test_cam_is_what_the_logit_loses_when_a_location_is_dimmed():
    net, variables, _, out = run()
    clip, step = 1, 0.01
    cam = jax.jit(lambda variables: avs_net.cam(net, variables, out)[clip])(variables)
    locations = [(0, 0, 0), (1, 1, 2), (2, 0, 1), (3, 1, 0)]
    copies = np.repeat(np.asarray(out["video/map"])[clip : clip + 1], 1 + len(locations), axis=0)
    for copy, location in zip(copies[1:], locations, strict=True):
        copy[location] *= 1 - step
    audio_tokens = np.repeat(np.asarray(out["audio/tokens"])[clip : clip + 1], len(copies), axis=0)
    logits = logits_from_map(net, variables, copies, audio_tokens, out)
    slopes_LxK = (logits[0] - logits[1:]) / step
    expected = np.stack([cam[:, *location] for location in locations])
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(TIMES * ROWS * COLUMNS * slopes_LxK, expected, rtol=0.02, atol=0.005)


@pytest.mark.parametrize("settings", [dict(), OTHER])
def test_attention_logits_average_to_the_networks_own(settings):
    net, variables, _, out = run(**settings)
    logits = maps.attention_logits(net, variables, out)
    assert logits.shape == (B, K, net.config.num_heads, TOKENS, TIMES, ROWS, COLUMNS)
    assert logits.std(axis=(-2, -1)).mean() > 0.005  # Locations differ.
    weights = out["co_attention/0/video/guided/weights"]
    np.testing.assert_allclose(jax.nn.log_softmax(logits.mean(axis=(-2, -1))), np.log(weights), atol=1e-5)


def test_a_locations_attention_logits_are_those_of_a_picture_that_is_like_it_everywhere():
    net, variables, _, out = run()
    logits = maps.attention_logits(net, variables, out)

    def weights_of(net, video_map):
        backbone = net.backbone
        video = backbone.video_positions(backbone.video_encoder.tokens_of(video_map), out["video/times"])
        audio = backbone.audio_positions(out["audio/tokens"].reshape(B * K, TOKENS, -1), out["audio/times"])
        _, _, blocks = backbone.co_attend_pairs(video, audio.reshape(B, K, TOKENS, -1), train=False)
        return blocks["0/video/guided/weights"]

    apply = jax.jit(functools.partial(net.apply, method=weights_of))
    for row, column in [(0, 0), (1, 2)]:
        location = out["video/map"][:, :, row : row + 1, column : column + 1]
        expected = np.log(apply(variables, jnp.broadcast_to(location, out["video/map"].shape)))
        np.testing.assert_allclose(jax.nn.log_softmax(logits[..., row, column]), expected, atol=1e-5)


def test_attention_is_what_audio_guides_weighted_by_the_queries_that_attend():
    net, variables, _, out = run()
    logits = np.asarray(maps.attention_logits(net, variables, out))
    weights = np.asarray(out["co_attention/0/video/guided/weights"])
    expected = np.zeros((B, K, HEADS, TIMES, ROWS, COLUMNS))
    for b, k, head, t in np.ndindex(B, K, HEADS, TIMES):
        for query in range(TOKENS):
            guided = logits[b, k, head, query] - logits[b, k, head].mean(axis=0)
            relative = guided[t] - guided.mean()
            share = weights[b, k, head, query, t] / weights[b, k, head, :, t].sum()
            expected[b, k, head, t] += share * relative
    attention = maps.attention(net, variables, out)
    np.testing.assert_allclose(attention, expected, atol=1e-5)
    combined = sum(np.maximum(expected[:, :, head], 0) for head in range(HEADS)) / HEADS
    np.testing.assert_allclose(maps.combine_heads(attention), combined, atol=1e-5)


@pytest.mark.parametrize("settings", [dict(attention="vga"), dict(depth=0)])
def test_no_attention_map_where_audio_guides_none(settings):
    known = make_net(**settings).map_methods()
    assert known.keys() == {"cam", "similarity", "alignment"}


@pytest.mark.parametrize("whole_clip", [False, True])
def test_similarity_is_a_cosine_with_the_same_moment(whole_clip):
    net, variables, _, out = run()
    fc = variables["params"]["backbone"]["video_encoder"]["fc"]
    audio, video = np.asarray(out["audio/tokens"], np.float64), np.asarray(out["video/map"], np.float64)
    expected = np.zeros((B, K, TIMES, ROWS, COLUMNS))
    for b, k, t, row, column in np.ndindex(*expected.shape):
        seen = video[b, t, row, column] @ fc["kernel"] + fc["bias"]
        nearest = min(range(TOKENS), key=lambda m: abs(out["audio/times"][m] - out["video/times"][t]))
        heard = audio[b, k].mean(axis=0) if whole_clip else audio[b, k, nearest]
        expected[b, k, t, row, column] = seen @ heard / np.linalg.norm(seen) / np.linalg.norm(heard)
    np.testing.assert_allclose(maps.similarity(net, variables, out, whole_clip=whole_clip), expected, atol=1e-5)


def test_alignment_is_the_dot_product_with_the_same_moment_less_that_with_all():
    net, variables, _, out = run()
    fc = variables["params"]["backbone"]["video_encoder"]["fc"]
    audio, video = np.asarray(out["audio/tokens"], np.float64), np.asarray(out["video/map"], np.float64)
    audio /= np.linalg.norm(audio, axis=-1, keepdims=True)
    nearest = [min(range(TOKENS), key=lambda m: abs(out["audio/times"][m] - t)) for t in out["video/times"]]
    expected = np.zeros((B, K, TIMES, ROWS, COLUMNS))
    for b, k, t, row, column in np.ndindex(*expected.shape):
        seen = video[b, t, row, column] @ fc["kernel"] + fc["bias"]
        expected[b, k, t, row, column] = seen @ audio[b, k, nearest[t]] - np.mean([seen @ a for a in audio[b, k]])
    alignment = maps.alignment(net, variables, out)
    np.testing.assert_allclose(alignment, expected, atol=1e-5)
    # The mean over space is what the video's own token gives.
    tokens = np.asarray(out["video/tokens"], np.float64)
    own = np.einsum("btd,bktd->bkt", tokens, audio[:, :, nearest] - audio.mean(axis=2, keepdims=True))
    assert abs(own).max() > 0.05
    np.testing.assert_allclose(alignment.mean(axis=(-2, -1)), own, atol=1e-5)


def test_where_all_moments_sound_alike_nothing_speaks_for_a_sound():
    net, variables, _, out = run()
    same = jnp.broadcast_to(out["audio/tokens"][:, :, :1], out["audio/tokens"].shape)
    np.testing.assert_allclose(maps.alignment(net, variables, {**out, "audio/tokens": same}), 0, atol=1e-5)


def test_upsample_is_bilinear():
    x = np.random.default_rng(2).normal(size=(B, K, 2, 3, 4)).astype(np.float32)
    larger = maps.upsample(x, (12, 10))
    np.testing.assert_allclose(larger, jax.image.resize(x, (B, K, 2, 12, 10), "linear"), atol=1e-5)

    # A ramp that is 10 times where a location looks is so at every pixel between the first and the last.
    centres = np.array([0.3, 0.6, 0.9]), np.array([0.25, 0.5])
    ramp = 10 * (centres[0][:, None] + centres[1])
    ys, xs = (np.arange(20) + 0.5) / 20, (np.arange(8) + 0.5) / 8
    expected = 10 * (np.clip(ys, 0.3, 0.9)[:, None] + np.clip(xs, 0.25, 0.5))
    np.testing.assert_allclose(maps.upsample(ramp, (20, 8), centres), expected, atol=1e-5)
