"""A split that is finished and built on: with more videos, with mended ones, with videos or storage that vanish."""

import csv
import dataclasses
import errno
import pathlib
import shutil

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from cmav.data import index, layout, schema
from cmav.prep import build_tfrecords, files, finish, plan, shards
from tests.media.sample_videos import numbered, steady_times, write_video
from tests.prep.sample_work import run_here

FLAGS = ["--clip_seconds", "1", "--size", "16", "--frame_rate", "25", "--sample_rate", "8000", "--workers", "1"]


@pytest.fixture(autouse=True)
def here(monkeypatch):
    monkeypatch.setattr("cmav.prep.workers.run", run_here)
    monkeypatch.setattr("cmav.data.storage.DELAYS", (0,))


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    return write_video(str(tmp_path_factory.mktemp("sample") / "v.mp4"), steady_times(25, 1.2), numbered(30))


@pytest.fixture
def videos(tmp_path, sample):
    folder = tmp_path / "videos"
    folder.mkdir()
    for k in range(3):
        shutil.copy(sample, folder / f"v{k}.mp4")
    (folder / "stub.mp4").write_text("version https://git-lfs.github.com/spec/v1")
    return folder


@pytest.fixture
def out(tmp_path, videos):
    assert build(videos, tmp_path / "out") == 0
    return tmp_path / "out"


def build(videos, out, *flags) -> int:
    return build_tfrecords.main(["--videos", str(videos), "--out", str(out), *FLAGS, *flags])


def ids(out) -> list[str]:
    found = index.SplitIndex.load(str(out), "train")
    return [schema.parse(found.read(number))["clip_id"].numpy().decode() for number in range(len(found))]


def shard_bytes(out) -> list[bytes]:
    return [path.read_bytes() for path in sorted(out.glob("clips-train*"))]


def rejects(out) -> list[list[str]]:
    with open(out / "rejects.csv", newline="") as file:
        return list(csv.reader(file))[1:]


def test_more_videos(videos, out, sample, capsys):
    before, old = ids(out), shard_bytes(out)
    assert before == ["v0_0", "v1_0", "v2_0"] and len(old) == 4
    shutil.copy(sample, videos / "a.mp4")
    shutil.copy(sample, videos / "w.mp4")
    assert build(videos, out, "--verify") == 0
    assert ids(out) == [*before, "a_0", "w_0"]  # record numbers stay what they are
    assert shard_bytes(out)[:4] == old and len(shard_bytes(out)) == 6
    assert {path.name[-5:] for path in out.glob("clips-train*")} == {"00006"}
    assert "train: whole; 5 clips in 6 shards" in capsys.readouterr().out
    assert tfds.builder_from_directory(str(out)).info.splits["train"].num_examples == 5


def test_more_videos_before_the_first_are_all_built(videos, tmp_path, sample):
    out = tmp_path / "out"
    assert build(videos, out, "--shard_range", "0/2") == 1
    shutil.copy(sample, videos / "a.mp4")
    assert build(videos, out, "--verify") == 0
    assert sorted(ids(out)) == ["a_0", "v0_0", "v1_0", "v2_0"] and len(shard_bytes(out)) == 5
    assert not list(out.glob("build/train/*.tfrecord"))


def test_the_finished_split_stays_readable_while_it_grows(videos, out, sample):
    shutil.copy(sample, videos / "a.mp4")
    shutil.copy(sample, videos / "w.mp4")
    before = shard_bytes(out)
    assert build(videos, out, "--shard_range", "4/6") == 1
    assert ids(out) == ["v0_0", "v1_0", "v2_0"] and shard_bytes(out) == before


