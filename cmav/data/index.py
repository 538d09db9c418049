"""The index of a split: where each record lies, so that records are read at random, by number.

`index-<split>.npy` is a NumPy structured array, one row a record, in shard order:

| column      | dtype   | meaning                                                         |
| ----------- | ------- | --------------------------------------------------------------- |
| `shard`     | int32   | number of the shard file                                        |
| `offset`    | int64   | where the record's TFRecord frame starts in the shard, in bytes |
| `length`    | int64   | length of the serialized record, in bytes                       |
| `seconds`   | float32 | duration of the clip                                            |
| `has_audio` | bool    | as in the record                                                |
| `label`     | int32   | as in the record                                                |

Behind the array stands a checksum of all before it, which NumPy does not read: `CRC-32C ` and the number, 4 bytes,
little-endian. Older builds have none.

The last three columns let a task choose the records that it can use without reading any. An official split is read
through the index of the physical split that holds it (see `layout.py`).
"""

import dataclasses
import errno
import io
import re
import struct
from collections.abc import Set

import google_crc32c
import numpy as np
import tensorflow as tf

from cmav.data import schema, storage
from cmav.data.layout import (
    DatasetError,
    OfficialSplit,
    index_path,
    list_splits,
    load_classes,
    official_path,
    official_splits,
    shard_path,
)
from cmav.errors import to_paste

INDEX_DTYPE = np.dtype(
    [
        ("shard", "<i4"),
        ("offset", "<i8"),
        ("length", "<i8"),
        ("seconds", "<f4"),
        ("has_audio", "?"),
        ("label", "<i4"),
    ]
)

# A TFRecord frame: length (8 bytes), checksum of the length (4), the record, checksum of the record (4).
_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")
_MARK = b"CRC-32C "
_CHECKSUM = struct.Struct("<8sI")  # behind the index's array
FRAME_OVERHEAD = _HEADER.size + _FOOTER.size


class DamagedRecordError(Exception):
    """One record is not whole: its shard is cut short, or a checksum does not hold."""


# What reading, parsing and decoding a damaged record raise. TensorFlow's own: a key is missing, a JPEG is broken, ...
# Nothing that storage raises is among them, nor that the machine is out of memory.
DAMAGE = (DamagedRecordError, tf.errors.InvalidArgumentError, tf.errors.DataLossError)
_LONGEST_READ = 2**26  # bytes
_LONGEST_REASON = 200  # characters; TensorFlow would print the whole of a record that it cannot parse


