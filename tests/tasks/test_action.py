"""The action task: its examples, its targets, and that what it trains can do its job."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow as tf

from cmav.data import index, schema
from cmav.errors import UserError
from cmav.tasks import action, make_task
from cmav.training import train
from tests import fake_clips, tiny_config
from tests.models import fake_variables

SECONDS, SIZE = 1.5, 16


def make_config(folder="", **settings):
    config = tiny_config.get_action_config()
    config.data.dir = str(folder)
    config.action.num_classes = 4
    config.action.update(settings)
    return config


def task_of(config):
    return make_task(config, config.phases[0])


def make_record(num_frames=30, has_audio=True):
    clip = fake_clips.make_clip(
        1, seconds=num_frames / 10, size=20, frame_rate=10.0, sample_rate=1000, label=2, has_audio=has_audio
    )
    return schema.parse(tf.constant(schema.encode(clip)))


def example_of(config, record, seed=0, view=0, train=True):
    make = tf.function(task_of(config).make_example, autograph=False)
    example = make(record, tf.constant([seed, 7]), tf.constant(view), train=train)
    return {key: value.numpy() for key, value in example.items()}


def test_an_example_has_what_the_network_sees():
    for mode, streams in (("full", {"video", "audio"}), ("vision_only", {"video"}), ("audio_only", {"audio"})):
        config = make_config(mode=mode)
        example = example_of(config, make_record())
        shapes = task_of(config).batch_shapes(1)
        assert streams == set(shapes) - {"has_audio", "label"} == set(example) - {"has_audio", "label", "clip_id"}
        for key in streams:
            assert (1, *example[key].shape) == shapes[key].shape and example[key].dtype == shapes[key].dtype
        assert example["label"] == 2 and example["has_audio"]
    assert not example_of(make_config(), make_record(has_audio=False))["has_audio"]


def test_training_draws_and_evaluation_walks():
    config, record = make_config(audio_shift_seconds=0.5, eval_clips=3), make_record()
    draws = [example_of(config, record, seed) for seed in range(6)]
    assert len({draw["audio"].tobytes() for draw in draws}) > 3
    assert len({draw["video"].tobytes() for draw in draws}) == 6
    views = [example_of(config, record, seed, view, train=False) for seed, view in ((0, 0), (1, 0), (0, 1), (0, 2))]
    for key in ("video", "audio"):
        np.testing.assert_array_equal(views[0][key], views[1][key])
        assert len({view[key].tobytes() for view in views}) == 3
    # Of 30 frames and clips of 10: the clips begin at 0, 10 and 20, and the sound with them.
    audio = record["audio"].numpy()
    for view, start in zip((views[0], *views[2:]), (0, 10, 20), strict=True):
        np.testing.assert_array_equal(view["audio"], audio[100 * start : 100 * start + 1000])


def test_three_crops_of_a_clip_have_one_sound():
    config, record = make_config(eval_clips=2, eval_crops=3), make_record()
    assert task_of(config).num_views == 6
    views = [example_of(config, record, view=view, train=False) for view in range(6)]
    assert len({view["video"].tobytes() for view in views}) == 6
    assert [view["audio"].tobytes() for view in views] == [views[0]["audio"].tobytes()] * 3 + [
        views[3]["audio"].tobytes()
    ] * 3


@pytest.mark.parametrize("mode", ["full", "audio_only"])
@pytest.mark.parametrize("num_frames", [30, 7])  # 7 are fewer than a clip has.
def test_views_made_together_are_those_made_alone(mode, num_frames):
    config, record = make_config(mode=mode, eval_clips=4, eval_crops=3), make_record(num_frames)
    views = [11, 0, 5, 3]
    together = tf.function(task_of(config).make_views, autograph=False)(record, tf.constant(views))
    for place, view in enumerate(views):
        alone = example_of(config, record, view=view, train=False)
        assert alone.keys() == together.keys()
        for key, value in alone.items():
            np.testing.assert_array_equal(value, together[key][place].numpy(), err_msg=key)


def test_the_shift_is_off_where_it_is_zero():
    config, record = make_config(audio_shift_seconds=0.0), make_record()
    audio = record["audio"].numpy()
    starts = [audio[100 * start : 100 * start + 1000].tobytes() for start in range(21)]
    assert all(example_of(config, record, seed)["audio"].tobytes() in starts for seed in range(5))


def test_mixing_keeps_pictures_sounds_and_targets_together():
    rng = np.random.default_rng(0)
    num_clips = 32
    inputs = {
        "video": np.repeat(np.arange(num_clips, dtype=np.uint8)[:, None], 3, axis=1),
        "audio": np.repeat(np.arange(num_clips, dtype=np.int16)[:, None] * -100, 2, axis=1),
        "has_audio": rng.uniform(size=num_clips) < 0.5,
    }
    targets = np.eye(num_clips, dtype=np.float32)
    mixed, mixed_targets = action.mix(jax.random.key(1), inputs, targets, alpha=0.4)
    mixed_targets = np.asarray(mixed_targets)
    np.testing.assert_allclose(mixed_targets.sum(axis=1), 1, rtol=1e-5)
    # Each clip's picture says which two clips are in it, and by how much; so must all else.
    np.testing.assert_allclose(mixed["video"][:, 0], mixed_targets @ np.arange(num_clips), rtol=1e-4)
    np.testing.assert_allclose(mixed["audio"][:, 1], mixed_targets @ np.arange(num_clips) * -100, rtol=1e-4)
    for row in range(num_clips):
        assert mixed["has_audio"][row] == inputs["has_audio"][mixed_targets[row] > 0].any()
    shares = np.diag(mixed_targets)[np.diag(mixed_targets) < 1]
    assert len(shares) > 20 and shares.std() > 0.2


def test_targets_are_softened_in_training_alone():
    config = make_config(label_smoothing=0.2)
    task = task_of(config)
    variables = fake_variables.draw(jax.eval_shape(task.init, jax.random.key(0)))
    batch = {name: jnp.zeros(x.shape, x.dtype) for name, x in task.batch_shapes(2).items()}
    batch["label"] = jnp.array([1, 3])
    apply = jax.jit(task.apply, static_argnames="train")
    outputs, _ = apply(variables, batch, train=True, dropout_key=jax.random.key(0))
    np.testing.assert_allclose(outputs["targets"], 0.8 * np.eye(4)[[1, 3]] + 0.05, rtol=1e-5)
    loss, metrics = task.loss(outputs, batch)
    log_probabilities = np.asarray(jax.nn.log_softmax(outputs["logits"]))
    assert float(loss) == pytest.approx(-(np.asarray(outputs["targets"]) * log_probabilities).sum(axis=1).mean(), 1e-5)
    assert float(metrics["accuracy"]) == np.mean(np.asarray(outputs["logits"]).argmax(axis=1) == [1, 3])
    outputs, _ = apply(variables, batch, train=False)
    np.testing.assert_array_equal(outputs["targets"], np.eye(4)[[1, 3]])


def test_the_number_of_classes_comes_from_the_dataset(tmp_path):
    config = make_config(tmp_path, num_classes=0)
    with pytest.raises(UserError, match=r"classes\.txt.*num_classes"):
        task_of(config)
    (tmp_path / "classes.txt").write_text("run\nsit\nwave\n")
    assert task_of(config).action_config.num_classes == 3
    assert index.load_classes(str(tmp_path)) == ("run", "sit", "wave")


@pytest.mark.parametrize(
    "settings",
    [dict(mode="blind"), dict(eval_crops=2), dict(eval_clips=0), dict(label_smoothing=1.0), dict(mixup=-0.1)],
)
def test_wrong_settings_are_named(settings):
    (key,) = settings
    with pytest.raises(UserError, match=rf"config\.action\.{key}="):
        task_of(make_config(**settings))


def write_colours_and_pitches(folder, split, num_clips, seed, is_shuffled=False):
    """Four classes: red or blue, high or low. Neither eye nor ear alone tells more than two of them apart."""
    rng = np.random.default_rng(seed)
    clips = []
    for number in range(num_clips):
        label = number % 4
        red, high = divmod(label, 2)
        num_frames = round(SECONDS * 10)
        pictures = rng.integers(0, 90, (num_frames, 20, 20, 3)) + np.array([120, 0, 0] if red else [0, 0, 120])
        phase = rng.uniform(0, 2 * np.pi) + 2 * np.pi * (220 if high else 60) * np.arange(num_frames * 100) / 1000
        sound = 8000 * np.sin(phase)[:, None] + rng.normal(scale=300, size=(num_frames * 100, 2))
        clips.append(
            schema.Clip(
                clip_id=f"{split}{number}_0",
                source=f"{split}{number}.mp4",
                start_seconds=0.0,
                frames=[tf.io.encode_jpeg(picture.astype(np.uint8), quality=90).numpy() for picture in pictures],
                frame_rate=10.0,
                audio=sound.astype(np.int16),
                sample_rate=1000,
                has_audio=True,
                label=int(rng.integers(4)) if is_shuffled else label,
            )
        )
    fake_clips.write_clips(folder, split, clips)


def test_it_learns_what_it_can_see_and_hear(tmp_path):
    write_colours_and_pitches(tmp_path, "train1", 48, seed=0)
    write_colours_and_pitches(tmp_path, "shuffled", 48, seed=0, is_shuffled=True)
    write_colours_and_pitches(tmp_path, "test1", 24, seed=1)
    config = make_config(tmp_path, eval_clips=2, dropout=0.1)
    config.phases = (dict(frame_rate=10.0, batch_size=16, steps=60),)
    config.log_every = config.checkpoint.every = 60
    config.optim.learning_rate, config.optim.schedule = 3e-3, "cosine"
    top1 = {}
    for name, mode, split in (
        ("full", "full", "train1"),
        ("eye", "vision_only", "train1"),
        ("labels shuffled", "full", "shuffled"),
    ):
        config.action.mode, config.data.train_split = mode, split
        train.train(config, str(tmp_path / name))
        top1[name] = json.loads((tmp_path / name / "summary.json").read_text())["top1"]
    assert top1["full"] > 0.9
    assert 0.3 < top1["eye"] < 0.7
    assert top1["labels shuffled"] < 0.6
