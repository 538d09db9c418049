"""The ends of a command that are no faults of it: errors that a user can mend, and being asked to stop."""

import contextlib
import shlex
from collections.abc import Iterator


class UserError(Exception):
    """Something the user can mend: the message says what is wrong, where, and what to do. Printed as it is."""


def to_paste(*words: object) -> str:
    """A command to end a message with: on a line of its own, quoted for a shell."""
    return "\n  " + shlex.join(map(str, words))


@contextlib.contextmanager
def within(place: str) -> Iterator[None]:
    """Puts a place in front of the message of a `UserError`: a key of the config, a split."""
    try:
        yield
    except UserError as error:
        raise type(error)(f"{place}: {error}") from error


class Preempted(Exception):
    """The job was asked to stop (SIGTERM). What it has is saved, and the same command goes on."""
