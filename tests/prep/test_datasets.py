"""Labelled sets from their lists to folders that can be opened."""

import csv
import pathlib
import re
from fractions import Fraction

import numpy as np
import pytest
import tensorflow_datasets as tfds

from cmav.data import index, layout, schema
from cmav.prep import build_tfrecords, datasets, files
from tests.media.sample_videos import Sound, flashes_at, steady_times, write_sound, write_video
from tests.prep.sample_lists import write
from tests.prep.sample_work import run_here

FLAGS = ["--size", "32", "--sample_rate", "8000", "--workers", "1"]
LISTS = dict(
    classInd__txt="1 Run\n2 Archery\n",
    trainlist01__txt="Run/a.avi 1\nRun/b.avi 1\nArchery/c.avi 2\n",
    testlist01__txt="Archery/d.avi\nRun/gone.avi\nRun/stub.avi\n",
    trainlist02__txt="Archery/d.avi 2\nRun/stub.avi 1\n",
    testlist02__txt="Run/a.avi\nRun/gone.avi\n",
    testlist03__txt="Run/gone.avi\n",
)


@pytest.fixture(autouse=True)
def here(monkeypatch):
    monkeypatch.setattr("cmav.prep.workers.run", run_here)


@pytest.fixture(scope="module")
def actions(tmp_path_factory):
    """Videos and lists: a as listed, b elsewhere, c and d transcoded, one that is no video, one that is missing."""
    folder = tmp_path_factory.mktemp("actions")
    write(folder / "lists", **LISTS)
    for name, seconds in (("Run/a.avi", 1.1), ("b.avi", 0.4), ("mp4/c.mp4", 0.6), ("mp4/d.mp4", 0.8)):
        path = folder / "videos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        times = steady_times(25, seconds)
        sound = Sound(beeps=[0.1], seconds=seconds, codec="aac") if name.endswith("mp4") else None
        write_video(
            str(path), times, flashes_at(times, [0.1]), sound, codec="mpeg4", rate=25, time_base=Fraction(1, 25)
        )
    (folder / "videos/Run/stub.avi").write_text("version https://git-lfs.github.com/spec/v1")
    return folder


def build(folder, out, *flags, name="ucf101") -> int:
    paths = ["--dataset", name, "--videos", str(folder / "videos"), "--lists", str(folder / "lists")]
    return build_tfrecords.main([*paths, "--out", str(out), *FLAGS, *flags])


def clip_ids(folder, split) -> dict[str, int]:
    found = index.SplitIndex.load(str(folder), split)
    records = [schema.parse(found.read(number)) for number in range(len(found))]
    assert [int(record["label"]) for record in records] == found.rows["label"].tolist()
    return {record["clip_id"].numpy().decode(): int(record["label"]) for record in records}


def test_official_splits_of_whole_videos(actions, tmp_path, capsys):
    assert build(actions, tmp_path, "--verify") == 0
    said = capsys.readouterr().out
    assert "5 of 6 listed videos are below" in said
    assert "test1: 1 of the 3 listed videos are there; missing: gone.avi, stub.avi (all in rejects.csv)" in said
    assert "train1: 3 of the 3 listed videos are there\n" in said and "test3: 0 of the 1 listed" in said
    assert (
        f"\n  cmav finetune finetune_ucf101 --config.data.dir={tmp_path}" in said and "videos: whole; 4 clips" in said
    )
    assert clip_ids(tmp_path, "videos") == {"a_0": 0, "b_0": 0, "c_0": 1, "d_0": 1}
    assert clip_ids(tmp_path, "train1") == {"a_0": 0, "b_0": 0, "c_0": 1}
    assert clip_ids(tmp_path, "test1") == {"d_0": 1} == clip_ids(tmp_path, "train2")
    assert clip_ids(tmp_path, "test2") == {"a_0": 0}
    assert index.SplitIndex.load(str(tmp_path), "test1").num_listed == 3
    assert layout.load_classes(str(tmp_path)) == ("Run", "Archery")
    whole = index.SplitIndex.load(str(tmp_path), "videos")
    assert sorted(whole.rows["seconds"]) == pytest.approx([0.4, 0.6, 0.8, 1.1], abs=0.04)
    assert whole.rows["has_audio"].sum() == 2
    with open(tmp_path / "rejects.csv", newline="") as file:
        assert [row[0] for row in csv.reader(file)] == ["path", "Run/gone.avi", "Run/stub.avi"]
    assert {name: s.num_examples for name, s in tfds.builder_from_directory(str(tmp_path)).info.splits.items()} == {
        "videos": 4
    }


