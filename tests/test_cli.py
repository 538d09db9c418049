"""How commands end: in a line for people, and with a status."""

import errno
import logging
import os

import pytest
import tensorflow as tf

from cmav import cli
from cmav.errors import Preempted, UserError, to_paste


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
        ValueError(f"Error writing {'/a/long/path' * 50}: No space left on device [{'tensorstore' * 50}]"),
        write_to_full_disk(),
    ],
)
def test_a_full_disk_is_said_in_a_line(error, capsys):
    assert ends(error) == 1
    said = capsys.readouterr().err
    assert any(os.strerror(number) in said for number in (errno.ENOSPC, errno.EDQUOT))
    assert "make room, and the same command goes on" in said and "Traceback" not in said and "\nmore" not in said


def test_other_errors_are_not_taken_for_a_full_disk():
    with pytest.raises(ValueError, match="Out of memory"):
        ends(ValueError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate"))


def test_statuses(capsys):
    assert ends(UserError("give another --workdir")) == 1
    assert "Error: give another --workdir" in capsys.readouterr().err
    assert ends(Preempted("saved step 3")) == 143


def test_what_a_library_raises_is_told_once_and_without_its_threads_tracebacks():
    def record(path, level, exc_info=None):
        return logging.LogRecord("absl", level, path, 1, "saving failed", (), exc_info)

    error = (ValueError, ValueError("no space"), None)
    shown = cli._only_warnings_from_libraries
    assert shown(record("/site/cmav/train.py", logging.INFO)) and shown(record("/site/cmav/a.py", logging.ERROR, error))
    assert shown(record("/site/orbax/a.py", logging.WARNING)) and not shown(record("/site/orbax/a.py", logging.INFO))
    assert not shown(record("/site/orbax/checkpoint/futures.py", logging.ERROR, error))


def test_a_command_to_give_is_on_a_line_of_its_own_and_quoted():
    said = f"it is built by:{to_paste('cmav', 'prep', '--out', '/data/my videos', '--shards', 3)}"
    assert said == "it is built by:\n  cmav prep --out '/data/my videos' --shards 3"
