"""Where files lie in a dataset folder, local or remote, and how they get there: whole or not at all.

Only what users need lies at the top. The rest is in `build/<split>/`: the plan, a report for each finished shard,
shards that wait for their split to be finished anew, and files that are not finished, which are renamed into place when
they are. Folders are listed, never matched against a pattern: a path may hold any character.
"""

import contextlib
import functools
import hashlib
import os
import pathlib
import re
import secrets
import socket
import time
from collections.abc import Iterator

import tensorflow as tf

from cmav.data import schema, storage
from cmav.data.storage import patiently

# A temporary file that nobody has written to for so long is what a killed run has left.
ABANDONED_AFTER = 24 * 3600  # seconds
_TEMPORARY = ".tmp"


def build_folder(folder: str, split: str) -> str:
    return tf.io.gfile.join(folder, "build", split)


def plan_path(folder: str, split: str) -> str:
    return tf.io.gfile.join(build_folder(folder, split), "plan.json")


def videos_path(folder: str, split: str, shard: int) -> str:
    """The part of the plan that says which videos a shard is made of."""
    return tf.io.gfile.join(build_folder(folder, split), f"videos-{shard:05d}.json")


def keys_path(folder: str, split: str, part: int) -> str:
    """The part of the plan by which listed videos are told apart (see `keys.py`)."""
    return tf.io.gfile.join(build_folder(folder, split), f"keys-{part:05d}.npy")


def report_path(folder: str, split: str, shard: int) -> str:
    """The report of a shard. It is written after the shard: where it is, the shard is whole."""
    return tf.io.gfile.join(build_folder(folder, split), f"shard-{shard:05d}.json")


def staged_path(folder: str, split: str, shard: int) -> str:
    """Where a shard of a finished split waits for the others, so that the split stays readable until they are there."""
    return tf.io.gfile.join(build_folder(folder, split), f"shard-{shard:05d}.tfrecord")


def names(folder: str) -> list[str]:
    """Names of what lies in a folder, sorted; none where there is no such folder."""
    try:
        listed = patiently(lambda: tf.io.gfile.listdir(folder), folder)
    except tf.errors.NotFoundError:
        return []
    return sorted(name.rstrip("/") for name in listed)


def shard_names(folder: str, split: str) -> dict[int, list[str]]:
    """Names of the shards of a split at the top of a folder, by their number, whatever total they carry."""
    pattern = re.compile(rf"{schema.DATASET_NAME}-{re.escape(split)}\.tfrecord-(\d{{5}})-of-\d{{5}}")
    found: dict[int, list[str]] = {}
    for name in names(folder):
        if match := pattern.fullmatch(name):
            found.setdefault(int(match[1]), []).append(name)
    return found


def read(path: str) -> bytes:
    """Reads a file, patiently.

    Raises:
      tf.errors.NotFoundError: where it is not there.
    """

    def action() -> bytes:
        with tf.io.gfile.GFile(path, "rb") as file:
            return file.read()

    return patiently(action, path)


def write_whole(path: str, data: bytes, folder: str, split: str) -> None:
    """Writes a file of the dataset folder by way of a temporary name, patiently."""

    def action() -> None:
        with temporary(folder, split) as unfinished:
            with tf.io.gfile.GFile(unfinished, "wb") as file:
                file.write(data)
            rename(unfinished, path)

    patiently(action, path)


@contextlib.contextmanager
def temporary(folder: str, split: str) -> Iterator[str]:
    """Gives a new path on the dataset's own file system, for a `with`; an error removes what was written there.

    No two processes get the same one, and its name says which process is writing it.
    """
    name = f"{_machine()}-{os.getpid()}-{secrets.token_hex(8)}{_TEMPORARY}"
    path = tf.io.gfile.join(build_folder(folder, split), name)
    try:
        yield path
    except BaseException:
        with contextlib.suppress(tf.errors.OpError, OSError):
            tf.io.gfile.remove(path)
        raise


def rename(source: str, target: str, *, is_shared: bool = False) -> None:
    """Renames a file, patiently. Where it `is_shared`, another process may be doing the same, and may be faster."""
    tries = 0

    def action() -> None:
        nonlocal tries
        tries += 1
        try:
            tf.io.gfile.rename(source, target, overwrite=True)
        except tf.errors.NotFoundError:
            done_before = is_shared or tries > 1  # a try may do its work and then fail to say so
            if not done_before or not storage.exists(target):
                raise

    patiently(action, target)


def remove(path: str) -> None:
    """Removes a file, where it is there."""
    with contextlib.suppress(tf.errors.NotFoundError):
        patiently(lambda: tf.io.gfile.remove(path), path)


def remove_abandoned(folder: str, split: str) -> None:
    """Removes the temporary files of processes that are gone; those of others stay, on this machine and elsewhere."""
    for name in names(build_folder(folder, split)):
        path = tf.io.gfile.join(build_folder(folder, split), name)
        if name.endswith(_TEMPORARY) and _is_abandoned(path, name):
            remove(path)


def _is_abandoned(path: str, name: str) -> bool:
    machine, _, rest = name.partition("-")
    process = rest.partition("-")[0]
    if machine == _machine() and process.isdigit():
        try:
            os.kill(int(process), 0)
        except ProcessLookupError:
            return True
        except OSError:  # somebody else's, and alive
            return False
    try:
        written = patiently(lambda: tf.io.gfile.stat(path).mtime_nsec, path)
    except tf.errors.NotFoundError:
        return False
    return time.time() - written / 1e9 > ABANDONED_AFTER


@functools.cache
def _machine() -> str:
    """Eight digits for what process numbers hold in: a machine since it was started, or a container on it."""
    marks = [socket.gethostname()]
    with contextlib.suppress(OSError):  # elsewhere than on Linux, the host's name has to do
        marks += [pathlib.Path("/proc/sys/kernel/random/boot_id").read_text(), os.readlink("/proc/self/ns/pid")]
    return hashlib.blake2b("\n".join(marks).encode(), digest_size=4).hexdigest()