def test_verify_knows_official_splits(actions, tmp_path, capsys):
    assert build(actions, tmp_path) == 0
    verify = ["--out", str(tmp_path), "--verify", "--split"]
    assert build_tfrecords.main([*verify, "test1"]) == 0
    said = capsys.readouterr().out
    assert "test1: lies in the shards of videos, which are checked" in said and "videos: whole" in said
    path = pathlib.Path(layout.official_path(str(tmp_path), "videos"))
    path.write_text(path.read_text().replace("test2", "test9"))
    assert build_tfrecords.main([*verify, "videos"]) == 1
    assert "it is of the official splits ['test2', 'train1'], but listed in ['test9', 'train1']" in (
        capsys.readouterr().out
    )


def test_clips_of_a_length_stay_in_their_splits(actions, tmp_path, capsys):
    assert build(actions, tmp_path, "--clip_seconds", "0.3") == 0
    assert clip_ids(tmp_path, "test2") == {"a_0": 0, "a_300": 0, "a_601": 0}
    assert "test2: 1 of the 2 listed videos are there" in capsys.readouterr().out


def test_a_csv_gives_official_splits_too(actions, tmp_path):
    listed = (
        write(
            tmp_path,
            list__csv="path,label,splits\n"
            + "".join(
                f"{actions}/videos/{name},{label},{splits}\n"
                for name, label, splits in (
                    ("Run/a.avi", "run", "fold1"),
                    ("b.avi", "fly", "fold1;fold2"),
                    ("mp4/c.mp4", "run", ""),
                )
            ),
        )
        / "list.csv"
    )
    out = tmp_path / "out"
    flags = ["--clip_seconds", "0", "--split", "all_of_it", "--verify"]
    assert build_tfrecords.main(["--videos", str(listed), "--out", str(out), *FLAGS, *flags]) == 0
    assert clip_ids(out, "fold1") == {"a_0": 1, "b_0": 0} and clip_ids(out, "fold2") == {"b_0": 0}
    assert layout.list_splits(str(out)) == ["all_of_it", "fold1", "fold2"]
    assert layout.load_classes(str(out)) == ("fly", "run")


def test_sounds(tmp_path, capsys):
    """ESC-50's form. Its files have no pictures, and a folder of videos would reject them."""
    rows = "filename,fold,target,category\na.wav,1,1,rain\nb.wav,2,0,dog\ngone.wav,2,0,dog\nsilent.wav,1,0,dog\n"
    write(tmp_path / "lists/meta", esc50__csv=rows)
    (tmp_path / "videos/audio").mkdir(parents=True)
    for name, sound in (("a", Sound(beeps=[0.5], seconds=2)), ("b", Sound(beeps=[0.1])), ("silent", Sound())):
        write_sound(str(tmp_path / f"videos/audio/{name}.wav"), sound)
    out = tmp_path / "out"
    assert build(tmp_path, out, "--verify", name="esc50") == 0
    said = capsys.readouterr().out
    assert "fold2: 1 of the 2 listed videos are there; missing: gone.wav" in said and "cmav.finetune" not in said
    assert clip_ids(out, "fold1") == {"a_0": 1} and clip_ids(out, "fold2") == {"b_0": 0}
    assert layout.load_classes(str(out)) == ("dog", "rain")
    reasons = dict(csv.reader((out / "rejects.csv").open(newline="")))
    assert reasons["audio/silent.wav"] == "nothing but zeros in its sound (1 clips of it)"
    examples = list(tfds.builder_from_directory(str(out)).as_dataset(split="videos"))
    assert [example["frames"].shape[0] for example in examples] == [0, 0]
    found = index.SplitIndex.load(str(out), "videos")
    np.testing.assert_array_equal(found.rows["seconds"], np.float32(2.0))
    assert build_tfrecords.main(["--videos", str(tmp_path / "videos"), "--out", str(tmp_path / "other"), *FLAGS]) == 1
    assert "no video stream" in capsys.readouterr().err


