import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.signal
from ml_collections import FrozenConfigDict

from cmav import config as cmav_config
from cmav.errors import UserError
from cmav.models import encoders
from cmav.models.encoders import log_mel as module
from cmav.models.encoders.log_mel import LogMel2d, log_mel
from tests.models import fake_variables

SMALL = dict(mels=40, width=2, blocks=(1, 1), strides=((2, 2), (1, 1), (2, 1)))


def make_encoder(cls=LogMel2d, remat="none", **settings):
    model = cmav_config.get_default().model
    model.audio = cmav_config.encoder("audio", "log_mel_2d", **settings)
    model.update(dtype="float32", remat=remat, hidden_size=4)
    config = FrozenConfigDict(model)
    return cls(config.audio, config)


def shapes_of(encoder, samples, rate):
    return jax.eval_shape(functools.partial(encoder.init, rate=rate, train=False), jax.random.key(0), samples)


def slaney_hz(mel):
    """As librosa's documentation of `mel_frequencies` has it, with its constants."""
    return mel * 200 / 3 if mel < 15 else 1000 * np.exp((mel - 15) * np.log(6.4) / 27)


def slaney_mel(hz):
    return scipy.optimize.brentq(lambda mel: slaney_hz(mel) - hz, 0, 200, xtol=1e-12)


