"""Masks of spectrograms, found again in what they leave."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cmav.models.spec_augment import spec_augment

NUM_ROWS, NUM_FRAMES, NUM_BANDS = 200, 100, 20
MASKS = dict(num_time_masks=2, max_time_share=0.29, num_frequency_masks=1, max_frequency_share=0.25)


def spectrograms(seed=0, dtype=np.float32):
    """No value is the mean of its row, so what is masked can be seen."""
    return np.random.default_rng(seed).normal(-3, 2, (NUM_ROWS, NUM_FRAMES, NUM_BANDS)).astype(dtype)


def run_lengths(hidden):
    """Lengths of the runs of what is hidden."""
    return [len(list(run)) for is_hidden, run in itertools.groupby(hidden) if is_hidden]


@pytest.fixture(scope="module")
def hidden():
    """Which frames and which bands of each row are hidden: bool [rows, frames] and [rows, bands]."""
    mels = spectrograms()
    changed = np.asarray(spec_augment(jax.random.key(1), mels, **MASKS)) != mels
    # A frame is hidden where all its bands are. All of them never are by bands: at most 5 of 20.
    frames, bands = changed.all(axis=2), changed.all(axis=1)
    np.testing.assert_array_equal(changed, frames[:, :, None] | bands[:, None, :])
    return frames, bands


def test_what_is_masked_has_the_mean_of_its_row_and_all_else_stays():
    mels = spectrograms()
    masked = np.asarray(spec_augment(jax.random.key(1), mels, **MASKS))
    means = np.broadcast_to(mels.astype(np.float64).mean(axis=(1, 2), keepdims=True), mels.shape)
    changed = masked != mels
    assert 0.1 < changed.mean() < 0.5
    np.testing.assert_allclose(masked[changed], means[changed], rtol=1e-5)


def test_masks_are_not_wider_than_asked_for_and_reach_their_greatest_width(hidden):
    frames, bands = hidden
    time_runs, band_runs = (list(map(run_lengths, axis)) for axis in (frames, bands))
    assert max(map(len, time_runs)) == 2 and max(map(len, band_runs)) == 1
    assert max(runs[0] for runs in time_runs if len(runs) == 2) == 29  # of 100 frames, though 0.29 * 100 < 29
    assert frames.sum(axis=1).max() <= 58
    assert sorted({sum(runs) for runs in band_runs}) == [0, 1, 2, 3, 4, 5]  # 0.25 of 20 bands


def test_widths_and_places_are_uniform(hidden):
    _, bands = hidden
    widths = bands.sum(axis=1)
    assert abs(widths.mean() - 2.5) < 5 * np.sqrt(35 / 12 / NUM_ROWS)
    share = [
        (np.argmax(row) + 0.5) / (NUM_BANDS - width + 1) for row, width in zip(bands, widths, strict=True) if width
    ]
    assert abs(np.mean(share) - 0.5) < 5 * np.sqrt(1 / 12 / len(share))
    assert min(share) < 0.05 and max(share) > 0.95


def test_rows_are_masked_independently(hidden):
    frames, _ = hidden
    assert len({row.tobytes() for row in frames}) > 0.9 * NUM_ROWS
    centred = frames - frames.mean(axis=0)
    between = np.mean(centred[:-1] * centred[1:]) / np.mean(centred**2)  # of a row and the next
    assert abs(between) < 0.1


def test_bands_are_masked_independently_of_time():
    mels = np.random.default_rng(0).normal(size=(NUM_ROWS, NUM_BANDS, NUM_BANDS))  # axes that nothing else tells apart
    masks = dict(num_time_masks=1, max_time_share=0.5, num_frequency_masks=1, max_frequency_share=0.5)
    changed = np.asarray(spec_augment(jax.random.key(1), jnp.asarray(mels, jnp.float32), **masks)) != mels.astype("f4")
    widths = [changed.all(axis=axis).sum(axis=1) for axis in (1, 2)]
    assert abs(np.corrcoef(widths)[0, 1]) < 5 / np.sqrt(NUM_ROWS)


def test_a_key_determines_the_masks_whatever_they_hide():
    masked = jax.jit(functools.partial(spec_augment, **MASKS))
    first, other = spectrograms(0), spectrograms(1)
    np.testing.assert_array_equal(masked(jax.random.key(3), first), masked(jax.random.key(3), first))
    changed = np.asarray(masked(jax.random.key(3), first)) != first
    np.testing.assert_array_equal(changed, np.asarray(masked(jax.random.key(3), other)) != other)
    assert (changed != (np.asarray(masked(jax.random.key(4), first)) != first)).any()


@pytest.mark.parametrize(
    "off", [dict(num_time_masks=0, num_frequency_masks=0), dict(max_time_share=0.0, max_frequency_share=0.0)]
)
def test_no_masks_or_masks_of_no_width_hide_nothing(off):
    mels = spectrograms()
    np.testing.assert_array_equal(spec_augment(jax.random.key(1), mels, **{**MASKS, **off}), mels)


def test_a_share_of_one_may_hide_the_whole_axis():
    mels = spectrograms()
    whole = dict(num_time_masks=1, max_time_share=1.0, num_frequency_masks=0, max_frequency_share=0.0)
    hidden = (np.asarray(spec_augment(jax.random.key(1), mels, **whole)) != mels).all(axis=2)
    assert NUM_FRAMES in hidden.sum(axis=1)


def test_bfloat16_stays_and_its_mean_is_computed_in_float32():
    mels = jnp.asarray(spectrograms(), jnp.bfloat16) + 100
    masked = spec_augment(jax.random.key(1), mels, **MASKS)
    assert masked.dtype == jnp.bfloat16
    changed = np.asarray(masked != mels)
    means = np.asarray(mels, np.float64).mean(axis=(1, 2), keepdims=True)
    distance = np.abs(np.asarray(masked, np.float64) - means)[changed]
    assert distance.max() <= 0.25  # half of bfloat16's step from 64 to 128