def test_official_splits_do_not_outlive_their_split(actions, tmp_path):
    """A list of official splits that a deleted split left behind is not that of the new one."""
    assert build(actions, tmp_path) == 0
    for path in (files.plan_path(str(tmp_path), "videos"), layout.index_path(str(tmp_path), "videos")):
        pathlib.Path(path).unlink()
    for path in tmp_path.glob("build/videos/shard-*.json"):
        path.unlink()
    for path in tmp_path.glob("clips-videos*"):
        path.unlink()
    videos = ["--videos", str(actions / "videos/mp4"), "--split", "videos", "--clip_seconds", "0"]
    assert build_tfrecords.main([*videos, "--out", str(tmp_path), *FLAGS]) == 0
    assert layout.list_splits(str(tmp_path)) == ["videos"]


def test_reports_of_an_older_version(actions, tmp_path, capsys):
    assert build(actions, tmp_path) == 0
    report = next(tmp_path.glob("build/videos/shard-*.json"))
    report.write_text('{"rows": [], "rejects": []}')
    assert build(actions, tmp_path) == 1
    assert f"{report} is damaged or of an older version" in capsys.readouterr().err


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--dataset", "ucf101", "--videos", "."], "--dataset ucf101 needs --lists, .*crcv.ucf.edu"),
        (["--dataset", "ucf102", "--videos", "."], "ucf102 is not known; there are ucf101, hmdb51, kinetics_sounds, "),
        (["--dataset", "ucf101", "--videos", ".", "--lists", "none"], "--lists none: there is no such folder"),
        (["--dataset", "hmdb51", "--videos", "none", "--lists", "."], "--videos none: there is no such folder"),
    ],
)
def test_wrong_folders(flags, message, tmp_path, capsys):
    assert build_tfrecords.main([*flags, "--out", str(tmp_path)]) == 1
    assert re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--dataset", "ucf101", "--lists", "."], "--videos is missing"),
        (["--dataset", "ucf101", "--lists", ".", "--verify"], "--videos is missing"),
        (["--videos", ".", "--lists", "."], "--lists is for --dataset"),
        (["--dataset", "tfds:ucf101", "--lists", "."], "--lists is for --dataset"),
        (["--dataset", "tfds:ucf101", "--runner", "beam"], "not on Beam"),
    ],
)
def test_wrong_flags(flags, message, capsys):
    with pytest.raises(SystemExit):
        build_tfrecords.main([*flags, "--out", "o"])
    assert message in capsys.readouterr().err


def test_help_lists_every_set(capsys):
    assert build_tfrecords.main([]) == 0
    said = capsys.readouterr().out
    for name in (*datasets.READERS, "tfds:ucf101", "classInd.txt", "--lists DIR"):
        assert name in said


SHARED = pathlib.Path(__file__).parents[3] / "shared"


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real videos are not part of the project")
@pytest.mark.parametrize(
    "name, missing, train1", [("ucf101", 13_317, ["SoccerJuggling"] * 2), ("hmdb51", 6_762, ["cartwheel", "wave"])]
)
def test_real_videos_and_lists(name, missing, train1, tmp_path, capsys):
    """The seven real clips under their official names; all the others are missing, and are named."""
    (tmp_path / "videos").mkdir()
    for path in (SHARED / "videos/action").iterdir():
        official = path.name.removeprefix("vision__").removeprefix("tiny-ucf101__").removeprefix("hmdb51_")
        if official.startswith("v_") == (name == "ucf101"):
            (tmp_path / "videos" / official).symlink_to(path)
    (tmp_path / "lists").symlink_to(SHARED / "annotations" / name)
    out = tmp_path / "out"
    assert build(tmp_path, out, "--verify", name=name) == 0
    said = capsys.readouterr().out
    assert f"{missing:,} x no such file" in said and "videos: whole" in said
    with open(out / "rejects.csv", newline="") as file:
        assert len(list(csv.reader(file))) == 1 + missing
    view = index.SplitIndex.load(str(out), "train1")
    assert sorted(view.label_name(int(label)) for label in view.rows["label"]) == train1
    assert not view.rows["has_audio"].any()
    assert view.num_listed == {"ucf101": 9_537, "hmdb51": 3_570}[name]
