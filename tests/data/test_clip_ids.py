"""Ids of clips are those that parsing the whole record gives, or nothing."""

import pytest
import tensorflow as tf

from cmav.data import clip_ids, schema
from cmav.data.index import SplitIndex
from tests import fake_clips

RECORDS = [5, 0, 3, 1]


@pytest.fixture
def index(tmp_path):
    return fake_clips.write_dataset(tmp_path, "train", 6, seconds=0.5, silent=(3,))


def parsed(index: SplitIndex, record: int) -> bytes:
    return schema.parse(tf.constant(index.read(record)))["clip_id"].numpy()


def test_the_ids_of_records_in_their_order(index):
    assert list(clip_ids.read_clip_ids(index, RECORDS)) == [parsed(index, record) for record in RECORDS]


def test_wherever_in_the_record_it_lies(tmp_path):
    """Features in the order in which today's writer puts them, and in every other."""
    whole = tf.train.Example.FromString(schema.encode(fake_clips.make_clip(7)))
    names = sorted(whole.features.feature)
    for first in range(len(names)):
        data = b""
        for name in names[first:] + names[:first]:
            data += tf.train.Features(feature={name: whole.features.feature[name]}).SerializeToString()
        record = b"\x0a" + varint(len(data)) + data
        assert schema.parse(tf.constant(record))["clip_id"].numpy() == b"fake0007_0"
        index = fake_clips.write_clips(
            tmp_path / str(first), "train", [fake_clips.make_clip(7)], num_shards=1, instead={0: record}
        )
        assert list(clip_ids.read_clip_ids(index, [0])) == [b"fake0007_0"]


def varint(number: int) -> bytes:
    data = b""
    while number >= 0x80:
        data, number = data + bytes([number & 0x7F | 0x80]), number >> 7
    return data + bytes([number])


@pytest.mark.parametrize("at", [12, 13, 14, 16, 20])
def test_what_cannot_be_read_has_no_id(index, at):
    """Damage to the lengths by which one finds it; another record's id is never given."""
    fake_clips.flip_a_byte(index, 2, at=at)
    (found,) = clip_ids.read_clip_ids(index, [2])
    assert found in (None, b"fake0002_0")
    with pytest.raises(Exception, match="checksum"):
        index.read(2)


def test_a_shard_that_is_gone(index, tmp_path):
    (tmp_path / "clips-train.tfrecord-00001-of-00002").unlink()
    assert list(clip_ids.read_clip_ids(index, range(6)))[3:] == [None] * 3
