"""What the network sees and hears of a record, and that it finds nothing in silence."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
import tensorflow as tf

from cmav.data import schema
from cmav.localization.task import HEADS, LocalizationTask, find_loudness, find_maps
from cmav.models.loudness import LEAST_DBFS
from cmav.tasks import make_task
from tests import fake_clips, tiny_config
from tests.models import fake_variables

RATE, SAMPLE_RATE, SIZE = 10, 1000, tiny_config.CLIPS["size"]
NUM_SAMPLES = 2000  # of a clip of 2 s
METHODS = ("cam", "attention", "similarity", "alignment")


def localization_task(frame_rate=10.0, **options):
    config = tiny_config.get_config()
    return LocalizationTask.of(make_task(config, dict(frame_rate=frame_rate)), size=SIZE, **options)


def numbered_clip(number, num_frames, has_audio=True):
    """A clip whose frames are numbered by their grey, and whose samples count up."""
    pictures = [np.full((SIZE, SIZE, 3), 5 * frame, np.uint8) for frame in range(num_frames)]
    audio = np.arange(num_frames * SAMPLE_RATE // RATE, dtype=np.int16)[:, None] * np.array([1, -1], np.int16)
    return dataclasses.replace(
        fake_clips.make_clip(number, **tiny_config.CLIPS),
        frames=[tf.io.encode_jpeg(picture, quality=100).numpy() for picture in pictures],
        audio=audio * has_audio,
        has_audio=has_audio,
    )


def example_of(task, clip):
    record = schema.parse(tf.constant(schema.encode(clip)))
    example = task.make_example(record)
    return {key: x.numpy() for key, x in example.items()}


def assert_frames(video, numbers):
    assert video.shape == (len(numbers), SIZE, SIZE, 3)
    np.testing.assert_allclose(video, np.broadcast_to(5 * np.reshape(numbers, (-1, 1, 1, 1)), video.shape), atol=1)


@pytest.mark.parametrize(("num_frames", "first"), [(50, 15), (20, 0), (37, 9)])
def test_the_middle_of_a_record_and_its_own_sound(num_frames, first):
    example = example_of(localization_task(), numbered_clip(0, num_frames))
    assert_frames(example["video"], np.arange(first, first + 20))
    ramp = first * SAMPLE_RATE // RATE + np.arange(NUM_SAMPLES)
    np.testing.assert_array_equal(example["audio"], np.stack([ramp, -ramp], axis=-1))


def test_the_middle_at_half_the_rate():
    example = example_of(localization_task(frame_rate=5.0), numbered_clip(0, 50))
    assert_frames(example["video"], np.arange(15, 35, 2))
    assert example["audio"][[0, -1], 0].tolist() == [1500, 3499]


def test_a_short_record_is_looped_with_its_sound():
    example = example_of(localization_task(), numbered_clip(0, 13))
    assert_frames(example["video"], np.arange(20) % 13)
    np.testing.assert_array_equal(example["audio"][:, 0], np.arange(NUM_SAMPLES) % 1300)


def test_whole_pictures():
    clip = fake_clips.make_clip(3, **tiny_config.CLIPS)
    frames = [tf.io.decode_jpeg(frame) for frame in clip.frames[15:35]]
    np.testing.assert_array_equal(example_of(localization_task(), clip)["video"], np.stack(frames))


def test_short_and_silent_records_are_usable(tmp_path):
    clips = [numbered_clip(0, 50), numbered_clip(1, 8), numbered_clip(2, 30, has_audio=False)]
    split = fake_clips.write_clips(tmp_path, "train", clips)
    assert localization_task().usable_records(split).tolist() == [0, 1, 2]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Maps of three clips, the second of them silent, by a network with drawn weights; the task, and its outputs."""
    split = fake_clips.write_dataset(tmp_path_factory.mktemp("clips"), "train", 3, silent=[1], **tiny_config.CLIPS)
    task = localization_task(stride=4)
    examples = [task.make_example(schema.parse(tf.constant(split.read(number)))) for number in range(3)]
    batch = {key: np.stack([example[key] for example in examples]) for key in examples[0]}
    variables = fake_variables.draw(jax.eval_shape(task.of_network.init, jax.random.key(0)))
    find = jax.jit(functools.partial(find_maps, task=task, methods=METHODS))
    return task, find(variables, batch)


