import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import FrozenConfigDict

from cmav import config as cmav_config
from cmav.errors import UserError
from cmav.models import encoders
from tests.models import fake_variables, reference

NAMES = ("r2plus1d_18", "r3d_18")
RATE = 10.0


def make_encoder(name, remat="none", **settings):
    model = cmav_config.get_default().model
    model.video = cmav_config.encoder("video", name, **settings)
    model.update(dtype="float32", remat=remat, hidden_size=4)
    return encoders.video(FrozenConfigDict(model))


def shapes_of(encoder, frames):
    return jax.eval_shape(functools.partial(encoder.init, rate=RATE, train=False), jax.random.key(0), frames)


def draw_frames(*shape):
    return np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)


def encode(encoder, variables, frames):
    return jax.jit(lambda frames: encoder.apply(variables, frames, rate=RATE, train=False)[1])(frames)


@pytest.mark.parametrize(("name", "published"), [("r2plus1d_18", 31_505_325), ("r3d_18", 33_371_472)])
def test_there_are_as_many_parameters_as_torchvision_publishes(name, published):
    params = shapes_of(make_encoder(name), jax.ShapeDtypeStruct((1, 8, 112, 112, 3), jnp.uint8))["params"]
    del params["fc"]
    classifier = 512 * 400 + 400
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) + classifier == published


def norm(x, variables):
    params, stats = variables["params"]["norm"], variables["batch_stats"]["norm"]
    return (x - stats["mean"]) / np.sqrt(stats["var"] + 1e-3) * params["scale"] + params["bias"]


def convolve(x, variables, kernel_size, strides):
    kernel = variables["params"]["kernel"]
    assert kernel.shape[:3] == kernel_size
    return norm(reference.conv(x, kernel, strides), variables)


def plain_block(x, variables, convolutions, centres):
    """`centres` are slices of time, height and width: what the first convolution, if it has strides, is centred on."""
    y = x
    for i, (kernel_size, strides) in enumerate(convolutions):
        y = convolve(y, at(variables, f"conv_{i}"), kernel_size, strides)
        y = np.maximum(y, 0) if i < len(convolutions) - 1 else y
    x = x[:, *centres]
    if "shortcut" in variables["params"]:
        x = convolve(x, at(variables, "shortcut"), (1, 1, 1), (1, 1, 1))
    return np.maximum(x + y, 0)


def at(variables, name):
    return {collection: tree[name] for collection, tree in variables.items()}


SPACE, TIME, BOTH = (1, 3, 3), (3, 1, 1), (3, 3, 3)
CONVOLUTIONS = {
    "r2plus1d_18": (
        [((1, 7, 7), (1, 2, 2)), (TIME, (1, 1, 1))],
        [(SPACE, (1, 1, 1)), (TIME, (1, 1, 1))] * 2,
        [(SPACE, (1, 2, 2)), (TIME, (2, 1, 1)), (SPACE, (1, 1, 1)), (TIME, (1, 1, 1))],
    ),
    "r3d_18": ([((3, 7, 7), (1, 2, 2))], [(BOTH, (1, 1, 1))] * 2, [(BOTH, (2, 2, 2)), (BOTH, (1, 1, 1))]),
}


@pytest.mark.parametrize("name", NAMES)
def test_every_layer_agrees_with_plain_loops(name):
    encoder = make_encoder(name, width=3, blocks=(1, 1), stride=4)
    frames = draw_frames(2, 4, 11, 8)
    variables = fake_variables.draw(shapes_of(encoder, frames))
    out = encode(encoder, variables, frames)

    stem, first, second = CONVOLUTIONS[name]
    x = frames / 127.5 - 1
    for i, convolution in enumerate(stem):
        x = np.maximum(convolve(x, at(at(variables, "layer_0"), f"conv_{i}"), *convolution), 0)
    np.testing.assert_allclose(out["layer_0"], x, atol=1e-5)
    x = plain_block(x, at(variables, "layer_1"), first, (slice(None),) * 3)
    np.testing.assert_allclose(out["layer_1"], x, atol=1e-5)
    # Of 4 moments, 6 rows and 4 columns: with SAME padding all zeros are after them.
    x = plain_block(x, at(variables, "layer_2"), second, (slice(1, None, 2),) * 3)
    np.testing.assert_allclose(out["layer_2"], x, atol=1e-5)
    assert np.std(x) > 0.01  # Not all is cut off by the ReLUs.
    np.testing.assert_array_equal(out["map"], out["layer_2"])
    assert "shortcut" in variables["params"]["layer_2"] and "shortcut" not in variables["params"]["layer_1"]
    np.testing.assert_allclose(
        out["tokens"], reference.dense(x.mean(axis=(2, 3)), variables["params"]["fc"]), atol=1e-5
    )


