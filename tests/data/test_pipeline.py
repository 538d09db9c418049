"""Batches: a function of (seed, step) alone, whatever the hosts, the resuming and the damage."""

import gc
import os
import re
import threading

import numpy as np
import pytest
import tensorflow as tf

from cmav.data import index, pipeline, schema, video
from tests import fake_clips
from tests.fake_clips import flip_a_byte

NUM_CLIPS = 11
SIZE = 16
CLIP = dict(seconds=1.0, size=SIZE, frame_rate=10.0, sample_rate=500)


def make_example(record, seed, view):
    return {
        "clip_id": record["clip_id"],
        "draw": tf.random.stateless_uniform([], seed),
        "seed": seed,
        "video": video.decode_clip(tf.ensure_shape(record["frames"][:4], [4]), 12, seed),
        "audio": tf.ensure_shape(record["audio"][:100], [100, 2]),
    }


def load(split, max_bad_fraction=0.5, records=None, **options):
    records = np.arange(len(split)) if records is None else np.asarray(records)
    return pipeline.Loader(split, make_example, records, max_bad_fraction, num_threads=2, **options)


def train(loader, *, seed=0, first_example=0, batch_size=4, num_batches=6, rows=None):
    return list(
        loader.train_batches(
            seed=seed, first_example=first_example, batch_size=batch_size, num_batches=num_batches, rows=rows
        )
    )


def assert_same(batches, expected):
    assert len(batches) == len(expected)
    for batch, other in zip(batches, expected, strict=True):
        assert batch.keys() == other.keys()
        for key in other:
            np.testing.assert_array_equal(batch[key], other[key], err_msg=key)


def clip_numbers(batches):
    """Numbers of the clips in their order, None for a masked row."""
    ids = np.concatenate([batch["clip_id"] for batch in batches])
    mask = np.concatenate([batch["mask"] for batch in batches])
    return [int(name[4:8]) if real else None for name, real in zip(ids, mask, strict=True)]


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    return fake_clips.write_dataset(tmp_path_factory.mktemp("clips"), "train", NUM_CLIPS, **CLIP)


