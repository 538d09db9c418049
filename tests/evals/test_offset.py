"""Offsets of shifted clips, found by a network that correlates flashes and beeps, and by one that knows nothing."""

import dataclasses
import json
import types

import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow as tf
from etils import epath

from cmav import config as cmav_config
from cmav import distributed
from cmav.data import schema
from cmav.errors import UserError
from cmav.evals.evaluators import make_evaluators
from cmav.evals.offset import Judged, OffsetEvaluator
from cmav.offsets.calibration import Calibration
from cmav.offsets.estimate import Reading
from tests import fake_clips, tiny_config
from tests.offsets import fake_sync

STATE = types.SimpleNamespace(params={}, model_state={}, step=np.int32(7))
CLIPS = dict(seconds=5.0, size=20, frame_rate=20.0, sample_rate=2000)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    fake_clips.write_dataset(folder, "validation", 13, seed=3, silent=[5], **CLIPS)
    return folder


def make_evaluator(data_dir, task=None, **changes):
    task = task or fake_sync.make_task(20.0, 1.5, 2000)
    config = cmav_config.offset_evaluator(**{"batch_size": 10, "shifts": 5, **changes})
    data = tiny_config.get_config().data
    data.dir = str(data_dir)
    data.stored_frame_rate, data.sample_rate, data.num_threads = 20.0, 2000, 2
    return OffsetEvaluator(config, data, task, distributed.make_mesh(), "validation")


@pytest.fixture(scope="module")
def evaluated(data_dir):
    evaluator = make_evaluator(data_dir)
    return evaluator, dict(evaluator.run(STATE))


def test_a_network_that_correlates_finds_the_offsets(evaluated):
    _, metrics = evaluated
    assert metrics["clips"] == 12  # one is silent
    assert metrics["median_error_ms"] < 25 and metrics["within_1_frame"] > 0.9
    assert metrics["within_1_frame_low"] < metrics["within_1_frame"] <= metrics["within_2_frames"]
    assert metrics["said"] > 0.9 and metrics["right_of_said"] > 0.9
    assert metrics["calibration_error"] < 0.1 and metrics["in_interval_95"] > 0.85
    assert metrics["unrelated_said"] < 0.5
    assert metrics["within_1_frame_of_4"] >= metrics["within_1_frame"]
    assert metrics["median_error_ms_of_4"] < metrics["median_error_ms"] + 2


def test_the_sign_is_that_of_the_command(data_dir):
    """A shifted clip, as the evaluator makes it, beside the record that it was cut from."""
    evaluator = make_evaluator(data_dir)
    record = schema.parse(tf.constant(schema.encode(fake_clips.make_clip(0, seed=3, **CLIPS))))
    samples = record["audio"].numpy()
    for view, late in enumerate(evaluator._late.tolist()):
        example = {
            key: np.asarray(x)
            for key, x in evaluator._make_example(record, tf.zeros(2, tf.int32), tf.constant(view)).items()
        }
        assert example["late"] == late and example["num_frames"] == 80
        (first,) = (k for k in range(21) if (frames_from(evaluator, record, k) == example["video"]).all())
        expected = samples[100 * first - late :][: len(example["audio"])]
        np.testing.assert_array_equal(example["audio"], expected)
        assert abs(late) <= 2000
    assert (np.diff(evaluator._late) > 0).all() and evaluator._late[0] < -1200 and evaluator._late[-1] > 1200


def frames_from(evaluator, record, number):
    return np.asarray(evaluator._stretch.make(record["frames"][number:], record["audio"])["video"])


@dataclasses.dataclass(frozen=True)
class Ignorant(fake_sync.FakeSync):
    def pair_logits(self, variables, pictures, sounds):
        return jnp.sin(1e4 * pictures.sum(axis=(1, 2))[:, None] + 1e4 * sounds.sum(axis=(2, 3)))


def test_a_network_that_knows_nothing_says_nothing(data_dir):
    task = fake_sync.make_task(20.0, 1.5, 2000)
    ignorant = Ignorant(task.data_config, task.model_config, task.loss_config, task.clip)
    metrics = dict(make_evaluator(data_dir, ignorant).run(STATE))
    assert metrics["within_1_frame"] < 0.3 and metrics["said"] < 0.2
    assert metrics["calibration_error"] < 0.15 and metrics["in_interval_95"] > 0.8


def test_the_report_and_the_calibration(evaluated, tmp_path):
    evaluator, metrics = evaluated
    paths = evaluator.write_report(epath.Path(tmp_path))
    assert [path.name for path in paths] == [
        "offset_calibration.json",
        "offset_validation.json",
        "offset_validation.png",
    ]
    report = json.loads(paths[1].read_text())
    assert report["metrics"]["median_error_ms"] == metrics["median_error_ms"]
    assert sum(one["share"] for one in report["confidence"]) == pytest.approx(1)
    calibration = Calibration.load(epath.Path(tmp_path))
    assert calibration.fitted_on["step"] == 7 and calibration.fitted_on["tolerance_seconds"] == pytest.approx(0.05)
    assert paths[2].stat().length > 5000


def test_short_clips_leave_less_room(data_dir, caplog):
    evaluator = make_evaluator(data_dir, max_seconds=3.0)
    assert evaluator._range == (100 - 30) // 2 and evaluator._stretch.num_frames == 65


def test_numbers_by_hand():
    posterior = Calibration().posterior(
        fake_evidence(np.zeros(21))
    )  # flat from -1 to 1: its 95% interval is from -0.95 to 0.95

    def reading(peak, confidence):
        return Reading(peak, False, confidence, posterior)

    judged = Judged(
        np.array([0.0, 0.1, -0.3, 0.99]),
        [reading(0.02, 0.95), reading(0.2, 0.55), reading(-0.3, 0.92), reading(0.5, 0.2)],
        0.05,
    )
    numbers = judged.numbers()
    assert numbers["median_error_ms"] == pytest.approx(60) and numbers["mean_error_ms"] == pytest.approx(610 / 4)
    assert numbers["within_1_frame"] == 0.5 and numbers["within_2_frames"] == 0.75
    assert numbers["said"] == 0.75 and numbers["right_of_said"] == pytest.approx(2 / 3)
    assert numbers["sure"] == 0.5 and numbers["right_of_sure"] == 1.0
    assert numbers["in_interval_95"] == 0.75
    assert numbers["calibration_error"] == pytest.approx((0.05 + 0.55 + 0.08 + 0.2) / 4)


def fake_evidence(logits):
    from cmav.offsets.evidence import Evidence

    return Evidence(np.linspace(-1, 1, len(logits)), logits, np.ones(len(logits)))


def test_a_batch_is_of_whole_clips(data_dir):
    with pytest.raises(UserError, match=r"batch_size=10 must be a multiple of shifts=4"):
        make_evaluator(data_dir, shifts=4)
    with pytest.raises(UserError, match=r"at least twice"):
        make_evaluator(data_dir, shifts=10)


def test_other_tasks_are_refused(data_dir):
    config = tiny_config.get_cmac_config()
    with config.unlocked():
        config.evals.offset = cmav_config.offset_evaluator()
    from cmav.tasks import make_task

    task = make_task(config, config.phases[0])
    with pytest.raises(UserError, match=r"type 'offset' needs pictures and sounds encoded apart"):
        make_evaluators(config, task, distributed.make_mesh())
