"""Levels of tones that are known, as the ear weighs their frequencies."""

import numpy as np
import pytest
from scipy import signal

from cmav.models import loudness

RATE = 16_000


def tone(hertz, amplitude=0.5, seconds=0.5, rate=RATE):
    wave = 2**15 * amplitude * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)
    return np.repeat(np.round(wave).astype(np.int16)[None, :, None], 2, axis=2)


@pytest.mark.parametrize(("hertz", "weight"), [(1000, 0.0), (100, -19.1), (250, -8.6), (4000, 1.0)])
def test_tones_are_weighted_as_the_standard_has_it(hertz, weight):
    """Half of full scale is -9.03 dB as a root mean square; the weights are IEC 61672's table."""
    assert np.asarray(loudness.levels(tone(hertz), RATE)) == pytest.approx(-9.03 + weight, abs=0.6)


def test_a_hum_does_not_hide_a_pause():
    assert np.asarray(loudness.levels(tone(25, amplitude=0.1), RATE)).max() < loudness.SILENT_DBFS


def test_noise_against_welchs_spectrum():
    noise = np.random.default_rng(0).normal(0, 3000, (1, 8 * RATE, 2)).astype(np.int16)
    hertz, density = signal.welch(noise[0, :, 0] / 2**15, RATE, nperseg=4096)
    power = (density * loudness.a_weighting(hertz) ** 2).sum() * (hertz[1] - hertz[0])
    found = 10 * np.log10(np.mean(10 ** (np.asarray(loudness.levels(noise, RATE)) / 10)))
    assert found == pytest.approx(10 * np.log10(power), abs=0.2)


@pytest.mark.parametrize("at", [0.1, 0.125, 0.1375, 0.15])
def test_a_click_counts_wherever_it_falls(at):
    """Where a piece fades out, the next one is at its middle."""
    audio = np.zeros((1, RATE // 2, 2), np.int16)
    audio[:, round(at * RATE)] = 20_000
    levels, times = np.asarray(loudness.levels(audio, RATE))[0], loudness.times(RATE // 2, RATE)
    assert len(levels) == len(times) and abs(times[levels.argmax()] - at) <= 0.0125 + 1e-6
    assert levels.max() > loudness.SILENT_DBFS
    assert (levels[abs(times - at) > 0.03] == loudness.LEAST_DBFS).all()


def test_what_is_shorter_than_a_piece_is_one():
    assert loudness.levels(tone(1000, seconds=0.02), RATE).shape == (1, 1)
    assert loudness.times(320, RATE) == pytest.approx([0.01])
