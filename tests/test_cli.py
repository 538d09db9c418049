"""How commands end: in a line for people, and with a status."""

import errno
import os

import pytest
import tensorflow as tf

from cmav import cli
from cmav.errors import Preempted, UserError


def ends(error: BaseException) -> int | None:
    def main():
        raise error

    return cli._exit_on_user_error(main)


def wrapped(error: BaseException) -> BaseException:
    """As a library has it that saves in the background."""
    try:
        raise ValueError("saving failed") from error
    except ValueError as outer:
        return outer


def write_to_full_disk() -> BaseException:
    try:
        with tf.io.gfile.GFile("/dev/full", "wb") as file:
            file.write(b"0" * 10)
    except tf.errors.OpError as error:
        return error


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/runs/x"),
        OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)),
        wrapped(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))),
        ValueError("RESOURCE_EXHAUSTED: Error writing local file: No space left on device [tensorstore]\nmore"),
        write_to_full_disk(),
    ],
)
def test_a_full_disk_is_said_in_a_line(error, capsys):
    assert ends(error) == 1
    said = capsys.readouterr().err
    assert "make room, and the same command goes on" in said and "Traceback" not in said and "\nmore" not in said


def test_other_errors_are_not_taken_for_a_full_disk():
    with pytest.raises(ValueError, match="Out of memory"):
        ends(ValueError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate"))


def test_statuses(capsys):
    assert ends(UserError("give another --workdir")) == 1
    assert "Error: give another --workdir" in capsys.readouterr().err
    assert ends(Preempted("saved step 3")) == 143
