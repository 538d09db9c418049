"""Errors that `tf.io.gfile` and Python really raise, some of them made by the kernel itself."""

import errno
import io
import pathlib
import zipfile

import pytest
import tensorflow as tf

from cmav.data import storage
from cmav.errors import UserError


def read(path: str) -> bytes:
    with tf.io.gfile.GFile(path, "rb") as file:
        return file.read(10)


def write(path: str) -> None:
    with tf.io.gfile.GFile(path, "wb") as file:
        file.write(b"0" * 10)


class Failing:
    """An action that fails as often as told."""

    def __init__(self, error: BaseException, times: int):
        self.error, self.times, self.calls = error, times, 0

    def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self.times:
            raise self.error
        return "done"


@pytest.mark.parametrize(
    "error",
    [
        tf.errors.UnknownError(None, None, "Input/output error"),
        tf.errors.UnavailableError(None, None, "Error executing an HTTP request: HTTP response code 503"),
        tf.errors.DeadlineExceededError(None, None, "timed out"),
        tf.errors.AbortedError(None, None, "the connection was reset"),
        tf.errors.InternalError(None, None, "an error of the server"),
        OSError(errno.EIO, "Input/output error"),
        OSError(errno.ESTALE, "Stale file handle"),
        ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
        TimeoutError(errno.ETIMEDOUT, "Connection timed out"),
    ],
)
def test_what_may_pass_is_tried_again(error):
    action = Failing(error, times=2)
    assert storage.patiently(action, "a file", delays=(0, 0)) == "done"
    assert action.calls == 3


def test_what_a_library_makes_of_an_error_that_may_pass_is_tried_again(tmp_path):
    """`zipfile` says "not a zip file" of one that it could not read, and of one that is none."""
    path, reads = tmp_path / "a.zip", []
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", "whole")

    class Flaky(io.FileIO):
        def read(self, size=-1):
            reads.append(size)
            if len(reads) == 1:
                raise OSError(errno.EIO, "Input/output error")
            return super().read(size)

    def action():
        with Flaky(path) as file, zipfile.ZipFile(file) as archive:
            return archive.read("a")

    assert storage.patiently(action, "a.zip", delays=(0,)) == b"whole"
    path.write_bytes(b"no archive" * 10)
    reads.clear()
    reads.append(0)
    with pytest.raises(zipfile.BadZipFile):
        storage.patiently(action, "a.zip", delays=(0,))

    def told():
        try:
            raise OSError(errno.EIO, "Input/output error")
        except OSError as error:
            raise UserError("for people") from error

    assert not any(map(storage.may_pass, (UserError("no"), zipfile.BadZipFile("no"))))
    with pytest.raises(UserError, match="for people"):
        storage.patiently(told, "it", delays=(0,))


def test_an_error_that_does_not_pass_is_named_and_no_fault_of_the_file():
    action = Failing(tf.errors.UnavailableError(None, None, "HTTP response code 503"), times=9)
    with pytest.raises(storage.StorageError, match=r"gs://b/x: .*503.* after 3 tries.*same command again"):
        storage.patiently(action, "gs://b/x", delays=(0, 0))
    assert action.calls == 3


def test_what_the_kernel_cannot_read_is_tried_again():
    with pytest.raises(storage.StorageError, match="Input/output error"):
        storage.patiently(lambda: read("/proc/self/mem"), "/proc/self/mem", delays=(0,))


@pytest.mark.parametrize(
    ("action", "raised"),
    [
        (lambda: read("/there/is/no/such/file"), tf.errors.NotFoundError),
        (lambda: read("/tmp"), tf.errors.FailedPreconditionError),
        (lambda: write("/dev/full"), tf.errors.ResourceExhaustedError),
        (lambda: pathlib.Path("/there/is/no/such/file").read_bytes(), FileNotFoundError),
    ],
)
def test_what_would_be_said_again_is_raised_at_once(action, raised):
    calls = []

    def counted():
        calls.append(None)
        return action()

    with pytest.raises(raised):
        storage.patiently(counted, "it", delays=(0, 0))
    assert len(calls) == 1


def test_folders_are_listed_and_an_error_is_no_empty_folder(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    (tmp_path / "b[1]*").write_bytes(b"x")
    assert sorted(storage.list_folder(str(tmp_path))) == ["a", "b[1]*"]
    assert storage.list_folder(str(tmp_path / "none")) == []
    assert storage.list_folder(str(tmp_path / "b[1]*")) == []

    def fail(path):
        raise tf.errors.UnavailableError(None, None, "HTTP response code 503")

    monkeypatch.setattr(storage, "DELAYS", (0.0,))
    monkeypatch.setattr(tf.io.gfile, "stat", fail)
    with pytest.raises(storage.StorageError):
        storage.list_folder(str(tmp_path))


def test_a_folder_is_copied_file_by_file_with_patience(tmp_path, monkeypatch):
    (tmp_path / "a" / "b[1]").mkdir(parents=True)
    (tmp_path / "a" / "one").write_bytes(b"1")
    (tmp_path / "a" / "b[1]" / "two").write_bytes(b"2")
    copy, calls = tf.io.gfile.copy, []

    def failing_once_each(path, target, overwrite):
        calls.append(path)
        if calls.count(path) == 1:
            pathlib.Path(target).write_bytes(b"half")
            raise tf.errors.UnknownError(None, None, "Input/output error")
        copy(path, target, overwrite=overwrite)

    monkeypatch.setattr(storage, "DELAYS", (0.0,))
    monkeypatch.setattr(tf.io.gfile, "copy", failing_once_each)
    storage.copy_folder(str(tmp_path / "a"), str(tmp_path / "c"))
    assert (tmp_path / "c" / "one").read_bytes() == b"1" and (tmp_path / "c" / "b[1]" / "two").read_bytes() == b"2"
    assert len(calls) == 4


def test_a_mistake_of_the_program_is_not_tried_again():
    action = Failing(ValueError("no"), times=1)
    with pytest.raises(ValueError):
        storage.patiently(action, "it", delays=(0,))
    assert action.calls == 1
