"""The task of CMAC: its examples, its loss put together from its parts, its memory, and that it learns."""

import functools

import jax
import numpy as np
import optax
import pytest
import tensorflow as tf

from cmav import config as cmav_config
from cmav import distributed
from cmav.data import schema
from cmav.errors import UserError
from cmav.tasks import contrast, make_task
from cmav.tasks.base import Bands
from cmav.training import train
from tests import fake_clips, tiny_config
from tests.models import fake_variables

SIZE = tiny_config.CLIPS["size"]


def make(**cmac):
    config = tiny_config.get_cmac_config()
    config.cmac.update(cmac)
    return make_task(config, config.phases[0])


def batch_of(task, count, silent=()):
    rng = np.random.default_rng(count)
    shapes = task.batch_shapes(count)
    batch = {key: rng.integers(0, 200, shapes[key].shape).astype(shapes[key].dtype) for key in ("video", "audio")}
    batch["has_audio"] = ~np.isin(np.arange(count), silent)
    return batch


def outputs_of(task, batch, train=True):
    variables = fake_variables.draw(jax.eval_shape(task.init, jax.random.key(0)))
    return jax.jit(functools.partial(task.apply, train=train))(variables, batch, dropout_key=jax.random.key(1))


def loss_of(task, outputs, batch):
    return jax.jit(task.loss)(outputs, batch)


def record_of(clip):
    return schema.parse(tf.constant(schema.encode(clip)))


def example_of(task, clip, seed=(1, 2), *, train):
    example = task.make_example(record_of(clip), tf.constant(seed), tf.constant(0), train=train)
    return {key: x.numpy() for key, x in example.items()}


def test_the_loss_is_the_sum_of_its_parts():
    task = make(video_consistency=0.3, audio_consistency=0.7, consistency="l2", negatives="separate", within_weight=0.5)
    batch = batch_of(task, 6, silent=(2,))
    out, _ = outputs_of(task, batch)
    loss, metrics = loss_of(task, out, batch)
    heard = batch["has_audio"]
    expected, _ = contrast.info_nce(
        out["video/embedding"],
        out["audio/embedding"],
        temperature=0.1,
        negatives="separate",
        within_weight=0.5,
        weight_B=heard.astype(np.float32),
    )
    for stream, weight in (("video", 0.3), ("audio", 0.7)):
        shares = []
        for name in ("guided", "pure"):
            logits = np.asarray(out[f"{stream}/{name}"], np.float64)
            logits = logits.reshape(*logits.shape[:2], -1)
            shares.append(np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True))
        consistency = ((shares[0] - shares[1]) ** 2).sum(axis=-1).mean(axis=1)[heard].mean()
        assert metrics[f"{stream}_consistency"] == pytest.approx(consistency, rel=1e-4)
        expected += weight * consistency
        entropy = -(shares[1] * np.log(shares[1])).sum(axis=-1)[heard].mean() / np.log(shares[1].shape[-1])
        assert metrics[f"{stream}_pure_entropy"] == pytest.approx(entropy, rel=1e-4)
    assert loss == pytest.approx(float(expected), rel=1e-5)


def test_attention_is_drawn_to_the_guided_one_and_not_the_other_way_round():
    """The consistency moves what makes the pure attention alone: the guided one is its target."""
    task = make(negatives="none", pooling="mean")
    batch = batch_of(task, 4)
    variables = fake_variables.draw(jax.eval_shape(task.init, jax.random.key(0)))

    def consistency(params):
        out, _ = task.apply({**variables, "params": params}, batch, train=False)
        return task.loss(out, batch)[1]["video_consistency"]

    gradient = jax.jit(jax.grad(consistency))(variables["params"])
    assert np.abs(gradient["head"]["video"]["scorer"]["kernel"]).max() > 1e-6
    assert not np.any(gradient["head"]["video"]["embedding"]["kernel"])
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(gradient["head"]["audio"]))


def test_the_memory_has_the_clips_before():
    task = make(queue=6)
    variables = fake_variables.draw(jax.eval_shape(task.init, jax.random.key(0)))
    variables["queue"] = contrast.queue_init(6, 8)
    apply = jax.jit(functools.partial(task.apply, train=True))
    losses = []
    for silent in ((1,), ()):
        batch = batch_of(task, 4, silent)
        out, changed = apply(variables, batch, dropout_key=jax.random.key(0))
        losses.append(loss_of(task, out, batch)[1]["contrast_loss"])
        without = {key: x for key, x in out.items() if not key.startswith("queue/")}
        assert (loss_of(task, without, batch)[1]["contrast_loss"] < losses[-1]) == (len(losses) > 1)
        variables = {**variables, **changed}
    # Three of the first batch, for one of its clips was silent, and of these the oldest has left.
    assert variables["queue"]["weight"].tolist() == [1.0] * 6
    np.testing.assert_allclose(variables["queue"]["video"][-4:], out["video/embedding"], atol=1e-5)
    assert "queue" not in jax.eval_shape(functools.partial(task.apply, train=False), variables, batch)[1]


def test_a_silent_clip_is_in_no_loss():
    task = make()
    batch = batch_of(task, 5, silent=(3,))
    out, _ = outputs_of(task, batch, train=False)
    loss, _ = loss_of(task, out, batch)
    fewer = np.array([0, 1, 2, 4])
    other = {key: x[fewer] if np.ndim(x) and len(x) == 5 else x for key, x in out.items()}
    assert loss_of(task, other, {"has_audio": batch["has_audio"][fewer]})[0] == pytest.approx(float(loss), rel=1e-5)


