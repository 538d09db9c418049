"""What is written can be read, gone on with, and told from what was made otherwise."""

import csv
import dataclasses
import errno
import itertools
import json
import math
import os
import tracemalloc
import zipfile

import numpy as np
import pytest

from cmav.data import storage
from cmav.errors import UserError
from cmav.own_videos import feature_file
from cmav.own_videos.feature_file import NOTE_CHARACTERS, FeatureFile, Row, write_failures

METADATA = {"run": "/runs/a", "step": 3, "weights": "00ff00ff", "layers": ["features"]}


def make_row(number, end=math.nan):
    features = np.arange(4, dtype=np.float32) + number
    return Row(f"/videos/Ärger {number}.mp4", 0.5, end, 2.0, number % 2 == 0, "cat", "", features)


def open_file(path, **changes):
    return FeatureFile(str(path), METADATA | changes, origin=("run", "step"))


def numbers(path):
    """Which of `make_row`'s rows a file has, in order."""
    with np.load(path, allow_pickle=False) as arrays:
        return arrays["features"][:, 0].astype(int).tolist()


def test_survives_a_round_trip(tmp_path):
    path = tmp_path / "new" / "features"  # NumPy would make it features.npz
    file = open_file(path)
    file.add([make_row(0), make_row(1, end=3.25)])
    file.finish()
    assert [child.name for child in path.parent.iterdir()] == ["features"]
    again = open_file(path)
    assert again.parts == {("/videos/Ärger 0.mp4", 0.5, None), ("/videos/Ärger 1.mp4", 0.5, 3.25)}
    again.add([make_row(2)])
    again.finish()
    assert [child.name for child in path.parent.iterdir()] == ["features"] and again.num_rows == 3
    with np.load(path, allow_pickle=False) as arrays:
        assert arrays["features"].dtype == np.float32 and arrays["features"].shape == (3, 4)
        np.testing.assert_array_equal(arrays["features"][2], make_row(2).features)
        assert arrays["has_audio"].tolist() == [True, False, True]
        assert arrays["path"].tolist() == [f"/videos/Ärger {number}.mp4" for number in range(3)]
        assert arrays["label"].tolist() == ["cat"] * 3 and arrays["note"].tolist() == [""] * 3
        np.testing.assert_array_equal(arrays["end"], [math.nan, 3.25, math.nan])
        assert {name: arrays[name].dtype.kind for name in arrays} == {
            "path": "U", "start": "f", "end": "f", "seconds": "f", "has_audio": "b", "label": "U", "note": "U",
            "features": "f", "metadata": "U",
        }  # fmt: skip
        assert json.loads(str(arrays["metadata"])) == METADATA


def test_a_file_of_before_is_gone_on_with(tmp_path):
    """As `numpy.savez` and `numpy.savez_compressed` write it, all at once."""
    rows = [make_row(number) for number in range(3)]
    columns = {name: np.array([getattr(row, name) for row in rows]) for name in vars(rows[0])}
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "f.npz", metadata=np.array(json.dumps(METADATA)), **columns)
        file = open_file(tmp_path / "f.npz")
        assert file.num_rows == 3 and len(file.parts) == 3
        file.add([make_row(3)])
        file.finish()
        assert numbers(tmp_path / "f.npz") == [0, 1, 2, 3]


def test_killed_at_any_moment_it_loses_what_was_not_saved_and_nothing_twice(tmp_path, monkeypatch):
    """Before each call that changes the folder the process is gone; the next one goes on."""
    path = tmp_path / "f.npz"

    class KilledError(BaseException):
        pass

    def step(file):
        for _ in range(2):
            file.add([make_row(file.num_rows)])
            file.save()
        file.finish()

    left = 0

    def counted(change):
        def call(*args, **options):
            nonlocal left
            left -= 1
            if left < 0:
                raise KilledError
            return change(*args, **options)

        return call

    for name in ("replace", "remove", "rmdir", "makedirs"):
        monkeypatch.setattr(os, name, counted(getattr(os, name)))
    for moment in itertools.count():
        left = 10**9
        before = open_file(path).num_rows
        left = moment
        try:
            step(open_file(path))
        except KilledError:
            left = 10**9
            after = open_file(path)
            assert before <= after.num_rows <= before + 2
            after.add([make_row(after.num_rows)])
            after.finish()
            assert numbers(path) == list(range(after.num_rows))
            continue
        break
    assert moment > 5 and sorted(os.listdir(tmp_path)) == ["f.npz"]