def test_maps_of_every_moment_at_the_places_that_the_task_names(found):
    task, by_method = found
    rows, columns = task.centres
    assert task.stride == 4 and len(rows) == len(columns) == 5
    assert np.diff(rows) == pytest.approx(4 / SIZE)
    assert by_method.keys() == {*METHODS, HEADS}
    shape = (3, len(task.token_times), 5, 5)
    assert all(by_method[method].shape == shape for method in METHODS)
    assert by_method[HEADS].shape == (*shape[:2], 4, 5, 5)
    assert task.token_times[1] - task.token_times[0] == pytest.approx(0.2)


def test_nothing_is_found_in_silence(found):
    _, by_method = found
    for method, x in by_method.items():
        assert not np.any(x[1]), method
        assert all(np.any(x[clip]) for clip in (0, 2)), method


def test_the_heads_are_those_that_make_the_attention(found):
    _, by_method = found
    combined = np.maximum(by_method[HEADS], 0).mean(axis=2)
    np.testing.assert_allclose(by_method["attention"], combined, atol=1e-6)


def test_loudness_is_that_around_the_maps_instants():
    """A burst from 0.7 to 0.9 s: heard an eighth of a second before and after."""
    task = localization_task()
    audio = np.zeros((1, NUM_SAMPLES, 2), np.int16)
    audio[:, 700:900] = np.random.default_rng(0).integers(-9000, 9000, (1, 200, 2))
    levels = np.asarray(find_loudness({"audio": audio}, task=task))[0]
    times = task.token_times
    assert levels.shape == times.shape
    near, far = (times > 0.65) & (times < 0.95), (times < 0.5) | (times > 1.1)
    assert near.any() and (levels[near] > -30).all() and (levels[far] == LEAST_DBFS).all()


def test_every_moment_is_heard_at_some_instant_however_far_these_are_apart():
    """Maps 0.4 s apart, as the demo's are; a burst of 80 ms wherever it falls, at the clip's ends as well."""
    task = localization_task(frame_rate=5.0)
    assert np.diff(task.token_times) == pytest.approx(0.4)
    find = jax.jit(functools.partial(find_loudness, task=task))
    for start in range(0, NUM_SAMPLES - 80, 60):
        audio = np.zeros((1, NUM_SAMPLES, 2), np.int16)
        audio[:, start : start + 80] = np.random.default_rng(0).integers(-9000, 9000, (1, 80, 2))
        levels = np.asarray(find({"audio": audio}))[0]
        middle = (start + 40) / SAMPLE_RATE
        assert levels[abs(task.token_times - middle).argmin()] > -30, middle
        assert (levels[abs(task.token_times - middle) > 0.3] == LEAST_DBFS).all(), middle


def test_a_clip_that_nobody_hears_has_no_maps():
    """Noise of one step of int16, which no zero of it is."""
    task = localization_task()
    rng = np.random.default_rng(0)
    audio = rng.integers(-8000, 8000, (2, NUM_SAMPLES, 2)).astype(np.int16)
    audio[1] = np.sign(audio[1])
    batch = {"video": rng.integers(0, 256, (2, 20, SIZE, SIZE, 3), np.uint8), "audio": audio}
    variables = fake_variables.draw(jax.eval_shape(task.of_network.init, jax.random.key(0)))
    for method, x in find_maps(variables, batch, task=task, methods=METHODS).items():
        assert np.any(x[0]) and not np.any(x[1]), method
