"""Accuracy over views and videos, against single clips cut by hand and against scikit-learn."""

import csv
import dataclasses
import json
import types

import jax
import numpy as np
import pytest
import tensorflow as tf
from sklearn import metrics as sk

from cmav import distributed
from cmav.evals.action import ActionEvaluator, ActionResult
from cmav.tasks import make_task
from tests import fake_clips, tiny_config

RATE, SAMPLES = tiny_config.CLIPS["frame_rate"], tiny_config.CLIPS["sample_rate"]
SECONDS = [5.0, 0.6, 1.0, 2.3, 0.9, 3.1, 5.0]  # A clip has 1 s: two videos are shorter, one is as long.
LABELS = [2, 0, 2, 1, 0, 2, 1]
CLASSES = ["zebra", "apple", "mango", "banana"]  # In no alphabetic order, and no video has a banana.


def make_clips():
    options = {key: value for key, value in tiny_config.CLIPS.items() if key != "seconds"}
    return [
        fake_clips.make_clip(number, seconds=seconds, label=label, has_audio=number != 3, **options)
        for number, (seconds, label) in enumerate(zip(SECONDS, LABELS, strict=True))
    ]


def write_split(folder, listed=7):
    """All the clips as the official split "test1" of the physical split "all"."""
    index = fake_clips.write_clips(folder, "all", make_clips())
    views = {"test1": {"listed": listed, "records": list(range(len(SECONDS)))}}
    (folder / "splits-all.json").write_text(json.dumps(views))
    (folder / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    return index


@pytest.fixture
def config(tmp_path):
    write_split(tmp_path)
    config = tiny_config.get_action_config()
    config.data.dir = str(tmp_path)
    return config


def make_evaluator(config, split="test1"):
    task = make_task(config, config.phases[0])
    return ActionEvaluator(config.evals.action, config.data, task, distributed.make_mesh(), split)


def make_state(config):
    """A fresh network that has opinions: its last layer is 4 times what it would be."""
    task = make_task(config, config.phases[0])
    variables = jax.jit(task.init)(jax.random.key(0))
    params = variables.pop("params")
    params["head"]["logits"]["kernel"] *= 4
    return types.SimpleNamespace(params=params, model_state=variables)


def say(evaluator, predicted_by_label):
    """Makes the network say a class for each class, with probability 0.7 and the rest for class 0."""

    def answer(variables, batch):
        labels = np.asarray(batch["label"])
        predicted = np.take(predicted_by_label, labels)
        probabilities = 0.7 * np.eye(len(CLASSES))[predicted] + 0.3 * np.eye(len(CLASSES))[0]
        return {
            "probabilities": probabilities,
            "loss": np.ones(len(labels)),
            "label": labels,
            "mask": np.asarray(batch["mask"]),
        }

    evaluator._answer = answer
    return types.SimpleNamespace(params={}, model_state={})


def cut_by_hand(clip, view, num_views, stride):
    """View `view` of a video: 1 s from the places that divide it evenly; a shorter video begins again at its end."""
    num_frames, in_clip = len(clip.frames), 10
    start = int(np.floor(view * max(num_frames - in_clip, 0) / (num_views - 1) + 0.5))
    pictures = [
        tf.io.decode_jpeg(clip.frames[frame % num_frames]).numpy()[2:18, 2:18]
        for frame in range(start, start + in_clip, stride)
    ]
    length = int(num_frames * SAMPLES / RATE)
    first = int(start * SAMPLES / RATE)
    sound = [clip.audio[sample % length] for sample in range(first, first + SAMPLES)]
    return np.stack(pictures), np.stack(sound)


def test_25_clips_are_a_slow_loop_over_single_ones(config):
    config.phases = (dict(frame_rate=5.0, batch_size=8, steps=1),)
    config.action.eval_clips = 25
    state = make_state(config)
    result = make_evaluator(config).answer(state)

    task = make_task(config, config.phases[0])
    apply = jax.jit(lambda variables, batch: task.apply(variables, batch, train=False)[0]["logits"])
    variables = {"params": state.params, **state.model_state}
    videos = []
    for clip in make_clips():
        probabilities = []
        for view in range(25):
            pictures, sound = cut_by_hand(clip, view, 25, stride=2)
            single = {"video": pictures, "audio": sound, "has_audio": clip.has_audio, "label": clip.label}
            logits = np.asarray(apply(variables, jax.tree.map(lambda x: np.asarray(x)[None], single)))[0]
            probabilities.append(np.exp(logits) / np.exp(logits).sum())
        videos.append(probabilities)
    videos = np.array(videos)
    assert np.ptp(videos[0], axis=0).max() > 0.02  # The views differ, and so do the videos.
    assert np.ptp(videos.mean(axis=1), axis=0).max() > 0.02
    np.testing.assert_allclose(result.probabilities_NxC, videos.mean(axis=1), atol=1e-5)
    np.testing.assert_array_equal(result.labels_N, LABELS)
    of_truth = np.take_along_axis(videos, np.array(LABELS)[:, None, None], axis=2)
    assert result.loss == pytest.approx(-np.log(of_truth).mean(), abs=1e-5)


def test_where_25_views_of_a_video_begin(config, tmp_path):
    """Its 50 frames are as bright as their numbers; a clip is 10 of them."""
    pictures = [np.full((20, 20, 3), 4 * frame, np.uint8) for frame in range(50)]
    frames = [tf.io.encode_jpeg(picture, quality=95).numpy() for picture in pictures]
    fake_clips.write_clips(tmp_path, "ramp", [dataclasses.replace(make_clips()[0], frames=frames)], num_shards=1)
    config.action.eval_clips = 25
    evaluator = make_evaluator(config, "ramp")
    state, answer, starts = say(evaluator, [0, 0, 0, 0]), evaluator._answer, []

    def note_and_answer(variables, batch):
        first_frames = np.asarray(batch["video"])[:, 0].mean(axis=(1, 2, 3))
        starts.extend(np.round(first_frames / 4)[np.asarray(batch["mask"]) > 0])
        return answer(variables, batch)

    evaluator._answer = note_and_answer
    evaluator.answer(state)
    thirds = [(5 * n, 5 * n + 2, 5 * n + 3) for n in range(8)]  # 40 places over 24 steps: 5/3 frames each
    assert starts == [start for three in thirds for start in three] + [40]


def test_padding_does_not_count(config):
    state = make_state(config)
    metrics = []
    for batch_size in (7, 5, 64):  # 28 views: they divide, they do not, and all in one batch
        config.evals.action.batch_size = batch_size
        metrics.append(dict(make_evaluator(config).run(state)))
    assert metrics[0]["videos"] == metrics[0]["videos_listed"] == 7
    assert metrics[1] == pytest.approx(metrics[0], abs=1e-5)
    assert metrics[2] == pytest.approx(metrics[0], abs=1e-5)


def test_a_damaged_record_does_not_count_and_is_told(config, tmp_path, caplog):
    index = write_split(tmp_path, listed=9)
    config.data.max_bad_fraction = 0.5
    evaluator = make_evaluator(config)
    before = dict(evaluator.run(say(evaluator, [0, 1, 2, 3])))
    assert (before["videos"], before["videos_listed"], before["top1"]) == (7, 9, 1.0)
    assert "7 of the 9 videos of split 'test1'" in caplog.text
    assert "2 are not in" in caplog.text

    fake_clips.flip_a_byte(index, 3)
    evaluator = make_evaluator(config)
    # Only zebras are told right: two of the six that are left, since the damaged one is an apple.
    after = dict(evaluator.run(say(evaluator, [0, 3, 3, 3])))
    assert after["videos"] == 6
    assert after["top1"] == pytest.approx(2 / 6)
    assert after["mean_class_accuracy"] == pytest.approx(1 / 3)
    assert "6 of the 9 videos of split 'test1'" in caplog.text
    assert "1 are damaged" in caplog.text


def test_a_whole_split_is_judged_without_a_warning(config, caplog):
    evaluator = make_evaluator(config)
    list(evaluator.run(say(evaluator, [0, 1, 2, 3])))
    assert "were judged" not in caplog.text


def test_a_split_without_an_official_list(config, tmp_path):
    fake_clips.write_dataset(tmp_path, "mine", 3, num_labels=3, **tiny_config.CLIPS)
    evaluator = make_evaluator(config, "mine")
    metrics = dict(evaluator.run(say(evaluator, [0, 1, 2, 3])))
    assert metrics["videos"] == 3
    assert "videos_listed" not in metrics


@pytest.mark.parametrize("num_classes", [3, 5, 12])
def test_metrics_are_those_of_scikit_learn(num_classes):
    rng = np.random.default_rng(num_classes)
    labels = rng.integers(0, num_classes, 60)
    scores = rng.normal(size=(60, num_classes)) + 1.5 * np.eye(num_classes)[labels]
    probabilities = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    result = ActionResult(probabilities, labels, loss=0.0)
    classes = range(num_classes)
    predicted = probabilities.argmax(axis=1)
    assert 0 < result.top1 < 1
    assert result.top1 == pytest.approx(sk.accuracy_score(labels, predicted))
    expected = sk.top_k_accuracy_score(labels, probabilities, k=5, labels=classes) if num_classes > 5 else 1.0
    assert result.top5 == pytest.approx(expected)
    assert result.mean_class_accuracy == pytest.approx(sk.balanced_accuracy_score(labels, predicted))
    np.testing.assert_array_equal(result.confusion_CxC, sk.confusion_matrix(labels, predicted, labels=classes))


def test_classes_without_videos_have_no_part_in_the_mean():
    result = ActionResult(np.eye(6)[[1, 1, 4, 5]], np.array([1, 1, 1, 4]), loss=0.0)
    assert result.mean_class_accuracy == pytest.approx((2 / 3 + 0) / 2)


def test_the_report_names_classes_in_the_datasets_order(config, tmp_path):
    evaluator = make_evaluator(config)
    list(evaluator.run(say(evaluator, [0, 3, 2, 3])))  # Apples (1) are taken for bananas (3), all else is right.
    paths = evaluator.write_report(tmp_path)
    assert [path.name for path in paths] == [
        "action_test1_confusion.png",
        "action_test1_per_class.json",
        "action_test1_per_class.csv",
    ]
    assert (tmp_path / "action_test1_confusion.png").read_bytes().startswith(b"\x89PNG")
    rows = json.loads((tmp_path / "action_test1_per_class.json").read_text())
    assert [(row["label"], row["class"], row["videos"], row["accuracy"], row["predicted"]) for row in rows] == [
        (0, "zebra", 2, 1.0, {"zebra": 2}),
        (1, "apple", 2, 0.0, {"banana": 2}),
        (2, "mango", 3, 1.0, {"mango": 3}),
    ]
    with open(tmp_path / "action_test1_per_class.csv") as file:
        table = list(csv.DictReader(file))
    assert [(row["class"], row["confused_with"], row["confused_videos"]) for row in table] == [
        ("zebra", "", "0"),
        ("apple", "banana", "2"),
        ("mango", "", "0"),
    ]


def test_classes_without_names_are_numbers(config, tmp_path):
    (tmp_path / "classes.txt").unlink()
    config.action.num_classes = 4
    evaluator = make_evaluator(config)
    list(evaluator.run(say(evaluator, [0, 1, 2, 3])))
    assert [row["class"] for row in evaluator.per_class(evaluator._result)] == ["0", "1", "2"]
