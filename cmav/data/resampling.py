"""Records of any sample rate, heard at one: a record's audio is resampled when it has been parsed.

What comes after, sampling and tasks, then sees one rate only.
"""

import math

import numpy as np
import tensorflow as tf
from scipy.signal import resample_poly

_INT16 = np.iinfo(np.int16)


def resample(audio: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
    """Audio at another rate: band-limited, and without delay, so that a moment keeps its seconds.

    SciPy's polyphase filter, rounded. What a record of this rate would have at the most is returned, so that a clip
    that fits into a record fits at any rate: of the last sample, which is followed by silence, all that lies before the
    next one would begin.

    Args:
      audio: int16 [samples, channels].
      from_rate: samples per second, as it is.
      to_rate: samples per second, as wanted.

    Returns:
      int16 [ceil((samples + 1) * to_rate / from_rate) - 1, channels].
    """
    divisor = math.gcd(from_rate, to_rate)
    up, down = to_rate // divisor, from_rate // divisor
    resampled = resample_poly(np.pad(audio.astype(np.float64), ((0, 1), (0, 0))), up, down, axis=0)[:-1]
    return np.rint(resampled).clip(_INT16.min, _INT16.max).astype(np.int16)


def at_rate(record: dict[str, tf.Tensor], sample_rate: int) -> dict[str, tf.Tensor]:
    """TensorFlow: a parsed record whose audio has this rate. One that has it already is left as it is."""

    def resampled() -> tf.Tensor:
        def call(audio: np.ndarray, rate: np.ndarray) -> np.ndarray:
            return resample(audio, int(rate), sample_rate)

        # Stateless: where no one hears the audio, TensorFlow leaves it out.
        found = tf.numpy_function(call, [record["audio"], record["sample_rate"]], tf.int16, stateful=False)
        return tf.ensure_shape(found, record["audio"].shape)

    audio = tf.cond(record["sample_rate"] == sample_rate, lambda: record["audio"], resampled)
    return {**record, "audio": audio, "sample_rate": tf.constant(sample_rate, tf.int64)}
