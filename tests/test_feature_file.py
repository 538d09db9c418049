"""What is written can be read, gone on with, and told from what was made otherwise."""

import csv
import json
import math

import numpy as np
import pytest

from cmav.errors import UserError
from cmav.feature_file import FeatureFile, Row, write_failures

METADATA = {"run": "/runs/a", "step": 3, "weights": "00ff00ff", "layers": ["features"]}


def make_row(number, end=math.nan):
    features = np.arange(4, dtype=np.float32) + number
    return Row(f"/videos/Ärger {number}.mp4", 0.5, end, 2.0, number % 2 == 0, "cat", "", features)


def open_file(path, **changes):
    return FeatureFile(str(path), METADATA | changes, origin=("run", "step"))


def test_survives_a_round_trip(tmp_path):
    path = tmp_path / "new" / "features"  # NumPy would make it features.npz
    file = open_file(path)
    file.rows += [make_row(0), make_row(1, end=3.25)]
    file.save()
    assert [child.name for child in path.parent.iterdir()] == ["features"]
    again = open_file(path)
    assert [row.part for row in again.rows] == [("/videos/Ärger 0.mp4", 0.5, None), ("/videos/Ärger 1.mp4", 0.5, 3.25)]
    again.rows.append(make_row(2))
    again.save()
    with np.load(path, allow_pickle=False) as arrays:
        assert arrays["features"].dtype == np.float32 and arrays["features"].shape == (3, 4)
        np.testing.assert_array_equal(arrays["features"][2], make_row(2).features)
        assert arrays["has_audio"].tolist() == [True, False, True]
        assert json.loads(str(arrays["metadata"])) == METADATA


def test_the_same_weights_elsewhere_are_the_same(tmp_path):
    file = open_file(tmp_path / "f.npz")
    file.rows.append(make_row(0))
    file.save()
    assert len(open_file(tmp_path / "f.npz", run="/moved/a").rows) == 1
    with pytest.raises(UserError) as error:
        open_file(tmp_path / "f.npz", weights="12345678", layers=["video/map"], step=4)
    message = str(error.value)
    assert "weights was 00ff00ff, is 12345678" in message and "layers was ['features'], is ['video/map']" in message
    assert "run /runs/a, step 3" in message


@pytest.mark.parametrize("content", [b"", b"no archive", None])
def test_another_file_is_left_alone(tmp_path, content):
    path = tmp_path / "f.npz"
    if content is None:
        np.savez(path, x=np.zeros(3))
    else:
        path.write_bytes(content)
    before = path.read_bytes()
    with pytest.raises(UserError, match="is no file of features"):
        open_file(path)
    assert path.read_bytes() == before


def test_a_save_that_fails_leaves_the_file_before(tmp_path):
    file = open_file(tmp_path / "f.npz")
    file.rows.append(make_row(0))
    file.save()
    file.rows.append(Row("/odd.mp4", 0.0, math.nan, 1.0, True, "", "", np.zeros(7, np.float32)))
    with pytest.raises(ValueError):
        file.save()
    assert len(open_file(tmp_path / "f.npz").rows) == 1


def test_failures_are_a_list_of_videos(tmp_path):
    path = str(tmp_path / "f.failed.csv")
    write_failures(path, [(("/a,b.mp4", 0.0, None), 'no "video" stream'), (("/c.mp4", 1.5, 3.0), "gone")])
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0] == {"path": "/a,b.mp4", "start": "0.0", "end": "", "reason": 'no "video" stream'}
    assert (rows[1]["start"], rows[1]["end"]) == ("1.5", "3.0")
    write_failures(path, [])
    assert not list(tmp_path.iterdir())
