"""Contrast of clips, against plain loops in float64; on several devices; what the compiler makes of a large batch."""

import collections
import functools
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cmav.tasks import contrast
from tests import commands
from tests.tasks import contrast_on_devices
from tests.tasks.contrast_on_devices import TEMPERATURE, case

EPSILON = 1e-6  # under the root of a length


def unit(x):
    return np.array([row / math.sqrt(sum(row**2) + EPSILON) for row in np.asarray(x, np.float64)])


def float32(tree):
    return jax.tree.map(np.float32, tree)


def reference(video, audio, temperature, weight, queue, negatives, within_weight=0.5):
    """One anchor at a time, one negative at a time."""
    z = {"video": unit(video), "audio": unit(audio)}
    rows = [i for i in range(len(video)) if weight[i]]
    past = [k for k in range(len(queue["weight"])) if queue["weight"][k]] if queue else []

    def loss(anchor, others):
        total = 0.0
        for i in rows:
            positive = math.exp(z["video"][i] @ z["audio"][i] / temperature)
            below = positive
            for other in others:
                below += sum(math.exp(z[anchor][i] @ z[other][j] / temperature) for j in rows if j != i)
                below += sum(math.exp(z[anchor][i] @ queue[other][k] / temperature) for k in past)
            total -= math.log(positive / below)
        return total / len(rows)

    if negatives == "within":
        return (loss("video", ["audio", "video"]) + loss("audio", ["video", "audio"])) / 2
    across = (loss("video", ["audio"]) + loss("audio", ["video"])) / 2
    if negatives == "none":
        return across
    return across + within_weight * (loss("video", ["video"]) + loss("audio", ["audio"])) / 2


def reference_gradients(video, audio, temperature, *more):
    """Central differences, in float64, by every number of video and audio, and by the logarithm of the temperature."""
    step = 1e-5
    gradients = [np.zeros_like(video), np.zeros_like(audio), np.zeros(())]
    points = [video, audio, np.array(math.log(temperature))]
    for gradient, point in zip(gradients, points, strict=True):
        for place in np.ndindex(point.shape):
            ends, middle = [], point[place]
            for end in (step, -step):
                point[place] = middle + end
                ends.append(reference(points[0], points[1], math.exp(points[2]), *more))
            point[place] = middle
            gradient[place] = (ends[0] - ends[1]) / (2 * step)
    return gradients


def assert_gradients_close(found, expected):
    for x, y in zip(found, expected, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6 * np.abs(y).max())


def arguments(case):
    return case["video"], case["audio"], TEMPERATURE, case["weight"], case["queue"]


@pytest.mark.parametrize("negatives", contrast.NEGATIVES)
@pytest.mark.parametrize("has_queue", [False, True])
@pytest.mark.parametrize("is_masked", [False, True])
def test_loss_and_gradients_agree_with_numpy_float64(negatives, has_queue, is_masked):
    """Also the temperature's, as if it were learned. The queue is filled in part."""
    inputs = case(6, 4, 5)
    inputs["queue"] = inputs["queue"] if has_queue else None
    inputs["weight"] = inputs["weight"] if is_masked else np.ones(6)
    video, audio, temperature, weight, queue = arguments(inputs)
    inputs = float32((video, audio, math.log(temperature), weight, queue))
    (loss, _), gradients = contrast_on_devices.gradients(negatives)(*inputs)
    assert loss.dtype == jnp.float32 and loss.shape == ()
    np.testing.assert_allclose(loss, reference(video, audio, temperature, weight, queue, negatives), rtol=1e-5)
    expected = reference_gradients(video, audio, temperature, weight, queue, negatives)
    assert_gradients_close(gradients, expected)


def test_parts_add_up_to_the_loss():
    inputs = float32(case(6, 4, 5))
    for negatives in contrast.NEGATIVES:
        loss, parts = contrast.info_nce(
            inputs["video"], inputs["audio"], temperature=0.1, negatives=negatives, within_weight=0.5
        )
        factors = {"video_to_audio_loss": 0.5, "audio_to_video_loss": 0.5}
        if negatives == "separate":
            factors |= {"video_to_video_loss": 0.25, "audio_to_audio_loss": 0.25}
        assert parts.keys() == factors.keys()
        np.testing.assert_allclose(loss, sum(factors[key] * part for key, part in parts.items()), rtol=1e-6)


