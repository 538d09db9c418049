"""Augmentation, against formulas in NumPy, and against pictures whose colours say where a pixel lies."""

import math

import numpy as np
import pytest
import tensorflow as tf

from cmav import config as cmav_config
from cmav.data import augment, video
from cmav.errors import UserError

SIZE, CROP, NUM_FRAMES = 40, 24, 3
OFF = cmav_config.get_default().data.augment.to_dict()
STRONG = {
    **OFF,
    **dict(crop_area=(0.3, 1.0), brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, grey=0.2, blur=0.5),
}


def photo(seed=0, size=SIZE):
    """Colours of all kinds."""
    noise = np.random.default_rng(seed).uniform(40, 215, (size // 8, size // 8, 3))
    return tf.image.resize(noise, (size, size), method="bicubic").numpy().clip(0, 255)


def encode(pictures):
    return tf.stack([tf.io.encode_jpeg(picture.astype(np.uint8), quality=98) for picture in pictures])


@pytest.fixture(scope="module")
def still():
    """A clip of one picture, NUM_FRAMES times."""
    return encode([photo()] * NUM_FRAMES)


def augmenter(clip, strengths, **kwargs):
    """A function of the number of a seed."""
    decode = tf.function(lambda seed: augment.decode_clip(clip, CROP, seed, strengths, **kwargs))
    return lambda number: decode(tf.constant([11, number])).numpy()


# Frames.


@pytest.mark.parametrize("flip", [False, True])
def test_with_all_off_a_clip_is_bit_by_bit_that_of_plain_decoding(still, flip):
    augmented = augmenter(still, OFF, flip=flip)
    for number in range(20):
        seed = tf.constant([11, number])
        np.testing.assert_array_equal(augmented(number), video.decode_clip(still, CROP, seed, flip=flip).numpy())


def test_a_seed_determines_a_clip_and_another_seed_makes_another(still):
    augmented, again = augmenter(still, STRONG, flip=True), augmenter(still, STRONG, flip=True)
    clips = [augmented(number) for number in range(10)]
    for number, clip in enumerate(clips):
        assert clip.dtype == np.uint8 and clip.shape == (NUM_FRAMES, CROP, CROP, 3)
        np.testing.assert_array_equal(clip, again(number))
    assert len({clip.tobytes() for clip in clips}) == len(clips)


def test_all_frames_of_a_clip_are_changed_alike(still):
    augmented = augmenter(still, STRONG, flip=True)
    for number in range(40):
        clip = augmented(number)
        np.testing.assert_array_equal(clip, clip[:1].repeat(NUM_FRAMES, axis=0))


def test_contrast_does_not_bring_frames_of_a_clip_nearer_to_each_others_brightness():
    """A mean of each frame's own would: the dark frame would be pulled to dark, the bright one to bright."""
    clip = encode([np.full((SIZE, SIZE, 3), value) for value in (80, 120, 130)])
    augmented = augmenter(clip, {**OFF, "contrast": 0.5})
    for number in range(20):
        low, middle, high = augmented(number).mean(axis=(1, 2, 3))
        factor = (high - low) / 50
        assert 0.45 < factor < 1.55
        assert low == pytest.approx(110 + factor * (80 - 110), abs=1)
        assert middle == pytest.approx(110 + factor * (120 - 110), abs=1)


def test_flips_about_half_of_the_clips(still):
    strengths = {**OFF, "crop_area": (0.5, 0.9)}
    plain, flipping = augmenter(still, strengths), augmenter(still, strengths, flip=True)
    mirrored = 0
    for number in range(100):
        before, after = plain(number), flipping(number)
        mirrored += (is_mirrored := np.array_equal(after, before[:, :, ::-1]))
        assert is_mirrored or np.array_equal(after, before)
    assert 30 < mirrored < 70


def test_shape_is_known_when_traced():
    traced = tf.function(lambda clip: augment.decode_clip(clip, CROP, tf.constant([0, 1]), STRONG, flip=True))
    shape = traced.get_concrete_function(tf.TensorSpec([NUM_FRAMES], tf.string)).structured_outputs.shape
    assert shape == [NUM_FRAMES, CROP, CROP, 3]


# Windows.


def draw_windows(height, width, area, aspect, num_draws=3000):
    """y, x, height and width: float64 [num_draws] each."""

    def draw(number):
        return augment.random_window(tf.stack([5, number]), tf.constant(height), tf.constant(width), area, aspect)

    draw_all = tf.function(lambda numbers: tf.map_fn(draw, numbers))
    return draw_all(tf.range(num_draws)).numpy().astype(np.float64).T


@pytest.mark.parametrize("shape", [(1000, 1000), (900, 1200)])
def test_windows_have_the_area_and_aspect_asked_for_and_lie_anywhere_in_the_frame(shape):
    height, width = shape
    y, x, h, w = draw_windows(height, width, (0.2, 0.8), (3 / 4, 4 / 3))
    assert y.min() >= 0 and x.min() >= 0 and (y + h).max() <= height and (x + w).max() <= width
    area, aspect = h * w / (height * width), w / h
    rounding = 0.004
    assert area.min() > 0.2 - rounding and area.max() < 0.8 + rounding
    assert aspect.min() > 3 / 4 - rounding and aspect.max() < 4 / 3 + rounding
    # Areas are uniform: of 3000 draws, each tenth of the range has 300, give or take five standard deviations.
    assert np.abs(np.histogram(area, 10, (0.2, 0.8))[0] - 300).max() < 5 * math.sqrt(300 * 0.9)
    # Aspects of windows that would fit with any are log-uniform; places are uniform over those that are free.
    small = area < 0.5
    share = np.log(aspect[small] * 4 / 3) / np.log(16 / 9)
    assert abs(share.mean() - 0.5) < 5 * math.sqrt(1 / 12 / small.sum())
    assert abs(share.std() - math.sqrt(1 / 12)) < 0.02
    for start, free in ((y, height - h), (x, width - w)):
        share = (start + 0.5) / (free + 1)
        assert abs(share.mean() - 0.5) < 5 * math.sqrt(1 / 12 / len(share))
        assert abs(share.std() - math.sqrt(1 / 12)) < 0.02


def test_a_window_of_the_whole_area_is_the_frame():
    for height, width in ((96, 96), (90, 160)):  # The second has no such window of an aspect below 16 / 9.
        windows = draw_windows(height, width, (1.0, 1.0), (3 / 4, 4 / 3), num_draws=20)
        np.testing.assert_array_equal(windows, np.tile([[0], [0], [height], [width]], 20))


def test_a_window_of_tiny_frames_has_at_least_a_pixel():
    _, _, h, w = draw_windows(3, 3, (0.01, 0.02), (0.1, 10.0), num_draws=200)
    assert h.min() == w.min() == 1


def test_the_window_is_cut_out_and_resized_bilinearly():
    """Of grey that grows by 3 a pixel in both directions, a bilinear resize has the values between the pixels."""
    y, x = np.mgrid[:SIZE, :SIZE]
    clip = encode([np.repeat(3 * (y + x)[..., None], 3, axis=2)] * NUM_FRAMES)
    augmented = augmenter(clip, {**OFF, "crop_area": (0.2, 1.0)})
    for number in range(20):
        crop_seed = tf.random.split(tf.constant([11, number]), 2)[0]
        top, left, height, width = augment.random_window(crop_seed, SIZE, SIZE, (0.2, 1.0), (3 / 4, 4 / 3)).numpy()
        centres = np.arange(CROP) + 0.5
        rows = top + (centres * height / CROP - 0.5).clip(0, height - 1)
        columns = left + (centres * width / CROP - 0.5).clip(0, width - 1)
        expected = 3 * (rows[:, None] + columns)[None, ..., None]
        np.testing.assert_allclose(augmented(number), np.broadcast_to(expected, (NUM_FRAMES, CROP, CROP, 3)), atol=2.5)


# Colours.


def before_and_after(still, num_seeds, **strengths):
    """Clips without and with augmentation, float64, and which values no clipping can have touched."""
    plain, augmented = augmenter(still, OFF), augmenter(still, {**OFF, **strengths})
    for number in range(num_seeds):
        before, after = plain(number).astype(np.float64), augmented(number).astype(np.float64)
        yield before, after, (after > 0) & (after < 255)


def luma(x):
    return x @ [0.299, 0.587, 0.114]


def factor_of(x, y):
    """The k for which y is k x, rounded to whole numbers, wherever x is not near 0: there must be one."""
    x, y = x[np.abs(x) > 1], y[np.abs(x) > 1]
    ends = np.sort([(y - 0.501) / x, (y + 0.501) / x], axis=0)
    least, greatest = ends[0].max(), ends[1].min()
    assert least <= greatest
    return (least + greatest) / 2


@pytest.mark.parametrize("kind", ["brightness", "contrast", "saturation"])
def test_colours_are_multiplied_by_factors_from_all_of_the_range(still, kind):
    factors = []
    for before, after, inside in before_and_after(still, 60, **{kind: 0.4}):
        centre = {
            "brightness": np.zeros_like(before),
            "contrast": np.full_like(before, luma(before).mean()),
            "saturation": luma(before)[..., None] * np.ones(3),
        }[kind]
        factors.append(factor_of((before - centre)[inside], (after - centre)[inside]))
    assert 0.6 <= min(factors) < 0.68 and 1.32 < max(factors) <= 1.4
    assert abs(np.mean(factors) - 1) < 5 * 0.8 * math.sqrt(1 / 12 / 60)


def test_hue_turns_all_colours_by_one_angle_and_keeps_luma(still):
    """TensorFlow has YIQ as well; there a colour is the complex number I + iQ."""

    def chroma(x):
        yiq = tf.image.rgb_to_yiq(tf.constant(x / 255, tf.float32)).numpy().astype(np.float64)
        return yiq[..., 1] + 1j * yiq[..., 2]

    turns = []
    for before, after, inside in before_and_after(still, 60, hue=0.2):
        inside = inside.all(axis=-1)
        np.testing.assert_allclose(luma(after)[inside], luma(before)[inside], atol=0.6)
        old, new = chroma(before)[inside], chroma(after)[inside]
        angle = np.angle((new * old.conj()).sum())
        np.testing.assert_allclose(new, old * np.exp(1j * angle), atol=0.6 / 255 * 1.5)
        turns.append(angle / (2 * np.pi))
    assert -0.2 <= min(turns) < -0.16 and 0.16 < max(turns) <= 0.2


def test_grey_is_the_luma_of_some_clips_and_changes_no_others(still):
    grey = 0
    for before, after, _ in before_and_after(still, 100, grey=0.3):
        if np.array_equal(after, before):
            continue
        grey += 1
        assert (after == after[..., :1]).all()
        np.testing.assert_allclose(after[..., 0], luma(before), atol=0.51)
    assert 15 < grey < 45


def test_all_colours_together_are_the_steps_one_after_the_other(still):
    strengths = dict(brightness=0.2, contrast=0.3, saturation=0.3, hue=0.1)
    before = tf.cast(augmenter(still, OFF)(3), tf.float32)
    for number in range(10):
        seed = tf.constant([1, number])
        stepwise = before
        for key, strength in strengths.items():
            stepwise = augment._jitter_colours(seed, stepwise, {**OFF, key: strength})
        at_once = augment._jitter_colours(seed, before, {**OFF, **strengths})
        assert np.abs(at_once - before).max() > 10
        np.testing.assert_allclose(at_once, stepwise, atol=1e-2)


def test_what_is_drawn_for_colours_says_nothing_of_the_window():
    """Of a picture that grows brighter evenly, a window of more area has more contrast."""
    y, x = np.mgrid[:SIZE, :SIZE]
    clip = encode([np.repeat(2 * (y + x)[..., None], 3, axis=2)])
    windowed = {**OFF, "crop_area": (0.2, 1.0)}
    plain, coloured = augmenter(clip, windowed), augmenter(clip, {**windowed, "brightness": 0.4})
    befores = [plain(number).astype(np.float64) for number in range(150)]
    factors = [coloured(number).sum() / before.sum() for number, before in enumerate(befores)]
    assert np.ptp(factors) > 0.6
    assert abs(np.corrcoef([before.std() for before in befores], factors)[0, 1]) < 5 / math.sqrt(150)


# Blur.


def test_blurs_some_clips_by_gaussians_from_all_of_the_range_and_changes_no_others():
    """A line of one pixel becomes the Gaussian itself, whose variance is measured. Not through JPEG, which rings."""
    lines = np.zeros((NUM_FRAMES, 48, 48, 3))
    lines[:, :, 24] = 255
    frames = tf.constant(lines, tf.float32)
    blur = tf.function(lambda seed: augment._random_blur(seed, frames, 0.5, (1.0, 3.0)))
    sigmas = []
    for number in range(120):
        blurred = blur(tf.constant([4, number])).numpy().astype(np.float64)
        if np.array_equal(blurred, lines):
            continue
        profile = blurred[0, 24, :, 0]
        assert profile.sum() == pytest.approx(255, rel=2e-2)
        distance = np.arange(48) - 24
        sigma = math.sqrt((profile * distance**2).sum() / profile.sum())
        expected = np.exp(-0.5 * (distance / sigma) ** 2)
        np.testing.assert_allclose(profile, 255 * expected / expected.sum(), atol=0.5)
        np.testing.assert_allclose(blurred, np.broadcast_to(profile[:, None], lines.shape), atol=1e-3)
        sigmas.append(sigma)
    assert 40 < len(sigmas) < 80
    assert 1 <= min(sigmas) < 1.2 and 2.8 < max(sigmas) <= 3.001


def test_a_blur_keeps_what_is_the_same_everywhere_and_blurs_rows_as_columns(still):
    plain = tf.fill([NUM_FRAMES, CROP, CROP, 3], 200.0)
    np.testing.assert_allclose(augment._random_blur(tf.constant([1, 1]), plain, 1.0, (2.0, 2.0)), plain, rtol=1e-5)
    frames = tf.constant(photo()[None], tf.float32)
    blurred = augment._random_blur(tf.constant([1, 1]), frames, 1.0, (2.0, 2.0))
    turned = augment._random_blur(tf.constant([1, 1]), tf.transpose(frames, [0, 2, 1, 3]), 1.0, (2.0, 2.0))
    np.testing.assert_allclose(turned, tf.transpose(blurred, [0, 2, 1, 3]), atol=1e-3)


def test_blurring_is_a_part_of_decoding(still):
    ((before, after, _),) = before_and_after(still, 1, blur=1.0, blur_sigma=(2.0, 2.0))
    expected = augment._random_blur(tf.constant([0, 0]), tf.constant(before, tf.float32), 1.0, (2.0, 2.0))
    np.testing.assert_allclose(after, expected, atol=0.51)


# Audio.


def test_gain_is_uniform_in_decibels():
    samples = tf.constant(np.random.default_rng(0).integers(-3000, 3000, (500, 2)), tf.int16)
    gain = tf.function(lambda seed: augment.random_gain(seed, samples, (-20.0, 10.0)))
    gains = []
    for number in range(300):
        louder = gain(tf.constant([2, number])).numpy()
        assert louder.dtype == np.int16
        gains.append(20 * math.log10(factor_of(samples.numpy().astype(float), louder.astype(float))))
    assert -20.01 < min(gains) < -19.5 and 9.5 < max(gains) < 10.01
    assert abs(np.mean(gains) + 5) < 5 * 30 * math.sqrt(1 / 12 / 300)


def test_gain_clips_at_the_ends_of_int16():
    samples = tf.constant([[30000, -30000], [100, -100]], tf.int16)
    louder = augment.random_gain(tf.constant([0, 0]), samples, (20.0, 20.0)).numpy()
    np.testing.assert_array_equal(louder, [[32767, -32768], [1000, -1000]])


def test_without_gain_samples_stay_as_they_are():
    samples = tf.constant([[-32768, 32767]], tf.int16)
    np.testing.assert_array_equal(augment.random_gain(tf.constant([0, 0]), samples, OFF["gain_db"]), samples)


# Strengths.


@pytest.mark.parametrize("strengths", [OFF, STRONG, cmav_config.get_default().data.augment])
def test_strengths_in_their_range_are_welcome(strengths):
    augment.check(strengths)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("crop_area", (0.0, 1.0), "within 0.01 to 1"),
        ("crop_area", (0.5, 1.1), "within 0.01 to 1"),
        ("crop_area", (0.8, 0.5), "two numbers, the least and the greatest"),
        ("crop_area", (0.5,), "two numbers"),
        ("crop_aspect", (0.0, 1.0), "within 0.1 to 10"),
        ("brightness", -0.1, "within 0 to 1"),
        ("contrast", 1.1, "within 0 to 1"),
        ("saturation", float("nan"), "within 0 to 1"),
        ("hue", 0.6, "within 0 to 0.5"),
        ("grey", 2.0, "within 0 to 1"),
        ("blur", -1.0, "within 0 to 1"),
        ("blur_sigma", (0.0, 2.0), "within 0.01 to 100"),
        ("gain_db", (-10.0, float("inf")), "within -60 to 60"),
        ("audio_shift_seconds", -0.5, "within 0 to 60"),
    ],
)
def test_strengths_out_of_their_range_are_named(key, value, said):
    with pytest.raises(UserError, match=rf"config\.data\.augment\.{key}=.*{said}"):
        augment.check({**OFF, key: value})
