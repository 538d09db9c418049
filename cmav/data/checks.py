"""Does a split fit what the config asks for? Which of its records can be used?"""

import functools

import numpy as np
import tensorflow as tf
from absl import logging

from cmav.data import schema, video
from cmav.data.clip_shape import ClipShape
from cmav.data.index import DAMAGE, DatasetError, SplitIndex
from cmav.errors import to_paste

_SECONDS_TOLERANCE = 1e-3  # The index has durations as float32.
_RATE_TOLERANCE = 1e-4  # 29.97 for 30000/1001 is 1e-6 off and welcome; 30 is 1e-3 off and is not.
_RECORDS_TO_TRY = 100


def usable_records(index: SplitIndex, min_seconds: float, need_audio: bool) -> np.ndarray:
    """Numbers of the records that are long enough and, where asked for, have audio. int64 [any], ascending.

    Raises:
      DatasetError: where there are none; says how many lack what.
    """
    long_enough = index.rows["seconds"] >= min_seconds - _SECONDS_TOLERANCE
    heard = index.rows["has_audio"] | (not need_audio)
    usable = np.flatnonzero(long_enough & heard)
    if not len(usable):
        raise DatasetError(
            f"none of the {len(index)} records of split {index.split!r} in {index.folder!r} can be used: "
            f"{np.sum(~long_enough)} are shorter than the {min_seconds:.2f} s needed (the longest has "
            f"{index.rows['seconds'].max():.2f} s), {np.sum(~heard)} have no audio.\n"
            "Build the split from longer videos or with a greater --clip_seconds, or lower config.data.clip_seconds "
            "and shift_seconds."
        )
    return usable


def labelled_records(index: SplitIndex, records: np.ndarray, num_classes: int) -> np.ndarray:
    """Those of the records that have a label. int64 [any], ascending.

    Raises:
      DatasetError: where none has one, or a label is not below `num_classes`.
    """
    labels = index.rows["label"][records]
    place = f"split {index.split!r} in {index.folder!r}"
    if not np.any(labels >= 0):
        raise DatasetError(
            f"no video of {place} has a label: build it from a CSV with a column `label`, or with --dataset, as this "
            "says:" + to_paste("cmav", "prep", "--help")
        )
    if labels.max() >= num_classes:
        raise DatasetError(
            f"{place} has the label {labels.max()}, but the network has {num_classes} classes (0 to "
            f"{num_classes - 1}): set --config.action.num_classes={labels.max() + 1} or more, or 0 to take the number "
            "from the dataset."
        )
    return records[labels >= 0]


def first_of_each_class(index: SplitIndex, records: np.ndarray, count: int, seed: int) -> np.ndarray:
    """At most `count` of the records of each class, drawn by `seed`. int64 [any], ascending.

    A larger count adds to a smaller one's records: few labels are a part of many.
    """
    order = np.random.default_rng(seed).permutation(records)
    labels = index.rows["label"][order]
    kept = [order[labels == label][:count] for label in np.unique(labels)]
    return np.sort(np.concatenate(kept))


def check_dataset(index: SplitIndex, shape: ClipShape, crop_size: int | None, *, train: bool = False) -> None:
    """Compares the rates and the frame size of a split with the config, by its first record that can be read.

    Sound of another rate is resampled as it is read (`resampling`), which is logged: as a warning where the higher
    frequencies are missing, and in training, which pays for it at every view.

    Args:
      index: of the split.
      shape: of the clips.
      crop_size: of their frames, pixels; None: frames are not looked at, so their rate does not matter.
      train: the sound of the clips is to be trained on.

    Raises:
      DatasetError: where frames do not fit, or no record can be read.
    """
    place = f"split {index.split!r} in {index.folder!r}"
    record = _first_readable(index, need_frames=crop_size is not None)
    if record is None:
        raise DatasetError(
            f"none of the first records of {place} can be read. See what is wrong:{index.verify_command}"
        )
    _tell_of_resampling(index.folder, index.physical_split, int(record["sample_rate"]), shape.sample_rate, train)
    if crop_size is None:
        return
    if not len(record["frames"]):
        raise DatasetError(
            f"{place} has sounds without pictures: only --config.action.mode=audio_only can use it, with task 'action'."
        )
    frame_rate = float(record["frame_rate"])
    if abs(frame_rate / shape.stored_frame_rate - 1) > _RATE_TOLERANCE:
        raise DatasetError(
            f"{place} was built with {frame_rate:g} frames per second, but config.data.stored_frame_rate is "
            f"{shape.stored_frame_rate:g}: set --config.data.stored_frame_rate={frame_rate:.9g}, or build the split "
            f"again with --frame_rate={shape.stored_frame_rate:g}."
        )
    height, width = _frame_size(record)
    if crop_size > min(height, width):
        raise DatasetError(
            f"{place} was built with frames of {height}x{width} pixels, but config.data.crop_size is {crop_size}: set "
            f"--config.data.crop_size={min(height, width)} or less, or build the split again with --size={crop_size} "
            "or more."
        )


def frame_side(index: SplitIndex) -> int:
    """Width and height of the frames of a split, in pixels, by its first record that can be read.

    Raises:
      DatasetError: where there is none, or its frames are not square: `build_tfrecords.py` makes no others.
    """
    record = _first_readable(index, need_frames=True)
    sides = _frame_size(record) if record is not None and len(record["frames"]) else None
    if sides is None or sides[0] != sides[1]:
        raise DatasetError(
            f"split {index.split!r} in {index.folder!r} has no square frames in its first records, of which the maps "
            f"should be. See what is wrong:{index.verify_command}"
        )
    return sides[0]


@functools.cache  # Once, however many loaders there are, and folds of one set.
def _tell_of_resampling(folder: str, split: str, stored: int, wanted: int, train: bool) -> None:
    if stored == wanted:
        return
    told = (
        f"split {split!r} in {folder!r} has sound of {stored} Hz: where it is heard, it is resampled to {wanted} Hz "
        "(config.data.sample_rate)"
    )
    if stored < wanted:
        told += f"; it has nothing above {stored / 2:g} Hz, of up to {wanted / 2:g} Hz that the network can hear"
    if train:
        told += (
            "; training does this anew for every view: a split built with "
            f"--sample_rate={wanted} saves the time, or set --config.data.sample_rate={stored}"
        )
    logging.log(logging.WARNING if train or stored < wanted else logging.INFO, "%s", told)


def _frame_size(record: dict[str, tf.Tensor]) -> tuple[int, int]:
    height, width = video.frame_size(record["frames"][0])
    return int(height), int(width)


def _first_readable(index: SplitIndex, need_frames: bool) -> dict[str, tf.Tensor] | None:
    for number in range(min(len(index), _RECORDS_TO_TRY)):
        try:
            record = schema.parse(tf.constant(index.read(number)))
            if need_frames and len(record["frames"]):
                video.frame_size(record["frames"][0])
        except DAMAGE as error:
            logging.warning("Cannot read the first records: %s", index.reason(number, error))
            continue
        return record
    return None
