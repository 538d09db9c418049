"""Where files lie in a dataset folder, local or remote, and how they get there: whole or not at all.

Only what users need lies at the top. The rest is in `build/<split>/`: the plan, a report for each finished shard, and
files that are not finished, which are renamed into place when they are.
"""

import secrets

import tensorflow as tf


def build_folder(folder: str, split: str) -> str:
    return tf.io.gfile.join(folder, "build", split)


def plan_path(folder: str, split: str) -> str:
    return tf.io.gfile.join(build_folder(folder, split), "plan.json")


def report_path(folder: str, split: str, shard: int) -> str:
    """The report of a shard. It is written after the shard: where it is, the shard is whole."""
    return tf.io.gfile.join(build_folder(folder, split), f"shard-{shard:05d}.json")


def temporary_path(folder: str, split: str) -> str:
    """A new path on the dataset's own file system. No two processes get the same one."""
    return tf.io.gfile.join(build_folder(folder, split), f"{secrets.token_hex(8)}{_TEMPORARY}")


def write_whole(path: str, data: bytes, folder: str, split: str) -> None:
    """Writes a file of the dataset folder by way of a temporary name."""
    temporary = temporary_path(folder, split)
    with tf.io.gfile.GFile(temporary, "wb") as file:
        file.write(data)
    tf.io.gfile.rename(temporary, path, overwrite=True)


def remove_temporary(folder: str, split: str) -> None:
    """Removes what killed runs have left."""
    for path in tf.io.gfile.glob(tf.io.gfile.join(build_folder(folder, split), f"*{_TEMPORARY}")):
        tf.io.gfile.remove(path)


_TEMPORARY = ".tmp"
