"""Official splits: their numbers, their runs, and the mean over them, against NumPy."""

import json

import numpy as np
import pytest
from etils import epath

from cmav.errors import UserError
from cmav.training import splits
from tests import tiny_config

ROWS = {
    1: {"step": 30, "top1": 0.5, "top1_interval": [0.4, 0.6], "top5": 1.0, "videos": 100},
    2: {"step": 30, "top1": 0.6, "top1_interval": [0.5, 0.7], "top5": 0.9, "videos": 101},
    3: {"step": 30, "top1": 0.75, "top1_interval": [0.65, 0.85], "top5": 0.95, "videos": 99},
}


@pytest.mark.parametrize(("text", "numbers"), [("1,2,3", [1, 2, 3]), ("2", [2]), (" 3, 1", [3, 1]), ("10", [10])])
def test_parse(text, numbers):
    assert splits.parse(text) == numbers


@pytest.mark.parametrize("text", ["", "1,,2", "1,two", "0", "-1", "1,1", "1-3", "1,01"])
def test_what_is_no_list_of_splits_is_refused(text):
    with pytest.raises(UserError, match=r"--splits=.*1,2,3"):
        splits.parse(text)


def test_numbered():
    config = tiny_config.get_action_config()
    config.data.train_split, config.data.eval_split = "hmdb_train1", "hmdb_test1"
    second, folder = splits.numbered(config, "gs://bucket/runs/ucf", 12)
    assert (second.data.train_split, second.data.eval_split) == ("hmdb_train12", "hmdb_test12")
    assert folder == "gs://bucket/runs/ucf/split12"
    assert config.data.train_split == "hmdb_train1"
    with pytest.raises(UserError, match="eval_split='validation'"):
        config.data.eval_split = "validation"
        splits.numbered(config, "runs/ucf", 1)


def test_the_mean_over_splits_is_the_mean(tmp_path, capsys):
    splits.report(ROWS, epath.Path(tmp_path / "run"))
    numbers = json.loads((tmp_path / "run" / "splits.json").read_text())
    top1, top5 = [0.5, 0.6, 0.75], [1.0, 0.9, 0.95]
    assert numbers["mean"] == pytest.approx({"top1": np.mean(top1), "top5": np.mean(top5)})
    assert numbers["std"] == pytest.approx({"top1": np.std(top1, ddof=1), "top5": np.std(top5, ddof=1)})
    assert numbers["splits"]["3"] == ROWS[3]
    table = (tmp_path / "run" / "splits.md").read_text()
    assert table in capsys.readouterr().out
    lines = [[cell.strip() for cell in line.strip("|\n").split("|")] for line in table.splitlines()]
    assert lines[0] == ["split", "step", "top1", "top5", "videos"]
    assert lines[3] == ["2", "30", "0.6000 (0.5000–0.7000)", "0.9000", "101"]
    assert lines[5] == ["mean", "", "0.6167", "0.9500", ""]
    assert lines[6] == ["std", "", "0.1258", "0.0500", ""]


def test_one_split_has_no_deviation_and_a_metric_that_a_split_lacks_no_mean():
    mean, deviation = splits.over_splits({2: ROWS[2]})
    assert (mean["top1"], deviation) == (0.6, {})
    mean, _ = splits.over_splits({1: {**ROWS[1], "C": 0.1}, 2: {"top1": 0.6, "C": 0.01}})
    assert mean.keys() == {"top1"}
