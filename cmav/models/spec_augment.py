"""SpecAugment: bands of frequency and spans of time of a spectrogram are hidden, at random, in training.

Park et al., "SpecAugment: A Simple Data Augmentation Method for Automatic Speech Recognition" (2019), section 2,
without the warping in time, which they found to be no major factor.
"""

import jax
import jax.numpy as jnp


def spec_augment(
    key: jax.Array,
    mels_NxTxF: jax.Array,
    *,
    num_time_masks: int,
    max_time_share: float,
    num_frequency_masks: int,
    max_frequency_share: float,
) -> jax.Array:
    """Masks log-mel spectrograms, each by draws of its own.

    A mask's width is drawn uniformly from 0 to the greatest, both included, and then its start, uniformly where it
    fits. Masks may overlap. What is masked gets the mean of its own spectrogram, before any mask.

    Args:
      key: of all that is drawn.
      mels_NxTxF: spectrograms, float, in frames and mel bands.
      num_time_masks: spans of time that are hidden in each, 0 or more.
      max_time_share: the greatest width of a span, as a share of all frames, 0 to 1, rounded down to whole frames.
      num_frequency_masks: bands of frequency that are hidden in each, 0 or more.
      max_frequency_share: the greatest width of a band, as a share of all mel bands, 0 to 1, rounded down.

    Returns:
      [N, T, F], of the same dtype.
    """
    num_rows, num_frames, num_bands = mels_NxTxF.shape
    time_key, frequency_key = jax.random.split(key)
    hidden_NxT = _draw_masks(time_key, num_rows, num_frames, num_time_masks, max_time_share)
    hidden_NxF = _draw_masks(frequency_key, num_rows, num_bands, num_frequency_masks, max_frequency_share)
    hidden_NxTxF = hidden_NxT[:, :, None] | hidden_NxF[:, None, :]
    mean_Nx1x1 = mels_NxTxF.mean(axis=(1, 2), keepdims=True, dtype=jnp.float32)
    return jnp.where(hidden_NxTxF, mean_Nx1x1.astype(mels_NxTxF.dtype), mels_NxTxF)


def _draw_masks(key: jax.Array, num_rows: int, length: int, num_masks: int, max_share: float) -> jax.Array:
    """Which steps of an axis are hidden in each row: bool [num_rows, length]."""
    width_key, start_key = jax.random.split(key)
    most = int(max_share * length + 1e-6)  # 0.29 of 100 is 29 steps, though 0.29 * 100 < 29.
    width_NxM = jax.random.randint(width_key, (num_rows, num_masks), 0, most + 1)
    start_NxM = jax.random.randint(start_key, (num_rows, num_masks), 0, length - width_NxM + 1)
    step_L = jnp.arange(length)
    start_NxMx1, width_NxMx1 = start_NxM[:, :, None], width_NxM[:, :, None]
    return ((step_L >= start_NxMx1) & (step_L < start_NxMx1 + width_NxMx1)).any(axis=1)
