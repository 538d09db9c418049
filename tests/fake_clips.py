"""Small dataset folders of made-up clips, written through the record contract, for any test that needs data.

In a fake clip a square flashes at random moments, each with a burst of noise: enough for a network to learn from.
"""

import os
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from cmav.data import index, schema

EVENTS_PER_SECOND = 2.0
DECAY_SECONDS = 0.15


def make_clip(
    number: int,
    *,
    seconds: float = 2.0,
    size: int = 32,
    frame_rate: float = schema.DEFAULT_FRAME_RATE,
    sample_rate: int = schema.DEFAULT_SAMPLE_RATE,
    seed: int = 0,
    has_audio: bool = True,
    label: int = schema.NO_LABEL,
) -> schema.Clip:
    """The clip of this number: the same for the same arguments, different for another number or seed."""
    rng = np.random.default_rng([seed, number])
    events = rng.uniform(-1.0, seconds, size=rng.poisson(EVENTS_PER_SECOND * (seconds + 1)) + 1)
    num_frames = round(seconds * frame_rate)
    num_samples = round(seconds * sample_rate)

    background = np.kron(rng.integers(0, 120, size=(4, 4, 3)), np.ones((-(-size // 4),) * 2 + (1,)))[:size, :size]
    square = np.zeros((size, size, 1))
    square[size // 4 : size - size // 4, size // 4 : size - size // 4] = 130
    brightness = _loudness(np.arange(num_frames) / frame_rate, events)
    pictures = (background + square * brightness[:, None, None, None]).astype(np.uint8)

    audio = np.zeros((num_samples, 2), np.int16)
    if has_audio:
        loudness = _loudness(np.arange(num_samples) / sample_rate, events)
        audio = (8000 * loudness[:, None] * rng.uniform(-1, 1, size=(num_samples, 2))).astype(np.int16)
    return schema.Clip(
        clip_id=f"fake{number:04d}_0",
        source=f"fake{number:04d}.mp4",
        start_seconds=0.0,
        frames=[tf.io.encode_jpeg(picture, quality=90).numpy() for picture in pictures],
        frame_rate=frame_rate,
        audio=audio,
        sample_rate=sample_rate,
        has_audio=has_audio,
        label=label,
        label_name="" if label == schema.NO_LABEL else f"class{label}",
    )


def write_clips(
    folder: str | os.PathLike,
    split: str,
    clips: Sequence[schema.Clip],
    *,
    num_shards: int = 2,
    instead: Mapping[int, bytes] | None = None,
) -> index.SplitIndex:
    """Writes clips as a finished split, record i being clip i. `instead` puts other bytes in the place of some records.

    The records are valid TFRecords whatever the bytes. Shards hold consecutive records, as even in number as they go.
    """
    os.makedirs(folder, exist_ok=True)
    rows = np.zeros(len(clips), index.INDEX_DTYPE)
    for shard, numbers in enumerate(np.array_split(np.arange(len(clips)), num_shards)):
        offset = 0
        with tf.io.TFRecordWriter(index.shard_path(os.fspath(folder), split, shard, num_shards)) as writer:
            for number in numbers:
                clip = clips[number]
                record = (instead or {}).get(int(number)) or schema.encode(clip)
                writer.write(record)
                rows[number] = (shard, offset, len(record), clip.seconds, clip.has_audio, clip.label)
                offset += len(record) + index.FRAME_OVERHEAD
    with open(index.index_path(os.fspath(folder), split), "wb") as file:
        file.write(index.encode_index(rows))
    return index.SplitIndex.load(os.fspath(folder), split)


def write_dataset(
    folder: str | os.PathLike,
    split: str = "train",
    num_clips: int = 8,
    *,
    num_shards: int = 2,
    silent: Sequence[int] = (),
    num_labels: int = 0,
    **clip_options,
) -> index.SplitIndex:
    """Writes a split of `num_clips` fake clips and opens it.

    Args:
      folder: where; made if it is not there. May hold other splits already.
      split: its name.
      num_clips: number of records.
      num_shards: number of shard files.
      silent: numbers of the clips without audio.
      num_labels: clip i has label i % num_labels; 0: no labels.
      **clip_options: `seconds`, `size`, `frame_rate`, `sample_rate` and `seed`, as `make_clip` takes them.
    """
    clips = [
        make_clip(
            number,
            has_audio=number not in silent,
            label=number % num_labels if num_labels else schema.NO_LABEL,
            **clip_options,
        )
        for number in range(num_clips)
    ]
    return write_clips(folder, split, clips, num_shards=num_shards)


def flip_a_byte(split: index.SplitIndex, record: int, at: int | None = None) -> None:
    """Damages a record where it lies: a byte of its TFRecord frame, `at` from its start, or one in its middle."""
    row = split.rows[record]
    with open(index.shard_path(split.folder, split.split, row["shard"], split.num_shards), "r+b") as file:
        file.seek(int(row["offset"]) + (int(row["length"]) // 2 if at is None else at))
        (byte,) = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 0xFF]))


def _loudness(times: np.ndarray, events: np.ndarray) -> np.ndarray:
    """How strongly the events sound (and light up) at these times: 1 at an event, decaying; 0 to 1."""
    since = times[:, None] - events[None, :]
    return np.where(since >= 0, np.exp(-np.maximum(since, 0) / DECAY_SECONDS), 0.0).max(axis=1)
