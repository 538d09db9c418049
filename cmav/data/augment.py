"""Augmentation of training clips: pictures cut, mirrored, coloured and blurred, audio louder or softer, at random.

For tasks that learn by telling clips apart, which must not do so by colours or loudness. What is drawn holds for all
frames of a clip, else it would look like motion: the "temporally consistent spatial augmentation" of Qian et al.,
"Spatiotemporal Contrastive Video Representation Learning" (2021). The strengths are `config.data.augment`; by default
nothing is changed, and a clip is what `video.decode_clip` makes of it, bit by bit. The shift in time of the audio
(`audio_shift_seconds`) is drawn with the clip, by `sampling.sample_clip`.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from cmav.data import video
from cmav.data.cover import Cover
from cmav.errors import UserError

_LUMA = (0.299, 0.587, 0.114)  # of red, green and blue: Rec. 601
# RGB to YIQ, as columns: luma, and two axes of colour in whose plane a hue is an angle.
_YIQ = ((0.299, 0.5959, 0.2115), (0.587, -0.2746, -0.5227), (0.114, -0.3213, 0.3112))

# Least and greatest that a strength may be. Those of `_RANGES` are drawn between two numbers.
_LIMITS = {
    "crop_area": (0.01, 1.0),
    "crop_aspect": (0.1, 10.0),
    "brightness": (0.0, 1.0),
    "contrast": (0.0, 1.0),
    "saturation": (0.0, 1.0),
    "hue": (0.0, 0.5),
    "grey": (0.0, 1.0),
    "blur": (0.0, 1.0),
    "blur_sigma": (0.01, 100.0),
    "gain_db": (-60.0, 60.0),
    "audio_shift_seconds": (0.0, 60.0),
}
_RANGES = ("crop_area", "crop_aspect", "blur_sigma", "gain_db")


def check(augment: Mapping[str, Any]) -> None:
    """Checks `config.data.augment`.

    Raises:
      UserError: for a strength out of its range; names the key.
    """
    for key, (least, greatest) in _LIMITS.items():
        value = augment[key]
        place = f"config.data.augment.{key}={value!r}"
        if key in _RANGES and not (len(value) == 2 and value[0] <= value[1]):
            raise UserError(f"{place} must be two numbers, the least and the greatest.")
        if not all(least <= end <= greatest for end in (value if key in _RANGES else (value,))):
            raise UserError(f"{place} must lie within {least:g} to {greatest:g}.")


def decode_clip(
    jpegs: tf.Tensor,
    crop_size: int,
    seed: tf.Tensor,
    augment: Mapping[str, Any],
    *,
    flip: bool = False,
    cover: Cover | None = None,
) -> tf.Tensor:
    """Decodes a clip's frames, augmented: covered, cut, mirrored, coloured, blurred, in this order.

    Args:
      jpegs: string [num_frames], all of one size.
      crop_size: side of the frames to return, in pixels.
      seed: int32 [2], of all that is drawn.
      augment: `config.data.augment`, checked.
      flip: mirror half of the clips left to right, by chance.
      cover: what of the whole pictures is covered; None: nothing.

    Returns:
      uint8 [num_frames, crop_size, crop_size, 3].

    Raises:
      tf.errors.InvalidArgumentError: for a JPEG that cannot be decoded, or, where `crop_area` is off, frames smaller
        than the crop; when run.
    """
    cover = cover or Cover()
    if tuple(augment["crop_area"]) == (1.0, 1.0):
        frames = video.decode_clip(jpegs, crop_size, seed, flip=flip, cover=cover)
    else:
        crop_seed, flip_seed = tf.unstack(tf.random.split(seed, 2))
        size = video.frame_size(jpegs[0])
        window = random_window(crop_seed, *size, augment["crop_area"], augment["crop_aspect"])
        frames = _decode_resized(jpegs, crop_size, window, size, cover)
        frames = video.random_flip(flip_seed, frames) if flip else frames
    colour_seed, blur_seed = tf.unstack(tf.random.split(tf.random.fold_in(seed, 1), 2))
    if any(augment[key] for key in ("brightness", "contrast", "saturation", "hue", "grey")):
        frames = _jitter_colours(colour_seed, tf.cast(frames, tf.float32), augment)
    if augment["blur"]:
        frames = _random_blur(blur_seed, tf.cast(frames, tf.float32), augment["blur"], augment["blur_sigma"])
    return frames if frames.dtype == tf.uint8 else tf.saturate_cast(tf.round(frames), tf.uint8)


def random_gain(seed: tf.Tensor, samples: tf.Tensor, gain_db: Sequence[float]) -> tf.Tensor:
    """Makes audio louder or softer; what leaves int16's range is clipped.

    Args:
      seed: int32 [2].
      samples: int16 [num_samples, 2].
      gain_db: least and greatest gain, in dB, between which one is drawn uniformly for the clip.

    Returns:
      int16 [num_samples, 2].
    """
    if tuple(gain_db) == (0.0, 0.0):
        return samples
    factor = 10 ** (_uniform(seed, *gain_db) / 20)
    return tf.saturate_cast(tf.round(factor * tf.cast(samples, tf.float32)), tf.int16)


def random_window(
    seed: tf.Tensor, height: tf.Tensor, width: tf.Tensor, area: Sequence[float], aspect: Sequence[float]
) -> tf.Tensor:
    """Draws a window of a frame, as Szegedy et al., "Going Deeper with Convolutions" (2015), section 6, cut theirs.

    First its area, uniformly; then its aspect ratio, uniformly on a logarithmic scale, among those that a window of
    this area can have inside the frame; then its place, uniformly. So none is drawn that does not fit, and the area is
    as drawn, to within the rounding to whole pixels. Where no window of the area has such an aspect ratio (an oblong
    frame), it is the nearest that one can have.

    Args:
      seed: int32 [2].
      height: of the frame, int32 [].
      width: of the frame, int32 [].
      area: least and greatest share of the frame's area, above 0, at most 1.
      aspect: least and greatest width / height.

    Returns:
      Offset y, offset x, height and width, int32 [4], in pixels.
    """
    area_seed, aspect_seed, y_seed, x_seed = tf.unstack(tf.random.split(seed, 4))
    frame_height, frame_width = tf.cast(height, tf.float32), tf.cast(width, tf.float32)
    share = _uniform(area_seed, *area)
    own = frame_width / frame_height  # The window fits from `share` times the frame's own aspect to 1 / `share` times.
    least, greatest = (tf.math.log(tf.clip_by_value(end, own * share, own / share)) for end in aspect)
    ratio = tf.exp(_uniform(aspect_seed, least, greatest))
    pixels = share * frame_height * frame_width

    def side(length: tf.Tensor, most: tf.Tensor) -> tf.Tensor:
        return tf.clip_by_value(tf.cast(tf.round(length), tf.int32), 1, most)

    sides = side(tf.sqrt(pixels / ratio), height), side(tf.sqrt(pixels * ratio), width)
    offsets = [
        tf.random.stateless_uniform([], offset_seed, maxval=whole - part + 1, dtype=tf.int32)
        for offset_seed, whole, part in zip((y_seed, x_seed), (height, width), sides, strict=True)
    ]
    return tf.stack([*offsets, *sides])


def _decode_resized(
    jpegs: tf.Tensor, crop_size: int, window: tf.Tensor, size: tuple[tf.Tensor, tf.Tensor], cover: Cover
) -> tf.Tensor:
    """Decodes the window (y, x, height, width) of each JPEG of this size, covered and resized.

    Returns:
      float32 [num_frames, crop_size, crop_size, 3].
    """

    def decode(jpeg: tf.Tensor) -> tf.Tensor:
        frame = video.paint(tf.io.decode_and_crop_jpeg(jpeg, window, channels=3), window, size, cover)
        return tf.image.resize(frame, [crop_size, crop_size])

    spec = tf.TensorSpec([crop_size, crop_size, 3], tf.float32)
    return tf.map_fn(decode, jpegs, parallel_iterations=1, fn_output_signature=spec)  # As `video.decode_frames`.


def _jitter_colours(seed: tf.Tensor, frames: tf.Tensor, augment: Mapping[str, Any]) -> tf.Tensor:
    """Brightness, contrast, saturation, hue and grey, in this order: float32 [num_frames, height, width, 3], any range.

    Each is linear in a pixel's colour but for contrast, which adds grey, and in all of them grey stays grey. So all
    together are one matrix and an offset of grey, and colours are clipped only once, at the end.

    - brightness: the colour times a factor;
    - contrast: the distance from the clip's mean luma times a factor;
    - saturation: the distance from the pixel's own luma times a factor;
    - hue: the angle in YIQ's plane of colours plus an angle, which keeps luma (HSV's hue does not);
    - grey: the pixel's luma instead of its colour.
    """
    *factor_seeds, hue_seed, grey_seed = tf.unstack(tf.random.split(seed, 5))
    brightness, contrast, saturation = (
        _uniform(factor_seed, 1 - augment[name], 1 + augment[name])
        for factor_seed, name in zip(factor_seeds, ("brightness", "contrast", "saturation"), strict=True)
    )
    angle = 2 * math.pi * _uniform(hue_seed, -augment["hue"], augment["hue"])

    # Each multiplies from the right: the rows of a matrix are what becomes of red, green and blue.
    to_luma = tf.tile(tf.constant(_LUMA)[:, None], [1, 3])
    saturate = saturation * tf.eye(3) + (1 - saturation) * to_luma
    cos, sin = tf.cos(angle), tf.sin(angle)
    turn = tf.reshape(tf.stack([1.0, 0.0, 0.0, 0.0, cos, sin, 0.0, -sin, cos]), [3, 3])
    to_yiq = tf.constant(_YIQ)
    colours = saturate @ to_yiq @ turn @ tf.linalg.inv(to_yiq)
    colours = tf.where(_chance(grey_seed, augment["grey"]), to_luma, colours)  # What goes before grey keeps luma.
    mean_luma = tf.tensordot(tf.reduce_mean(frames, axis=[0, 1, 2]), tf.constant(_LUMA), 1)
    return brightness * (contrast * tf.tensordot(frames, colours, 1) + (1 - contrast) * mean_luma)


def _random_blur(seed: tf.Tensor, frames: tf.Tensor, chance: float, sigma: Sequence[float]) -> tf.Tensor:
    """Blurs a clip's frames with a Gaussian, or none of them: float32 [num_frames, size, size, 3].

    Args:
      seed: int32 [2].
      frames: float32.
      chance: that the clip is blurred.
      sigma: least and greatest standard deviation, in pixels, drawn uniformly.
    """
    chance_seed, sigma_seed = tf.unstack(tf.random.split(seed, 2))
    size = frames.shape[1]

    def blur() -> tf.Tensor:
        # Along an axis a blur is a matrix. At the borders its rows weigh what is there.
        distance = tf.cast(tf.range(size)[:, None] - tf.range(size), tf.float32)
        kernel = tf.nn.softmax(-0.5 * (distance / _uniform(sigma_seed, *sigma)) ** 2)

        def blur_rows(x: tf.Tensor) -> tf.Tensor:
            return tf.reshape(kernel @ tf.reshape(x, [-1, size, size * 3]), tf.shape(x))

        return tf.transpose(blur_rows(tf.transpose(blur_rows(frames), [0, 2, 1, 3])), [0, 2, 1, 3])

    return tf.ensure_shape(tf.cond(_chance(chance_seed, chance), blur, lambda: frames), frames.shape)


def _uniform(seed: tf.Tensor, least: float | tf.Tensor, greatest: float | tf.Tensor) -> tf.Tensor:
    """float32 []. Where both ends are the same, exactly that."""
    return least + (greatest - least) * tf.random.stateless_uniform([], seed)


def _chance(seed: tf.Tensor, probability: float) -> tf.Tensor:
    return tf.random.stateless_uniform([], seed) < probability
