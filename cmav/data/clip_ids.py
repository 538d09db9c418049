"""Ids of a split's clips, without reading the clips.

A record is a map from names of features to features, and each entry of it begins with its length. So one goes from
entry to entry, two small reads a record as `schema.encode` writes it, and reads no sound and no pictures.
"""

import concurrent.futures
import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence

import numpy as np
import tensorflow as tf
from absl import logging

from cmav.data import storage
from cmav.data.files import file_of
from cmav.data.index import SplitIndex
from cmav.data.layout import shard_path
from cmav.errors import UserError

_CLIPS_TO_LOOK_AT = 10_000  # for one of a known video: a second or two on a local disk
_NUM_THREADS = 16  # Over a network most of the time is waiting.
_FRAME_HEADER = 12  # bytes of a TFRecord frame before the record
_ENTRY_HEAD = 1024  # bytes to read of an entry: all of one with an id
_MOST_ENTRIES = 64  # A record of today has eleven.
_KEY = b"\x0a\x07clip_id"  # field 1 of an entry


def read_clip_ids(index: SplitIndex, records: Iterable[int]) -> Iterator[bytes | None]:
    """Yields the ids of records, in their order; None where one cannot be read. Checksums are not looked at.

    Raises:
      StorageError: where storage does not answer.
    """

    def read(record: int) -> bytes | None:
        return storage.patiently(lambda: _read(index, int(record)), f"the id of record {record} of {index.split!r}")

    with concurrent.futures.ThreadPoolExecutor(_NUM_THREADS, "cmav-clip-ids") as threads:
        # The iterator of `map` cancels what has not begun when this one is let go.
        yield from threads.map(read, records)


def require_any(index: SplitIndex, records: Sequence[int], files: Collection[str], refusal: UserError) -> None:
    """Looks for a clip of one of these videos. Of a large split not all can be looked at: then it is but warned of.

    Raises:
      UserError: `refusal`, where all clips were looked at and none is of these.
    """
    # The first as well, and beyond that as evenly as it goes.
    looked_at = records[:: -(-len(records) // _CLIPS_TO_LOOK_AT)]
    unknown = len(records) - len(looked_at)
    for clip_id in read_clip_ids(index, looked_at):
        if clip_id is None:
            unknown += 1
        elif file_of(clip_id.decode(errors="replace")) in files:
            return
    if not unknown:
        raise refusal
    known = len(records) - unknown
    logging.warning(
        "after a look at %d of %d clips: %s Then evaluating will be an error.", known, len(records), refusal
    )


def require_two_videos(index: SplitIndex, records: Sequence[int]) -> None:
    """Checks that not all of some records are of one video, as far as their ids can be read.

    Raises:
      UserError: where all were looked at, and all are of one.
    """
    looked_at = records[:: -(-len(records) // _CLIPS_TO_LOOK_AT)]
    files = set()
    for clip_id in read_clip_ids(index, looked_at):
        files.add(None if clip_id is None else file_of(clip_id.decode(errors="replace")))
        if len(files) > 1:
            return
    if len(looked_at) == len(records) and None not in files:
        raise UserError(
            f"split {index.split!r} in {index.folder!r} has usable records of one video only ({len(records)}), and "
            "audio of another is asked for: build the split from more videos, or take shifted audio alone "
            "(other_share=0 in training, negatives='shifted' of an evaluator)."
        )


def of_some_videos(index: SplitIndex, records: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Those of the records that were cut from `count` videos of the split. int64 [any], ascending.

    Videos are drawn by a hash of `seed` and their names: a larger count adds to a smaller one's, and neither which
    records are asked for nor what else the split has changes who comes before whom. A record whose id cannot be read is
    left out.

    Raises:
      UserError: where the split is of fewer videos, or storage does not answer.
    """
    ids = read_clip_ids(index, range(len(index.rows)))
    videos = [None if clip_id is None else file_of(clip_id.decode(errors="replace")) for clip_id in ids]
    known = set(videos) - {None}
    if len(known) < count:
        raise UserError(
            f"config.data.max_videos={count}: split {index.split!r} in {index.folder!r} has {len(known)} videos. Ask "
            "for so many or fewer, or for all with 0."
        )
    drawn = set(sorted(known, key=lambda video: _rank(video, seed))[:count])
    return records[[videos[record] in drawn for record in records]]


def _rank(video: str, seed: int) -> bytes:
    return hashlib.blake2b(f"{seed} {video}".encode(), digest_size=16).digest()


def _read(index: SplitIndex, record: int) -> bytes | None:
    """None where the record is damaged. Raises what may pass."""
    row = index.rows[record]
    path = shard_path(index.folder, index.physical_split, int(row["shard"]), index.num_shards)
    place = int(row["offset"]) + _FRAME_HEADER
    end = place + int(row["length"])
    try:
        with storage.open_to_read(path, buffer_size=0) as file:  # Reading ahead would be most of the time.
            place += _split_head(_read_at(file, place))[0]  # of the message `Features`, the record's only field
            for _ in range(_MOST_ENTRIES):
                if place >= end:
                    return None
                head = _read_at(file, place)
                head_size, size = _split_head(head)
                if head[head_size:].startswith(_KEY):
                    entry = tf.train.Features.FromString(head[: head_size + size])
                    return entry.feature["clip_id"].bytes_list.value[0]
                place += head_size + size
    except Exception as error:  # Whatever damage makes the libraries raise: nothing is known of this record.
        if storage.may_pass(error):
            raise
        return None
    return None


def _read_at(file, place: int) -> bytes:
    file.seek(place)
    return file.read(_ENTRY_HEAD)


def _split_head(message: bytes) -> tuple[int, int]:
    """Bytes of a field's tag and length, and the length that they say.

    Raises:
      ValueError: where it is not a field of this form.
    """
    if message[:1] != b"\x0a":
        raise ValueError("another field than the first")
    size = 0
    for number, byte in enumerate(message[1:11]):
        size |= (byte & 0x7F) << 7 * number
        if byte < 0x80:
            return number + 2, size
    raise ValueError("a length without an end")
