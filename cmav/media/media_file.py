"""The bytes of a media file, local or remote, for FFmpeg to read: the one way by which decoding reaches storage."""

import io
import os
import stat
from collections.abc import Callable
from typing import BinaryIO

import tensorflow as tf

from cmav.data.storage import patiently, words

# Some demuxers look for the next packet to the end of a file, whatever lies between: 100 GB of a sparse file, for
# example. The largest headers and packets seen are some hundred megabytes.
MAX_SEARCH = 1 << 29  # bytes read without a packet found


class RejectedError(Exception):
    """Nothing can be had from a video. The message says why; details stand in brackets at its end."""


class MissingFileError(RejectedError):
    """The file is not there."""


class DamagedError(Exception):
    """Decoding cannot go on. The message says why; what came before is good."""


class MediaFile:
    """What `av.open` asks of a file object. Errors of storage that may pass are tried again.

    FFmpeg takes an error of its input for the file's end, or for damage, and PyAV keeps an exception of a file object
    for whoever asks next. So nothing is raised while FFmpeg reads: from the first error on, the file seems to end, and
    `check` raises what it was.

    Attributes:
      name: the path. FFmpeg asks the extension where the bytes do not tell the format.
    """

    def __init__(self, path: str, alive: Callable[[], None]):
        """Opens a file. It is as long as it is now: what is written to it later does not count.

        Args:
          path: local or with a scheme that `tf.io.gfile` knows.
          alive: called at every read: storage that is slow is not a decoder that hangs.

        Raises:
          MissingFileError, RejectedError: where it is not there, or no file that can be read.
          StorageError: where storage does not answer.
        """
        self.name, self._alive = path, alive
        self._file: BinaryIO | tf.io.gfile.GFile | None = None
        self._position = self._at = self._searched = 0
        self._failure: BaseException | None = None
        try:
            self._size = patiently(self._open, path)
        except (FileNotFoundError, tf.errors.NotFoundError) as error:
            raise MissingFileError("no such file") from error
        except (OSError, tf.errors.OpError, ValueError) as error:
            raise RejectedError(f"cannot be opened ({words(error)})") from error

    def read(self, count: int) -> bytes:
        """Returns up to `count` bytes; none at the end, and after an error."""
        if self._failure is not None:
            return b""
        if self._size:  # That of /proc's files is 0, whatever they hold.
            count = min(count, self._size - self._position)
        if count <= 0:
            return b""
        try:
            self._alive()
            data = patiently(lambda: self._read(count), self.name)
        except (FileNotFoundError, tf.errors.NotFoundError):
            self._failure = MissingFileError("no such file (it was there when it was opened)")
            return b""
        except (OSError, tf.errors.OpError) as error:
            self._failure = DamagedError(f"cannot be read further: {words(error)}")
            return b""
        except BaseException as error:  # among them Ctrl-C, which PyAV would lose
            self._failure = error
            return b""
        self._position += len(data)
        self._searched += len(data)
        if self._searched > MAX_SEARCH:
            self._failure = DamagedError(f"no packet in {MAX_SEARCH >> 20} MB of it")
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Returns the new position, or -1 where there is none such."""
        position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if position < 0:
            return -1
        self._position = position
        return position

    def tell(self) -> int:
        return self._position

    def packet_found(self) -> None:
        """Tells that what was read was of use."""
        self._searched = 0

    def check(self) -> None:
        """Raises what went wrong with reading, if anything did.

        Raises:
          StorageError: where storage did not answer: what FFmpeg made of it says nothing about the file.
          MissingFileError: where the file was taken away.
          DamagedError: where it cannot be read further, or holds nothing for too long.
        """
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def _open(self) -> int:
        """Opens the file, anew where it was open, and returns its size."""
        self.close()
        self._at = 0
        if "://" in self.name:
            size = tf.io.gfile.stat(self.name).length
            self._file = tf.io.gfile.GFile(self.name, "rb")
            return size
        # Pipes and devices would wait for somebody to write, or never end. They are not even opened: some devices act.
        _check_kind(os.stat(self.name))
        self._file = open(self.name, "rb", buffering=0, opener=_open_without_waiting)  # noqa: SIM115
        status = os.fstat(self._file.fileno())
        _check_kind(status)
        return status.st_size

    def _read(self, count: int) -> bytes:
        try:
            if self._file is None:
                self._open()
            if self._at != self._position:
                self._file.seek(self._position)
            data = self._file.read(count)
        except BaseException:
            self.close()  # The next try begins anew: a handle of a mount that was restored stays stale.
            raise
        self._at = self._position + len(data)
        return data


def _check_kind(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("a folder" if stat.S_ISDIR(status.st_mode) else "a pipe, a socket or a device")


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)