def test_evaluation_sees_the_middle_as_it_is():
    clip = fake_clips.make_clip(1, **tiny_config.CLIPS)
    example = example_of(make(), clip, train=False)
    frames = np.stack([tf.io.decode_jpeg(jpeg).numpy() for jpeg in clip.frames])
    np.testing.assert_array_equal(example["video"], frames[20:30, 2:18, 2:18])
    np.testing.assert_array_equal(example["audio"], clip.audio[2000:3000])


def test_training_is_augmented_by_the_seed():
    config = tiny_config.get_cmac_config()
    config.data.augment.update(crop_area=(0.5, 0.8), brightness=0.5, gain_db=(-6.0, 6.0), audio_shift_seconds=0.3)
    task = make_task(config, config.phases[0])
    clip = fake_clips.make_clip(1, **tiny_config.CLIPS)
    one, same, other = (example_of(task, clip, seed, train=True) for seed in ((1, 2), (1, 2), (3, 4)))
    for key in ("video", "audio"):
        np.testing.assert_array_equal(one[key], same[key])
        assert one[key].shape == other[key].shape and np.any(one[key] != other[key])


def test_a_short_record_is_looped():
    clip = fake_clips.make_clip(0, **{**tiny_config.CLIPS, "seconds": 0.4})
    example = example_of(make(), clip, train=False)
    np.testing.assert_array_equal(example["video"][:4], example["video"][4:8])
    np.testing.assert_array_equal(example["audio"][:400], example["audio"][400:800])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"cmac.negatives": "some"}, r"config\.cmac\.negatives='some'.*none, within, separate"),
        ({"cmac.pooling": "max"}, r"config\.cmac\.pooling='max'.*attention, mean"),
        ({"cmac.consistency": "js"}, r"config\.cmac\.consistency='js'.*kl, l2"),
        ({"cmac.temperature": 0.0}, r"config\.cmac\.temperature=0\.0 must be more than 0"),
        ({"cmac.audio_guided_temperature": 0.0}, r"config\.cmac\.audio_guided_temperature=0\.0 must be more than 0"),
        ({"cmac.queue": -1}, r"config\.cmac\.queue=-1 must not be negative"),
        ({"model.audio": cmav_config.encoder("audio", "conv1d")}, r"audio_consistency=1\.0 .*'conv1d' has none"),
    ],
)
def test_mistakes_are_named(changes, words):
    config = tiny_config.get_cmac_config()
    with config.unlocked():
        for key, value in changes.items():
            section, name = key.split(".")
            config[section][name] = value
    with pytest.raises(UserError, match=words):
        make_task(config, config.phases[0])


def test_without_frequencies_there_is_no_attention_over_them():
    config = tiny_config.get_cmac_config()
    config.model.audio, config.cmac.audio_consistency = cmav_config.encoder("audio", "conv1d"), 0.0
    task = make_task(config, config.phases[0])
    assert Bands not in task.abilities and Bands in make().abilities


def test_collapse_is_said():
    task = make()
    batch = batch_of(task, 4)
    out, _ = outputs_of(task, batch)
    metrics = {key: float(x) for key, x in loss_of(task, out, batch)[1].items()}
    assert task.concern(metrics) == ""
    line = np.sign(np.float32([1, -1, 1, -1]))[:, None] * np.ones((4, 8), np.float32)
    metrics = {key: float(x) for key, x in loss_of(task, {**out, "video/embedding": line}, batch)[1].items()}
    assert "have collapsed" in task.concern(metrics) and "1.00 in video" in task.concern(metrics)


def test_it_learns_whose_sound_it_is_and_from_wrong_sounds_it_does_not():
    config = tiny_config.get_cmac_config()
    config.optim.learning_rate = 3e-3
    task = make_task(config, config.phases[0])
    optimizer = optax.adam(3e-3)
    step = jax.jit(functools.partial(train.train_step, task=task, optimizer=optimizer, seed=0))

    def clips(first, count):
        examples = [
            example_of(task, fake_clips.make_clip(first + number, **tiny_config.CLIPS), train=False)
            for number in range(count)
        ]
        return {key: np.stack([example[key] for example in examples]) for key in ("video", "audio", "has_audio")}

    seen, held_out = clips(0, 192), clips(1000, 32)

    def top1(places):
        rng = np.random.default_rng(0)
        state = train.create_state(config, task, optimizer, distributed.make_mesh())
        for _ in range(150):
            rows = rng.choice(192, 32, replace=False)
            batch = {key: x[rows] for key, x in seen.items()}
            batch["audio"] = np.roll(batch["audio"], places, axis=0)
            state, _ = step(state, batch)
        out, _ = jax.jit(functools.partial(task.apply, train=False))(
            {"params": state.params, **state.model_state}, held_out
        )
        metrics = contrast.diagnostics(*task.embeddings(out))
        return float(metrics["video_to_audio_top1"] + metrics["audio_to_video_top1"]) / 2

    learned, misled = top1(0), top1(1)
    print("R@1", learned, misled)
    assert learned > 0.25 and misled < 0.15, (learned, misled)
