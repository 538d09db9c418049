"""Sound of one rate heard at another: what is kept, what is not, and when it is."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from cmav.data import pipeline, resampling, schema
from tests import fake_clips
from tests.data.loading import CLIP, assert_same, clip_numbers

RATES = [(44_100, 16_000), (16_000, 8_000), (8_000, 21_000), (21_000, 20_999)]


def tone(hertz, rate, seconds=1.0, start=0.0):
    wave = np.sin(2 * np.pi * hertz * (start + np.arange(round(seconds * rate)) / rate))
    return np.rint(10_000 * np.stack([wave, 0.5 * wave], axis=1)).astype(np.int16)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.4])
@pytest.mark.parametrize("from_rate, to_rate", RATES)
def test_a_tone_keeps_its_height_and_its_moment(from_rate, to_rate, share):
    """The analytic sine at the other rate: of its frequency in amplitude and phase, and of others there is nothing."""
    hertz = share * min(from_rate, to_rate)
    found = resampling.resample(tone(hertz, from_rate), from_rate, to_rate)
    assert found.dtype == np.int16
    inside = slice(to_rate // 10, to_rate - to_rate // 10)  # The tone begins and ends at once, which rings.
    angle = 2 * np.pi * hertz * np.arange(to_rate)[inside] / to_rate
    waves = np.stack([np.sin(angle), np.cos(angle)], axis=1)
    parts, *_ = np.linalg.lstsq(waves, found[inside].astype(float))
    for channel, height in enumerate((10_000, 5_000)):
        amplitude, phase = np.hypot(*parts[:, channel]), np.arctan2(*parts[::-1, channel])
        assert amplitude == pytest.approx(height, rel=0.005) and abs(phase) < 0.005
    assert abs(found[inside] - waves @ parts).max() < 30  # 0.3%


def test_what_the_lower_rate_cannot_have_is_gone():
    for hertz in (5_000, 9_000, 15_000):
        alias = resampling.resample(tone(hertz, 44_100), 44_100, 8_000)[800:-800]
        assert abs(alias.astype(int)).max() < 50  # of 10,000


def test_loud_sound_does_not_wrap_around():
    loud = np.where(tone(100, 8_000) > 0, 32767, -32768).astype(np.int16)
    found = resampling.resample(loud, 8_000, 21_000)
    assert found.max() == 32767 and found.min() == -32768
    assert (np.sign(found[1_000:1_080:7, 0]) == np.sign(tone(100, 21_000)[1_000:1_080:7, 0])).all()


@pytest.mark.parametrize("from_rate, to_rate", [(8_000, 21_000), (16_000, 44_100), (21_000, 16_000), (44_100, 8_000)])
def test_a_clip_that_fits_into_a_record_fits_at_any_rate(from_rate, to_rate):
    """A record of k frames has floor(k * sample_rate / frame_rate) samples; tasks rely on it to choose clips."""
    for num_frames in range(1, 40):
        samples = num_frames * from_rate * 1001 // 30_000
        found = resampling.resample(np.zeros((samples, 2), np.int16), from_rate, to_rate)
        least = num_frames * to_rate * 1001 // 30_000
        assert least <= len(found) <= least + to_rate / from_rate + 1


def heard(record, seed, view):
    length = round(0.8 * int(CLIP["sample_rate"] * 1.6))
    return {"clip_id": record["clip_id"], "audio": tf.ensure_shape(record["audio"][:length], [length, 2])}


def seen(record, seed, view):
    return {"clip_id": record["clip_id"]}


def batches(split, make_example, sample_rate):
    records = np.arange(len(split))
    loader = pipeline.Loader(split, make_example, records, 0.0, num_threads=2, sample_rate=sample_rate)
    return list(loader.eval_batches(seed=0, batch_size=4))


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    return fake_clips.write_dataset(tmp_path_factory.mktemp("clips"), "train", 7, **CLIP)


def test_the_loader_hears_records_at_the_rate_that_it_is_asked_for(split):
    rate = round(1.6 * CLIP["sample_rate"])
    found = batches(split, heard, rate)
    assert clip_numbers(found) == [*range(7), None]
    for batch in found:
        for name, audio in zip(batch["clip_id"], batch["audio"], strict=True):
            if not name:
                continue
            stored = schema.parse(tf.constant(split.read(int(name[4:8]))))["audio"].numpy()
            np.testing.assert_array_equal(audio, resampling.resample(stored, CLIP["sample_rate"], rate)[: len(audio)])


def test_records_that_fit_and_sound_that_no_one_hears_are_not_resampled(split, monkeypatch):
    def fail(*args):
        raise AssertionError("resampled")

    own = functools.partial(batches, split, lambda record, *_: {"audio": tf.ensure_shape(record["audio"], [500, 2])})
    expected = own(None)
    monkeypatch.setattr(resampling, "resample", fail)
    assert_same(own(CLIP["sample_rate"]), expected)
    assert clip_numbers(batches(split, seen, 800)) == [*range(7), None]
    with pytest.raises(tf.errors.OpError, match="resampled"):
        batches(split, heard, 800)