@pytest.mark.parametrize(("name", "size"), [("r2plus1d_18", (32, 48)), ("r2plus1d_18", (37, 30)), ("r3d_18", (50, 33))])
def test_a_finer_map_has_the_same_values_at_the_same_centres(name, size):
    settings = dict(width=2, blocks=(1, 2, 1))
    frames = draw_frames(1, 5, *size)
    coarse = make_encoder(name, stride=8, **settings)
    variables = fake_variables.draw(shapes_of(coarse, frames))
    out, centres = encode(coarse, variables, frames), coarse.places(size)
    assert np.std(out["map"]) > 0.01
    for stride in (2, 4):
        fine = make_encoder(name, stride=stride, **settings)
        assert dict(coarse.finer(stride)) == dict(fine.settings) and fine.stride == stride
        assert shapes_of(fine, frames) == shapes_of(coarse, frames)
        fine_out = encode(fine, variables, frames)
        assert fine_out["map"].shape[2:4] == tuple(-(-length // stride) for length in size)
        same = []
        for fine_centres, coarse_centres in zip(fine.places(size), centres, strict=True):
            distances = abs(coarse_centres[:, None] - fine_centres)
            assert distances.min(axis=1).max() < 1e-9
            same.append(distances.argmin(axis=1))
        np.testing.assert_allclose(fine_out["map"][:, :, same[0]][:, :, :, same[1]], out["map"], atol=1e-5)
        np.testing.assert_array_equal(fine_out["times"], out["times"])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("stride", [8, 4])
def test_places_and_times_are_those_of_receptive_fields_found_by_gradients(name, stride):
    encoder = make_encoder(name, width=2, blocks=(1, 1, 1), stride=stride)
    frames = np.full((1, 40, 80, 72, 3), 255, np.float32)
    # Where everything is positive no ReLU is off, and a gradient of 0 means that the input is out of reach.
    variables = jax.tree.map(lambda leaf: np.full(leaf.shape, 0.5, np.float32), shapes_of(encoder, frames))
    place = (4, 40 // stride, 36 // stride)  # Far enough from the borders to see only picture.

    def value(frames):
        return encoder.apply(variables, frames, rate=RATE, train=False)[1]["map"][0, *place].sum()

    field = np.asarray(jax.jit(jax.grad(value))(frames))[0].any(axis=-1)
    rows, columns = encoder.places(frames.shape[2:4])
    found = []
    for axis in range(3):
        seen = np.flatnonzero(field.any(axis=tuple({0, 1, 2} - {axis})))
        assert seen[0] > 0 and seen[-1] < field.shape[axis] - 1
        found.append((seen[0] + seen[-1]) / 2)
    np.testing.assert_allclose(encoder.times(40, RATE)[place[0]], found[0] / RATE)
    np.testing.assert_allclose([rows[place[1]], columns[place[2]]], (np.array(found[1:]) + 0.5) / (80, 72))


def test_remat_changes_neither_values_nor_names():
    frames = draw_frames(2, 2, 8, 8)
    results = []
    for remat, layers_again in (("none", 0), ("stem", 1), ("encoders", 3)):
        encoder = make_encoder("r2plus1d_18", remat, width=2, blocks=(1, 1), stride=4)
        variables = fake_variables.draw(shapes_of(encoder, frames))

        def loss(params, encoder=encoder, variables=variables):
            variables = {**variables, "params": params}
            (tokens, _), changed = encoder.apply(variables, frames, rate=RATE, train=True, mutable=["batch_stats"])
            return (tokens**2).sum(), changed

        step = jax.value_and_grad(loss, has_aux=True)
        results.append(jax.jit(step)(variables["params"]))
        program = str(jax.make_jaxpr(step)(variables["params"]))
        assert len(re.findall(r"\b(?:remat2?|checkpoint)\[", program)) == layers_again
    for other in results[1:]:
        assert jax.tree.structure(other) == jax.tree.structure(results[0])
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3), other, results[0])


def test_masked_rows_are_in_no_statistics():
    encoder = make_encoder("r3d_18", width=2, blocks=(1, 1), stride=4)
    frames = draw_frames(3, 2, 8, 8)
    variables = fake_variables.draw(shapes_of(encoder, frames))

    @jax.jit
    def statistics(frames, mask):
        changed = encoder.apply(variables, frames, rate=RATE, train=True, mask=mask, mutable=["batch_stats"])[1]
        return changed["batch_stats"]

    masked = statistics(frames, np.array([True, False, True]))
    alone = statistics(frames[::2], np.array([True, True]))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), masked, alone)
    changes = jax.tree.map(lambda a, b: abs(a - b).max(), masked, variables["batch_stats"])
    assert min(jax.tree.leaves(changes)) > 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(width=0), r"config.model.video.width=0 must be"),
        (dict(blocks=(2, 0)), r"config.model.video.blocks=\(2, 0\) must be"),
        (dict(blocks=()), r"config.model.video.blocks=\(\) must be"),
        (dict(stride=12), r"config.model.video.stride=12 .*'r3d_18' can have: choose one of 2, 4, 8, 16 "),
        (dict(blocks=(1, 1)), r"config.model.video.stride=16 .*choose one of 2, 4 .*blocks has 2 stages"),
    ],
)
def test_mistakes_are_named(settings, message):
    with pytest.raises(UserError, match=message):
        encoders.check(make_encoder("r3d_18", **settings).config)


def test_a_stride_that_cannot_be_had_is_refused():
    with pytest.raises(UserError, match=r"A stride of 6 pixels .*choose one of 2, 4, 8, 16 "):
        make_encoder("r2plus1d_18").finer(6)
