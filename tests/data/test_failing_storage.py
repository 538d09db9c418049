"""An error of storage is tried again, changes nothing and is never taken for damage, whoever reads."""

import json
import os
from unittest import mock

import pytest
import tensorflow as tf

from cmav.data import checks, files, index, layout, storage
from tests import failing_storage, fake_clips
from tests.data.loading import CLIP, NUM_CLIPS, assert_same, load, train

ERRORS = {"of a disk": failing_storage.kernel_error, "of a bucket": failing_storage.server_error}


@pytest.fixture
def split(tmp_path):
    made = fake_clips.write_dataset(tmp_path, "train", NUM_CLIPS, num_labels=3, **CLIP)
    with open(layout.official_path(made.folder, "train"), "w") as file:
        json.dump({"test1": {"listed": 2, "records": [1, 2]}}, file)
    return made


@pytest.mark.parametrize("error", ERRORS)
def test_batches_do_not_change(split, monkeypatch, caplog, error):
    before = train(load(split), num_batches=40)
    failed = failing_storage.fail(monkeypatch, ERRORS[error](), share=0.03)
    loader = load(split)
    assert_same(train(loader, num_batches=40), before)
    assert len(failed) >= 3 and loader.bad_records == set()  # 160 records, each read at once
    assert not [line for line in caplog.messages if "damaged" in line]


def test_storage_that_does_not_come_back_ends_the_run_and_blames_no_record(split, monkeypatch):
    failing_storage.fail(monkeypatch, failing_storage.server_error(), share=1.0)
    loader = load(split)
    with pytest.raises(storage.StorageError, match=r"503.*Nothing is wrong with the file as far as is known"):
        train(loader)
    assert loader.bad_records == set()


def test_what_the_kernel_cannot_read_is_no_damage(split, monkeypatch):
    monkeypatch.setattr(storage, "DELAYS", (0.0,))
    for shard in range(2):
        path = layout.shard_path(split.folder, "train", shard, 2)
        os.remove(path)
        os.symlink("/proc/self/mem", path)
    loader = load(index.SplitIndex.load(split.folder, "train"))
    with pytest.raises(storage.StorageError, match="Input/output error"):
        train(loader)
    assert loader.bad_records == set()


def test_a_shard_that_may_not_be_read_is_no_damage(split):
    path = layout.shard_path(split.folder, "train", 0, 2)
    os.remove(path)
    os.mkdir(path)
    with pytest.raises(index.DatasetError, match=f"{path} cannot be read .*irectory"):
        split.read(0)


def test_shards_that_are_missing_are_said_before_the_first_batch_and_when_they_vanish(split):
    opened = load(split)
    os.remove(layout.shard_path(split.folder, "train", 1, 2))
    with pytest.raises(index.DatasetError, match=r"00001-of-00002, of 2\. Is their disk mounted"):
        train(opened)
    assert opened.bad_records == set()
    with pytest.raises(index.DatasetError, match=r"00001-of-00002, of 2\. Is their disk mounted"):
        load(index.SplitIndex.load(split.folder, "train"))


@pytest.mark.parametrize(
    "error",
    [
        tf.errors.ResourceExhaustedError,
        tf.errors.CancelledError,
        tf.errors.UnavailableError,
        tf.errors.InternalError,
        tf.errors.UnknownError,
        tf.errors.OutOfRangeError,
    ],
)
def test_what_making_an_example_raises_is_damage_only_where_it_is_of_the_bytes(split, monkeypatch, error):
    loader = load(split)
    traced = mock.Mock(side_effect=error(None, None, "no"), structured_outputs=loader._traced.structured_outputs)
    monkeypatch.setattr(loader, "_traced", traced)
    with pytest.raises(error):
        train(loader)
    assert loader.bad_records == set()


# What reads from a dataset folder, and what it comes to.
READERS = {
    "the splits": lambda folder: layout.list_splits(folder),
    "the official splits": lambda folder: layout.official_splits(folder),
    "the classes": lambda folder: layout.load_classes(folder),
    "the index": lambda folder: len(index.SplitIndex.load(folder, "train")),
    "an official index": lambda folder: len(index.SplitIndex.load(folder, "test1")),
    "a class": lambda folder: index.SplitIndex.load(folder, "train").label_name(2),
    "a picture": lambda folder: files.read_middle(index.SplitIndex.load(folder, "train"), 3)[1].tolist(),
    "the first record": lambda folder: checks.frame_side(index.SplitIndex.load(folder, "train")),
    "the shards": lambda folder: index.SplitIndex.load(folder, "train").missing_shards,
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("with_classes", [False, True])
def test_whoever_reads_tries_again_and_says_so_in_the_end(split, monkeypatch, reader, with_classes):
    if with_classes:
        with open(layout.classes_path(split.folder), "w") as file:
            file.write("run\nswim\nfly\n")
    before = READERS[reader](split.folder)
    with monkeypatch.context() as patch:
        failed = failing_storage.fail(patch, failing_storage.kernel_error(), share=0.3)
        assert READERS[reader](split.folder) == before
        assert failed
    failing_storage.fail(monkeypatch, failing_storage.kernel_error(), share=1.0)
    with pytest.raises(storage.StorageError, match=r"storage does not answer.*Input/output error"):
        READERS[reader](split.folder)


def test_damage_that_is_met_while_storage_fails_is_still_found(split, monkeypatch):
    fake_clips.flip_a_byte(split, 4)
    failing_storage.fail(monkeypatch, failing_storage.server_error(), share=0.3)
    loader = load(split)
    train(loader, num_batches=8)
    assert loader.bad_records == {4}
