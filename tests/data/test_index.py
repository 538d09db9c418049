"""Records by number, against TensorFlow's own sequential reader; and everything that can be wrong with a folder."""

import dataclasses
import itertools
import json
import os

import numpy as np
import pytest
import tensorflow as tf

from cmav.data import index, layout
from tests import fake_clips

NUM_CLIPS = 7


@pytest.fixture
def split(tmp_path):
    return fake_clips.write_dataset(
        tmp_path, "train", NUM_CLIPS, seconds=0.4, size=16, num_shards=3, silent=[2], num_labels=2
    )


def shard_of(split, record):
    return layout.shard_path(split.folder, split.split, split.rows["shard"][record], split.num_shards)


def test_reads_what_a_sequential_reader_reads(split):
    shards = [layout.shard_path(split.folder, "train", shard, 3) for shard in range(3)]
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
    assert layout.list_splits(split.folder) == ["train", "validation"]
    with pytest.raises(index.DatasetError, match=r"no split 'test'.*train, validation") as error:
        index.SplitIndex.load(split.folder, "test")
    assert "\n  cmav prep --videos" in str(error.value)


def test_a_folder_that_is_not_there(tmp_path):
    folder = str(tmp_path / "nowhere")
    assert layout.list_splits(folder) == []
    with pytest.raises(index.DatasetError, match="finished splits: none"):
        index.SplitIndex.load(folder, "train")


@pytest.mark.parametrize("content", [b"", b"not an array", b"\x93NUMPY\x01\x00v"])
def test_a_damaged_index(split, content):
    with open(layout.index_path(split.folder, "train"), "wb") as file:
        file.write(content)
    with pytest.raises(index.DatasetError, match="is damaged"):
        index.SplitIndex.load(split.folder, "train")


def test_every_flipped_bit_of_the_index_that_would_misplace_a_record_is_noticed(split):
    """Not those in what is said of records: duration, sound, label. There is no checksum."""
    path = layout.index_path(split.folder, "train")
    with open(path, "rb") as file:
        whole = file.read()
    start = len(whole) - NUM_CLIPS * index.INDEX_DTYPE.itemsize
    columns = np.tile([name in ("shard", "offset", "length") for name in _column_of_byte()], NUM_CLIPS)
    for place, bit in itertools.product([*range(start), *(start + np.flatnonzero(columns))], range(8)):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << bit
        try:
            rows = index._parse_index(path, bytes(flipped))
        except index.DatasetError:
            continue
        np.testing.assert_array_equal(rows["offset"], split.rows["offset"], err_msg=f"bit {bit} of byte {place}")
        for record in np.flatnonzero(rows != split.rows):  # a shard's last, of another length: up to 2^63 bytes
            with pytest.raises(index.DamagedRecordError, match="by the index"):
                dataclasses.replace(split, rows=rows).read(record)


def _column_of_byte():
    return [name for name in index.INDEX_DTYPE.names for _ in range(index.INDEX_DTYPE[name].itemsize)]


@pytest.mark.parametrize("rows", [np.zeros(0, index.INDEX_DTYPE), np.zeros(3, np.int64)])
def test_an_index_that_is_empty_or_of_another_form(split, rows):
    np.save(layout.index_path(split.folder, "train"), rows)
    with pytest.raises(index.DatasetError, match="empty or of an older form"):
        index.SplitIndex.load(split.folder, "train")


def test_an_index_without_shards(split):
    for shard in range(3):
        os.remove(layout.shard_path(split.folder, "train", shard, 3))
    with pytest.raises(index.DatasetError, match="no shards"):
        index.SplitIndex.load(split.folder, "train")


def test_a_shard_that_is_missing_is_an_error_and_no_damage(split):
    gone = shard_of(split, 3)
    os.remove(gone)
    for opened in (split, index.SplitIndex.load(split.folder, "train")):
        with pytest.raises(index.DatasetError, match=r"are not there.*Copy them back, or give the command") as error:
            opened.read(3)
        assert gone in str(error.value)
        assert len(opened.read(0)) == split.rows["length"][0]
    split.check_shards()
    with pytest.raises(index.DatasetError, match=gone):
        opened.check_shards()


def test_shards_of_two_builds(split):
    open(layout.shard_path(split.folder, "train", 0, 8), "wb").close()
    with pytest.raises(index.DatasetError, match="2 builds"):
        index.SplitIndex.load(split.folder, "train")


@pytest.mark.parametrize("name", ["a[b]", "a*", "ä (1)"])
def test_odd_names_of_folders_and_splits(tmp_path, name):
    split = fake_clips.write_dataset(tmp_path / name, name, 2, seconds=0.4, size=16)
    assert layout.list_splits(split.folder) == [name]
    assert (split.num_shards, split.missing_shards) == (2, frozenset())


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


@pytest.mark.parametrize("column", ["shard", "offset", "length"])
def test_every_flipped_bit_of_a_place_is_noticed(split, column):
    for bit in range(8 * split.rows.dtype[column].itemsize):
        rows = split.rows.copy()
        rows[column].view(f"u{rows.dtype[column].itemsize}")[2] ^= np.uint64(1 << bit).astype(
            f"u{rows.dtype[column].itemsize}"
        )
        # A shard of another number is there, or is missing.
        expected = (index.DamagedRecordError, index.DatasetError) if column == "shard" else index.DamagedRecordError
        with pytest.raises(expected):
            dataclasses.replace(split, rows=rows).read(2)