@pytest.mark.parametrize("killed_at", range(8))
def test_killed_while_it_is_renamed(videos, out, sample, monkeypatch, killed_at):
    """No record is ever read that is not the right one; the same command ends what was begun."""
    shutil.copy(sample, videos / "w.mp4")
    done = []

    def counted(action):
        def killed(*args, **kwargs):
            if len(done) == killed_at:
                raise KeyboardInterrupt
            done.append(args)
            action(*args, **kwargs)

        return killed

    with monkeypatch.context() as patch:
        patch.setattr(finish, "NUM_THREADS", 1)
        patch.setattr(files, "rename", counted(files.rename))
        patch.setattr(files, "remove", counted(files.remove))
        begun = finish._put_in_place
        patch.setattr(finish, "_put_in_place", lambda *args: (done.clear(), begun(*args)))
        assert build(videos, out) == 130
    try:
        assert ids(out) in (["v0_0", "v1_0", "v2_0"], ["v0_0", "v1_0", "v2_0", "w_0"])
    except index.DatasetError as error:
        assert "no split 'train'" in str(error)
    assert build(videos, out, "--verify") == 0
    assert ids(out) == ["v0_0", "v1_0", "v2_0", "w_0"] and len(shard_bytes(out)) == 5


def test_rejects_are_tried_again(videos, out, sample, capsys):
    assert rejects(out) == [["stub.mp4", "cannot be opened (Invalid data found when processing input)"]]
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("clips-train*")}
    shutil.copy(sample, videos / "stub.mp4")
    assert build(videos, out) == 0 and len(ids(out)) == 3  # not without being asked
    assert build(videos, out, "--retry_rejects", "--verify") == 0
    assert "train: 1 shards have rejects and are built again" in capsys.readouterr().out
    assert ids(out) == ["stub_0", "v0_0", "v1_0", "v2_0"] and rejects(out) == []
    changed = [name for name, then in before.items() if (out / name).stat().st_mtime_ns != then]
    assert changed == ["clips-train.tfrecord-00000-of-00004"]


def test_killed_while_rejects_are_tried_again(videos, out, sample, monkeypatch):
    shutil.copy(sample, videos / "stub.mp4")
    with monkeypatch.context() as patch:
        patch.setattr(files, "write_whole", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))  # of the report
        assert build(videos, out, "--retry_rejects") == 130
    assert ids(out) == ["v0_0", "v1_0", "v2_0"]
    assert build(videos, out, "--verify") == 0
    assert ids(out) == ["stub_0", "v0_0", "v1_0", "v2_0"]


def test_a_vanished_mount_ends_the_build_and_rejects_nothing(videos, tmp_path, capsys):
    listed = tmp_path / "list.csv"
    names = ["v0.mp4", "v1.mp4", "v2.mp4", "never.mp4"]
    listed.write_text("path\n" + "".join(f"{videos}/{name}\n" for name in names))
    out = tmp_path / "out"
    assert build(listed, out, "--shard_range", "0/3") == 1
    videos.rename(tmp_path / "vanished")
    with pytest.raises(shards.GoneError, match=r"v1.mp4 was there when the split 'train' was planned, and is gone"):
        shards.build(plan.load(str(out), "train").unit(1, str(out), str(tmp_path)))
    assert build(listed, out) == 1
    assert "--skip_gone" in capsys.readouterr().err and not list(out.glob("build/train/*.tmp"))
    (tmp_path / "vanished").rename(videos)
    assert build(listed, out) == 0
    assert ids(out) == ["v0_0", "v1_0", "v2_0"]
    assert rejects(out) == [[f"{videos}/never.mp4", "no such file"]]  # it was not there when it was planned


def test_a_file_that_is_gone_for_good(videos, tmp_path, capsys):
    out = tmp_path / "out"
    assert build(videos, out, "--shard_range", "0/2") == 1
    (videos / "v0.mp4").unlink()
    assert build(videos, out) == 1
    assert "1 videos of the split 'train' are no longer listed (v0.mp4 ...)" in capsys.readouterr().err
    assert build(videos, out, "--skip_gone") == 0
    assert ids(out) == ["v1_0", "v2_0"] and ["v0.mp4", "no such file"] in rejects(out)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EIO, "Input/output error"),
        OSError(errno.EMFILE, "Too many open files"),
        tf.errors.UnavailableError(None, None, "HTTP response code 503"),
        tf.errors.ResourceExhaustedError(None, None, "OOM when allocating"),
        MemoryError(),
    ],
)
def test_what_is_not_the_files_fault_rejects_nothing(videos, tmp_path, error):
    out = str(tmp_path / "out")
    listed = plan.Manifest(str(videos), {"train": [plan.Video("v0.mp4", "v0")]})
    unit = plan.resolve(out, listed, "train", plan.ClipOptions(), 1).unit(0, out, str(videos))

    def cutter(unit, video, alive):
        raise error
        yield

    with pytest.raises((shards.UserError, MemoryError)):
        shards.build(unit, cutter=cutter)
    assert not list(pathlib.Path(out).glob("build/train/shard-*")) and not list(pathlib.Path(out).glob("**/*.tmp"))


