"""The loss and the batches of synchronization: with two audios of a clip, as in the paper, and with more."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow as tf
from ml_collections import FrozenConfigDict

from cmav.data import schema
from cmav.errors import UserError
from cmav.tasks import make_task
from tests import fake_clips, tiny_config

LOGITS = np.array([[2.0, -1.0, 0.5, -3.0], [-0.3, 0.2, -0.1, 1.5]])


def tiny_task(num_shifted=1, softmax_weight=0.0):
    config = tiny_config.get_config()
    config.data.num_shifted, config.loss.softmax_weight = num_shifted, softmax_weight
    return make_task(config, config.phases[1])


def loss_of(task, logits):
    labels = np.zeros_like(logits)
    labels[:, 0] = 1
    return task.loss({"logits": jnp.asarray(logits, jnp.float32)}, {"labels": jnp.asarray(labels, jnp.float32)})


def surprise(logits):
    """-log sigmoid, float64."""
    return np.log1p(np.exp(-np.asarray(logits, np.float64)))


def test_two_audios_are_the_papers_mean_over_pairs():
    loss, metrics = loss_of(tiny_task(), LOGITS[:, :2])
    expected = np.concatenate([surprise(LOGITS[:, 0]), surprise(-LOGITS[:, 1])]).mean()
    assert float(loss) == pytest.approx(expected, rel=1e-6) and "softmax_loss" not in metrics
    assert float(metrics["accuracy"]) == pytest.approx(0.5)


def test_several_shifted_audios_count_as_much_as_the_one_in_sync():
    loss, metrics = loss_of(tiny_task(num_shifted=3), LOGITS)
    expected = (surprise(LOGITS[:, 0]).mean() + surprise(-LOGITS[:, 1:]).mean()) / 2
    assert float(loss) == pytest.approx(expected, rel=1e-6)
    assert float(metrics["accuracy_aligned"]) == pytest.approx(1 / 2)
    assert float(metrics["accuracy_shifted"]) == pytest.approx(3 / 6)


def test_the_softmax_is_over_the_audios_of_a_clip():
    plain, _ = loss_of(tiny_task(num_shifted=3), LOGITS)
    loss, metrics = loss_of(tiny_task(num_shifted=3, softmax_weight=0.7), LOGITS)
    expected = np.mean(np.log(np.exp(LOGITS).sum(axis=1)) - LOGITS[:, 0])
    assert float(metrics["softmax_loss"]) == pytest.approx(expected, rel=1e-6)
    assert float(loss) == pytest.approx(float(plain) + 0.7 * expected, rel=1e-6)


def test_fusion_units_that_no_pair_reaches_are_counted_and_a_layer_of_them_is_said():
    def judged(hidden):
        logits = jnp.asarray(LOGITS[:, :2], jnp.float32)
        labels = jnp.float32([[1, 0], [1, 0]])
        _, metrics = task.loss({"logits": logits, "fusion/hidden": jnp.float32(hidden)}, {"labels": labels})
        return {key: float(x) for key, x in metrics.items()}

    task = tiny_task()
    some = np.zeros((2, 2, 4))
    some[1, 0, 2] = 0.1
    assert judged(some)["fusion_units_alive"] == 0.25 and task.concern(judged(some)) == ""
    assert "all units of the fusion layer have died" in task.concern(judged(np.zeros((2, 2, 4))))
    comparing = dataclasses.replace(task, model_config=FrozenConfigDict({**task.model_config, "fusion_moments": 0.1}))
    assert comparing.concern(judged(np.zeros((2, 2, 4)))) == ""
    _, metrics = loss_of(task, LOGITS[:, :2])  # of a network that has no such layer
    assert "fusion_units_alive" not in metrics and task.concern(metrics) == ""


def test_a_batch_has_as_many_audios_as_asked_for():
    task = tiny_task(num_shifted=3)
    record = schema.parse(tf.constant(schema.encode(fake_clips.make_clip(0, **tiny_config.CLIPS))))
    example = task.make_example(record, tf.constant([1, 2]), tf.constant(0), train=True)
    assert example["audio"].shape == task.batch_shapes(1)["audio"].shape[1:] == (4, task.clip.num_samples, 2)
    assert example["labels"].numpy().tolist() == [1.0, 0.0, 0.0, 0.0]
    assert len({audio.tobytes() for audio in example["audio"].numpy()}) > 2
    batch = {key: jnp.asarray(example[key])[None] for key in ("video", "audio")}
    variables = jax.eval_shape(task.init, jax.random.key(0))
    outputs, _ = jax.eval_shape(lambda *both: task.apply(*both, train=False), variables, batch)
    assert outputs["logits"].shape == (1, 4)


def test_no_shifted_audio_is_a_mistake():
    with pytest.raises(UserError, match=r"config\.data\.num_shifted=0"):
        tiny_task(num_shifted=0)


def test_a_phase_has_shifts_of_its_own_in_training_alone():
    config = tiny_config.get_config()
    least = 1 / config.data.stored_frame_rate
    phase = {**config.phases[1], "shift_seconds": (least, least)}
    task = make_task(config, phase)
    clip = fake_clips.make_clip(0, **tiny_config.CLIPS)
    clip = dataclasses.replace(clip, audio=np.arange(clip.audio.size, dtype=np.int16).reshape(clip.audio.shape))
    record = schema.parse(tf.constant(schema.encode(clip)))

    def shifts(train):
        """Frames by which the second audio of some examples is shifted."""
        per_frame = 2 * config.data.sample_rate / config.data.stored_frame_rate
        examples = [
            task.make_example(record, tf.constant([1, seed]), tf.constant(0), train=train)["audio"].numpy().astype(int)
            for seed in range(8)
        ]
        return {round(abs(audio[1, 0, 0] - audio[0, 0, 0]) / per_frame) for audio in examples}

    assert shifts(train=True) == {1}
    fewest = round(config.data.shift_seconds[0] * config.data.stored_frame_rate)
    assert fewest > 1 and min(shifts(train=False)) >= fewest