def test_every_flipped_bit_of_an_index_header_is_an_error_for_people_if_any(split):
    path = index.index_path(split.folder, split.split)
    with open(path, "rb") as file:
        whole = file.read()
    num_refused = 0
    for place in range(len(whole) - split.rows.nbytes):
        for bit in range(8):
            with open(path, "wb") as file:
                file.write(whole[:place] + bytes([whole[place] ^ (1 << bit)]) + whole[place + 1 :])
            try:
                index.SplitIndex.load(split.folder, split.split)
            except index.DatasetError:
                num_refused += 1
    assert num_refused > 500


def test_a_shard_of_another_build_of_the_same_name(split):
    """Whole frames, but other records: the index is stale."""
    rows = split.rows.copy()
    rows["length"][0] -= 8
    stale = index.SplitIndex(split.folder, "train", rows, 3)
    with pytest.raises(index.DamagedRecordError, match="by the index"):
        stale.read(0)


@pytest.fixture
def labelled(split):
    """The split, with two official ones and one of which no video is there."""
    views = {"a1": (5, [0, 2, 6]), "b1": (4, [1, 3]), "none": (9, [])}
    write_official(split, {name: {"listed": listed, "records": records} for name, (listed, records) in views.items()})
    return split


def write_official(split, views):
    with open(layout.official_path(split.folder, split.split), "w") as file:
        file.write(views if isinstance(views, str) else json.dumps(views))


def test_an_official_split_is_a_view(labelled):
    view = index.SplitIndex.load(labelled.folder, "a1")
    assert (view.split, view.physical_split, view.num_listed, len(view)) == ("a1", "train", 5, 3)
    assert [view.read(number) for number in range(3)] == [labelled.read(number) for number in (0, 2, 6)]
    assert view.rows["label"].tolist() == [0, 0, 0] and view.rows["has_audio"].tolist() == [True, False, True]
    assert "--split train" in view.verify_command
    assert shard_of(labelled, 6) in view.where(2)
    assert (labelled.physical_split, labelled.num_listed) == ("train", None)


def test_official_splits_are_listed_where_they_can_be_opened(labelled):
    assert layout.list_splits(labelled.folder) == ["a1", "b1", "train"]
    assert layout.physical_splits(labelled.folder) == ["train"]
    assert layout.physical_split(labelled.folder, "b1") == "train"
    assert layout.physical_split(labelled.folder, "other") == "other"
    with pytest.raises(index.DatasetError, match="none of the 9 videos of the official split 'none'"):
        index.SplitIndex.load(labelled.folder, "none")
    with pytest.raises(index.DatasetError, match=r"finished splits: a1, b1, train"):
        index.SplitIndex.load(labelled.folder, "c1")
    os.remove(layout.index_path(labelled.folder, "train"))
    assert layout.list_splits(labelled.folder) == []


@pytest.mark.parametrize("views", ["", "[1]", '{"a1": [0]}', '{"a1": {"records": [0]}}', '{"a1": {"listed": "x"}}'])
def test_a_damaged_list_of_official_splits(split, views):
    write_official(split, views)
    with pytest.raises(index.DatasetError, match=r"splits-train.json is damaged"):
        index.SplitIndex.load(split.folder, "a1")
    assert len(index.SplitIndex.load(split.folder, "train")) == NUM_CLIPS


@pytest.mark.parametrize("number", [NUM_CLIPS, -1])
def test_official_splits_of_another_build(split, number):
    write_official(split, {"a1": {"listed": 1, "records": [number]}})
    with pytest.raises(index.DatasetError, match="not in the index"):
        index.SplitIndex.load(split.folder, "a1")


def test_names_of_classes(split):
    assert layout.load_classes(split.folder) == ()
    assert (split.label_name(1), split.label_name(5)) == ("class1", "5")  # from the records
    with open(layout.classes_path(split.folder), "w") as file:
        file.write("run\nswim fast\nfly\n")
    assert layout.load_classes(split.folder) == ("run", "swim fast", "fly")
    assert [split.label_name(label) for label in (1, 2, 5, -1)] == ["swim fast", "fly", "5", "-1"]


def test_every_flipped_bit_of_an_index_that_was_built_is_refused(split):
    path, whole = index.index_path(split.folder, split.split), index.encode_index(split.rows)
    with open(path, "wb") as file:
        file.write(whole)
    np.testing.assert_array_equal(index.SplitIndex.load(split.folder, split.split).rows, split.rows)
    np.testing.assert_array_equal(np.load(path), split.rows)
    mark = len(whole) - 12
    for place in range(0, len(whole), 3):
        with open(path, "wb") as file:
            file.write(whole[:place] + bytes([whole[place] ^ (1 << place % 8)]) + whole[place + 1 :])
        with pytest.raises(
            index.DatasetError, match="checksum does not hold" if not mark <= place < mark + 8 else "damaged"
        ):
            index.SplitIndex.load(split.folder, split.split)