def librosa_log_mel(samples, rate, window, hop, fft, mels, low, high):
    """One clip's `librosa.feature.melspectrogram`, pad_mode "constant", in float64: [frames, mels]."""
    hann = np.zeros(fft)
    hann[(fft - window) // 2 :][:window] = scipy.signal.get_window("hann", window)  # Periodic, as librosa's.
    padded = np.pad(samples.astype(np.float64), fft // 2)
    frames = np.array([padded[k : k + fft] * hann for k in range(0, len(samples) + 1, hop)])
    power = abs(np.fft.rfft(frames)) ** 2
    edges = [slaney_hz(mel) for mel in np.linspace(slaney_mel(low), slaney_mel(high), mels + 2)]
    bins = np.fft.rfftfreq(fft, 1 / rate)
    filters = [
        np.interp(bins, (a, b, c), (0, 1, 0), left=0, right=0) * 2 / (c - a)
        for a, b, c in zip(edges, edges[1:], edges[2:], strict=False)
    ]
    return np.log(power @ np.array(filters).T + 1e-6)


@pytest.mark.parametrize(
    ("rate", "settings", "expected"),
    [
        (21_000, {}, dict(window=524, hop=210, fft=1024, mels=80, low=0, high=10_500)),
        (16_000, {}, dict(window=400, hop=160, fft=512, mels=80, low=0, high=8000)),
        (
            16_000,
            dict(mels=24, min_hz=125.0, max_hz=7500.0, window_seconds=0.032, hop_seconds=0.040),
            dict(window=512, hop=640, fft=512, mels=24, low=125, high=7500),  # Samples that are in no frame.
        ),
    ],
)
def test_the_spectrogram_is_librosas(rate, settings, expected):
    rng = np.random.default_rng(0)
    seconds = np.arange(4321) / rate
    tones = 0.3 * np.sin(2 * np.pi * 700 * seconds) + 0.1 * scipy.signal.chirp(seconds, 100, seconds[-1], 6000)
    loudness = np.linspace(0.001, 0.1, len(seconds))
    clips = np.stack([tones + 0.01 * rng.normal(size=len(seconds)), loudness * rng.normal(size=len(seconds))])
    clips = clips.astype(np.float32)
    got = jax.jit(lambda clips: log_mel(clips, rate, cmav_config.encoder("audio", "log_mel_2d", **settings)))(clips)
    assert got.dtype == jnp.float32
    want = np.stack([librosa_log_mel(clip, rate, **expected) for clip in clips])
    assert want.std() > 1
    np.testing.assert_allclose(got, want, atol=1e-4)


def test_silence_is_finite_and_is_what_lies_outside_of_the_clip():
    settings = cmav_config.encoder("audio", "log_mel_2d")
    np.testing.assert_allclose(log_mel(np.zeros((1, 900), np.float32), 16_000, settings), np.log(1e-6), rtol=1e-6)
    encoder = make_encoder()
    np.testing.assert_allclose(encoder.front_end(np.zeros((1, 900, 2), np.int16), 16_000, False), 0, atol=1e-5)
    gradient = jax.grad(lambda x: encoder.front_end(x, 16_000, False).sum())(np.zeros((1, 900, 2), np.float32))
    assert np.isfinite(gradient).all()


def test_the_network_hears_the_mean_of_both_channels_at_full_scale_1():
    encoder = make_encoder(mels=10)
    samples = np.random.default_rng(0).integers(-9000, 9000, (2, 700, 2)).astype(np.int16)
    mono = samples.astype(np.float64).mean(axis=-1) / 32768
    expected = log_mel(mono, 16_000, encoder.settings) - np.log(1e-6)
    np.testing.assert_allclose(encoder.front_end(samples, 16_000, False)[..., 0], expected, atol=1e-4)


class OfSpectrogram(LogMel2d):
    """Its input is the spectrogram, [N, frames, mels]."""

    def front_end(self, x, rate, train):
        return x[..., None]


def receptive_field(place, num_frames):
    """Which frames and mel bands a place of the map depends on."""
    encoder = make_encoder(OfSpectrogram, **SMALL)
    spectrogram = np.ones((1, num_frames, SMALL["mels"]), np.float32)
    # Where everything is positive no ReLU is off, and a gradient of 0 means that the input is out of reach.
    variables = jax.tree.map(lambda leaf: np.full(leaf.shape, 0.5, np.float32), shapes_of(encoder, spectrogram, 1.0))

    def value(x):
        return encoder.apply(variables, x, rate=1.0, train=False)[1]["map"][0, *place].sum()

    field = np.asarray(jax.jit(jax.grad(value))(spectrogram))[0] != 0
    return np.flatnonzero(field.any(axis=1)), np.flatnonzero(field.any(axis=0))


def test_times_and_bands_are_where_a_click_and_a_tone_light_the_middle_of_the_receptive_field():
    rate, num_samples, place = 16_000, 16_000, (9, 8)
    encoder = make_encoder(**SMALL)
    frames, bands = receptive_field(place, num_frames=101)
    assert frames[0] > 0 and frames[-1] < 100 and bands[0] > 0 and bands[-1] < SMALL["mels"] - 1

    click = np.zeros((1, num_samples, 2), np.int16)
    click[:, round(encoder.times(num_samples, rate)[place[0]] * rate)] = 20_000
    by_frame = np.asarray(encoder.front_end(click, rate, False))[0, ..., 0].sum(axis=1)
    middle = int(by_frame.argmax())
    assert middle == (frames[0] + frames[-1]) / 2
    np.testing.assert_allclose(by_frame[middle - 1], by_frame[middle + 1], rtol=1e-5)  # The click is in its middle.

    hz = encoder.bands(rate)[place[1]]
    wave = 9000 * np.sin(2 * np.pi * hz * np.arange(num_samples) / rate)
    tone = np.stack([wave, wave], axis=-1)[None].astype(np.int16)
    by_band = np.asarray(encoder.front_end(tone, rate, False))[0, 50, :, 0]
    assert by_band.argmax() == (bands[0] + bands[-1]) / 2


def test_every_band_of_the_spectrogram_is_lit_by_its_own_tone():
    settings, rate = cmav_config.encoder("audio", "log_mel_2d", mels=30, min_hz=50.0, max_hz=6000.0), 16_000
    hz = module.band_hz(range(30), rate, settings)
    tones = 0.5 * np.sin(2 * np.pi * hz[:, None] * np.arange(4000) / rate)
    middle = np.exp(log_mel(tones.astype(np.float32), rate, settings)[:, 12])
    areas = module.band_hz(np.arange(30) + 1, rate, settings) - module.band_hz(np.arange(30) - 1, rate, settings)
    np.testing.assert_array_equal((middle * areas).argmax(axis=1), np.arange(30))
    edges = module.band_hz([-1, 30], rate, settings)
    np.testing.assert_allclose(edges, [50, 6000])


def test_the_map_keeps_its_frequencies_and_each_row_has_a_band():
    encoder = make_encoder(**SMALL)
    samples = np.random.default_rng(0).integers(-9000, 9000, (2, 6000, 2)).astype(np.int16)
    variables = fake_variables.draw(shapes_of(encoder, samples, 16_000))
    tokens, out = encoder.apply(variables, samples, rate=16_000, train=False)
    assert out["map"].shape == (2, 10, 20, 4) and tokens.shape == (2, 10, 4)  # Of 38 frames and 40 bands.
    assert encoder.bands(16_000).shape == (20,) and (np.diff(encoder.bands(16_000)) > 0).all()
    fc = variables["params"]["fc"]
    np.testing.assert_allclose(tokens, out["map"].mean(axis=2) @ fc["kernel"] + fc["bias"], atol=1e-5)
    np.testing.assert_allclose(np.diff(out["times"]), 4 * 160 / 16_000)


def test_it_is_as_large_as_resnet_18():
    params = shapes_of(make_encoder(), jax.ShapeDtypeStruct((1, 21_000, 2), jnp.int16), 21_000)["params"]
    del params["fc"]
    classifier, colours = 512 * 1000 + 1000, 2 * 7 * 7 * 64  # torchvision's resnet18 sees three channels, this one.
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) + classifier + colours == 11_689_512


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(window_seconds=0.0), "config.model.audio.window_seconds=0.0 must be"),
        (dict(hop_seconds=-1.0), "config.model.audio.hop_seconds=-1.0 must be"),
        (dict(mels=0), "config.model.audio.mels=0 must be"),
        (dict(min_hz=-5.0), "config.model.audio.min_hz=-5.0 must"),
        (dict(min_hz=500.0, max_hz=400.0), "config.model.audio.max_hz=400.0 must be above .*min_hz=500.0"),
        (dict(width=0), "config.model.audio.width=0 must be"),
        (dict(blocks=(1, 0)), r"config.model.audio.blocks=\(1, 0\) must be"),
        (dict(blocks=(1, 1)), "config.model.audio.strides=.* each of the 2 stages"),
        (dict(blocks=(1,), strides=((1, 1), (2,))), r"config.model.audio.strides=\(\(1, 1\), \(2,\)\) must be"),
    ],
)
def test_mistakes_are_named(settings, message):
    with pytest.raises(UserError, match=message):
        encoders.check(make_encoder(**settings).config)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(max_hz=9000.0), "max_hz=9000.0: sound of 16000 samples per second has frequencies up to 8000 Hz"),
        (dict(min_hz=8000.0), "min_hz=8000.0 and max_hz=0.0: sound of 16000"),
        (dict(mels=300), "config.model.audio.mels=300: .* bands, the first at .* 31.2 Hz apart at 16000 samples"),
    ],
)
def test_bands_that_do_not_fit_the_sample_rate_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        make_encoder(**settings).front_end(np.zeros((1, 900, 2), np.int16), 16_000, False)
