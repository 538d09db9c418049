"""A residual network of the log-mel spectrogram, which is computed from the samples on the device.

The spectrogram is what librosa's `feature.melspectrogram` makes: Hann window, frames centred on their times with zeros
outside of the clip, power, Slaney's mel scale and filters of equal area. The network is a ResNet-18 (He et al., "Deep
Residual Learning for Image Recognition", 2016) over [time, frequency], but its strides are settings, and it has no
pooling. It keeps the frequencies, so that its map says when and at what pitch.

Shape suffixes: N clips, S samples, K frames, W samples of a window, F frequencies of the Fourier transform, M mel
bands.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import FrozenConfigDict

from cmav.errors import UserError
from cmav.models.encoders.residual import Residual, blocks_of, check_size
from cmav.models.layers import field_centres
from cmav.models.precision import float32_einsum
from cmav.models.spec_augment import spec_augment

# Added to the power in each band before the logarithm. The rounding of int16 samples is far below it, at about 1e-9.
LOG_OFFSET = 1e-6


@dataclasses.dataclass(frozen=True)
class Framing:
    """How samples become frames of a spectrogram: frame k is centred on sample k * hop."""

    window: int  # samples, even, so that the window has a middle
    hop: int  # samples from frame to frame
    fft: int  # of the Fourier transform: the next power of two, with zeros around the window

    @classmethod
    def of(cls, settings: Mapping[str, Any], sample_rate: float) -> "Framing":
        window = 2 * max(1, round(settings["window_seconds"] * sample_rate / 2))
        hop = max(1, round(settings["hop_seconds"] * sample_rate))
        return cls(window, hop, 1 << (window - 1).bit_length())

    def num_frames(self, num_samples: int) -> int:
        return 1 + num_samples // self.hop


class LogMel2d(Residual):
    """Of the log-mel spectrogram of both channels' mean. Its map is [N, T', F', C'].

    Settings: `window_seconds`, `hop_seconds`, `mels`, `min_hz` and `max_hz` of the spectrogram (`log_mel`); `width` and
    `blocks` of the network (`blocks_of`), and `strides`, of (time, frequency), of the stem and each stage; `masks` and
    `mask_share` of what training does not see of the spectrogram (`spec_augment`).
    """

    @staticmethod
    def check(settings: FrozenConfigDict) -> None:
        key = "config.model.audio"
        for name in ("window_seconds", "hop_seconds"):
            if not settings[name] > 0:
                raise UserError(f"{key}.{name}={settings[name]!r} must be more than 0 seconds.")
        if not (isinstance(settings.mels, int) and settings.mels >= 1):
            raise UserError(f"{key}.mels={settings.mels!r} must be a whole number of bands, at least 1.")
        if settings.min_hz < 0:
            raise UserError(f"{key}.min_hz={settings.min_hz!r} must not be below 0.")
        if settings.max_hz and settings.max_hz <= settings.min_hz:
            raise UserError(
                f"{key}.max_hz={settings.max_hz!r} must be above {key}.min_hz={settings.min_hz!r}, or 0: half the "
                "sample rate."
            )
        check_size(key, settings)
        if not (isinstance(settings.masks, int) and settings.masks >= 0 and 0 <= settings.mask_share < 1):
            raise UserError(
                f"{key}.masks={settings.masks!r} must be a whole number, 0 for none, and "
                f"{key}.mask_share={settings.mask_share!r} of the axis at least 0 and below 1."
            )
        if len(settings.strides) != 1 + len(settings.blocks) or not all(map(_is_stride, settings.strides)):
            raise UserError(
                f"{key}.strides={settings.strides!r} must be (time, frequency) for the stem and each of the "
                f"{len(settings.blocks)} stages of {key}.blocks, for example ((2, 2), (1, 1), (2, 2), (2, 2), (2, 2))."
            )

    def front_end(self, x, rate, train):
        mels_NxKxM = self.spectrogram(x, rate)
        if train and self.settings.masks and not self.is_initializing():
            share = self.settings.mask_share
            mels_NxKxM = spec_augment(
                self.make_rng("dropout"),
                mels_NxKxM,
                num_time_masks=self.settings.masks,
                max_time_share=share,
                num_frequency_masks=self.settings.masks,
                max_frequency_share=share,
            )
        return mels_NxKxM[..., None]

    @nn.nowrap
    def spectrogram(self, audio_NxSx2: jax.Array, rate: float) -> jax.Array:
        """What the first layer sees: float32 [N, K, M], 0 in silence, which is what the padding stands for."""
        mono_NxS = audio_NxSx2.astype(jnp.float32).mean(axis=-1) / 32768
        return log_mel(mono_NxS, rate, self.settings) - math.log(LOG_OFFSET)

    @nn.nowrap
    def hop_seconds(self, rate: float) -> float:
        """From frame to frame of the spectrogram, whose first is centred on the first sample."""
        return Framing.of(self.settings, rate).hop / rate

    @nn.nowrap
    def mel_hz(self, rate: float) -> np.ndarray:
        """Centres of the spectrogram's bands, float64 [M] Hz."""
        return band_hz(np.arange(self.settings.mels), rate, self.settings)

    @nn.nowrap
    def parts(self):
        """Over the spectrogram: axis 0 is its frames, axis 1 its mel bands."""
        stem, *stages = self.settings.strides
        return [
            (("conv", self.settings.width, (7, 7), stem),),
            *(
                (("conv", features, (3, 3), strides), ("conv", features, (3, 3), (1, 1)))
                for _, features, strides in blocks_of(self.settings, stages)
            ),
        ]

    @nn.nowrap
    def times(self, length, rate):
        framing = Framing.of(self.settings, rate)
        return field_centres(self.geometry(), framing.num_frames(length), axis=0) * framing.hop / rate

    @nn.nowrap
    def bands(self, sample_rate: float) -> np.ndarray:
        """Centres of the receptive fields of the map's rows on the mel axis, as float64 [F'] Hz."""
        return band_hz(field_centres(self.geometry(), self.settings.mels, axis=1), sample_rate, self.settings)


