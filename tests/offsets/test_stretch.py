"""Every window with every sound, each encoded once, against the network asked pair by pair."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow as tf

from cmav.data import schema
from cmav.errors import UserError
from cmav.models.loudness import LEAST_DBFS
from cmav.offsets.stretch import Stretch
from cmav.tasks import make_task
from tests import fake_clips, tiny_config
from tests.models import fake_variables
from tests.offsets import fake_sync


@pytest.fixture(scope="module")
def tiny():
    """The tiny network with drawn weights, and a stretch for it."""
    config = tiny_config.get_config()
    task = make_task(config, config.phases[0])  # 5 Hz of stored 10 Hz
    variables = fake_variables.draw(jax.eval_shape(task.init, jax.random.key(0)), 3)
    stretch = Stretch.of(task, max_seconds=0.6, step_seconds=0.05, hop_seconds=0.4, num_frames=38)
    return stretch, jax.tree.map(jnp.asarray, variables)


def example_of(stretch, number, seconds):
    clips = {**tiny_config.CLIPS, "seconds": seconds}
    record = schema.parse(tf.constant(schema.encode(fake_clips.make_clip(number, **clips))))
    return record, {key: np.asarray(x) for key, x in stretch.only_example(record).items()}


def test_the_logits_are_those_of_each_pair_by_itself(tiny):
    stretch, variables = tiny
    record, one = example_of(stretch, 0, 5.0)
    _, other = example_of(stretch, 1, 3.1)
    batch = {key: jnp.stack([one[key], other[key]]) for key in one}
    found = jax.jit(stretch.scores)(variables, batch)["logits"]
    assert found.shape == (2, 5, 25) and stretch.shifts[0] == pytest.approx(-0.6)
    apply = jax.jit(lambda video, audio: stretch.task.apply(variables, {"video": video, "audio": audio}, train=False))
    clip = stretch.task.clip
    samples = record["audio"].numpy()
    for window, start in enumerate(range(0, 19, 4)):
        for column, shift in enumerate(range(-12, 13)):
            sound = 2 * start + shift  # in steps of 0.05 s, 50 samples
            if not 0 <= sound <= 36:
                assert np.isnan(found[0, window, column])
                continue
            audio = samples[50 * sound : 50 * sound + clip.num_samples][None, None]
            video = one["video"][start : start + 20 : 2][None]
            outputs, _ = apply(video, audio)
            assert float(found[0, window, column]) == pytest.approx(float(outputs["logits"][0, 0]), abs=1e-4)
    assert np.unique(np.round(found[0][np.isfinite(found[0])], 4)).size > 50


def test_what_lies_after_the_end_is_not_looked_at(tiny):
    stretch, variables = tiny
    _, example = example_of(stretch, 1, 3.1)
    batch = {key: jnp.asarray(x)[None] for key, x in example.items()}
    found = jax.jit(stretch.scores)(variables, batch)
    # 31 frames: windows of 20 start at 0, 4 and 8; sounds at up to 11 frames.
    assert np.isfinite(found["logits"][0]).sum(axis=1).tolist() == [13, 8 + 13, 12 + 7, 0, 0]
    assert (found["loudness"][0, 3:] == LEAST_DBFS).all() and (found["loudness"][0, :3] > -40).all()
    batch["video"] = batch["video"].at[:, 31:].set(77)
    batch["audio"] = batch["audio"].at[:, 3100:].set(777)
    again = jax.jit(stretch.scores)(variables, batch)
    np.testing.assert_array_equal(found["logits"], again["logits"])


def test_in_a_longer_batch_it_is_the_same(tiny):
    stretch, variables = tiny
    _, long = example_of(stretch, 0, 5.0)
    _, short = example_of(stretch, 1, 3.1)
    scores = jax.jit(stretch.scores)
    alone = scores(variables, {key: jnp.asarray(x)[None] for key, x in short.items()})
    together = scores(variables, {key: jnp.stack([short[key], long[key]]) for key in short})
    for name in ("logits", "motion", "loudness"):
        np.testing.assert_allclose(alone[name][0], together[name][0], atol=1e-4)


@pytest.mark.parametrize("late", [0.3, -0.45])
def test_positive_is_where_the_sound_is_late(late):
    stretch = Stretch.of(fake_sync.make_task(), max_seconds=0.8, num_frames=80)
    batch = fake_sync.batch_of(stretch, 80, fake_sync.events(4.0), late)
    logits = fake_sync.scores_of(stretch, batch).logits
    assert stretch.shifts[np.nanargmax(np.nanmean(logits, axis=0))] == pytest.approx(late, abs=0.026)


def test_motion_and_loudness():
    stretch = Stretch.of(fake_sync.make_task(), max_seconds=0.5, num_frames=60)
    moments = fake_sync.events(3.0)
    both = fake_sync.scores_of(stretch, fake_sync.batch_of(stretch, 60, moments, 0.0))
    neither = fake_sync.scores_of(stretch, fake_sync.batch_of(stretch, 60, moments, 0.0, silent=True, still=True))
    # A sine of 9000 / 32768 is at 20 log10(9000 / 32768 / sqrt(2)) = -14.2 dB, one of 600 Hz 2.2 dB less to the ear.
    assert both.loudness.max() == pytest.approx(-16.4, abs=0.3)
    # Each flash is two changes of 200 grey levels, of the 19 in a window.
    assert both.motion[0] == pytest.approx(2 * 200 / 19 * len(moments[moments < 0.9]), rel=0.1)
    assert neither.motion.max() < 1e-5 and (neither.loudness == LEAST_DBFS).all()


def test_stretches_follow_without_a_gap():
    stretch = Stretch.of(fake_sync.make_task(), max_seconds=0.5, step_seconds=0.02)
    assert (stretch.steps_per_frame, stretch.max_shift, stretch.margin) == (2, 20, 10)
    # The last start with every shift of one, and the first of the next.
    assert stretch.num_frames - stretch.span - stretch.margin == stretch.advance + stretch.margin
    assert stretch.advance == 2 * (stretch.span + 2 * stretch.margin)


def test_a_range_below_a_step_is_a_mistake():
    with pytest.raises(UserError, match=r"0\.04 s is less than a step, 0\.05 s"):
        Stretch.of(fake_sync.make_task(), max_seconds=0.04)