def test_bfloat16_embeddings_are_compared_in_float32():
    inputs = case(6, 4, 5)
    video, audio = (jnp.asarray(inputs[key], jnp.bfloat16) for key in ("video", "audio"))
    loss, _ = contrast.info_nce(video, audio, temperature=0.1)
    assert loss.dtype == jnp.float32
    rounded = (np.asarray(x, np.float64) for x in (video, audio))
    np.testing.assert_allclose(loss, reference(*rounded, 0.1, np.ones(6), None, "within"), rtol=1e-5)


def test_products_are_exact_on_every_device():
    """Read from what JAX hands to the compiler, as in tests/models/test_precision.py."""
    inputs = float32(case(6, 4, 5))
    text = contrast_on_devices.gradients("separate").lower(*arguments(inputs)).as_text()
    products = [line for line in text.splitlines() if "stablehlo.dot_general" in line]
    assert len(products) > 20
    assert all("precision = [HIGHEST, HIGHEST]" in line for line in products)


@pytest.mark.parametrize("negatives", contrast.NEGATIVES)
def test_rows_that_do_not_count_might_as_well_not_be_there(negatives):
    inputs = float32(case(6, 4, 5))
    counts = inputs["weight"] > 0
    for key in ("video", "audio"):
        inputs[key][~counts] = np.nan
    gradients = contrast_on_devices.gradients(negatives)
    (loss, (metrics, queue)), by_input = gradients(*arguments(inputs))
    kept = inputs | {key: inputs[key][counts] for key in ("video", "audio", "weight")}
    (kept_loss, (kept_metrics, kept_queue)), by_kept = gradients(*arguments(kept))
    np.testing.assert_allclose(loss, kept_loss, rtol=1e-6)
    for gradient, kept_gradient in zip(by_input[:2], by_kept[:2], strict=True):
        np.testing.assert_array_equal(gradient[~counts], 0)
        np.testing.assert_allclose(gradient[counts], kept_gradient, rtol=1e-5, atol=1e-7)
    for key in metrics:
        np.testing.assert_allclose(metrics[key], kept_metrics[key], rtol=1e-5)
    for key in queue:
        np.testing.assert_allclose(queue[key], kept_queue[key], rtol=1e-6)


@pytest.mark.parametrize("negatives", contrast.NEGATIVES)
@pytest.mark.parametrize("has_queue", [False, True])
def test_a_batch_without_any_sound_costs_nothing(negatives, has_queue):
    inputs = float32(case(6, 4, 5)) | {"weight": np.zeros(6, np.float32)}
    inputs["queue"] = inputs["queue"] if has_queue else None
    (loss, (metrics, queue)), gradients = contrast_on_devices.gradients(negatives)(*arguments(inputs))
    assert loss == 0
    assert not any(np.any(gradient) for gradient in gradients)
    assert not any(metrics.values())
    assert not contrast.has_collapsed(metrics)
    if has_queue:
        np.testing.assert_array_equal(queue["audio"][2:], inputs["queue"]["audio"][2:])  # Before it, two empty places.


def test_an_empty_queue_is_no_negative():
    inputs = float32(case(6, 4, 5))
    losses = [
        contrast.info_nce(inputs["video"], inputs["audio"], temperature=0.1, queue=queue)[0]
        for queue in (None, contrast.queue_init(5, 4))
    ]
    np.testing.assert_allclose(*losses, rtol=1e-6)


def test_the_queue_and_what_enters_it_get_no_gradient():
    inputs = float32(case(6, 4, 5))

    def loss(queue, video):
        queue = contrast.enqueue(queue, video, inputs["audio"][:1])
        return contrast.info_nce(inputs["video"], inputs["audio"], temperature=0.1, queue=queue)[0]

    by_queue, by_video = jax.grad(loss, argnums=(0, 1))(inputs["queue"], inputs["video"][:1])
    assert not np.any(by_video) and not any(map(np.any, by_queue.values()))