class TestTraining:
    def test_batches_are_stacked_examples(self, split):
        (batch,) = train(load(split), num_batches=1)
        assert {key: (value.shape, value.dtype.name) for key, value in batch.items()} == {
            "clip_id": ((4,), "object"),
            "draw": ((4,), "float32"),
            "seed": ((4, 2), "int32"),
            "video": ((4, 4, 12, 12, 3), "uint8"),
            "audio": ((4, 100, 2), "int16"),
            "mask": ((4,), "float32"),
        }
        for row, number in enumerate(clip_numbers([batch])):
            record = schema.parse(tf.constant(split.read(number)))
            assert batch["clip_id"][row] == record["clip_id"].numpy()
            expected = make_example(record, tf.constant(batch["seed"][row]), tf.constant(0))
            np.testing.assert_array_equal(batch["video"][row], expected["video"])
            np.testing.assert_array_equal(batch["audio"][row], expected["audio"])
        assert batch["mask"].tolist() == [1.0] * 4

    def test_function_of_the_seed(self, split):
        batches = train(load(split), seed=5)
        assert_same(train(load(split), seed=5), batches)
        assert clip_numbers(train(load(split), seed=6)) != clip_numbers(batches)
        assert len(train(load(split), seed=-1)) == 6  # any whole number will do

    @pytest.mark.parametrize("prefetch_batches, num_threads", [(0, 1), (1, 3), (20, 8)])
    def test_threads_and_prefetching_change_nothing(self, split, prefetch_batches, num_threads):
        loader = pipeline.Loader(split, make_example, np.arange(NUM_CLIPS), 0.5, num_threads, prefetch_batches)
        assert_same(train(loader), train(load(split)))

    def test_resumed_anywhere_it_goes_on_the_same(self, split):
        batches = train(load(split), num_batches=6)
        for step in (1, 2, 5):
            resumed = train(load(split), first_example=4 * step, num_batches=6 - step)
            assert_same(resumed, batches[step:])

    def test_stream_does_not_depend_on_the_batch_size(self, split):
        """So a change of phase, with its other batch size, goes on where the last one ended."""
        in_fours, in_sixes = (
            train(load(split), batch_size=4, num_batches=6),
            train(load(split), batch_size=6, num_batches=4),
        )
        for key in in_fours[0]:
            np.testing.assert_array_equal(
                np.concatenate([batch[key] for batch in in_fours]), np.concatenate([batch[key] for batch in in_sixes])
            )

    @pytest.mark.parametrize("num_hosts", [2, 4])
    def test_rows_of_all_hosts_make_the_global_batch(self, split, num_hosts):
        size = 4 // num_hosts
        hosts = [train(load(split), rows=slice(host * size, (host + 1) * size)) for host in range(num_hosts)]
        together = [
            {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
            for parts in zip(*hosts, strict=True)
        ]
        assert_same(together, train(load(split)))

    def test_a_host_reads_only_its_rows(self, split, monkeypatch):
        read = []
        original = index.SplitIndex.read
        monkeypatch.setattr(
            index.SplitIndex, "read", lambda self, record: (read.append(record), original(self, record))[1]
        )
        batches = train(load(split), rows=slice(2, 4), num_batches=5)
        assert sorted(read) == sorted(clip_numbers(batches)) and len(read) == 10

    def test_epochs_are_permutations_each_another(self, split):
        numbers = clip_numbers(train(load(split), batch_size=NUM_CLIPS, num_batches=4))
        epochs = np.reshape(numbers, (4, NUM_CLIPS))
        for epoch in epochs:
            assert sorted(epoch) == list(range(NUM_CLIPS))
        assert len({tuple(epoch) for epoch in epochs}) == 4
        assert tuple(range(NUM_CLIPS)) not in {tuple(epoch) for epoch in epochs}

    def test_a_record_is_seeded_anew_each_epoch_and_apart_from_others(self, split):
        batches = train(load(split), batch_size=NUM_CLIPS, num_batches=4)
        draws = np.concatenate([batch["draw"] for batch in batches])
        assert len(set(draws.tolist())) == 4 * NUM_CLIPS

    def test_only_the_chosen_records(self, split):
        numbers = clip_numbers(train(load(split, records=[1, 4, 6]), batch_size=3, num_batches=3))
        assert [sorted(numbers[first : first + 3]) for first in (0, 3, 6)] == [[1, 4, 6]] * 3


class TestEvaluation:
    def evaluate(self, loader, *, seed=0, batch_size=4, repeats=1, rows=None):
        return list(loader.eval_batches(seed=seed, batch_size=batch_size, repeats=repeats, rows=rows))

    def test_in_order_and_padded(self, split):
        batches = self.evaluate(load(split))
        assert clip_numbers(batches) == [*range(NUM_CLIPS), None]
        assert [len(batch["mask"]) for batch in batches] == [4, 4, 4]
        for value in batches[-1].values():
            assert not np.any(value[-1])

    def test_no_padding_where_none_is_needed(self, split):
        batches = self.evaluate(load(split, records=range(8)))
        assert clip_numbers(batches) == list(range(8))

    def test_repeats_are_other_draws_of_the_same_record(self, split):
        batches = self.evaluate(load(split), repeats=3)
        numbers = clip_numbers(batches)
        assert numbers[:-3] == [*np.repeat(np.arange(NUM_CLIPS), 3)] and numbers[-3:] == [None] * 3
        draws = np.concatenate([batch["draw"] for batch in batches])[: 3 * NUM_CLIPS]
        assert len(set(draws.tolist())) == 3 * NUM_CLIPS

    def test_draws_depend_on_seed_record_and_repeat_alone(self, split):
        def draws(**options):
            batches = self.evaluate(load(split, records=options.pop("records", None)), **options)
            return dict(zip(clip_numbers(batches), np.concatenate([batch["draw"] for batch in batches]), strict=True))

        everything = draws()
        assert draws(batch_size=7) == everything
        few = draws(records=[2, 5, 9, 10], batch_size=4)
        assert few == {number: everything[number] for number in (2, 5, 9, 10)}
        assert draws(seed=1)[3] != everything[3]

    def test_rows_of_all_hosts_make_the_global_batch_padding_and_all(self, split):
        hosts = [self.evaluate(load(split, records=range(9)), rows=rows) for rows in (slice(0, 2), slice(2, 4))]
        assert [len(batches) for batches in hosts] == [3, 3]  # though the second has nothing in its last
        together = [
            {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
            for parts in zip(*hosts, strict=True)
        ]
        assert_same(together, self.evaluate(load(split, records=range(9))))

    def test_a_damaged_record_is_a_masked_row(self, tmp_path):
        damaged = fake_clips.write_dataset(tmp_path, "validation", NUM_CLIPS, **CLIP)
        flip_a_byte(damaged, 6)
        loader = load(damaged)
        assert clip_numbers(self.evaluate(loader)) == [0, 1, 2, 3, 4, 5, None, 7, 8, 9, 10, None]
        assert loader.bad_records == {6}


def truncate_shard(split, record):
    row = split.rows[record]
    os.truncate(index.shard_path(split.folder, split.split, row["shard"], split.num_shards), int(row["offset"]) + 20)


def delete_shard(split, record):
    os.remove(index.shard_path(split.folder, split.split, split.rows[record]["shard"], split.num_shards))


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
        [(flip_a_byte, 3, {3}), (truncate_shard, 4, {4, 5}), (delete_shard, 8, {6, 7, 8, 9, 10})],
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

    def test_other_errors_are_not_taken_for_damage(self, split, monkeypatch):
        def fail(self, record):
            raise PermissionError("no")

        monkeypatch.setattr(index.SplitIndex, "read", fail)
        with pytest.raises(PermissionError):
            train(load(split))


class TestThreads:
    def loader_threads(self):
        return [thread for thread in threading.enumerate() if thread.name.startswith("cmav-loader")]

    def test_end_with_the_iterator(self, split):
        train(load(split))
        assert not self.loader_threads()

    def test_end_when_closed_or_let_go(self, split):
        for end in ("close", "let go"):
            batches = load(split).train_batches(seed=0, first_example=0, batch_size=4, num_batches=10**9)
            next(batches)
            assert self.loader_threads()
            if end == "close":
                batches.close()
            del batches
            gc.collect()
            assert not self.loader_threads()

    def test_end_after_an_error(self, tmp_path):
        split = fake_clips.write_dataset(tmp_path, "train", 4, **CLIP)
        flip_a_byte(split, 0)
        with pytest.raises(pipeline.TooManyBadRecordsError):
            train(load(split, max_bad_fraction=0.0))
        assert not self.loader_threads()

    def test_no_more_batches_under_way_than_asked_for(self, split, monkeypatch):
        read = []
        original = index.SplitIndex.read
        monkeypatch.setattr(
            index.SplitIndex, "read", lambda self, record: (read.append(record), original(self, record))[1]
        )
        batches = load(split, prefetch_batches=2).train_batches(seed=0, first_example=0, batch_size=2, num_batches=50)
        for taken in range(1, 6):
            next(batches)
            assert 2 * taken <= len(read) <= 2 * (taken + 2)
        batches.close()


class TestChecks:
    def test_shapes_must_be_fixed(self, split):
        def frames_of_any_number(record, seed, view):
            return {"frames": record["frames"]}

        with pytest.raises(ValueError, match="'frames'"):
            pipeline.Loader(split, frames_of_any_number, np.arange(NUM_CLIPS), 0.5)

    def test_no_records(self, split):
        with pytest.raises(index.DatasetError, match="no records"):
            load(split, records=[])
