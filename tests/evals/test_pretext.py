"""Accuracy and its breakdown by class, against counts done by hand."""

import types

import jax
import numpy as np
import pytest

from cmav import distributed
from cmav.data import clip_shape
from cmav.evals.pretext import PretextEvaluator, PretextResult
from cmav.tasks import make_task
from tests import fake_clips, tiny_config


@pytest.fixture
def evaluator(tmp_path):
    fake_clips.write_dataset(tmp_path, "validation", 10, num_labels=3, silent=[4], **tiny_config.CLIPS)
    config = tiny_config.get_config()
    config.data.dir = str(tmp_path)
    task = make_task(config, config.phases[0])
    assert isinstance(task.clip, clip_shape.ClipShape)
    return PretextEvaluator(config.evals.pretext, config.data, task, distributed.make_mesh(), "validation")


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
