"""Accuracy and its breakdown by class, against counts done by hand."""

import dataclasses
import types

import jax
import numpy as np
import pytest
import tensorflow as tf
from etils import epath

from cmav import config as cmav_config
from cmav import distributed
from cmav.evals.evaluators import list_panels
from cmav.evals.pretext import PretextEvaluator, PretextResult
from cmav.tasks import make_task
from cmav.training import summary
from tests import fake_clips, tiny_config


def make_evaluator(folder, **settings):
    config = tiny_config.get_config()
    config.data.dir = str(folder)
    config.evals.pretext.update(settings)
    task = make_task(config, config.phases[0])
    return PretextEvaluator(config.evals.pretext, config.data, task, distributed.make_mesh(), "validation")


@pytest.fixture
def evaluator(tmp_path):
    fake_clips.write_dataset(tmp_path, "validation", 10, num_labels=3, silent=[4], **tiny_config.CLIPS)
    return make_evaluator(tmp_path)


def test_silent_clips_are_not_asked_about_and_padding_does_not_count(evaluator):
    """A network that always says "in sync" is right on every aligned pair and wrong on every shifted one."""
    evaluator._answer = lambda variables, batch: {
        "correct": np.tile([1.0, 0.0], (len(batch["mask"]), 1)),
        "loss": np.ones((len(batch["mask"]), 2)),
        "label": np.asarray(batch["label"]),
        "mask": np.asarray(batch["mask"]),
    }
    state = types.SimpleNamespace(params={}, model_state={})
    metrics = dict(evaluator.run(state))
    assert metrics["clips"] == 9
    assert (metrics["avs_accuracy_aligned"], metrics["avs_accuracy_shifted"]) == (1.0, 0.0)
    assert metrics["avs_accuracy"] == 0.5


def test_by_class(evaluator):
    correct = np.array([[1, 1], [1, 0], [0, 0], [1, 1]], np.float32)
    result = PretextResult(correct, np.zeros((4, 2)), np.array([0, 1, 1, -1]), pairs_per_clip=1)
    rows = evaluator.per_label(result)
    assert [(row["label_name"], row["clips"], row["accuracy"]) for row in rows] == [
        ("class0", 1, 1.0),
        ("class1", 2, 0.25),
    ]


def test_the_pairs_are_fixed(evaluator):
    def audio_sums():
        seen = []
        evaluator._answer = lambda variables, batch: (
            seen.append(np.abs(np.asarray(batch["audio"], np.int64)).sum(axis=(2, 3)))
            or {
                "correct": np.ones((len(batch["mask"]), 2)),
                "loss": np.ones((len(batch["mask"]), 2)),
                "label": np.asarray(batch["label"]),
                "mask": np.asarray(batch["mask"]),
            }
        )
        list(evaluator.run(types.SimpleNamespace(params={}, model_state={})))
        return np.concatenate(jax.device_get(seen))

    np.testing.assert_array_equal(audio_sums(), audio_sums())


def test_both_kinds_of_negatives_side_by_side(tmp_path):
    """To a network that knows each clip's voice whatever is of the clip is in sync: it is wrong about shifted alone."""
    clips = []
    for number in range(5):
        clip = fake_clips.make_clip(number, label=number % 3, **tiny_config.CLIPS)
        picture = tf.io.encode_jpeg(np.full((20, 20, 3), 40 * number, np.uint8)).numpy()
        voice = np.full_like(clip.audio, 40 * number)
        clips.append(dataclasses.replace(clip, frames=[picture] * len(clip.frames), audio=voice))
    fake_clips.write_clips(tmp_path, "validation", clips)

    def answer(variables, batch):
        seen = np.asarray(batch["video"], float).mean(axis=(1, 2, 3, 4))
        heard = np.asarray(batch["audio"], float).mean(axis=(2, 3))
        in_sync = np.abs(seen[:, None] - heard) < 20
        return {
            "correct": (in_sync == (np.asarray(batch["labels"]) > 0)).astype(np.float32),
            "loss": np.ones(heard.shape),
            "label": np.asarray(batch["label"]),
            "mask": np.asarray(batch["mask"]),
        }

    metrics, written, state = {}, [], types.SimpleNamespace(params={}, model_state={})
    for negatives in ("shifted", "other"):
        evaluator = make_evaluator(tmp_path, negatives=negatives)
        evaluator._answer = answer
        metrics |= {f"{negatives}/{key}": x for key, x in evaluator.run(state)}
        written += [path.name for path in evaluator.write_report(epath.Path(tmp_path))]
    numbers = summary.flatten(metrics)
    assert {key: x for key, x in numbers.items() if "interval" not in key} == {
        "avs_accuracy": 0.5,
        "avs_accuracy_aligned": 1.0,
        "avs_accuracy_shifted": 0.0,
        "avs_loss": 1.0,
        "clips": 5,
        "avc_accuracy": 1.0,
        "avc_accuracy_aligned": 1.0,
        "avc_accuracy_other": 1.0,
        "avc_loss": 1.0,
        "avc_clips": 5,
    }
    assert {"avs_accuracy_interval", "avc_accuracy_interval"} <= set(numbers)
    names = [f"{kind}_validation_per_label.{end}" for kind in ("pretext", "correspondence") for end in ("json", "png")]
    assert written == names


def test_the_curves_are_those_of_the_kind_that_is_asked_about():
    config = tiny_config.get_config()
    with config.unlocked():
        config.evals.correspondence = cmav_config.correspondence_evaluator(config, every=5)
    assert config.evals.correspondence.every == 5 and config.evals.pretext.negatives == "shifted"
    panels = list_panels(config, make_task(config, config.phases[0]))
    assert {panel.held_out for panel in panels} == {
        *("pretext/avs_loss", "pretext/avs_accuracy", "correspondence/avc_loss", "correspondence/avc_accuracy")
    }