def test_a_clip_that_breaks_the_contract_costs_its_video(videos, tmp_path, monkeypatch):
    whole_cut = shards.cut

    def cut(video, *args):
        for clip in whole_cut(video, *args):
            yield dataclasses.replace(clip, audio=np.zeros(5)) if video.name == "v1" else clip

    monkeypatch.setattr(shards, "cut", cut)
    out = tmp_path / "out"
    assert build(videos, out, "--shards", "1", "--verify") == 0
    assert ids(out) == ["v0_0", "v2_0"]
    assert [reason for path, reason in rejects(out) if path == "v1.mp4"] == [
        "a clip of it breaks the record contract (clip 'v1_0' of 'v1.mp4' breaks the record contract: audio must be "
        "int16 [samples, 2], not float64 [5])"
    ]


def test_a_dataset_of_the_older_form_grows(videos, out, sample):
    """As `plan.json` was, with all videos in it; reports did not say of which list they are."""
    resolved = plan.load(str(out), "train")
    old = plan.plan_files.options_in_words(resolved)
    folder = out / "build/train"
    videos_there = sorted(resolved.videos(), key=lambda video: video.source)
    for path in folder.glob("videos-*.json"):
        path.unlink()
    for path in folder.glob("shard-*.json"):
        path.write_text(path.read_text().replace(f', "part": "{resolved.listing}"', ""))
    (folder / "keys-00000.npy").unlink()
    head = {"split": "train", "options": old, "classes": (), "videos": list(map(dataclasses.asdict, videos_there))}
    (folder / "plan.json").write_text(shards.json.dumps(head))
    before = shard_bytes(out)
    assert build(videos, out) == 0 and shard_bytes(out) == before
    shutil.copy(sample, videos / "w.mp4")
    assert build(videos, out, "--verify") == 0
    assert ids(out) == ["v0_0", "v1_0", "v2_0", "w_0"] and shard_bytes(out)[:4] == before


def test_a_shard_that_was_cut_short_by_the_disk_is_not_put_in_place(videos, tmp_path, monkeypatch):
    monkeypatch.setattr("cmav.prep.shards.lookup.size", lambda path: 5 if path.endswith(".tmp") else 1)
    assert build(videos, tmp_path / "out") == 1
    assert not list((tmp_path / "out").glob("clips*")) and not list((tmp_path / "out").glob("**/*.tmp"))


ODD_NAMES = [
    "[0-9]",
    "a*b?",
    "two words",
    "naïve 日本 \N{PILE OF POO}",
    'it\'s "quoted"',
    "{a,b}",
    "%41",
    "#1",
    "back\\slash",
]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_folders_and_files_of_any_name(tmp_path, sample, name):
    folder = tmp_path / name / "videos"
    folder.mkdir(parents=True)
    shutil.copy(sample, folder / f"{name}.mp4")
    out = tmp_path / name / "out"
    assert build(folder, out) == 0
    shutil.copy(sample, folder / f"more {name}.mp4")
    assert build(folder, out, "--verify") == 0
    assert ids(out) == [f"{name}_0", f"more {name}_0"] and layout.list_splits(str(out)) == ["train"]
    builder = tfds.builder_from_directory(str(out))
    read = builder.as_dataset(split="train", decoders={"frames": tfds.decode.SkipDecoding()})
    assert sorted(example["clip_id"].decode() for example in read.as_numpy_iterator()) == sorted(ids(out))
    (example,) = list(builder.as_dataset(split="train[:1]").as_numpy_iterator())
    assert example["frames"].shape == (25, 16, 16, 3)
