"""Batches: a function of (seed, step) alone, whatever the hosts and the resuming."""

import gc
import threading

import numpy as np
import pytest
import tensorflow as tf

from cmav.data import index, pipeline, schema
from tests import fake_clips
from tests.data.loading import CLIP, NUM_CLIPS, assert_same, clip_numbers, load, make_example, train
from tests.fake_clips import flip_a_byte


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

    @pytest.mark.parametrize("batch_size, rows", [(4, None), (32, None), (12, slice(6, 12))])
    def test_views_that_are_made_together_are_the_same(self, split, monkeypatch, batch_size, rows):
        """Also where the views of a record lie in several batches, or are more than are made at once."""
        flip_a_byte(split, 3)
        made = []

        def make_example(record, seed, view):
            return {key: value[0] for key, value in make_views(record, view[None]).items()}

        def make_views(record, views):
            starts = views * 7
            audio = tf.map_fn(lambda start: record["audio"][start : start + 50], starts, tf.int16)
            ids = tf.fill(tf.shape(views), record["clip_id"])
            return {"clip_id": ids, "view": views, "audio": tf.ensure_shape(audio, [None, 50, 2])}

        def read(self, record):
            made.append(record)
            return original(self, record)

        alone, together = (
            pipeline.Loader(split, make_example, np.arange(NUM_CLIPS), 0.5, make_views=views)
            for views in (None, make_views)
        )
        try:
            expected = self.evaluate(alone, repeats=10, batch_size=batch_size, rows=rows)
            original = index.SplitIndex.read
            monkeypatch.setattr(index.SplitIndex, "read", read)
            assert_same(self.evaluate(together, repeats=10, batch_size=batch_size, rows=rows), expected)
        finally:
            flip_a_byte(split, 3)
        assert together.bad_records == alone.bad_records == {3}
        assert len(made) < sum(len(batch["mask"]) for batch in expected) / 2

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