def test_the_order_of_clips_does_not_matter():
    inputs = float32(case(6, 4, 5))
    order = np.array([3, 0, 5, 1, 4, 2])
    shuffled = inputs | {key: inputs[key][order] for key in ("video", "audio", "weight")}
    gradients = contrast_on_devices.gradients("within")
    (loss, (metrics, _)), by_input = gradients(*arguments(inputs))
    (other_loss, (other_metrics, _)), by_shuffled = gradients(*arguments(shuffled))
    np.testing.assert_allclose(loss, other_loss, rtol=1e-6)
    for gradient, other in zip(by_input[:2], by_shuffled[:2], strict=True):
        np.testing.assert_allclose(gradient[order], other, rtol=1e-5, atol=1e-7)
    for key in metrics:
        np.testing.assert_allclose(metrics[key], other_metrics[key], rtol=1e-5)


def test_unknown_kinds_are_refused():
    x = jnp.eye(3)
    with pytest.raises(ValueError, match=r"'both'.*none, within, separate"):
        contrast.info_nce(x, x, temperature=0.1, negatives="both")
    with pytest.raises(ValueError, match=r"'js'.*kl, l2"):
        contrast.consistency(x, x, "js")


@functools.cache
def on_devices(what, count, folder):
    out = folder / f"{what}_{count}.json"
    commands.run(
        "-m",
        "tests.tasks.contrast_on_devices",
        what,
        out,
        **commands.devices(count),
    )
    found = json.loads(out.read_text())
    assert found.pop("devices") == count
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("contrast")


@pytest.mark.parametrize("count", [1, 8])
def test_the_number_of_devices_changes_nothing(folder, count):
    """Loss and gradients are those of NumPy's float64; diagnostics and queue are those of one device."""
    found, single = on_devices("values", count, folder), on_devices("values", 1, folder)
    video, audio, *more = arguments(case(16, 6, 10))
    for negatives in contrast.NEGATIVES:
        (loss, (metrics, queue)), gradients = found[negatives]
        np.testing.assert_allclose(loss, reference(video, audio, *more, negatives), rtol=1e-5)
        assert_gradients_close(gradients, reference_gradients(video, audio, *more, negatives))
        _, (single_metrics, single_queue) = single[negatives][0]
        for key in metrics:
            np.testing.assert_allclose(metrics[key], single_metrics[key], rtol=1e-5)
        for key in queue:
            np.testing.assert_allclose(queue[key], single_queue[key], rtol=1e-6)


def test_no_device_of_32_holds_all_similarities_of_a_batch_of_4096(folder):
    """On one device they are there, so they would be seen. `pytest -s` shows the bytes."""
    single, many = (on_devices("programs", count, folder) for count in (1, 32))
    size = contrast_on_devices.BATCH_SIZE
    for name in many:
        print(f"{name}: {single[name]['bytes'] / 1e6:,.0f} MB on one device, {many[name]['bytes'] / 1e6:,.0f} on 32")
        assert single[name]["largest"] >= size**2
        assert many[name]["largest"] <= size**2 // 32
        assert many[name]["bytes"] < single[name]["bytes"] / 16


@pytest.mark.parametrize("batch_size", [2, 3, 7])
def test_the_queue_is_first_in_first_out(batch_size):
    """Of size 5; clips that do not count never enter; of a batch of 7 the newest stay."""
    rng = np.random.default_rng(0)
    enqueue, queue, expected = jax.jit(contrast.enqueue), contrast.queue_init(5, 4), collections.deque(maxlen=5)
    for step in range(6):
        video, audio = rng.normal(size=(2, batch_size, 4))
        weight = (rng.uniform(size=batch_size) < 0.7).astype(np.float32)
        queue = enqueue(queue, np.float32(video), np.float32(audio), weight)
        rows = zip(unit(video), unit(audio), weight, strict=True)
        expected.extend((v, a) for v, a, counts in rows if counts)
        assert {key: (x.shape, x.dtype) for key, x in queue.items()} == {
            "video": ((5, 4), jnp.float32),
            "audio": ((5, 4), jnp.float32),
            "weight": ((5,), jnp.float32),
        }
        filled = len(expected)
        assert filled, step
        np.testing.assert_array_equal(queue["weight"], [0] * (5 - filled) + [1] * filled)
        for key, rows in zip(("video", "audio"), zip(*expected, strict=True), strict=True):
            np.testing.assert_allclose(queue[key][5 - filled :], rows, rtol=1e-5)


def softmax(logits):
    return np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("kind", contrast.CONSISTENCIES)
