"""Where in a record a clip lies: pairs of frames and audio for synchronization, single clips for all else.

A start is a number of a stored frame. Audio that starts at frame k starts at sample floor(k * sample_rate /
stored_frame_rate), as the record contract has it.
"""

import tensorflow as tf

from cmav.data.clip_shape import ClipShape

_BEGINS_NO_FRAME = 1e-3  # seconds of audio; see frames_of_samples


def sample_pair(
    seed: tf.Tensor,
    num_stored_frames: tf.Tensor,
    num_stored_samples: tf.Tensor,
    shape: ClipShape,
    shift_seconds: tuple[float, float],
    shift_both: bool = False,
    num_shifted: int = 1,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Chooses the frames of a clip and audios for them: audio 0 of the same moment, the others shifted.

    Uniform over all (start, shift) that fit: both windows lie wholly inside the record and |shift| is in
    `shift_seconds`. Not first a start and then a shift: starts in the middle of a record leave fewer shifts, and
    would be preferred over their share. Further audios are shifted by draws of their own among those that fit to this
    start, so that two of them may be the same.

    Args:
      seed: int32 [2].
      num_stored_frames: int32 [], frames in the record.
      num_stored_samples: int32 [], audio samples in the record.
      shape: of the clip.
      shift_seconds: least and greatest |shift|, both included, rounded inwards to whole stored frames.
      shift_both: a control experiment: audio 0 is shifted too, by a draw of its own, so nothing tells them apart.
      num_shifted: audios that are shifted; the first of them does not depend on how many there are.

    Returns:
      The first stored frame of the clip, int32 [], and the first samples of its audios, int32 [1 + num_shifted].

    Raises:
      tf.errors.InvalidArgumentError: where no pair fits, when run.
    """
    least, greatest = shape.shift_frames(shift_seconds)
    num_audio_starts = _num_audio_starts(num_stored_frames, num_stored_samples, shape)
    num_starts = _num_starts(num_stored_frames, num_audio_starts, shape)  # The aligned audio must fit as well.

    # Audio starts that are early enough or late enough, for each start of the frames.
    starts = tf.range(num_starts)
    num_early = tf.maximum(starts - least - tf.maximum(starts - greatest, 0) + 1, 0)
    num_late = tf.maximum(tf.minimum(starts + greatest, num_audio_starts - 1) - (starts + least) + 1, 0)
    pairs_up_to = tf.cumsum(num_early + num_late)
    num_pairs = tf.reduce_sum(num_early + num_late)
    fits = tf.debugging.assert_positive(
        num_pairs,
        message=f"the record is too short for {shape.seconds:g} s and audio shifted by {shift_seconds[0]:g} s",
    )

    with tf.control_dependencies([fits]):
        pair_seed, other_seed = tf.unstack(tf.random.split(seed, 2))
        pair = tf.random.stateless_uniform([], pair_seed, maxval=num_pairs, dtype=tf.int32)
    start = tf.searchsorted(pairs_up_to, pair[None], side="right")[0]
    early, late = num_early[start], num_late[start]

    def audio_start(rank: tf.Tensor) -> tf.Tensor:
        """The rank-th audio start that fits to `start`: the early ones in order, then the late ones."""
        first_early = tf.maximum(start - greatest, 0)
        return tf.where(rank < early, first_early + rank, start + least + rank - early)

    shifted = [audio_start(pair - (pairs_up_to[start] - early - late))]
    for number in range(1, num_shifted):
        rank_seed = tf.random.fold_in(other_seed, number)
        shifted.append(audio_start(tf.random.stateless_uniform([], rank_seed, maxval=early + late, dtype=tf.int32)))
    if shift_both:
        other = audio_start(tf.random.stateless_uniform([], other_seed, maxval=early + late, dtype=tf.int32))
    else:
        other = start
    return start, _first_sample(tf.stack([other, *shifted]), shape)


def sample_moment(
    seed: tf.Tensor, num_stored_frames: tf.Tensor, num_stored_samples: tf.Tensor, shape: ClipShape
) -> tuple[tf.Tensor, tf.Tensor]:
    """Chooses the frames of a clip and the audio of the same moment, uniformly over all starts that fit.

    Args:
      seed: int32 [2].
      num_stored_frames: int32 [], frames in the record.
      num_stored_samples: int32 [], audio samples in the record.
      shape: of the clip.

    Returns:
      The first stored frame of the clip and the first sample of its audio, int32 [] each.

    Raises:
      tf.errors.InvalidArgumentError: where none fits, when run.
    """
    num_audio_starts = _num_audio_starts(num_stored_frames, num_stored_samples, shape)
    num_starts = _num_starts(num_stored_frames, num_audio_starts, shape)
    fits = tf.debugging.assert_positive(num_starts, message=f"the record is too short for {shape.seconds:g} s")
    with tf.control_dependencies([fits]):
        start = tf.random.stateless_uniform([], seed, maxval=num_starts, dtype=tf.int32)
    return start, _first_sample(start, shape)


def sample_clip(
    seed: tf.Tensor, num_stored_frames: tf.Tensor, shape: ClipShape, max_shift_seconds: float
) -> tuple[tf.Tensor, tf.Tensor]:
    """Chooses the frames of a clip, and its audio, which may be shifted a little.

    Args:
      seed: int32 [2].
      num_stored_frames: int32 [], frames in the record.
      shape: of the clip.
      max_shift_seconds: the audio starts at most this much before or after the frames, uniformly, and within the
        record as far as the record is long enough.

    Returns:
      The first stored frame of the clip and the frame at which its audio starts, int32 [] each, 0 in a record that is
      shorter than a clip.
    """
    start_seed, shift_seed = tf.unstack(tf.random.split(seed, 2))
    last_start = tf.maximum(num_stored_frames - shape.stored_frames, 0)
    start = tf.random.stateless_uniform([], start_seed, maxval=last_start + 1, dtype=tf.int32)
    most = round(max_shift_seconds * shape.stored_frame_rate)
    shift = tf.random.stateless_uniform([], shift_seed, -most, most + 1, dtype=tf.int32)
    return start, tf.clip_by_value(start + shift, 0, last_start)


def evenly_spaced_start(number: tf.Tensor, count: int, num_stored_frames: tf.Tensor, shape: ClipShape) -> tf.Tensor:
    """First stored frame of the `number`-th of `count` clips with equal spacing between them, int32, of its shape.

    The first begins with the record and the last ends with it, to within the rounding to whole frames. A single one is
    in the middle. In a record that is shorter than a clip all begin at 0.
    """
    last_start = tf.cast(tf.maximum(num_stored_frames - shape.stored_frames, 0), tf.float64)
    number = tf.cast(number, tf.float64)
    place = number / (count - 1) if count > 1 else tf.fill(tf.shape(number), tf.constant(0.5, tf.float64))
    return tf.cast(tf.floor(place * last_start + 0.5), tf.int32)


def frames_of_samples(num_stored_samples: tf.Tensor, shape: ClipShape) -> tf.Tensor:
    """How many stored frames as much audio lasts, a begun one counted: the length of a record without frames.

    Less than a millisecond does not begin one: resampled audio may be longer than it was, by less than one of the
    samples that it had (`resampling.resample`).
    """
    seconds = tf.cast(num_stored_samples, tf.float64) / shape.sample_rate - _BEGINS_NO_FRAME
    return tf.maximum(tf.cast(tf.math.ceil(seconds * shape.stored_frame_rate), tf.int32), 1)


def looped_frames(frames: tf.Tensor, start: tf.Tensor, shape: ClipShape) -> tf.Tensor:
    """A clip's frames, string [num_frames]. A record that is shorter than the clip begins again when it ends."""
    return tf.gather(frames, looped_numbers(start, tf.shape(frames)[0], shape))


def looped_numbers(start: tf.Tensor, num_stored_frames: tf.Tensor, shape: ClipShape) -> tf.Tensor:
    """Which stored frames `looped_frames` takes, int32 [..., num_frames], from starts of any shape."""
    return (start[..., None] + tf.range(shape.num_frames) * shape.stride) % num_stored_frames


def looped_audio(audio: tf.Tensor, start: tf.Tensor, num_stored_frames: tf.Tensor, shape: ClipShape) -> tf.Tensor:
    """The audio that begins at the instant of a stored frame, int16 [num_samples, 2], looped as the frames are.

    It loops with the frames' period, so that the two stay together; audio that ends before the frames is followed by
    zeros.
    """
    period = _first_sample(num_stored_frames, shape)
    audio = tf.pad(audio[:period], [[0, tf.maximum(period - tf.shape(audio)[0], 0)], [0, 0]])
    numbers = _first_sample(start, shape) + tf.range(shape.num_samples)
    return tf.ensure_shape(tf.gather(audio, numbers % period), [shape.num_samples, 2])


def clip_frames(frames: tf.Tensor, start: tf.Tensor, shape: ClipShape) -> tf.Tensor:
    """Takes a clip's frames from a record's, at the clip's rate: string [num_frames], still encoded."""
    clip = frames[start : start + shape.stored_frames : shape.stride]
    return tf.ensure_shape(clip, [shape.num_frames])


def clip_audio(audio: tf.Tensor, first_sample: tf.Tensor, shape: ClipShape) -> tf.Tensor:
    """Takes a clip's audio from a record's, int16 [samples, 2]: int16 [num_samples, 2]."""
    clip = audio[first_sample : first_sample + shape.num_samples]
    return tf.ensure_shape(clip, [shape.num_samples, 2])


def _first_sample(frame: tf.Tensor, shape: ClipShape) -> tf.Tensor:
    """The sample of the same instant as a stored frame, int32."""
    sample = tf.cast(frame, tf.float64) * shape.sample_rate / shape.stored_frame_rate
    return tf.cast(tf.floor(sample + 1e-6), tf.int32)  # 24000/1001 Hz is no float: frame 3 is sample 2002, not 2001.


def _num_starts(num_stored_frames: tf.Tensor, num_audio_starts: tf.Tensor, shape: ClipShape) -> tf.Tensor:
    """How many frames have a whole clip of frames and of audio after them: audio may end a bit before frames do."""
    return tf.minimum(tf.maximum(num_stored_frames - shape.stored_frames + 1, 0), num_audio_starts)


def _num_audio_starts(num_stored_frames: tf.Tensor, num_stored_samples: tf.Tensor, shape: ClipShape) -> tf.Tensor:
    """How many frames, from the first on, have a whole clip of audio after them. int32 []."""
    ends = _first_sample(tf.range(num_stored_frames), shape) + shape.num_samples
    return tf.math.count_nonzero(ends <= num_stored_samples, dtype=tf.int32)
