"""The record contract: what one clip is, in a shard and in memory. Defined here and nowhere else.

A dataset folder holds, for each split, `clips-<split>.tfrecord-00000-of-00008` shards and `index-<split>.npy`, and for
labelled sets `splits-<split>.json` and `classes.txt` (see `index.py` and `layout.py`). TFDS metadata lies beside them,
so `tfds.builder_from_directory(folder)` opens it too. A record is a clip:

| feature         | in the record                                         | parsed (TensorFlow)          |
| --------------- | ----------------------------------------------------- | ---------------------------- |
| `clip_id`       | text, `<video stem>_<start in ms>`, unique in dataset | string []                    |
| `source`        | text, path of the video as listed                     | string []                    |
| `start_seconds` | float32, where in the video the clip starts           | float32 []                   |
| `frames`        | JPEGs of `size`×`size`×3 at a constant rate           | string [num_frames], encoded |
| `frame_rate`    | float32, frames per second                            | float32 []                   |
| `audio`         | int16 [samples, 2], little-endian bytes               | int16 [samples, 2]           |
| `sample_rate`   | int, samples per second                               | int64 []                     |
| `has_audio`     | bool; false: no audio stream, or nothing but zeros    | bool []                      |
| `label`         | int, -1 where there is none                           | int64 []                     |
| `label_name`    | text, empty where there is none                       | string []                    |
| `splits`        | texts, the official splits that the clip belongs to   | string [any]                 |

Frame k and sample floor(k * sample_rate / frame_rate) are the same instant, to within one frame.

In a set of sounds, such as ESC-50, clips have no frames, and `frame_rate` says nothing. No clip is without both.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

DATASET_NAME = "clips"
FILENAME_TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"

DEFAULT_FRAME_RATE = 30000 / 1001
DEFAULT_SAMPLE_RATE = 21_000
DEFAULT_SIZE = 256
NO_LABEL = -1


@dataclasses.dataclass(frozen=True)
class Clip:
    """One clip, decoded from its file, ready to become a record. `frames` are encoded JPEGs; none: it is sound only."""

    clip_id: str
    source: str
    start_seconds: float
    frames: Sequence[bytes]
    frame_rate: float
    audio: np.ndarray  # int16 [samples, 2]; zeros where has_audio is false
    sample_rate: int
    has_audio: bool
    label: int = NO_LABEL
    label_name: str = ""
    splits: Sequence[str] = ()

    @property
    def seconds(self) -> float:
        return len(self.frames) / self.frame_rate if self.frames else len(self.audio) / self.sample_rate


def tfds_features(size: int) -> tfds.features.FeaturesDict:
    """The same contract in TFDS's terms, for the metadata beside the shards."""
    return tfds.features.FeaturesDict(
        {
            "clip_id": tfds.features.Text(),
            "source": tfds.features.Text(),
            "start_seconds": tfds.features.Scalar(np.float32),
            "frames": tfds.features.Sequence(tfds.features.Image(shape=(size, size, 3), encoding_format="jpeg")),
            "frame_rate": tfds.features.Scalar(np.float32),
            # As bytes: an Audio feature would store varints, five times larger.
            "audio": tfds.features.Tensor(shape=(None, 2), dtype=np.int16, encoding="bytes"),
            "sample_rate": tfds.features.Scalar(np.int64),
            "has_audio": tfds.features.Scalar(np.bool_),
            "label": tfds.features.Scalar(np.int64),
            "label_name": tfds.features.Text(),
            "splits": tfds.features.Sequence(tfds.features.Text()),
        }
    )


_PARSE_SPEC = {
    "clip_id": tf.io.FixedLenFeature([], tf.string),
    "source": tf.io.FixedLenFeature([], tf.string),
    "start_seconds": tf.io.FixedLenFeature([], tf.float32),
    "frames": tf.io.RaggedFeature(tf.string),
    "frame_rate": tf.io.FixedLenFeature([], tf.float32),
    "audio": tf.io.FixedLenFeature([], tf.string),
    "sample_rate": tf.io.FixedLenFeature([], tf.int64),
    "has_audio": tf.io.FixedLenFeature([], tf.int64),
    "label": tf.io.FixedLenFeature([], tf.int64),
    "label_name": tf.io.FixedLenFeature([], tf.string),
    "splits": tf.io.RaggedFeature(tf.string),
}


def encode(clip: Clip) -> bytes:
    """Serializes a clip as a `tf.train.Example`, the same bytes for the same clip.

    Raises:
      ValueError: where the clip breaks the contract (neither frames nor sound, audio of another form, a rate
        that is not positive).
    """
    _check(clip)
    features = {
        "clip_id": _texts([clip.clip_id]),
        "source": _texts([clip.source]),
        "start_seconds": _floats([clip.start_seconds]),
        "frames": _bytes(clip.frames),
        "frame_rate": _floats([clip.frame_rate]),
        "audio": _bytes([clip.audio.astype("<i2").tobytes()]),
        "sample_rate": _ints([clip.sample_rate]),
        "has_audio": _ints([int(clip.has_audio)]),
        "label": _ints([clip.label]),
        "label_name": _texts([clip.label_name]),
        "splits": _texts(clip.splits),
    }
    example = tf.train.Example(features=tf.train.Features(feature=features))
    return example.SerializeToString(deterministic=True)


def parse(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
    """Parses one serialized record in TensorFlow; dtypes and shapes as in the table above. Frames stay encoded."""
    record = tf.io.parse_single_example(serialized, _PARSE_SPEC)
    record["audio"] = tf.reshape(tf.io.decode_raw(record["audio"], tf.int16), [-1, 2])
    record["has_audio"] = tf.cast(record["has_audio"], tf.bool)
    return record


def clip_id_of(serialized: tf.Tensor) -> tf.Tensor:
    """The `clip_id` of a serialized record, string []; nothing else of it is parsed."""
    return tf.io.parse_single_example(serialized, {"clip_id": _PARSE_SPEC["clip_id"]})["clip_id"]


def _check(clip: Clip) -> None:
    def reject(what: str):
        raise ValueError(f"clip {clip.clip_id!r} of {clip.source!r} breaks the record contract: {what}")

    if not clip.frames and not clip.has_audio:
        reject("it has neither frames nor sound")
    if clip.audio.dtype != np.int16 or clip.audio.ndim != 2 or clip.audio.shape[1] != 2:
        reject(f"audio must be int16 [samples, 2], not {clip.audio.dtype} {list(clip.audio.shape)}")
    if clip.frame_rate <= 0 or clip.sample_rate <= 0:
        reject(f"rates must be positive, not {clip.frame_rate} and {clip.sample_rate}")


def _texts(values: Sequence[str]) -> tf.train.Feature:
    # A file name need not be valid UTF-8; Python then has lone surrogates in it, which escapes keep apart.
    return _bytes([value.encode("utf-8", "backslashreplace") for value in values])


def _bytes(values: Sequence[bytes]) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))


def _floats(values: Sequence[float]) -> tf.train.Feature:
    return tf.train.Feature(float_list=tf.train.FloatList(value=values))


def _ints(values: Sequence[int]) -> tf.train.Feature:
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))
