"""Splits that share no video: refused where they would, divided by name, whoever builds them and when."""

import numpy as np
import pytest

from cmav.data import index, schema
from cmav.prep import build_tfrecords
from cmav.prep.held_out import is_held_out
from tests.media.sample_videos import numbered, steady_times, write_video
from tests.prep.sample_work import run_here

FLAGS = ["--clip_seconds", "0.4", "--size", "8", "--frame_rate", "10", "--workers", "1"]


@pytest.fixture(autouse=True)
def here(monkeypatch):
    monkeypatch.setattr("cmav.prep.workers.run", run_here)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for number in range(12):
        write_video(str(folder / f"v{number}.mp4"), steady_times(10, 0.9), numbered(9))
    (folder / "linked").symlink_to(folder)
    return folder


def build(videos, out, *flags) -> int:
    return build_tfrecords.main(["--videos", str(videos), "--out", str(out), *FLAGS, *flags])


def listed(videos, text):
    path = videos / "list.csv"
    path.write_text(text)
    return path


def sources(out, split):
    found = index.SplitIndex.load(str(out), split)
    return {schema.parse(found.read(record))["source"].numpy().decode() for record in range(len(found))}


@pytest.mark.parametrize(
    "rows",
    [
        "v0.mp4,,,train\nv0.mp4,,,test\n",
        "v0.mp4,0,0.5,train\nv0.mp4,0.4,,test\n",
        "v0.mp4,,,train\nlinked/v0.mp4,0.4,0.8,test\n",
    ],
)
def test_a_csv_with_a_video_in_two_splits_is_refused_before_all_work(videos, tmp_path, capsys, rows):
    path = listed(videos, "path,start,end,split\nv1.mp4,,,train\n" + rows)
    assert build(path, tmp_path / "out") == 1
    said = capsys.readouterr().err
    assert "v0.mp4: " in said and "'train'" in said and "'test'" in said and "--allow_overlap" in said
    assert not (tmp_path / "out" / "build").exists()
    assert build(path, tmp_path / "out", "--allow_overlap") == 0


def test_parts_side_by_side_are_not(videos, tmp_path):
    path = listed(videos, "path,start,end,split\nv0.mp4,0,0.4,train\nv0.mp4,0.4,,test\n")
    assert build(path, tmp_path / "out") == 0


def test_commands_one_after_the_other_are_compared(videos, tmp_path, capsys):
    one = listed(videos, "path\nv0.mp4\nv1.mp4\n")
    assert build(one, tmp_path / "out", "--split", "train") == 0
    assert build(videos / "linked", tmp_path / "out", "--split", "validation") == 1
    assert "2 files are in two splits" in capsys.readouterr().err
    assert build(listed(videos, "path\nv2.mp4\n"), tmp_path / "out", "--split", "validation") == 0
    # Grown by a video that the other split has.
    assert build(listed(videos, "path\nv2.mp4\nv1.mp4\n"), tmp_path / "out", "--split", "validation") == 1
    assert "v1.mp4: all of it in 'train' and all of it in 'validation'" in capsys.readouterr().err
    assert sources(tmp_path / "out", "validation") == {"v2.mp4"}


def test_a_share_is_held_out_by_name_and_stays_when_videos_are_added(videos, tmp_path, capsys):
    def expected(numbers):
        held = {f"v{number}.mp4" for number in numbers if is_held_out(f"v{number}.mp4", 0.3)}
        return {"validation": held, "train": {f"v{number}.mp4" for number in numbers} - held}

    for numbers in (range(9), range(12)):
        path = listed(videos, "path\n" + "".join(f"v{number}.mp4\n" for number in numbers))
        assert build(path, tmp_path / "out", "--validation_share", "0.3") == 0
        for split, names in expected(numbers).items():
            assert sources(tmp_path / "out", split) == names and names
    assert f"{len(expected(range(12))['validation'])} of 12 videos are held out" in capsys.readouterr().out


@pytest.mark.parametrize("flags", [["--split", "train"], ["--dataset", "esc50"], ["--validation_share", "1"]])
def test_where_a_share_makes_no_sense(videos, tmp_path, capsys, flags):
    with pytest.raises(SystemExit):
        build(videos, tmp_path / "out", "--validation_share", "0.1", *flags)
    assert "--validation_share" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ("0\n1\n0.0", "line 4: `label` is '0.0'"),
        ("0\n1\ndog", "line 4: `label` is 'dog'"),
        ("0\n1\n3000000000", "line 4: `label` is 3000000000, greater than 2147483647"),
    ],
)
def test_odd_labels_are_named_before_all_work(videos, tmp_path, capsys, labels, said):
    rows = "".join(f"v{number}.mp4,{label}\n" for number, label in enumerate(labels.split("\n")))
    assert build(listed(videos, "path,label\n" + rows), tmp_path / "out") == 1
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_minus_one_is_no_label(videos, tmp_path):
    assert build(listed(videos, "path,label\nv0.mp4,1\nv1.mp4,-1\nv2.mp4,0\n"), tmp_path / "out") == 0
    found = index.SplitIndex.load(str(tmp_path / "out"), "train")
    np.testing.assert_array_equal(np.unique(found.rows["label"]), [-1, 0, 1])