def log_mel(samples_NxS: jax.Array, sample_rate: float, settings: Mapping[str, Any]) -> jax.Array:
    """Logarithm of the power in each mel band, float32 [N, K, M], where K is 1 + S // hop.

    Frame k is centred on sample k * hop, where hop is `hop_seconds` in whole samples; bands are centred on
    `band_hz(range(M), ...)`. The natural logarithm of power + `LOG_OFFSET`. The Fourier transform is a matrix product:
    XLA's own would gather the whole batch on every device, and is slower on CPU.

    Args:
      samples_NxS: float32, from -1 to 1.
      sample_rate: samples per second.
      settings: with `window_seconds`, `hop_seconds`, `mels`, `min_hz` and `max_hz` (0: half the sample rate), as in
        `cmav.config.encoder("audio", "log_mel_2d")`.

    Raises:
      UserError: where the bands do not fit the sample rate.
    """
    framing = Framing.of(settings, sample_rate)
    filters_FxM = _mel_filters(sample_rate, framing.fft, settings)
    angles_WxF = 2 * np.pi / framing.fft * np.outer(np.arange(framing.window), np.arange(len(filters_FxM)))
    hann_Wx1 = 0.5 - 0.5 * np.cos(2 * np.pi / framing.window * np.arange(framing.window)[:, None])
    frames_NxKxW = _frames(samples_NxS.astype(jnp.float32), framing)
    real_NxKxF, imaginary_NxKxF = (
        float32_einsum("nkw,wf->nkf", frames_NxKxW, (hann_Wx1 * wave(angles_WxF)).astype(np.float32))
        for wave in (np.cos, np.sin)
    )
    power_NxKxF = real_NxKxF**2 + imaginary_NxKxF**2
    return jnp.log(float32_einsum("nkf,fm->nkm", power_NxKxF, filters_FxM.astype(np.float32)) + LOG_OFFSET)


def band_hz(bands: np.ndarray | range, sample_rate: float, settings: Mapping[str, Any]) -> np.ndarray:
    """Frequency of mel bands, float64 Hz: band 0 is centred on `band_hz(0)`, and reaches from band -1 to band 1.

    Args:
      bands: numbers of bands, from 0; fractions are between their centres.
      sample_rate: samples per second.
      settings: as of `log_mel`.

    Raises:
      UserError: where the bands reach beyond half the sample rate.
    """
    highest = settings["max_hz"] or sample_rate / 2
    if not settings["min_hz"] < highest <= sample_rate / 2:
        raise UserError(
            f"config.model.audio.min_hz={settings['min_hz']!r} and max_hz={settings['max_hz']!r}: sound of "
            f"{sample_rate:g} samples per second has frequencies up to {sample_rate / 2:g} Hz."
        )
    low, high = _mel(settings["min_hz"]), _mel(highest)
    return _hz(low + (np.asarray(bands) + 1.0) * (high - low) / (settings["mels"] + 1))


# Slaney's mel scale ("Auditory Toolbox", 1998): 15 mel to 1 kHz, linear, then 27 to each factor of 6.4.


def _mel(hz: float) -> float:
    return hz * 0.015 if hz < 1000 else 15 + 27 * np.log(hz / 1000) / np.log(6.4)


def _hz(mel: np.ndarray) -> np.ndarray:
    return np.where(mel < 15, mel / 0.015, 1000 * 6.4 ** ((np.maximum(mel, 15) - 15) / 27))


def _mel_filters(sample_rate: float, fft: int, settings: Mapping[str, Any]) -> np.ndarray:
    """Triangles over the frequencies of a Fourier transform, of area 1 in Hz: float64 [F, M]."""
    mels = settings["mels"]
    edges = band_hz(np.arange(-1, mels + 1), sample_rate, settings)
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    hz_Fx1 = np.arange(fft // 2 + 1)[:, None] * sample_rate / fft
    filters_FxM = np.minimum((hz_Fx1 - low) / (centre - low), (high - hz_Fx1) / (high - centre)).clip(0)
    empty = np.flatnonzero(filters_FxM.max(axis=0) == 0)
    if len(empty):
        raise UserError(
            f"config.model.audio.mels={mels}: {len(empty)} of the bands, the first at {centre[empty[0]]:.0f} Hz, lie "
            f"between the frequencies of the spectrum, {sample_rate / fft:.1f} Hz apart at {sample_rate:g} samples per "
            "second. Set fewer mels, or longer config.model.audio.window_seconds."
        )
    return filters_FxM * 2 / (high - low)


def _frames(samples_NxS: jax.Array, framing: Framing) -> jax.Array:
    """[N, K, W]: windows of samples around every hop-th, with zeros outside of the clip."""
    window, hop = framing.window, framing.hop
    num_frames, hops = framing.num_frames(samples_NxS.shape[1]), -(-window // hop)
    length = (num_frames + hops - 1) * hop  # What frames, in whole hops, reach.
    padded = jnp.pad(samples_NxS, ((0, 0), (window // 2, length)))[:, :length]
    pieces = padded.reshape(padded.shape[0], -1, hop)
    return jnp.concatenate([pieces[:, i : i + num_frames] for i in range(hops)], axis=-1)[..., :window]


def _is_stride(stride: Any) -> bool:
    return len(stride) == 2 and all(isinstance(step, int) and step >= 1 for step in stride)
