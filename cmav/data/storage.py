"""Patience with storage: an error that may pass by itself is tried again, and is never taken for damage.

A disk over a network, a bucket that answers 503, a mount that is being restored: what they raise says nothing about the
file. Damage is what checksums, parsing and decoding say of bytes that could be read.
"""

import errno
import functools
import json
import os
import re
import time
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO, TypeVar

import tensorflow as tf
from absl import logging
from etils import epath

from cmav.errors import UserError

T = TypeVar("T")

DELAYS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)  # seconds before each new try: half a minute in all

# What storage says of a request, and would say again. All else may pass: `tf.io.gfile` raises UnknownError for EIO,
# UnavailableError for 503, DeadlineExceededError, AbortedError, ...
_PERMANENT = (
    tf.errors.NotFoundError,
    tf.errors.AlreadyExistsError,
    tf.errors.FailedPreconditionError,  # a folder in a file's place
    tf.errors.InvalidArgumentError,
    tf.errors.OutOfRangeError,
    tf.errors.PermissionDeniedError,
    tf.errors.ResourceExhaustedError,  # the disk is full
    tf.errors.UnauthenticatedError,
    tf.errors.UnimplementedError,
)
_TRANSIENT_ERRNOS = frozenset(
    {
        errno.EIO,
        errno.EAGAIN,
        errno.EBUSY,
        errno.EINTR,
        errno.ESTALE,
        errno.ETIMEDOUT,
        errno.EREMOTEIO,
        errno.ECONNABORTED,
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ENETRESET,
        errno.ENETUNREACH,
        errno.ENOTCONN,
        errno.ENOLINK,
    }
)


_PASSING_ANSWER = re.compile(r"\b(UNAVAILABLE|DEADLINE_EXCEEDED|ABORTED)\b")


class StorageError(UserError):
    """Storage does not answer, however often it is asked. Nothing is known of the file."""


def read_json(path: epath.PathLike) -> Any:
    """The content of a JSON file, `patiently`.

    Raises:
      ValueError: where it is no JSON, or no text.
    """
    path = epath.Path(path)
    return json.loads(patiently(path.read_text, str(path)))


def write_text(path: epath.PathLike, text: str) -> None:
    """Writes a file whole or not at all: who is killed meanwhile leaves what was there. Its folder must be there."""
    path = epath.Path(path)
    unfinished = path.with_name(f"{path.name}.tmp")
    unfinished.write_text(text)
    unfinished.replace(path)


def may_pass(error: BaseException) -> bool:
    """Whether an error of storage may be gone at the next try.

    Of an error that is none of storage's, the one counts that it was made of: a `zipfile.BadZipFile`, say, is raised
    where the file could not be read.
    """
    if isinstance(error, UserError):
        return False  # It was made for people, and with patience.
    if isinstance(error, tf.errors.OpError):
        return not isinstance(error, _PERMANENT)
    if isinstance(error, OSError):
        return error.errno in _TRANSIENT_ERRNOS
    below = error.__cause__ or error.__context__
    return below is not None and may_pass(below)


def tells_of_storage(error: BaseException) -> bool:
    """Whether an error that a library has made of one of storage is of one that may be gone at the next try.

    By its words, for libraries that write through storage of their own raise a ValueError: TensorStore's ends in those
    of the operating system, or begins with those of a bucket's answer.
    """
    text = str(error)
    return any(os.strerror(number) in text for number in _TRANSIENT_ERRNOS) or bool(_PASSING_ANSWER.search(text))


def copy_folder(source: str, target: str) -> None:
    """Copies a folder and all below it, each file with patience; `target` must not be there.

    Raises:
      StorageError: where storage does not answer.
    """
    tf.io.gfile.makedirs(target)
    for name in list_folder(source):
        path, copy = tf.io.gfile.join(source, name), tf.io.gfile.join(target, name)
        if is_folder(path):
            copy_folder(path, copy)
        else:
            patiently(functools.partial(tf.io.gfile.copy, path, copy, overwrite=True), path)


def patiently(action: Callable[[], T], what: str, delays: Sequence[float] | None = None) -> T:
    """Returns what `action` returns, called again after each of `delays` while its errors may pass.

    Args:
      action: what reads or writes; it must begin anew each time.
      what: the file, for messages.
      delays: seconds; None: `DELAYS`.

    Raises:
      StorageError: where the last try fails as well.
      Exception: of `action`, where trying again would not help, such as for a file that is not there.
    """
    delays = DELAYS if delays is None else delays
    for number, delay in enumerate((*delays, None), start=1):
        try:
            return action()
        except Exception as error:
            if not may_pass(error):
                raise
            if delay is None:
                raise StorageError(
                    f"{what}: storage does not answer ({words(error)}), after {number} tries in {sum(delays):g} s. "
                    "Nothing is wrong with the file as far as is known: see whether its disk, mount or bucket is well, "
                    "then give the same command again."
                ) from error
            logging.warning("%s: %s; trying again in %g s", what, words(error), delay)
            time.sleep(delay)
    raise AssertionError("the last try returns or raises")


def open_to_read(path: str, *, buffer_size: int) -> BinaryIO:
    """Opens a file to read at places of it, without patience.

    Args:
      path: of the file.
      buffer_size: of a local file, how many bytes each request asks for; 0: as many as are read. `tf.io.gfile`, which
        would go in steps of half a megabyte there, reads the others.
    """
    return tf.io.gfile.GFile(path, "rb") if "://" in path else open(path, "rb", buffering=buffer_size)


def read_bytes(path: str) -> bytes:
    """Returns what a file holds. Raises as `patiently` does."""

    def action() -> bytes:
        with tf.io.gfile.GFile(path, "rb") as file:
            return file.read()

    return patiently(action, path)


def exists(path: str) -> bool:
    """Whether there is a file or a folder. Raises as `patiently` does: an error of storage is no answer."""
    return _kind(path) is not None


def is_folder(path: str) -> bool:
    """Whether there is a folder. Raises as `patiently` does: an error of storage is no answer."""
    return _kind(path) == "folder"


def list_folder(path: str) -> list[str]:
    """Names of what is in a folder, without the "/" that remote folders end in; none where there is no folder.

    Raises as `patiently` does.
    """

    def action() -> list[str]:
        try:
            return [name.rstrip("/") for name in tf.io.gfile.listdir(path)]
        except tf.errors.NotFoundError as error:  # It was there just now; listdir takes every error for "no folder".
            raise tf.errors.UnavailableError(None, None, error.message) from error

    return patiently(action, path) if is_folder(path) else []


def _kind(path: str) -> str | None:
    """What lies at a path: "file", "folder" or None.

    By `stat`, because `tf.io.gfile.isdir` takes every error for "no", and so does `exists` of local files.
    """
    try:
        return "folder" if patiently(lambda: tf.io.gfile.stat(path), path).is_directory else "file"
    except (tf.errors.NotFoundError, tf.errors.FailedPreconditionError):  # the latter: below a file
        return None


def words(error: BaseException) -> str:
    """What an error of storage says, in a line."""
    text = getattr(error, "message", None) or getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())[:300]