def test_a_long_note_makes_no_row_wide(tmp_path):
    file = open_file(tmp_path / "f.npz")
    file.add([make_row(0)])
    file.finish()
    with np.load(tmp_path / "f.npz") as arrays:
        assert arrays["note"].dtype == "U1"
    file.add([dataclasses.replace(make_row(1), note="x" * 5000), make_row(2)])
    file.finish()
    with np.load(tmp_path / "f.npz") as arrays:
        assert arrays["note"].dtype == f"U{NOTE_CHARACTERS}" and arrays["note"].tolist()[::2] == ["", ""]
        assert arrays["note"][1] == "x" * NOTE_CHARACTERS


def test_memory_does_not_grow_with_the_rows(tmp_path):
    """120 MB of features."""
    file = open_file(tmp_path / "f.npz")
    features = np.ones(1000, np.float32)
    tracemalloc.start()
    for number in range(30_000):
        file.add([Row("/a.mp4", 0.0, math.nan, float(number), True, "", "", features.copy())])
    file.finish()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 65e6 and numbers(tmp_path / "f.npz") == [1] * 30_000


def test_the_same_weights_elsewhere_are_the_same(tmp_path):
    file = open_file(tmp_path / "f.npz")
    file.add([make_row(0)])
    file.finish()
    assert open_file(tmp_path / "f.npz", run="/moved/a").num_rows == 1
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


def test_what_cannot_be_saved_leaves_the_file_before(tmp_path, monkeypatch):
    file = open_file(tmp_path / "f.npz")
    file.add([make_row(0)])
    file.finish()
    with pytest.raises(ValueError, match="7 features, not 4"):
        file.add([Row("/odd.mp4", 0.0, math.nan, 1.0, True, "", "", np.zeros(7, np.float32))])
    file.add([make_row(1)])
    file.save()
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *args, **kwargs: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        file.finish()
    monkeypatch.undo()
    assert sorted(os.listdir(tmp_path)) == ["f.npz", "f.npz.parts"]
    assert numbers(tmp_path / "f.npz") == [0]
    open_file(tmp_path / "f.npz").finish()
    assert numbers(tmp_path / "f.npz") == [0, 1]


def test_reading_that_fails_for_a_while_is_tried_again(tmp_path, monkeypatch):
    """While rows are joined, and when a file of before is taken up."""
    monkeypatch.setattr(storage, "DELAYS", (0.0,))
    real, left = feature_file._Column.__init__, []

    def fail_once(self, *args):
        if left:
            left.pop()
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(self, *args)

    monkeypatch.setattr(feature_file._Column, "__init__", fail_once)
    path = tmp_path / "f.npz"
    for number in range(2):
        left += [True] * (number > 0)  # the second time there is a file to take up
        file = open_file(path)
        file.add([make_row(number)])
        left.append(True)
        file.finish()
        assert not left and numbers(path) == list(range(number + 1))


def test_failures_are_a_list_of_videos(tmp_path):
    path = str(tmp_path / "f.failed.csv")
    write_failures(path, [(("/a,b.mp4", 0.0, None), 'no "video" stream'), (("/c.mp4", 1.5, 3.0), "gone")])
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0] == {"path": "/a,b.mp4", "start": "0.0", "end": "", "reason": 'no "video" stream'}
    assert (rows[1]["start"], rows[1]["end"]) == ("1.5", "3.0")
    write_failures(path, [])
    assert not list(tmp_path.iterdir())