@dataclasses.dataclass(frozen=True)
class SplitIndex:
    """The records of one split, readable by number. Thread-safe.

    Attributes:
      folder: the dataset folder.
      split: name of the split, physical or official.
      rows: INDEX_DTYPE [num_records].
      num_shards: of the physical split.
      view_of: of an official split, the physical split in whose shards its records lie; None: it is physical itself.
      num_listed: of an official split, how many videos its list names, found or not; None: it is physical.
      missing_shards: numbers of the physical split's shards that were not there when it was opened.
    """

    folder: str
    split: str
    rows: np.ndarray
    num_shards: int
    view_of: str | None = None
    num_listed: int | None = None
    missing_shards: frozenset[int] = frozenset()

    @classmethod
    def load(cls, folder: str, split: str) -> "SplitIndex":
        """Opens a finished split, physical or official.

        Raises:
          DatasetError: where the folder or the split is not there or the index is damaged; says which splits exist.
          StorageError: where storage does not answer.
        """
        path = index_path(folder, split)
        if not storage.exists(path):
            view = official_splits(folder).get(split)
            if view is not None:
                return cls.load(folder, view.physical)._view(split, view)
            splits = ", ".join(list_splits(folder)) or "none"
            raise DatasetError(
                f"no split {split!r} in {folder!r} (finished splits: {splits}). $CMAV_DATA or --config.data.dir names "
                "another folder. No videos? This makes some:"
                + to_paste("cmav", "synthesize", "--out", "videos", "--num_videos", 200)
                + "\nIt is built from videos by:"
                + to_paste("cmav", "prep", "--videos", "DIR_OR_CSV", "--out", folder, "--split", split)
            )
        rows = _parse_index(path, storage.read_bytes(path))
        num_shards, present = _find_shards(folder, split)
        missing = frozenset([*range(num_shards), *rows["shard"].tolist()]) - present
        return cls(folder, split, rows, num_shards, missing_shards=missing)

    def _view(self, split: str, view: OfficialSplit) -> "SplitIndex":
        if not view.records:
            raise DatasetError(
                f"none of the {view.num_listed} videos of the official split {split!r} is in {self.folder!r}; its "
                "rejects.csv says why"
            )
        if max(view.records) >= len(self) or min(view.records) < 0:
            raise DatasetError(
                f"{official_path(self.folder, self.split)} names records of {split!r} that are not in the index; "
                "give the command that built it again to write it anew."
            )
        rows = self.rows[list(view.records)]
        return dataclasses.replace(self, split=split, rows=rows, view_of=self.split, num_listed=view.num_listed)

    @property
    def physical_split(self) -> str:
        """Name of the split in whose shards the records lie."""
        return self.view_of or self.split

    def __len__(self) -> int:
        return len(self.rows)

    def where(self, record: int) -> str:
        """The record's place, in words for an error or a log line."""
        row = self.rows[record]
        return f"record {record} at byte {row['offset']} of {self._path(row)}"

    def reason(self, record: int, error: Exception) -> str:
        """Where the record lies and what is wrong with it, from an error of `DAMAGE`, in one line."""
        if isinstance(error, DamagedRecordError):
            return str(error)
        # The last paragraph; those before it say where the graph was built. Without the names of nodes and devices.
        text = error.message.rsplit("\n\n", 1)[-1]
        text = re.sub(r"^{{.*?}} |\s*\[\[{{node.*|\s*\[Op:.*", "", text, flags=re.DOTALL)
        return f"{self.where(record)}: {text[:_LONGEST_REASON]}"

    @property
    def verify_command(self) -> str:
        """The command that checks every record of the physical split, on a line of its own."""
        return to_paste("cmav", "prep", "--verify", "--out", self.folder, "--split", self.physical_split)

    def read(self, record: int) -> bytes:
        """Returns the serialized record, its checksums verified.

        Raises:
          DamagedRecordError: where its bytes are not those that were written.
          DatasetError: where its shard is not there, or may not be read.
          StorageError: where storage does not answer.
        """
        row, where = self.rows[record], self.where(record)
        path, length = self._path(row), int(row["length"])

        def read() -> tuple[bytes, bytes]:
            # All of it at once, for storage may be far away; but no more than a record has, whatever the index says.
            buffer_size = min(max(length, 0), _LONGEST_READ) + FRAME_OVERHEAD
            with storage.open_to_read(path, buffer_size=buffer_size) as file:
                file.seek(int(row["offset"]))
                _check_header(file.read(_HEADER.size), length, where)
                return file.read(length), file.read(_FOOTER.size)

        try:
            data, footer = storage.patiently(read, path)
        except (tf.errors.OutOfRangeError, tf.errors.InvalidArgumentError) as error:  # of seeking to where nothing is
            raise DamagedRecordError(f"{where}: {error.message}") from error
        except (FileNotFoundError, tf.errors.NotFoundError) as error:
            raise self._lacks({int(row["shard"])}) from error
        except (OSError, tf.errors.OpError) as error:
            if getattr(error, "errno", None) == errno.EINVAL:  # the same, of a local file
                raise DamagedRecordError(f"{where}: {error.strerror}") from error
            raise DatasetError(f"{path} cannot be read ({storage.words(error)}).") from error
        _check_checksum(data, footer, where)
        return data

    def check_shards(self) -> None:
        """Raises a `DatasetError` where shards were missing when the split was opened."""
        if self.missing_shards:
            raise self._lacks(self.missing_shards)

    def _lacks(self, shards: Set[int]) -> DatasetError:
        first = shard_path(self.folder, self.physical_split, min(shards), self.num_shards)
        return DatasetError(
            f"shards of split {self.physical_split!r} are not there: {first}"
            + (f" and {len(shards) - 1} more" if len(shards) > 1 else "")
            + f", of {self.num_shards}. Is their disk mounted, and was nothing moved? Copy them back, or give the "
            "command that built the split again: it builds the shards that are missing."
        )

    def label_name(self, label: int) -> str:
        """Name of a class: from `classes.txt`, or from the first whole record that has it; else its number.

        Raises as `read` does, but not for a damaged record.
        """
        classes = load_classes(self.folder)
        if 0 <= label < len(classes):
            return classes[label]
        for record in np.flatnonzero(self.rows["label"] == label):
            try:
                name = schema.parse(tf.constant(self.read(int(record))))["label_name"]
            except DAMAGE:
                continue
            return name.numpy().decode() or str(label)
        return str(label)

    def _path(self, row: np.void) -> str:
        return shard_path(self.folder, self.physical_split, int(row["shard"]), self.num_shards)


