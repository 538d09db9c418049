"""Records by number, against TensorFlow's own sequential reader; and everything that can be wrong with a folder."""

import os

import numpy as np
import pytest
import tensorflow as tf

from cmav.data import index
from tests import fake_clips

NUM_CLIPS = 7


@pytest.fixture
def split(tmp_path):
    return fake_clips.write_dataset(
        tmp_path, "train", NUM_CLIPS, seconds=0.4, size=16, num_shards=3, silent=[2], num_labels=2
    )


def shard_of(split, record):
    return index.shard_path(split.folder, split.split, split.rows["shard"][record], split.num_shards)


def test_reads_what_a_sequential_reader_reads(split):
    shards = [index.shard_path(split.folder, "train", shard, 3) for shard in range(3)]
    expected = [record.numpy() for record in tf.data.TFRecordDataset(shards)]
    assert len(split) == len(expected) == NUM_CLIPS
    for number in reversed(range(NUM_CLIPS)):
        assert split.read(number) == expected[number]


def test_columns_say_what_is_in_the_records(split):
    assert split.rows["has_audio"].tolist() == [number != 2 for number in range(NUM_CLIPS)]
    assert split.rows["label"].tolist() == [number % 2 for number in range(NUM_CLIPS)]
    np.testing.assert_allclose(split.rows["seconds"], 12 / (30000 / 1001))


def test_a_split_that_is_not_there_names_those_that_are(split):
    fake_clips.write_dataset(split.folder, "validation", 1, seconds=0.4, size=16, num_shards=1)
    assert index.list_splits(split.folder) == ["train", "validation"]
    with pytest.raises(index.DatasetError, match=r"no split 'test'.*train, validation") as error:
        index.SplitIndex.load(split.folder, "test")
    assert "build_tfrecords.py" in str(error.value)


def test_a_folder_that_is_not_there(tmp_path):
    folder = str(tmp_path / "nowhere")
    assert index.list_splits(folder) == []
    with pytest.raises(index.DatasetError, match="finished splits: none"):
        index.SplitIndex.load(folder, "train")


@pytest.mark.parametrize("content", [b"", b"not an array", b"\x93NUMPY\x01\x00v"])
def test_a_damaged_index(split, content):
    with open(index.index_path(split.folder, "train"), "wb") as file:
        file.write(content)
    with pytest.raises(index.DatasetError, match="is damaged"):
        index.SplitIndex.load(split.folder, "train")


@pytest.mark.parametrize("rows", [np.zeros(0, index.INDEX_DTYPE), np.zeros(3, np.int64)])
def test_an_index_that_is_empty_or_of_another_form(split, rows):
    np.save(index.index_path(split.folder, "train"), rows)
    with pytest.raises(index.DatasetError, match="empty or of an older form"):
        index.SplitIndex.load(split.folder, "train")


def test_an_index_without_shards(split):
    for shard in range(3):
        os.remove(index.shard_path(split.folder, "train", shard, 3))
    with pytest.raises(index.DatasetError, match="no shards"):
        index.SplitIndex.load(split.folder, "train")


def test_shards_of_two_builds(split):
    open(index.shard_path(split.folder, "train", 0, 8), "wb").close()
    with pytest.raises(index.DatasetError, match="2 builds"):
        index.SplitIndex.load(split.folder, "train")


def test_other_files_in_the_folder_do_not_matter(split):
    open(shard_of(split, 0) + ".part", "wb").close()
    fake_clips.write_dataset(split.folder, "train2", 1, seconds=0.4, size=16, num_shards=1)
    assert index.SplitIndex.load(split.folder, "train").num_shards == 3


@pytest.mark.parametrize(
    "where, complaint", [(3, "record's length"), (9, "record's length"), (500, "of the record does")]
)
def test_every_flipped_byte_is_noticed(split, where, complaint):
    path, offset = shard_of(split, 1), int(split.rows["offset"][1])
    fake_clips.flip_a_byte(split, 1, at=where)
    with pytest.raises(index.DamagedRecordError, match=complaint) as error:
        split.read(1)
    assert str(error.value).startswith(split.where(1))
    assert f"at byte {offset} of {path}" in split.where(1)
    assert len(split.read(0)) == split.rows["length"][0]  # its neighbour is whole


@pytest.mark.parametrize("kept", [-1, -5, -1000, 8])
def test_a_truncated_shard_costs_the_records_that_it_cut(split, kept):
    """`kept` bytes of record 1: from its start, or all but its last."""
    start = int(split.rows["offset"][1])
    end = start + int(split.rows["length"][1]) + index.FRAME_OVERHEAD
    os.truncate(shard_of(split, 1), start + kept if kept > 0 else end + kept)
    for number in (1, 2):
        with pytest.raises(index.DamagedRecordError, match=r"ends before|end of file"):
            split.read(number)
    assert len(split.read(0)) == split.rows["length"][0]


def test_a_shard_that_is_gone(split):
    os.remove(shard_of(split, 3))
    with pytest.raises(index.DamagedRecordError, match=r"record 3 at byte .*00001-of-00003"):
        split.read(3)


def test_a_shard_of_another_build_of_the_same_name(split):
    """Whole frames, but other records: the index is stale."""
    rows = split.rows.copy()
    rows["length"][0] -= 8
    stale = index.SplitIndex(split.folder, "train", rows, 3)
    with pytest.raises(index.DamagedRecordError, match="by the index"):
        stale.read(0)
