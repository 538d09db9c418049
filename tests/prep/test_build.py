"""The command line, from videos to a dataset that others can open."""

import csv
import itertools
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from cmav.data import index, schema
from cmav.prep import build_tfrecords, files, shards
from tests.media.sample_videos import Sound, flashes_at, numbered, steady_times, write_video
from tests.prep.sample_work import run_here

ROOT = pathlib.Path(__file__).parents[2]
FLAGS = ["--clip_seconds", "1", "--size", "32", "--shards", "4", "--workers", "1"]


@pytest.fixture
def here(monkeypatch):
    monkeypatch.setattr("cmav.prep.workers.run", run_here)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Nine files: 8 clips of 1 s from 5 of them, 4 that give none."""
    folder = tmp_path_factory.mktemp("videos")
    for k, seconds in enumerate([1.1, 2.1, 1.2, 2.3, 2.0]):
        times = steady_times(25, seconds)
        sound = Sound(beeps=[0.4], seconds=seconds, codec="aac") if k % 2 == 0 else None
        write_video(str(folder / f"v{k}.mp4"), times, flashes_at(times, [0.4]), sound)
    write_video(str(folder / "short.mp4"), steady_times(25, 0.4), numbered(10))
    write_video(str(folder / "brief.mp4"), steady_times(25, 0.6), numbered(15))
    (folder / "stub.mp4").write_text("version https://git-lfs.github.com/spec/v1")
    (folder / "empty.avi").write_bytes(b"")
    (folder / "readme.txt").write_text("no video")
    return folder


@pytest.fixture(scope="module")
def built(videos, tmp_path_factory):
    """The dataset of an undisturbed run. Not to be changed."""
    out = tmp_path_factory.mktemp("built")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cmav.prep.workers.run", run_here)
        assert build(videos, out, "--split", "train") == 0
    return out


def build(videos, out, *flags) -> int:
    return build_tfrecords.main(["--videos", str(videos), "--out", str(out), *FLAGS, *flags])


def contents(folder) -> dict[str, bytes]:
    """All files, but for where the videos lay when they were planned."""
    found = {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
    return {name: re.sub(rb'"root": "[^"]*"', b"", data) for name, data in found.items()}


def rejects_of(folder) -> list[list[str]]:
    with open(folder / "rejects.csv", newline="") as file:
        return list(csv.reader(file))


def test_records_and_index(built):
    found = index.SplitIndex.load(str(built), "train")
    assert len(found) == 8 and found.num_shards == 4
    assert found.rows.dtype == index.INDEX_DTYPE
    records = [schema.parse(found.read(number)) for number in range(len(found))]
    ids = {record["clip_id"].numpy().decode() for record in records}
    assert ids == {"v0_0", "v1_0", "v1_1001", "v2_0", "v3_0", "v3_1001", "v4_0", "v4_1001"}
    for record, row in zip(records, found.rows, strict=True):
        assert record["frames"].shape == (30,) and record["audio"].shape == (21021, 2)
        assert tf.io.decode_jpeg(record["frames"][7]).shape == (32, 32, 3)
        assert bool(record["has_audio"]) == bool(row["has_audio"])
        assert row["seconds"] == pytest.approx(30 * 1001 / 30000)
        assert record["source"].numpy().decode() == record["clip_id"].numpy().decode().split("_")[0] + ".mp4"
    silent = {record["clip_id"].numpy().decode() for record in records if not record["has_audio"]}
    assert silent == {"v1_0", "v1_1001", "v3_0", "v3_1001", "v4_1001"}  # v4 beeps in its first clip only


def test_each_file_gives_clips_or_a_reason(built):
    header, *rows = rejects_of(built)
    assert header == ["path", "reason"]
    assert [path for path, _ in rows] == ["brief.mp4", "empty.avi", "short.mp4", "stub.mp4"]
    reasons = dict(rows)
    assert reasons["short.mp4"] == "shorter than one clip of 1 s (0.4 s)"
    assert reasons["stub.mp4"] == "cannot be opened (Invalid data found when processing input)"


def test_tfds_opens_it(built):
    builder = tfds.builder_from_directory(str(built))
    assert {name: info.num_examples for name, info in builder.info.splits.items()} == {"train": 8}
    examples = list(builder.as_dataset(split="train", decoders={"frames": tfds.decode.SkipDecoding()}))
    assert len(examples) == 8
    found = index.SplitIndex.load(str(built), "train")
    by_id = {example["clip_id"].numpy(): example for example in examples}
    record = schema.parse(found.read(0))
    example = by_id[record["clip_id"].numpy()]
    np.testing.assert_array_equal(example["audio"], record["audio"])
    assert example["frames"].numpy().tolist() == record["frames"].numpy().tolist()
    decoded = next(iter(builder.as_dataset(split="train[:1]")))
    assert decoded["frames"].shape == (30, 32, 32, 3)


def test_killed_it_continues_and_ends_with_the_same_bytes(videos, built, tmp_path):
    out = tmp_path / "out"
    # One after the other, so that the kill falls between the first shard and the last.
    command = [sys.executable, str(ROOT / "data_prep/build_tfrecords.py"), "--videos", str(videos), "--out", str(out)]
    process = subprocess.Popen([*command, *FLAGS], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(out.glob("build/train/shard-*.json")) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = {path: path.stat().st_mtime_ns for path in out.glob("build/train/shard-*.json")}
    assert 1 <= len(finished) < 4 and not (out / "index-train.npy").exists()
    (out / f"build/train/{files._machine()}-{process.pid}-0.tmp").write_bytes(b"what a kill leaves")
    assert build(videos, out) == 0
    assert all(path.stat().st_mtime_ns == then for path, then in finished.items())
    assert contents(out) == contents(built)


def test_a_finished_split_is_left_as_it_is(videos, built, here, monkeypatch, capsys):
    before = contents(built)
    monkeypatch.setattr(shards, "build", None)
    assert build(videos, built) == 0
    assert contents(built) == before
    assert "9 videos -> 8 clips" in capsys.readouterr().out


def test_other_options_are_refused(videos, built, here, capsys):
    assert build(videos, built, "--jpeg_quality", "50") == 1
    assert "--jpeg_quality was 90, is now 50" in capsys.readouterr().err


def test_shard_ranges_share_the_work(videos, built, here, tmp_path, capsys):
    assert build(videos, tmp_path, "--shard_range", "1/2") == 1
    said = capsys.readouterr().out
    assert "2 of 4 shards are still to be built: 0, 2" in said and "--shard_range 0/2" in said
    assert not (tmp_path / "index-train.npy").exists()
    assert build(videos, tmp_path, "--shard_range", "0/2") == 0
    assert contents(tmp_path) == contents(built)


def test_a_csv_builds_each_split(videos, here, tmp_path, capsys):
    listed = tmp_path / "list.csv"
    listed.write_text(
        "path,label,split,start,end\n"
        f"{videos}/v0.mp4,swim,train,,\n{videos}/v1.mp4,run,validation,1,\n"
        f"{videos}/v3.mp4,run,train,0,1.05\n{videos}/none.mp4,fly,train,,\n"
    )
    out = tmp_path / "out"
    assert build(listed, out, "--verify") == 0
    said = capsys.readouterr().out
    assert f"\n  cmav train avs_cma --config.data.dir={out}" in said and "train: whole; 2 clips" in said
    labels = {}
    for split in ("train", "validation"):
        found = index.SplitIndex.load(str(out), split)
        for number in range(len(found)):
            record = schema.parse(found.read(number))
            labels[record["clip_id"].numpy().decode()] = (int(record["label"]), record["label_name"].numpy().decode())
    assert labels == {"v0_0": (2, "swim"), "v3_0": (1, "run"), "v1_1000": (1, "run")}
    assert rejects_of(out)[1:] == [[f"{videos}/none.mp4", "no such file"]]
    assert sorted(tfds.builder_from_directory(str(out)).info.splits) == ["train", "validation"]


def test_a_split_can_be_finished_beside_one_that_is_not(videos, built, here, tmp_path):
    shutil.copytree(built, tmp_path, dirs_exist_ok=True)
    assert build(videos, tmp_path, "--split", "validation", "--shard_range", "0/2", "--allow_overlap") == 1
    assert build(videos, tmp_path, "--split", "test", "--allow_overlap") == 0
    assert sorted(tfds.builder_from_directory(str(tmp_path)).info.splits) == ["test", "train"]
    paths = [path for path, _ in rejects_of(tmp_path)[1:]]
    assert paths == 2 * ["brief.mp4", "empty.avi", "short.mp4", "stub.mp4"]
    assert build_tfrecords.main(["--out", str(tmp_path), "--verify"]) == 0


def test_other_file_systems(videos, built, here, tmp_path):
    assert build(f"file://{videos}", f"file://{tmp_path}/out") == 0
    ours, theirs = contents(tmp_path / "out"), contents(built)
    assert ours == theirs


def test_no_clip_at_all(here, tmp_path, capsys):
    (tmp_path / "stub.mp4").write_text("version https://git-lfs.github.com/spec/v1")
    assert build(tmp_path, tmp_path / "out") == 1
    assert "1 x cannot be opened" in capsys.readouterr().err
    assert rejects_of(tmp_path / "out")[1][0] == "stub.mp4"


def test_names_that_are_not_unicode(videos, here, tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    shutil.copy(videos / "v0.mp4", os.path.join(os.fsencode(folder), b"caf\xe9: take 1.mp4"))
    assert build(folder, tmp_path / "out", "--verify") == 0
    record = schema.parse(index.SplitIndex.load(str(tmp_path / "out"), "train").read(0))
    assert record["source"].numpy() == rb"caf\udce9: take 1.mp4"


def test_help_says_what_to_do(capsys):
    assert build_tfrecords.main([]) == 0
    said = capsys.readouterr().out
    for line in ("--videos my_videos --out data", "list.csv", "synthesize_videos.py", "rejects.csv"):
        assert line in said


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--out", "o"], "--videos is missing"),
        (["--videos", "v"], "--out"),
        (["--videos", "v", "--out", "o", "--shard_range", "4/4"], "i from 0 to n-1"),
        (["--videos", "v", "--out", "o", "--frame_rate", "fast"], "30000/1001"),
        (["--videos", "v", "--out", "o", "--frame_rate", "0"], "--frame_rate must be positive"),
        (["--videos", "v", "--out", "o", "--jpeg_quality", "101"], "--jpeg_quality must be 1 to 100, not 101"),
        (["--videos", "v", "--out", "o", "--clip_seconds", "0.01"], "less than one frame"),
        (["--videos", "v", "--out", "o", "--beam_args", "x"], "needs --runner beam"),
    ],
)
def test_wrong_flags(flags, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        build_tfrecords.main(flags)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_errors_end_with_status_one(here, tmp_path, capsys):
    assert build(tmp_path / "none", tmp_path / "out") == 1
    assert "no such folder or CSV file" in capsys.readouterr().err
    assert build_tfrecords.main(["--out", str(tmp_path), "--verify"]) == 1
    assert "no finished split" in capsys.readouterr().err


def test_bytes_do_not_depend_on_where_things_lie(videos, built, here, tmp_path, monkeypatch):
    shutil.copytree(videos, tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path)
    assert build("elsewhere", "out") == 0
    for (name, ours), (other, theirs) in itertools.zip_longest(
        contents(tmp_path / "out").items(), contents(built).items()
    ):
        assert name == other and ours == theirs
