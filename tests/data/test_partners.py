"""Examples that take something of another video: which, is a function of the seed and the record alone."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from cmav.data import clip_ids, index, pipeline
from cmav.errors import UserError
from tests import fake_clips
from tests.data.loading import CLIP, NUM_CLIPS, assert_same, clip_numbers, train


def write(folder, clips_per_video=1, num_clips=NUM_CLIPS):
    """Clip n of the split is of video n // clips_per_video, and its first sample is n."""
    clips = []
    for number in range(num_clips):
        clip = fake_clips.make_clip(number, **CLIP)
        video, place = divmod(number, clips_per_video)
        audio = np.full_like(clip.audio, number)
        clips.append(dataclasses.replace(clip, clip_id=f"fake{video:04d}_{place * 1000}", audio=audio))
    return fake_clips.write_clips(folder, "train", clips)


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    return write(tmp_path_factory.mktemp("clips"))


def make_example(record, seed, view, *, lent=None):
    return {
        "clip_id": record["clip_id"],
        "own": tf.cast(record["audio"][0, 0], tf.int32),
        "partner": tf.constant(-1) if lent is None else lent[0],
        "draw": tf.random.stateless_uniform([2], seed) if lent is None else tf.cast(lent[1:], tf.float32),
    }


def lend(record, seed):
    number = tf.cast(record["audio"][0, 0], tf.int32)
    return tf.concat([[number], tf.random.stateless_uniform([2], seed, maxval=1000, dtype=tf.int32)], axis=0)


def load(split, share=1.0, **options):
    options = {"num_threads": 2, "partner_share": share, "lend": lend if share else None, **options}
    return pipeline.Loader(split, make_example, np.arange(len(split)), 0.5, **options)


def column(batches, key):
    return np.concatenate([batch[key] for batch in batches])


class TestTraining:
    def test_everybody_has_every_other_as_partner_but_never_itself(self, split):
        batches = train(load(split), batch_size=NUM_CLIPS, num_batches=60)
        own, partner = column(batches, "own"), column(batches, "partner")
        assert set(zip(own, partner, strict=True)) == {(a, b) for a in range(11) for b in range(11) if a != b}
        assert len(set(column(batches, "draw")[:, 0])) > 300  # what is random in what is lent is drawn anew

    @pytest.mark.parametrize("share", [0.0, 0.25, 0.8, 1.0])
    def test_so_many_have_one(self, split, share):
        partners = [column(train(load(split, share), seed=seed, num_batches=40), "partner") for seed in range(4)]
        shares = [np.mean(one >= 0) for one in partners]
        assert np.mean(shares) == pytest.approx(share, abs=0.04)
        if 0 < share < 1:
            assert len(set(shares)) > 1  # drawn, not counted off

    def test_those_that_have_none_are_as_without(self, split):
        """And the order of the records is the same."""
        mixed, plain = train(load(split, 0.5), num_batches=10), train(load(split, 0.0), num_batches=10)
        alone = column(mixed, "partner") < 0
        assert 10 < alone.sum() < 30
        np.testing.assert_array_equal(column(mixed, "draw")[alone], column(plain, "draw")[alone])
        assert clip_numbers(mixed) == clip_numbers(plain)

    @pytest.mark.parametrize("share", [0.5, 1.0])
    def test_resumed_with_other_batches_hosts_and_threads_it_is_the_same(self, split, share):
        batches = train(load(split, share), num_batches=6)
        for step in (1, 4):
            assert_same(train(load(split, share), first_example=4 * step, num_batches=6 - step, seed=0), batches[step:])
        for other in (train(load(split, share), batch_size=6, num_batches=4), train(load(split, share, num_threads=7))):
            for key in batches[0]:
                np.testing.assert_array_equal(column(other, key), column(batches, key))
        hosts = [train(load(split, share), rows=rows) for rows in (slice(0, 2), slice(2, 4))]
        for one, two, both in zip(*hosts, batches, strict=True):
            np.testing.assert_array_equal([*one["partner"], *two["partner"]], both["partner"])

    def test_clips_of_the_same_video_are_no_partners(self, tmp_path):
        batches = train(load(write(tmp_path, clips_per_video=4)), batch_size=NUM_CLIPS, num_batches=40)
        own, partner = column(batches, "own"), column(batches, "partner")
        expected = {(a, b) for a in range(11) for b in range(11) if a // 4 != b // 4}
        assert set(zip(own, partner, strict=True)) == expected

    def test_another_comes_in_the_place_of_a_damaged_one(self, tmp_path):
        split = write(tmp_path)
        whole = train(load(split), num_batches=12)
        fake_clips.flip_a_byte(split, 4)
        loader = load(split)
        batches = train(loader, num_batches=12)
        own, was_own = column(batches, "own"), column(whole, "own")
        partner, was_partner = column(batches, "partner"), column(whole, "partner")
        untouched = (was_own != 4) & (was_partner != 4)
        lost = (was_own != 4) & (was_partner == 4)
        assert lost.any() and loader.bad_records == {4} and not np.isin(4, partner)
        np.testing.assert_array_equal(own[untouched | lost], was_own[untouched | lost])
        np.testing.assert_array_equal(partner[untouched], was_partner[untouched])
        assert np.all(column(batches, "mask") == 1) and np.all(partner != own)

    def test_with_no_other_left_it_says_so(self, tmp_path):
        split = write(tmp_path, num_clips=2)
        fake_clips.flip_a_byte(split, 1)
        with pytest.raises(index.DatasetError, match=r"record 0 at byte 0 of .* needs audio of another video"):
            train(load(split), num_batches=4)


def test_in_evaluation_partners_are_fixed(split):
    def partners(batch_size=4, **options):
        batches = list(load(split).eval_batches(batch_size=batch_size, **{"seed": 0, "repeats": 2, **options}))
        real = column(batches, "mask") > 0
        assert not column(batches, "partner")[~real].any() and real.sum() == 22
        assert column(batches, "own")[real].tolist() == [number for number in range(11) for _ in range(2)]
        return column(batches, "partner")[real].tolist(), column(batches, "draw")[real].tolist()

    first = partners()
    assert first == partners(batch_size=7) == partners(batch_size=32)
    assert first != partners(seed=1)
    assert all(other != number // 2 for number, other in enumerate(first[0]))
    assert first[0][::2] != first[0][1::2]  # of the repetitions of a clip, each has its own


@pytest.mark.parametrize(("num_clips", "clips_per_video"), [(1, 1), (5, 5)])
def test_records_of_one_video_are_refused_before_anything_is_made(tmp_path, num_clips, clips_per_video):
    split = write(tmp_path, clips_per_video, num_clips)
    with pytest.raises(UserError, match=rf"split 'train' .* of one video only \({num_clips}\)"):
        clip_ids.require_two_videos(split, np.arange(num_clips))


def test_of_two_videos_there_is_another(tmp_path):
    clip_ids.require_two_videos(write(tmp_path, clips_per_video=10), np.arange(NUM_CLIPS))
