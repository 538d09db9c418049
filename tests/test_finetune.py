"""Fine-tuning from end to end: from a pretraining run to numbers, and on after a stop, wherever that run is by now."""

import json
import logging

import pytest

from cmav.errors import UserError
from cmav.training import finetune, splits
from tests import fake_clips, tiny_config
from tests.training.test_pretrained import save_run


@pytest.fixture
def config(tmp_path):
    for split, seed in (("train1", 0), ("test1", 1), ("train2", 2), ("test2", 3)):
        fake_clips.write_dataset(
            tmp_path / "clips", split, 8, num_labels=3, silent=(1, 4), seed=seed, **tiny_config.CLIPS
        )
    save_run(tmp_path / "pretrained", tiny_config.get_config(), steps=(12,))
    config = tiny_config.get_action_config()
    config.data.dir = str(tmp_path / "clips")
    config.init.checkpoint = str(tmp_path / "pretrained")
    config.action.num_classes = 3
    config.phases = (dict(frame_rate=10.0, batch_size=8, steps=2),)
    return config


def test_a_run_from_a_pretrained_one_and_on_when_that_is_gone(config, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    config.model.num_heads = 2  # The pretrained run has 4, which no array shows.
    first = finetune.finetune(config, str(tmp_path / "run"), {})
    assert first["steps"] == 2 and first["videos"] == 8 and 0 <= first["top1"] <= 1
    assert json.loads((tmp_path / "run" / "config.json").read_text())["model"]["num_heads"] == 4
    assert "starting from checkpoint 12" in caplog.text
    (tmp_path / "pretrained").rename(tmp_path / "gone")
    config.phases = (dict(frame_rate=10.0, batch_size=8, steps=3),)
    caplog.clear()
    assert finetune.finetune(config, str(tmp_path / "run"), {})["steps"] == 3
    assert "resuming at step 2" in caplog.text and "starting from" not in caplog.text
    with pytest.raises(UserError, match="no checkpoints in"):
        finetune.finetune(config, str(tmp_path / "other"), {})


def test_the_mean_over_splits(config, tmp_path):
    rows = {}
    for number in (1, 2):
        split_config, workdir = splits.numbered(config, str(tmp_path / "runs"), number)
        rows[number] = finetune.finetune(split_config, workdir, {})
    mean, _ = splits.over_splits(rows)
    assert mean["top1"] == pytest.approx((rows[1]["top1"] + rows[2]["top1"]) / 2)
    assert json.loads((tmp_path / "runs" / "split2" / "config.json").read_text())["data"]["eval_split"] == "test2"
