"""Damaged records: each costs itself, is named, and nothing else changes."""

import os
import re

import numpy as np
import pytest
import tensorflow as tf

from cmav.data import index, pipeline, schema
from tests import fake_clips
from tests.data.loading import CLIP, NUM_CLIPS, assert_same, clip_numbers, load, train
from tests.fake_clips import flip_a_byte


def truncate_shard(split, record):
    row = split.rows[record]
    os.truncate(index.shard_path(split.folder, split.split, row["shard"], split.num_shards), int(row["offset"]) + 20)


def with_key_missing(clip, key):
    example = tf.train.Example.FromString(schema.encode(clip))
    del example.features.feature[key]
    return example.SerializeToString()


def with_frames(clip, frames):
    example = tf.train.Example.FromString(schema.encode(clip))
    example.features.feature["frames"].bytes_list.value[:] = frames
    return example.SerializeToString()


class TestDamage:
    # Shard 0 has records 0 to 5, shard 1 has 6 to 10.
    @pytest.mark.parametrize(
        "damage, record, lost",
        [(flip_a_byte, 3, {3}), (truncate_shard, 4, {4, 5}), (truncate_shard, 6, {6, 7, 8, 9, 10})],
    )
    def test_damaged_files(self, tmp_path, damage, record, lost):
        split = fake_clips.write_dataset(tmp_path, "train", NUM_CLIPS, **CLIP)
        whole = train(load(split), num_batches=8)
        damage(split, record)
        loader = load(split)
        self.check_replaced(train(loader, num_batches=8), whole, lost)
        assert loader.bad_records == lost

    @pytest.mark.parametrize(
        "spoil, reason",
        [
            (lambda clip: with_key_missing(clip, "audio"), "Feature: audio .* is required"),
            (lambda clip: with_key_missing(clip, "frames"), r"\[0\] is not compatible with expected shape \[4\]"),
            (lambda clip: with_frames(clip, clip.frames[:3]), r"\[3\] is not compatible with expected shape \[4\]"),
            (lambda clip: with_frames(clip, [b"not a JPEG"] * 10), "Invalid JPEG data"),
            (lambda clip: with_frames(clip, [frame[:200] for frame in clip.frames]), "Invalid JPEG data"),
            (lambda clip: b"not an example" * 1000, "Could not parse example"),
        ],
        ids=["no audio", "no frames", "too few frames", "no JPEGs", "cut JPEGs", "no example"],
    )
    def test_whole_records_with_the_wrong_content(self, tmp_path, caplog, spoil, reason):
        clips = [fake_clips.make_clip(number, **CLIP) for number in range(NUM_CLIPS)]
        whole = train(load(fake_clips.write_clips(tmp_path / "whole", "train", clips)), num_batches=4)
        split = fake_clips.write_clips(tmp_path / "spoilt", "train", clips, instead={7: spoil(clips[7])})
        loader = load(split)
        self.check_replaced(train(loader, num_batches=4), whole, {7})
        assert loader.bad_records == {7}
        (line,) = caplog.messages
        assert re.search(f"damaged record: record 7 at byte .*spoilt.*: .*{reason}", line)
        assert "\n" not in line and "node" not in line and len(line) < 600

    def check_replaced(self, batches, whole, lost):
        """Every row but those of the lost records is as it was, and those have another record in their place."""
        assert set(clip_numbers(whole)) >= lost
        replaced = 0
        for batch, before in zip(batches, whole, strict=True):
            assert batch["mask"].tolist() == [1.0] * 4
            numbers, numbers_before = clip_numbers([batch]), clip_numbers([before])
            for row in range(4):
                if numbers_before[row] in lost:
                    assert numbers[row] not in lost
                    replaced += 1
                else:
                    for key in before:
                        np.testing.assert_array_equal(batch[key][row], before[key][row])
        assert replaced >= len(lost)

    def test_the_replacement_is_the_same_for_all(self, tmp_path):
        split = fake_clips.write_dataset(tmp_path, "train", NUM_CLIPS, **CLIP)
        for record in (0, 4, 9):
            flip_a_byte(split, record)
        batches = train(load(split), num_batches=8)
        assert_same(train(load(split), first_example=12, num_batches=5), batches[3:])
        hosts = [train(load(split), num_batches=8, rows=rows) for rows in (slice(0, 1), slice(1, 4))]
        for key in batches[0]:
            together = [np.concatenate([one[key], other[key]]) for one, other in zip(*hosts, strict=True)]
            np.testing.assert_array_equal(together, [batch[key] for batch in batches])
        # An epoch with three of its records lost draws each replacement by itself.
        assert len(set(np.concatenate([batch["draw"] for batch in batches]).tolist())) == 32

    def test_named_in_the_log_once(self, tmp_path, caplog):
        split = fake_clips.write_dataset(tmp_path, "train", NUM_CLIPS, **CLIP)
        flip_a_byte(split, 2)
        with caplog.at_level("WARNING", logger="absl"):
            train(load(split), num_batches=12)
        lines = [message for message in caplog.messages if "damaged record" in message]
        assert len(lines) == 1
        assert split.where(2) in lines[0] and "checksum" in lines[0]

    def test_too_many(self, tmp_path):
        split = fake_clips.write_dataset(tmp_path, "train", NUM_CLIPS, **CLIP)
        for record in (1, 2, 5):
            flip_a_byte(split, record)
        assert len(train(load(split, max_bad_fraction=3 / NUM_CLIPS), num_batches=8)) == 8
        with pytest.raises(pipeline.TooManyBadRecordsError) as error:
            train(load(split, max_bad_fraction=2.9 / NUM_CLIPS), num_batches=8)
        message = str(error.value)
        assert f"3 of the {NUM_CLIPS} records of split 'train'" in message
        assert split.where(1) in message and "checksum" in message
        assert "--verify" in message and "max_bad_fraction" in message

    def test_all_damaged_ends_whatever_is_allowed(self, tmp_path):
        split = fake_clips.write_dataset(tmp_path, "train", 4, **CLIP)
        for record in range(4):
            flip_a_byte(split, record)
        with pytest.raises(pipeline.TooManyBadRecordsError, match="4 of the 4"):
            train(load(split, max_bad_fraction=1.0))

    def test_other_errors_are_not_taken_for_damage(self, tmp_path, monkeypatch):
        split = fake_clips.write_dataset(tmp_path, "train", NUM_CLIPS, **CLIP)

        def fail(self, record):
            raise PermissionError("no")

        monkeypatch.setattr(index.SplitIndex, "read", fail)
        with pytest.raises(PermissionError):
            train(load(split))
