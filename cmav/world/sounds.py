"""How the synthetic world sounds: one timbre per name, sharp onsets, short decays, panned to where the object is.

Partials stay below 5 kHz, so that the timbres can be told apart at low sample rates too.
"""

import functools
from collections.abc import Callable

import numpy as np

_NOTE_SECONDS = 0.6
_ATTACK_SECONDS = 0.002
_NOTES_OF_A_BAND = 50
_NOISE_LEVEL = 0.002  # of full scale: nothing in a recording is digitally silent
_PEAK = 0.8  # of full scale; leaves room for the overshoot of the AAC encoder


def _seconds(sample_rate: int) -> np.ndarray:
    return np.arange(round(_NOTE_SECONDS * sample_rate)) / sample_rate


def _partials(sample_rate: int, hertz: float, ratios: tuple, levels: tuple, decays: tuple) -> np.ndarray:
    t = _seconds(sample_rate)
    waves = [
        level * np.sin(2 * np.pi * hertz * ratio * t) * np.exp(-t / decay)
        for ratio, level, decay in zip(ratios, levels, decays, strict=True)
    ]
    return np.sum(waves, axis=0)


def bell(rng: np.random.Generator, sample_rate: int) -> np.ndarray:
    hertz = rng.uniform(700, 900)
    return _partials(sample_rate, hertz, (1, 2.0, 2.76, 5.4), (1, 0.6, 0.7, 0.4), (0.1, 0.09, 0.08, 0.05))


def drum(rng: np.random.Generator, sample_rate: int) -> np.ndarray:
    t = _seconds(sample_rate)
    hertz = rng.uniform(90, 130) * (1 + 1.5 * np.exp(-t / 0.03))
    skin = np.sin(2 * np.pi * np.cumsum(hertz) / sample_rate) * np.exp(-t / 0.08)
    return skin + 0.4 * _low_pass(rng.standard_normal(len(t)), sample_rate, 2000) * np.exp(-t / 0.01)


def whistle(rng: np.random.Generator, sample_rate: int) -> np.ndarray:
    t = _seconds(sample_rate)
    hertz = rng.uniform(1500, 1900) * (1 + 0.5 * np.minimum(t / 0.15, 1))
    return np.sin(2 * np.pi * np.cumsum(hertz) / sample_rate) * np.exp(-t / 0.09)


def buzz(rng: np.random.Generator, sample_rate: int) -> np.ndarray:
    ratios = tuple(range(1, 16, 2))  # a square wave's
    levels = tuple(1 / ratio for ratio in ratios)
    return _partials(sample_rate, rng.uniform(180, 240), ratios, levels, (0.09,) * len(ratios))


def snap(rng: np.random.Generator, sample_rate: int) -> np.ndarray:
    noise = rng.standard_normal(len(_seconds(sample_rate)))
    band = _low_pass(noise, sample_rate, 4500) - _low_pass(noise, sample_rate, 1200)
    return band * np.exp(-_seconds(sample_rate) / 0.05)


def pluck(rng: np.random.Generator, sample_rate: int) -> np.ndarray:
    ratios = tuple(range(1, 9))
    levels = tuple(ratio**-0.7 for ratio in ratios)
    return _partials(sample_rate, rng.uniform(300, 420), ratios, levels, tuple(0.12 / ratio for ratio in ratios))


def _low_pass(wave: np.ndarray, sample_rate: int, hertz: float) -> np.ndarray:
    spectrum = np.fft.rfft(wave)
    spectrum[np.fft.rfftfreq(len(wave), 1 / sample_rate) > hertz] = 0
    return np.fft.irfft(spectrum, len(wave))


# Each draws one note, mono [samples]: pitch and noise vary from object to object, the kind of sound does not.
TIMBRES: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "Bell": bell,
    "Drum": drum,
    "Whistle": whistle,
    "Buzz": buzz,
    "Snap": snap,
    "Pluck": pluck,
}


def random_note(rng: np.random.Generator, timbre: str, sample_rate: int) -> np.ndarray:
    """Draws one object's note, float64 [samples], with an attack of 2 ms, peak 1, and silence at its end."""
    note = TIMBRES[timbre](rng, sample_rate)
    t = _seconds(sample_rate)
    note = note * np.minimum(t / _ATTACK_SECONDS, 1) * np.minimum((_NOTE_SECONDS - t) / 0.05, 1)
    return note / np.abs(note).max()


@functools.cache
def band(timbre: str, sample_rate: int) -> tuple[float, float]:
    """Between which frequencies, Hz, four fifths of a timbre's energy lie, over many notes; a tenth is on either side.

    It is of the timbre and not of one note, whose pitch is its own: the same for every object that sounds so.
    """
    rng = np.random.default_rng(0)
    power = sum(np.abs(np.fft.rfft(random_note(rng, timbre, sample_rate))) ** 2 for _ in range(_NOTES_OF_A_BAND))
    frequencies = np.fft.rfftfreq(len(_seconds(sample_rate)), 1 / sample_rate)
    low, high = frequencies[np.searchsorted(np.cumsum(power) / power.sum(), [0.1, 0.9])]
    return round(float(low), 1), round(float(high), 1)


def strike(audio: np.ndarray, note: np.ndarray, start: int, level: float, pan: float) -> None:
    """Adds a note to `audio` [samples, 2] from sample `start` on, in place. Pan is from 0 (left) to 1 (right)."""
    length = min(len(note), len(audio) - start)
    angle = np.pi / 4 * (1 + 0.6 * (2 * pan - 1))  # never all on one side
    audio[start : start + length] += level * note[:length, None] * [np.cos(angle), np.sin(angle)]


def master(rng: np.random.Generator, audio: np.ndarray) -> np.ndarray:
    """Adds the noise floor and brings the peak down to where nothing clips. Returns float32 [samples, 2]."""
    audio = audio * min(1.0, _PEAK / max(np.abs(audio).max(initial=0), 1e-9))
    return (audio + _NOISE_LEVEL * rng.standard_normal(audio.shape)).astype(np.float32)