def test_consistency_agrees_with_numpy_float64(kind):
    rng = np.random.default_rng(0)
    target, pure = 3 * rng.normal(size=(2, 4, 3, 5))
    weight = np.array([1, 0, 1, 1])

    def expected(pure):
        t, p = softmax(target), softmax(pure)
        each = t * np.log(t / p) if kind == "kl" else (t - p) ** 2
        return each.sum(axis=-1)[weight > 0].mean()

    spoilt = np.where(weight[:, None, None] > 0, target, np.nan)
    found, (by_target, by_pure) = jax.value_and_grad(contrast.consistency, argnums=(0, 1))(
        jnp.float32(spoilt), jnp.float32(pure), kind, jnp.asarray(weight)
    )
    np.testing.assert_allclose(found, expected(pure), rtol=1e-5)
    assert not np.any(by_target)
    for place in np.ndindex(pure.shape):
        step = np.zeros_like(pure)
        step[place] = 1e-5
        slope = (expected(pure + step) - expected(pure - step)) / 2e-5
        np.testing.assert_allclose(by_pure[place], slope, rtol=1e-5, atol=1e-7)
    assert contrast.consistency(pure, pure, kind) < 1e-6
    assert contrast.consistency(target, pure, kind, jnp.zeros(4)) == 0


def test_diagnostics_agree_with_numpy_float64():
    inputs = case(12, 4, 5)
    found = contrast.diagnostics(*float32((inputs["video"], inputs["audio"], inputs["weight"])))
    rows = np.flatnonzero(inputs["weight"])
    video, audio = unit(inputs["video"])[rows], unit(inputs["audio"])[rows]
    n = range(len(rows))
    expected = {
        "rows": 10,
        "positive_cosine": np.mean([video[i] @ audio[i] for i in n]),
        "alignment": np.mean([sum((video[i] - audio[i]) ** 2) for i in n]),
    }
    for key, x, other, y in (("video", video, "audio", audio), ("audio", audio, "video", video)):
        nearness = [math.exp(-2 * sum((x[i] - x[j]) ** 2)) for i in n for j in n if i != j]
        expected[f"{key}_uniformity"] = math.log(np.mean(nearness))
        cosines = [x[i] @ x[j] for i in n for j in n if i != j]
        expected[f"{key}_rms_cosine"] = math.sqrt(np.mean(np.square(cosines)))
        expected[f"{key}_spread"] = np.mean(np.std(x, axis=0)) * 2
        expected[f"{key}_to_{other}_top1"] = np.mean([np.argmax([x[i] @ y[j] for j in n]) == i for i in n])
    assert 0 < expected["video_to_audio_top1"] < 1 and found.keys() == expected.keys()
    for key in found:
        np.testing.assert_allclose(found[key], expected[key], rtol=2e-5, err_msg=key)


def test_collapse_is_seen_in_one_modality():
    rng = np.random.default_rng(0)
    spread = rng.normal(size=(256, 32))
    point = rng.normal(size=(1, 32)) + 0.02 * rng.normal(size=(256, 32))
    healthy = contrast.diagnostics(jnp.float32(spread), jnp.float32(spread))
    np.testing.assert_allclose(healthy["video_spread"], 1, atol=0.01)
    np.testing.assert_allclose(healthy["video_to_audio_top1"], 1)
    assert healthy["video_uniformity"] < -3.5 and not contrast.has_collapsed(healthy)
    for pair in ((spread, point), (point, spread)):
        assert contrast.has_collapsed(contrast.diagnostics(*map(jnp.float32, pair)))
    line = np.sign(rng.normal(size=(256, 1))) * point  # as standardised over the batch it may be
    opposite = contrast.diagnostics(jnp.float32(spread), jnp.float32(line))
    assert opposite["audio_spread"] > 0.8 and contrast.has_collapsed(opposite)
    one = contrast.diagnostics(jnp.float32(spread[:1]), jnp.float32(spread[:1]))
    assert one["rows"] == 1 and not contrast.has_collapsed(one)


def test_embeddings_that_are_all_the_same_find_nothing():
    same = jnp.zeros((8, 4)).at[:, 0].set(1)
    found = contrast.diagnostics(same, same)
    assert found["video_to_audio_top1"] == found["audio_to_video_top1"] == 0
    assert found["video_uniformity"] == pytest.approx(0, abs=1e-5)
    assert contrast.has_collapsed(found)