def encode_index(rows: np.ndarray) -> bytes:
    """What `index-<split>.npy` holds, of INDEX_DTYPE [num_records]."""
    buffer = io.BytesIO()
    np.save(buffer, rows)
    return buffer.getvalue() + _checksum_of(buffer.getvalue())


def _checksum_of(data: bytes) -> bytes:
    return _CHECKSUM.pack(_MARK, google_crc32c.value(data))


def _parse_index(path: str, data: bytes) -> np.ndarray:
    """Returns INDEX_DTYPE [num_records].

    Raises:
      DatasetError: where it is damaged, as far as it can be seen: there is no checksum.
    """
    data, end = data[: -_CHECKSUM.size], data[-_CHECKSUM.size :]
    if not end.startswith(_MARK):
        data, end = data + end, b""
    elif end != _checksum_of(data):
        raise DatasetError(
            f"{path} is damaged (its checksum does not hold); give the command that built the split again."
        )
    file = io.BytesIO(data)
    try:
        rows = np.load(file, allow_pickle=False)
    except (
        Exception
    ) as error:  # The bytes are here: whatever NumPy makes of them, such as a tokenizer's error, is of them.
        raise DatasetError(f"{path} is damaged ({storage.words(error)}); build the split again.") from error
    if rows.dtype != INDEX_DTYPE or rows.ndim != 1 or not len(rows):
        raise DatasetError(f"{path} is empty or of an older form; build the split again.")
    is_first = np.diff(rows["shard"], prepend=-1) > 0
    ends = rows["offset"] + rows["length"] + FRAME_OVERHEAD
    expected = np.where(is_first, 0, np.roll(ends, 1))
    if file.tell() != len(data) or np.any(np.diff(rows["shard"]) < 0) or np.any(rows["offset"] != expected):
        raise DatasetError(
            f"{path} is damaged (its records do not follow one another); give the command that built the split again "
            "to write it anew."
        )
    return rows


def _find_shards(folder: str, split: str) -> tuple[int, frozenset[int]]:
    """Returns the number of shards that a split was built into, and the numbers of those that are there.

    Raises:
      DatasetError: where there are none, or those of several builds.
    """
    pattern = re.compile(re.escape(f"{schema.DATASET_NAME}-{split}.tfrecord-") + r"(\d+)-of-(\d+)")
    found = [tuple(map(int, match.groups())) for match in map(pattern.fullmatch, storage.list_folder(folder)) if match]
    counts = {total for _, total in found}
    if not counts:
        raise DatasetError(
            f"{index_path(folder, split)} is there, but no shards of {split!r} are; copy them or build the split again."
        )
    if len(counts) > 1:
        raise DatasetError(f"{folder} holds shards of {split!r} from {len(counts)} builds; keep one of them.")
    return counts.pop(), frozenset(shard for shard, _ in found)


def _check_header(header: bytes, length: int, where: str) -> None:
    """Checks what stands before a record, so that no more is read than is there.

    Raises:
      DamagedRecordError: where it is cut short, is not where the index has it, or its checksum does not hold.
    """
    if len(header) < _HEADER.size:
        raise DamagedRecordError(f"{where}: the shard ends before the record does")
    found, checksum = _HEADER.unpack(header)
    if _masked_checksum(header[:8]) != checksum:
        raise DamagedRecordError(f"{where}: the checksum of the record's length does not hold")
    if found != length:
        raise DamagedRecordError(f"{where}: it has {found} bytes, and by the index {length}")


def _check_checksum(record: bytes, footer: bytes, where: str) -> None:
    """Raises a `DamagedRecordError` where a record is cut short or its checksum does not hold."""
    if len(footer) < _FOOTER.size:
        raise DamagedRecordError(f"{where}: the shard ends before the record does")
    if _masked_checksum(record) != _FOOTER.unpack(footer)[0]:
        raise DamagedRecordError(f"{where}: the checksum of the record does not hold")


def _masked_checksum(data: bytes) -> int:
    """CRC-32C, rotated and offset as the TFRecord format asks."""
    checksum = google_crc32c.value(data)
    return ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF
