"""What lies in a dataset folder, and under which names: splits, official splits, classes.

A labelled set such as UCF101 is built once, into one physical split; its official splits ("train1", "test1", ...) are
views of it, lists of record numbers in `splits-<physical split>.json`, which is there where a video has any:

    {"test1": {"listed": 3783, "records": [0, 4, ...]}, ...}

`listed` is how many videos the official list names, found or not; records are in ascending order. `classes.txt` has the
names of the classes, where they have names: one a line, class 0 first.
"""

import dataclasses
import json

import tensorflow as tf

from cmav.data import schema, storage
from cmav.errors import UserError


class DatasetError(UserError):
    """A dataset folder or split is missing or unusable. The message says what to do."""


def index_path(folder: str, split: str) -> str:
    return tf.io.gfile.join(folder, f"index-{split}.npy")


def shard_path(folder: str, split: str, shard: int, num_shards: int) -> str:
    name = f"{schema.DATASET_NAME}-{split}.tfrecord-{shard:05d}-of-{num_shards:05d}"
    return tf.io.gfile.join(folder, name)


def official_path(folder: str, split: str) -> str:
    """Where the official splits of a physical split are listed."""
    return tf.io.gfile.join(folder, f"splits-{split}.json")


def classes_path(folder: str) -> str:
    return tf.io.gfile.join(folder, "classes.txt")


def list_splits(folder: str) -> list[str]:
    """Names of the finished splits of a dataset folder that can be opened, physical and official, sorted.

    Raises:
      DatasetError: where a list of official splits is damaged.
    """
    views = official_splits(folder)
    return sorted({*physical_splits(folder), *(name for name, view in views.items() if view.records)})


def physical_splits(folder: str) -> list[str]:
    """Names of the finished splits that have shards of their own, sorted."""
    prefix, suffix = "index-", ".npy"
    names = [name for name in storage.list_folder(folder) if name.startswith(prefix) and name.endswith(suffix)]
    return sorted(name[len(prefix) : -len(suffix)] for name in names)


def physical_split(folder: str, split: str) -> str:
    """The physical split in whose shards an official split lies; the name itself where it is no official one."""
    view = official_splits(folder).get(split)
    return view.physical if view else split


@dataclasses.dataclass(frozen=True)
class OfficialSplit:
    """A list of records of a physical split.

    Attributes:
      physical: the physical split in whose shards the records lie.
      num_listed: how many videos the official list names, found or not.
      records: their numbers in the physical split, ascending.
    """

    physical: str
    num_listed: int
    records: tuple[int, ...]


def official_splits(folder: str) -> dict[str, OfficialSplit]:
    """The official splits of a folder's finished physical splits, by name.

    Raises:
      DatasetError: where a list of them is damaged.
    """
    found = {}
    for physical in physical_splits(folder):
        path = official_path(folder, physical)
        if not storage.exists(path):
            continue
        data = storage.read_bytes(path)
        try:
            for name, view in json.loads(data).items():
                found[name] = OfficialSplit(physical, int(view["listed"]), tuple(map(int, view["records"])))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DatasetError(
                f"{path} is damaged ({error}); give the command that built it again to write it anew."
            ) from error
    return found


def load_classes(folder: str) -> tuple[str, ...]:
    """Names of the classes of a dataset folder, by number; empty where they have none.

    Raises:
      DatasetError: where the list of them is damaged.
    """
    path = classes_path(folder)
    if not storage.exists(path):
        return ()
    try:
        return tuple(storage.read_bytes(path).decode().rstrip("\n").split("\n"))
    except UnicodeDecodeError as error:
        raise DatasetError(
            f"{path} is damaged ({error}); give the command that built it again to write it anew."
        ) from error
