"""The video that a record was cut from: its name, for what is known of videos and stands elsewhere, such as boxes."""

from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf
from absl import logging

from cmav.data import schema, video
from cmav.data.index import DAMAGE, SplitIndex


def file_of(clip_id: str) -> str:
    """Name of the video of a clip, without its ending: a clip's id is `<name>_<start in ms>`."""
    return clip_id.rpartition("_")[0]


def number_of_file(clip_id: tf.Tensor, files: Sequence[str]) -> tf.Tensor:
    """The place of a clip's video in a list of names, int64 []; -1 where it is not there. In a TensorFlow function."""
    file = tf.strings.regex_replace(clip_id, "_[^_]*$", "")
    places = tf.where(tf.constant(files, tf.string) == file)[:, 0]
    return tf.concat([[-1], places], axis=0)[-1]


def read_middle(index: SplitIndex, record: int) -> tuple[str, np.ndarray]:
    """The name of a record's video, and the frame in the record's middle, uint8 [side, side, 3].

    Raises:
      One of `cmav.data.index.DAMAGE`, where the record cannot be read.
    """
    parsed = schema.parse(tf.constant(index.read(record)))
    frame = parsed["frames"][len(parsed["frames"]) // 2]
    side = min(map(int, video.frame_size(frame)))
    return file_of(parsed["clip_id"].numpy().decode()), video.decode_clip(frame[None], side, None)[0].numpy()


def read_middles(index: SplitIndex, records: Sequence[int]) -> Iterator[tuple[int, str, np.ndarray]]:
    """Yields record, name and frame as `read_middle` gives them, of those that can be read; the others are logged."""
    for record in records:
        try:
            yield int(record), *read_middle(index, int(record))
        except DAMAGE as error:
            logging.warning("Cannot draw a damaged record: %s", index.reason(int(record), error))
