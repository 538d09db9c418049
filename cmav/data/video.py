"""From a clip's JPEGs to pixels: decoding, covering, cropping, mirroring. The same for all frames of a clip."""

import tensorflow as tf

from cmav.data.cover import Box, Cover

GREY = 128  # of what is covered
_ALL_SHOWN = Cover()


def decode_clip(
    jpegs: tf.Tensor, crop_size: int, seed: tf.Tensor | None, *, flip: bool = False, cover: Cover = _ALL_SHOWN
) -> tf.Tensor:
    """Decodes a clip's frames, cropped.

    Args:
      jpegs: string [num_frames], all of one size.
      crop_size: side of the square to cut out, in pixels.
      seed: int32 [2]; the crop is at random. None: the crop is central, and nothing is mirrored.
      flip: mirror half of the clips left to right, by chance. Only with a seed.
      cover: what of the whole pictures is covered.

    Returns:
      uint8 [num_frames, crop_size, crop_size, 3].

    Raises:
      tf.errors.InvalidArgumentError: for a JPEG that cannot be decoded, or frames smaller than the crop; when run.
    """
    height, width = frame_size(jpegs[0])
    if seed is None:
        return decode_frames(jpegs, crop_size, *central_offsets(height, width, crop_size), cover)
    crop_seed, flip_seed = tf.unstack(tf.random.split(seed, 2))
    frames = decode_frames(jpegs, crop_size, *random_offsets(crop_seed, height, width, crop_size), cover)
    return random_flip(flip_seed, frames) if flip else frames


def decode_views(
    jpegs: tf.Tensor, numbers: tf.Tensor, crops: tf.Tensor, num_crops: int, crop_size: int, cover: Cover = _ALL_SHOWN
) -> tf.Tensor:
    """Decodes views of a record, each cropped to one of `num_crops` squares, evenly spaced from left to right.

    A single square is central; of three, the outer ones touch the frame's sides. In height all are central. What views
    have in common is decoded once.

    Args:
      jpegs: string [frames], of the record, all of one size.
      numbers: int32 [views, num_frames], which frames each view has.
      crops: int32 [views], the number of each view's square.
      num_crops: how many squares there are.
      crop_size: side of a square, in pixels.
      cover: what of the whole pictures is covered.

    Returns:
      uint8 [views, num_frames, crop_size, crop_size, 3].
    """
    height, width = size = frame_size(jpegs[numbers[0, 0]])
    offset_y, central_x = central_offsets(height, width, crop_size)

    def decode(wanted: tf.Tensor) -> tf.Tensor:
        number, crop = wanted // num_crops, wanted % num_crops
        offset_x = central_x if num_crops == 1 else crop * (width - crop_size) // (num_crops - 1)
        window = tf.stack([offset_y, offset_x, crop_size, crop_size])
        return paint(tf.io.decode_and_crop_jpeg(jpegs[number], window, channels=3), window, size, cover)

    wanted, places = tf.unique(tf.reshape(numbers * num_crops + crops[:, None], [-1]))
    pictures = tf.map_fn(
        decode,
        wanted,
        parallel_iterations=1,
        fn_output_signature=tf.TensorSpec([crop_size, crop_size, 3], tf.uint8),
    )
    return tf.gather(pictures, tf.reshape(places, tf.shape(numbers)))


def decode_frames(
    jpegs: tf.Tensor, crop_size: int, offset_y: tf.Tensor, offset_x: tf.Tensor, cover: Cover = _ALL_SHOWN
) -> tf.Tensor:
    """Decodes the square of `crop_size` at the offsets of each JPEG: uint8 [num_frames, crop_size, crop_size, 3]."""
    window = tf.stack([offset_y, offset_x, crop_size, crop_size])
    # One at a time: the loader decodes a clip per core. Side by side measured no faster there.
    frames = tf.map_fn(
        lambda jpeg: tf.io.decode_and_crop_jpeg(jpeg, window, channels=3),
        jpegs,
        parallel_iterations=1,
        fn_output_signature=tf.TensorSpec([crop_size, crop_size, 3], tf.uint8),
    )
    return paint(frames, window, frame_size(jpegs[0]), cover)


def paint(frames: tf.Tensor, window: tf.Tensor, size: tuple[tf.Tensor, tf.Tensor], cover: Cover) -> tf.Tensor:
    """Paints grey what is covered. Where nothing is, the frames are returned as they are.

    Args:
      frames: [..., height, width, 3], a window of whole pictures.
      window: offset y, offset x, height and width of it, in pixels.
      size: height and width of the whole pictures.
      cover: what of them is covered.
    """
    if not cover:
        return frames
    offset_y, offset_x, height, width = tf.unstack(window)
    # Where the middles of the window's pixels lie, 0 to 1.
    y, x = (
        (tf.cast(offset + tf.range(length), tf.float64) + 0.5) / tf.cast(whole, tf.float64)
        for offset, length, whole in ((offset_y, height, size[0]), (offset_x, width, size[1]))
    )

    def inside(boxes: tuple[Box, ...]) -> tf.Tensor:
        found = tf.zeros([height, width], tf.bool)
        for top, left, bottom, right in boxes:
            found |= ((y >= top) & (y < bottom))[:, None] & ((x >= left) & (x < right))
        return found

    hidden = inside(cover.covered)
    if cover.shown:
        hidden |= ~inside(cover.shown)
    return tf.where(hidden[..., None], tf.cast(GREY, frames.dtype), frames)


def frame_size(jpeg: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Height and width of a JPEG, int32, from its header."""
    height, width, _ = tf.unstack(tf.io.extract_jpeg_shape(jpeg))
    return height, width


def central_offsets(height: tf.Tensor, width: tf.Tensor, crop_size: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Offsets (y, x) of the central square."""
    height, width = _check_fits(height, width, crop_size)
    return (height - crop_size) // 2, (width - crop_size) // 2


def random_offsets(seed: tf.Tensor, height: tf.Tensor, width: tf.Tensor, crop_size: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Offsets (y, x) of a square anywhere inside the frame, all equally likely."""
    height, width = _check_fits(height, width, crop_size)
    seed_y, seed_x = tf.unstack(tf.random.split(seed, 2))
    offset_y = tf.random.stateless_uniform([], seed_y, maxval=height - crop_size + 1, dtype=tf.int32)
    offset_x = tf.random.stateless_uniform([], seed_x, maxval=width - crop_size + 1, dtype=tf.int32)
    return offset_y, offset_x


def random_flip(seed: tf.Tensor, frames: tf.Tensor) -> tf.Tensor:
    """Mirrors all frames [num_frames, height, width, 3] left to right, or none, with equal chance."""
    mirror = tf.random.stateless_uniform([], seed) < 0.5
    return tf.cond(mirror, lambda: tf.reverse(frames, axis=[2]), lambda: frames)


def _check_fits(height: tf.Tensor, width: tf.Tensor, crop_size: int) -> tuple[tf.Tensor, tf.Tensor]:
    """The height and width again, checked against the crop when run. `checks.check_dataset` tells users earlier."""
    message = f"the crop of {crop_size}x{crop_size} pixels is larger than the stored frame"
    fits = [tf.debugging.assert_greater_equal(side, crop_size, message=message) for side in (height, width)]
    with tf.control_dependencies(fits):
        return tf.identity(height), tf.identity(width)
