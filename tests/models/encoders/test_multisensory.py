"""Owens and Efros' layers: their shapes and number, in plain loops, and in finer maps."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import FrozenConfigDict

from cmav import config as cmav_config
from cmav.errors import UserError
from cmav.models import encoders
from cmav.models.fused_backbone import FusedBackbone
from tests.models import fake_variables, reference

# As their network sees 4.2 s: 125 frames at 29.97 Hz, 87,588 samples at 21 kHz.
PAPER = (1, 125, 224, 224, 3), (1, 87_588, 2)


def make_config(width=64, stride=32, **settings):
    model = cmav_config.get_default().model
    model.video = cmav_config.encoder("video", "multisensory", width=width, stride=stride)
    model.audio = cmav_config.encoder("audio", "multisensory", width=width)
    model.update(dtype="float32", **settings)
    return FrozenConfigDict(model)


def run(config, variables, video, audio):
    method = functools.partial(FusedBackbone.features, frame_rate=10.0, sample_rate=1000, train=False)
    return FusedBackbone(config).apply(variables, video, audio, jnp.ones(len(video), bool), method=method)[1]


def shapes_of(config, video, audio):
    method = functools.partial(FusedBackbone.features, frame_rate=10.0, sample_rate=1000, train=False)
    return jax.eval_shape(
        functools.partial(FusedBackbone(config).init, method=method), jax.random.key(0), video, audio, np.ones(1, bool)
    )


@functools.cache
def draw_inputs(num_frames, height, width, num_samples, rows=1):
    rng = np.random.default_rng(0)
    video = rng.integers(0, 256, (rows, num_frames, height, width, 3)).astype(np.uint8)
    return video, rng.integers(-9000, 9000, (rows, num_samples, 2)).astype(np.int16)


@pytest.mark.parametrize(
    ("stride", "last"), [(32, (16, 7, 7, 512)), (16, (16, 14, 14, 512))], ids=["as trained", "as for its maps"]
)
def test_the_published_shapes(stride, last):
    config = make_config(stride=stride)
    inputs = jax.ShapeDtypeStruct(PAPER[0], jnp.uint8), jax.ShapeDtypeStruct(PAPER[1], jnp.int16)
    variables = shapes_of(config, *inputs)
    out = jax.eval_shape(functools.partial(run, config), variables, *inputs)
    assert {key: x.shape[1:] for key, x in out.items()} == {
        "audio/layer_0": (21_897, 64),
        "audio/layer_1": (5_474, 64),
        "audio/layer_2": (1_369, 128),
        "audio/layer_3": (343, 128),
        "audio/layer_4": (86, 256),
        "audio/map": (86, 256),
        "video/layer_0": (63, 112, 112, 64),
        "video/layer_1": (63, 56, 56, 64),
        "video/layer_2": (63, 56, 56, 64),
        "video/layer_3": (32, 28, 28, 64),
        "video/map": (32, 28, 28, 64),
        "fused/merge": (32, 28, 28, 128),
        "fused/layer_0": (32, 28, 28, 128),
        "fused/layer_1": (32, 28, 28, 128),
        "fused/layer_2": (16, 14, 14, 256),
        "fused/layer_3": (16, 14, 14, 256),
        "fused/layer_4": last,
        "fused/layer_5": last,
        "fused/map": last,
    }
    assert variables["params"]["video_encoder"]["fusion"]["merge_0"]["kernel"].shape == (1, 1, 1, 64 + 128, 512)
    counts = {name: sum(x.size for x in jax.tree.leaves(part)) for name, part in variables["params"].items()}
    assert sum(counts.values()) == pytest.approx(36.0e6, rel=0.01)
    fusion = sum(x.size for x in jax.tree.leaves(variables["params"]["video_encoder"]["fusion"]))
    assert counts["video_encoder"] - fusion == pytest.approx(0.49e6, rel=0.01)
    # Theirs counts the sound's last convolution, which is in the fusion here, as the audio's.
    sound = sum(x.size for x in jax.tree.leaves(variables["params"]["video_encoder"]["fusion"]["sound"]))
    assert counts["audio_encoder"] + sound == pytest.approx(2.48e6, rel=0.01)


def at(variables, *names):
    for name in names:
        variables = {collection: tree[name] for collection, tree in variables.items() if name in tree}
    return variables


def norm(x, variables):
    params, stats = variables["params"], variables["batch_stats"]
    return (x - stats["mean"]) / np.sqrt(stats["var"] + 1e-3) * params["scale"] + params["bias"]


def conv(x, variables, strides):
    return reference.conv(x, variables["params"]["kernel"].astype(np.float64), strides)


def conv_norm(x, variables, strides):
    return norm(conv(x, variables, strides), at(variables, "norm"))


def relu(x):
    return np.maximum(x, 0)


def max_windows(x, kernel, strides):
    y = np.zeros((len(x), *(-(-n // s) for n, s in zip(x.shape[1:-1], strides, strict=True)), x.shape[-1]))
    for out, taps in reference.windows(x.shape[1:-1], kernel, strides):
        y[:, *out] = np.max([x[:, *index] for _, index in taps], axis=0)
    return y


def plain_block(x, variables, strides):
    ones = (1,) * len(strides)
    y = relu(conv_norm(x, at(variables, "conv_0"), strides))
    y = conv(y, at(variables, "conv_1"), ones)
    assert "norm" not in variables["params"]["conv_1"]
    shortcut = max_windows(x, ones, strides)
    if "shortcut" in variables["params"]:
        shortcut = conv_norm(shortcut, at(variables, "shortcut"), ones)
    return relu(norm(y + shortcut, at(variables, "norm")))


def plain_network(variables, video, audio):
    """The whole network in NumPy, as its table is written: the map in the end, and that of the sound."""
    x = audio / 32768
    x = np.sign(x) * np.log(1 + 255 * abs(x)) / np.log(256)
    layers = at(variables, "audio_encoder")
    x = relu(conv_norm(x, at(layers, "layer_0"), (4,)))
    x = np.stack([x[:, first : first + 4].max(axis=1) for first in range(0, x.shape[1] - 3, 4)], axis=1)
    for i in (2, 3, 4):
        x = plain_block(x, at(layers, f"layer_{i}"), (4,))
    sound = x

    layers, one = at(variables, "video_encoder"), (1, 1, 1)
    x = relu(conv_norm(video / 127.5 - 1, at(layers, "layer_0"), (2, 2, 2)))
    x = max_windows(x, (1, 3, 3), (1, 2, 2))
    x = plain_block(x, at(layers, "layer_2"), one)
    x = plain_block(x, at(layers, "layer_3"), (2, 2, 2))

    layers = at(layers, "fusion")
    parts = np.array_split(sound, x.shape[1], axis=1)
    assert len({part.shape for part in parts}) == 1  # Of others see the test of `max_of_parts`.
    heard = relu(conv_norm(np.stack([part.max(axis=1) for part in parts], axis=1), at(layers, "sound"), (1,)))
    width = x.shape[-1]
    tiled = np.tile(heard[:, :, None, None], (1, 1, *x.shape[2:4], 1))
    both = np.concatenate([x, tiled], axis=-1)
    y = relu(conv_norm(both, at(layers, "merge_0"), one))
    y = conv(y, at(layers, "merge_1"), one) + np.concatenate([both[..., :width], both[..., -width:]], axis=-1)
    x = relu(norm(y, at(layers, "merge_norm")))
    for i, strides in enumerate([one, one, (2, 2, 2), one, (1, 2, 2), one]):
        x = plain_block(x, at(layers, f"layer_{i}"), strides)
    return x, sound


def test_the_whole_network_agrees_with_plain_loops():
    config = make_config(width=2)
    inputs = draw_inputs(8, 36, 24, 4000, rows=2)
    variables = fake_variables.draw(shapes_of(config, *(x[:1] for x in inputs)))
    out = jax.jit(functools.partial(run, config))(variables, *inputs)
    expected, sound = plain_network(variables, *(x.astype(np.float64) for x in inputs))
    assert sound.shape == (2, 4, 8) and expected.shape == (2, 1, 2, 1, 16)
    np.testing.assert_allclose(out["audio/map"], sound, atol=1e-5)
    np.testing.assert_allclose(out["fused/map"], expected, atol=1e-5)
    assert np.std(expected) > 0.05


# Heights and widths that are even and odd from layer to layer: SAME padding then puts its zeros elsewhere.
@pytest.mark.parametrize("size", [(64, 66), (71, 49)])
def test_a_finer_map_has_the_same_values_at_the_same_centres(size):
    inputs = draw_inputs(5, *size, 2000)
    config = make_config(width=2)
    variables = fake_variables.draw(shapes_of(config, *inputs))
    coarse = jax.jit(functools.partial(run, config))(variables, *inputs)["fused/map"]
    centres = encoders.video(config).places(size)
    assert np.std(coarse) > 0.01
    for stride in (4, 8, 16):
        config = make_config(width=2, stride=stride)
        encoder = encoders.video(config)
        assert encoder.stride == stride
        assert dict(encoders.video(make_config(width=2)).finer(stride)) == dict(config.video)
        fine = jax.jit(functools.partial(run, config))(variables, *inputs)["fused/map"]
        assert fine.shape[2:4] == tuple(-(-length // stride) for length in size)
        same = []
        for fine_centres, coarse_centres in zip(encoder.places(size), centres, strict=True):
            distances = abs(coarse_centres[:, None] - fine_centres)
            assert distances.min(axis=1).max() < 1e-9
            same.append(distances.argmin(axis=1))
        np.testing.assert_allclose(fine[:, :, same[0]][:, :, :, same[1]], coarse, atol=1e-5)


def test_times_of_the_sound_are_those_of_receptive_fields_found_by_the_gradient():
    """10,002 steps of the first layer, of which the pool drops two: with SAME padding all would lie elsewhere."""
    encoder = encoders.audio(make_config(width=1))
    # It rises: of what the pool sees, the last is the greatest. Everything is positive: no ReLU is off.
    samples = jnp.broadcast_to(jnp.linspace(1000.0, 30_000.0, 40_006)[:, None], (1, 40_006, 2))
    variables = jax.eval_shape(functools.partial(encoder.init, rate=1, train=False), jax.random.key(0), samples)
    variables = jax.tree.map(lambda leaf: np.full(leaf.shape, 0.1, np.float32), variables)
    step = 20

    @jax.jit
    @functools.partial(jax.grad, has_aux=True)
    def gradient(samples):
        out = encoder.apply(variables, samples, rate=1, train=False, method="encode")
        return out["map"][0, step].sum(), out["map"]

    seen, whole = gradient(samples)
    times = encoder.times(samples.shape[1], 1.0)
    assert len(times) == whole.shape[1] == 40
    inside = np.flatnonzero(np.asarray(seen).sum(axis=(0, 2)))
    assert inside[0] > 0 and inside[-1] < 40_005
    last_of_four = 1.5 * 4
    assert times[step] == pytest.approx((inside[0] + inside[-1]) / 2 - last_of_four)


@pytest.mark.parametrize(
    ("stream", "settings", "message"),
    [
        ("video", dict(width=0), r"config\.model\.video\.width=0"),
        ("video", dict(stride=12), r"config\.model\.video\.stride=12.*2, 4, 8, 16, 32"),
        ("audio", dict(width=-1), r"config\.model\.audio\.width=-1"),
        ("audio", dict(companding="a_law"), r"config\.model\.audio\.companding='a_law'"),
    ],
)
def test_mistakes_are_named(stream, settings, message):
    model = cmav_config.get_default().model
    model[stream] = cmav_config.encoder(stream, "multisensory", **settings)
    with pytest.raises(UserError, match=message):
        encoders.check(FrozenConfigDict(model))
