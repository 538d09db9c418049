"""Negatives of synchronization: shifted audios of a clip, or audios of another video."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from cmav.data.pipeline import make_loader
from cmav.errors import UserError
from cmav.tasks import make_task
from tests import fake_clips, tiny_config

NUM_CLIPS = 6
NUM_SAMPLES = round(tiny_config.CLIPS["seconds"] * tiny_config.CLIPS["sample_rate"])


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    """Sample s of clip n is n * NUM_SAMPLES + s, in both channels."""
    clips = []
    for number in range(NUM_CLIPS):
        clip = fake_clips.make_clip(number, **tiny_config.CLIPS)
        samples = number * NUM_SAMPLES + np.arange(NUM_SAMPLES)
        clips.append(dataclasses.replace(clip, audio=np.stack([samples, samples], axis=1).astype(np.int16)))
    return fake_clips.write_clips(tmp_path_factory.mktemp("clips"), "train", clips)


def batch_of(split, config, *, train=True, phase=None, negatives=None, batch_size=8, seed=3):
    task = make_task(config, phase or config.phases[0])
    task = task.with_negatives(negatives) if negatives else task
    loader = make_loader(split, task, config.data, train=train)
    if train:
        batches = loader.train_batches(seed=seed, first_example=4, batch_size=batch_size, num_batches=1)
    else:
        batches = loader.eval_batches(seed=seed, batch_size=batch_size)
    return next(iter(batches))


def whose(batch):
    """Which clip each audio is of, and where in it it begins: [B, K] each."""
    audio = batch["audio"].astype(int)
    assert np.all(np.diff(audio, axis=2) == 1) or np.any(batch["mask"] == 0)
    numbers, starts = np.divmod(audio[:, :, 0, 0], NUM_SAMPLES)
    assert np.all(starts + audio.shape[2] <= NUM_SAMPLES)
    return numbers, starts


def clip_numbers(batch):
    return np.array([int(name[4:8]) for name in batch["clip_id"]])


@pytest.mark.parametrize(
    ("num_shifted", "starts"),
    [
        (1, [[300, 2600], [200, 3000], [900, 2200], [700, 3000], [2000, 600], [2000, 900], [0, 2700], [2700, 600]]),
        (
            2,
            [
                *([300, 2600, 2700], [200, 3000, 1500], [900, 2200, 1900], [700, 3000, 3000]),
                *([2000, 600, 0], [2000, 900, 1000], [0, 2700, 2600], [2700, 600, 1000]),
            ],
        ),
    ],
)
def test_with_shifted_negatives_batches_are_what_they_were_before_there_were_others(split, num_shifted, starts):
    """These numbers were written down then."""
    config = tiny_config.get_config()
    config.data.num_shifted = num_shifted
    batch = batch_of(split, config)
    assert set(batch) == {"video", "audio", "labels", "label", "clip_id", "mask"}
    assert clip_numbers(batch).tolist() == [5, 1, 3, 4, 0, 5, 1, 2]
    numbers, found = whose(batch)
    assert found.tolist() == starts and np.all(numbers == clip_numbers(batch)[:, None])
    evaluated = batch_of(split, config, train=False, batch_size=NUM_CLIPS)
    assert whose(evaluated)[1][:3, :2].tolist() == [[3000, 1300], [2700, 0], [2600, 300]]


@pytest.mark.parametrize("num_shifted", [1, 3])
@pytest.mark.parametrize("train", [True, False])
def test_negatives_of_another_video(split, num_shifted, train):
    config = tiny_config.get_config()
    config.data.num_shifted = num_shifted
    if train:
        config.data.other_share = 1.0
    batch = batch_of(split, config, train=train, negatives=None if train else "other", batch_size=NUM_CLIPS)
    task = make_task(config, config.phases[0])
    assert batch["audio"].shape == (NUM_CLIPS, 1 + num_shifted, task.clip.num_samples, 2)
    assert batch["labels"].tolist() == [[1.0] + [0.0] * num_shifted] * NUM_CLIPS
    assert batch["other"].tolist() == [1.0] * NUM_CLIPS
    numbers, starts = whose(batch)
    np.testing.assert_array_equal(numbers[:, 0], clip_numbers(batch))
    assert np.all(numbers[:, 1:] == numbers[:, 1:2]) and np.all(numbers[:, 1] != numbers[:, 0])
    if num_shifted > 1:
        assert np.any(starts[:, 1] != starts[:, 2])  # Each is of a moment of its own.


def test_the_first_audio_is_of_the_moment_of_the_pictures(tmp_path):
    """Pictures that tell their number by their brightness."""
    import tensorflow as tf

    clips = []
    for number in range(2):
        clip = fake_clips.make_clip(number, **tiny_config.CLIPS)
        frames = [tf.io.encode_jpeg(np.full((20, 20, 3), 4 * k, np.uint8)).numpy() for k in range(len(clip.frames))]
        samples = np.arange(NUM_SAMPLES, dtype=np.int16)
        clips.append(dataclasses.replace(clip, frames=frames, audio=np.stack([samples, samples], axis=1)))
    split = fake_clips.write_clips(tmp_path, "train", clips)
    config = tiny_config.get_config()
    config.data.other_share = 1.0
    batch = batch_of(split, config, phase=config.phases[1])
    frames = batch["video"][:, 0].mean(axis=(1, 2, 3)) / 4
    first_frames = batch["audio"][:, 0, 0, 0] * config.data.stored_frame_rate / config.data.sample_rate
    np.testing.assert_allclose(frames, first_frames, atol=0.5)
    assert len(set(first_frames)) > 3


def test_in_a_mixture_each_clip_has_one_kind(split):
    config = tiny_config.get_config()
    config.data.other_share, config.data.num_shifted = 0.5, 2
    batch = batch_of(split, config, batch_size=32)
    numbers, _ = whose(batch)
    is_other = numbers != clip_numbers(batch)[:, None]
    np.testing.assert_array_equal(is_other[:, 1], batch["other"])
    np.testing.assert_array_equal(is_other[:, 1], is_other[:, 2])
    assert not is_other[:, 0].any() and 8 <= is_other[:, 1].sum() <= 24


def test_a_phase_has_a_share_of_its_own_and_evaluations_ask_what_they_say(split):
    config = tiny_config.get_config()
    easy = {**config.phases[0], "other_share": 1.0}
    assert batch_of(split, config, phase=easy)["other"].all() and "other" not in batch_of(split, config)
    config.data.other_share = 1.0
    hard = {**config.phases[0], "other_share": 0}
    assert "other" not in batch_of(split, config, phase=hard) and batch_of(split, config)["other"].all()
    for phase in (easy, hard):
        shifted = batch_of(split, config, train=False, phase=phase, batch_size=NUM_CLIPS)
        numbers, _ = whose(shifted)
        assert np.all(numbers == clip_numbers(shifted)[:, None])
        other = batch_of(split, config, train=False, phase=phase, negatives="other", batch_size=NUM_CLIPS)
        assert np.all(whose(other)[0][:, 1] != clip_numbers(other))


def test_a_record_that_leaves_no_room_for_a_shift_has_another_video(tmp_path):
    clips = {**tiny_config.CLIPS, "seconds": 2.0}  # just the length of a clip
    split = fake_clips.write_dataset(tmp_path, "train", 4, **clips)
    config = tiny_config.get_config()
    with pytest.raises(UserError, match="none of the 4 records"):
        batch_of(split, config)
    config.data.other_share = 1.0
    assert batch_of(split, config)["mask"].all()


LOGITS = jnp.array([[1.0, -1.0], [1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]])


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (None, {"shifted": 3 / 4}),
        ([0, 1, 1, 1], {"shifted": 1.0, "other": 2 / 3}),
        ([1, 1, 1, 1], {"shifted": np.nan, "other": 3 / 4}),
    ],
)
def test_accuracy_on_each_kind(other, expected):
    config = tiny_config.get_config()
    task = make_task(config, config.phases[0])
    batch = {"labels": jnp.array([[1.0, 0.0]] * 4)} | ({} if other is None else {"other": jnp.array(other, float)})
    loss, metrics = task.loss({"logits": LOGITS}, batch)
    found = {key.removeprefix("accuracy_"): float(x) for key, x in metrics.items() if key.startswith("accuracy_")}
    assert found.pop("aligned") == pytest.approx(3 / 4)
    assert found == pytest.approx(expected, nan_ok=True)
    plain, _ = task.loss({"logits": LOGITS}, {"labels": batch["labels"]})
    assert float(loss) == float(plain) and float(metrics["accuracy"]) == pytest.approx(3 / 4)


@pytest.mark.parametrize("share", [-0.1, 1.5, True, "half", None, float("nan")])
def test_a_share_is_from_0_to_1(share):
    config = tiny_config.get_config()
    with pytest.raises(UserError, match=r"other_share=.* must be a number from 0 to 1"):
        make_task(config, {**config.phases[0], "other_share": share})


def test_the_control_of_both_shifted_has_no_other_videos():
    config = tiny_config.get_config()
    config.data.shift_both = True
    task = make_task(config, config.phases[0])
    assert task.with_negatives("shifted") == task
    with pytest.raises(UserError, match=r"shift_both is the control .*negatives must be 'shifted'"):
        task.with_negatives("other")
    config.data.other_share = 0.5
    with pytest.raises(UserError, match=r"shift_both is the control .*other_share=0\.5 must be 0"):
        make_task(config, config.phases[0])
