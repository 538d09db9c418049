"""Two machines finish at once: each in a process of its own, many times, on one folder."""

import csv
import multiprocessing
import pathlib
import shutil
import time

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from cmav.data import index, schema
from cmav.media.clips import ClipOptions
from cmav.media.manifest import Manifest
from cmav.media.streams import RejectedError
from cmav.media.videos import Video
from cmav.prep import finish, plan, shards

ROUNDS = 6


def clips(unit, video, alive):
    if video.source == "bad.mp4":
        raise RejectedError(f"bad of {unit.split}")
    jpeg = tf.io.encode_jpeg(np.zeros((16, 16, 3), np.uint8)).numpy()
    audio = np.ones((1600, 2), np.int16)
    yield schema.Clip(f"{video.name}_0", video.source, 0.0, [jpeg] * 3, 30.0, audio, 16_000, True)


def build(folder, split, names):
    videos = [Video(f"{name}.mp4", name, num_bytes=1) for name in names]
    listed = Manifest("/", {split: videos})
    resolved = plan.resolve(str(folder), listed, split, ClipOptions(size=16), 0, allow_overlap=True)
    is_staged = (folder / f"index-{split}.npy").exists()
    for shard in sorted(set(range(resolved.num_shards)) - shards.finished(str(folder), resolved)):
        shards.build(resolved.unit(shard, str(folder), "/", is_staged=is_staged), cutter=clips)


def finish_each(begin, end, folders, split):
    """Finishes a split of each folder, at the same time as the other process."""
    plans = [plan.load(folder, split) for folder in folders]
    for folder, resolved in zip(folders, plans, strict=True):
        begin.wait()
        finish.finish(folder, resolved)
        end.wait()


@pytest.fixture
def at_once(tmp_path):
    """Calls `finish` for the splits in two processes at once, for copies of a folder. Returns the copies."""

    def run(folder, splits):
        copies = [shutil.copytree(folder, tmp_path / f"copy{k}") for k in range(ROUNDS)]
        context = multiprocessing.get_context("spawn")
        begin, end = context.Barrier(2), context.Barrier(2)
        processes = [
            context.Process(target=finish_each, args=(begin, end, list(map(str, copies)), split)) for split in splits
        ]
        for process in processes:
            process.start()
        deadline = time.monotonic() + 120
        # One that fails leaves the other at the barrier: the first to end with an error is the one to name.
        while any(process.exitcode is None for process in processes) and time.monotonic() < deadline:
            if any(process.exitcode for process in processes):
                break
            time.sleep(0.05)
        codes = [process.exitcode for process in processes]
        if codes != [0, 0]:
            [process.kill() for process in processes]
            pytest.fail(f"the processes ended with {codes}")
        return copies

    return run


def test_two_splits_are_both_in_what_they_share(tmp_path, at_once):
    folder = tmp_path / "data"
    build(folder, "train", ["a", "b", "bad"])
    build(folder, "test", ["c", "bad"])
    for copy in at_once(folder, ["train", "test"]):
        infos = tfds.builder_from_directory(str(copy)).info.splits
        assert {name: info.num_examples for name, info in infos.items()} == {"train": 2, "test": 1}
        with open(copy / "rejects.csv", newline="") as file:
            assert sorted(csv.reader(file))[:2] == [["bad.mp4", "bad of test"], ["bad.mp4", "bad of train"]]
        assert not list(copy.glob("**/*.tmp"))


def test_one_split_that_has_grown(tmp_path, at_once):
    folder = tmp_path / "data"
    build(folder, "train", ["a", "b"])
    finish.finish(str(folder), plan.load(str(folder), "train"))
    build(folder, "train", ["c", "a", "b", "d"])
    for copy in at_once(folder, ["train", "train"]):
        found = index.SplitIndex.load(str(copy), "train")
        ids = [schema.parse(found.read(number))["clip_id"].numpy().decode() for number in range(len(found))]
        assert ids == ["a_0", "b_0", "c_0", "d_0"]
        assert len(list(pathlib.Path(copy).glob("clips-*"))) == 4
        assert not list(copy.glob("build/train/*.tfrecord"))
