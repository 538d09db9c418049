"""How loud a sound is, moment by moment, and what counts as silent: the same for all who ask.

Levels are A-weighted (IEC 61672), in dB of full scale: what the ear hardly hears counts hardly. In GRID's recordings
the pauses before and after sentences are full of hum below 50 Hz. Pieces of 50 ms in pauses are 28 dB below a clip's
loudest one without the weighting, and 48 dB with it, where speech is 10 dB below (medians over 100 clips).
"""

from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np

ArrayT = TypeVar("ArrayT", np.ndarray, jax.Array)

PIECE_SECONDS = 0.05
NEAR_SECONDS = 0.125  # What is so near to an instant is heard with it.
LEAST_DBFS = -120.0  # what a level is at least, for the logarithm's sake
SILENT_DBFS = -60.0  # a sound that is nowhere this loud is silent


def levels(audio_BxSx2: jax.Array, sample_rate: int) -> jax.Array:
    """The level of each piece of 50 ms of a sound, every 25 ms: float32 [B, P], dB of full scale, A-weighted.

    Args:
      audio_BxSx2: int16.
      sample_rate: in Hz.
    """
    size, hop = _piece(audio_BxSx2.shape[1], sample_rate)
    # Hann's window keeps a hum from leaking into frequencies that count; where pieces meet, half of them overlaps.
    window_N = np.hanning(size + 2)[1:-1]
    gains_F = a_weighting(np.fft.rfftfreq(size, 1 / sample_rate)) ** 2 / (size * (window_N**2).sum())
    gains_F[1 : (size + 1) // 2] *= 2  # for the negative frequencies
    firsts_P = np.arange(0, audio_BxSx2.shape[1] - size + 1, hop)
    pieces = (audio_BxSx2.astype(jnp.float32) / 2**15)[:, firsts_P[:, None] + np.arange(size)]
    spectra_BxPxFx2 = jnp.fft.rfft(pieces * window_N[:, None].astype(np.float32), axis=2)
    power_BxP = (jnp.abs(spectra_BxPxFx2) ** 2 * gains_F[:, None].astype(np.float32)).sum(axis=2).mean(axis=-1)
    return jnp.maximum(10 * jnp.log10(jnp.maximum(power_BxP, 1e-20)), LEAST_DBFS)


def times(num_samples: int, sample_rate: int) -> np.ndarray:
    """The middles of the pieces of so many samples: float64 [P], seconds."""
    size, hop = _piece(num_samples, sample_rate)
    return (np.arange(0, num_samples - size + 1, hop) + size / 2) / sample_rate


def around(levels_BxP: ArrayT, times_P: np.ndarray, instants_T: np.ndarray) -> ArrayT:
    """How loud it is around each of some instants: the loudest of the pieces that belong to it, [B, T].

    To an instant belongs what is nearer to it than to its neighbours, so that each piece is somewhere, and what is
    within `NEAR_SECONDS`.

    Args:
      levels_BxP: of pieces.
      times_P: their middles, in seconds, ascending.
      instants_T: in seconds, ascending.
    """
    reach = np.maximum(np.diff(instants_T, prepend=-np.inf, append=np.inf) / 2, NEAR_SECONDS)
    first_T = np.minimum(np.searchsorted(times_P, instants_T - reach[:-1]), len(times_P) - 1)
    last_T = np.maximum(np.searchsorted(times_P, instants_T + reach[1:], side="right") - 1, first_T)
    pieces_TxK = first_T[:, None] + np.arange((last_T - first_T).max() + 1)
    return levels_BxP[:, np.minimum(pieces_TxK, last_T[:, None])].max(axis=-1)


def a_weighting(hertz: np.ndarray) -> np.ndarray:
    """The gain of amplitudes at these frequencies, 1 at 1000 Hz."""
    square = np.asarray(hertz, np.float64) ** 2
    low = square**2 / ((square + 20.6**2) * np.sqrt((square + 107.7**2) * (square + 737.9**2)))
    return 1.2589 * low * 12194**2 / (square + 12194**2)


def _piece(num_samples: int, sample_rate: int) -> tuple[int, int]:
    """Samples of a piece, and from one to the next."""
    size = min(round(PIECE_SECONDS * sample_rate), num_samples)
    return size, max(size // 2, 1)
