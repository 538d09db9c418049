"""Choosing among the methods by which a network says where the sound is: which there are is its own to say."""

from collections.abc import Collection, Iterable, Mapping

from cmav.errors import UserError
from cmav.models.maps import MapMethod
from cmav.tasks.base import Maps, Task


def list_methods(task: Task) -> Mapping[str, MapMethod]:
    """The methods of a task's network by name; none where it has no maps."""
    return task.map_methods() if Maps in task.abilities else {}


def check(methods: Iterable[str], known: Collection[str]) -> None:
    """Checks that a network has maps by all of these methods.

    Args:
      methods: names.
      known: those that it has.

    Raises:
      UserError: names the one that it does not have, and those that it has; or it has none at all.
    """
    if not known:
        raise UserError(
            "this network has no maps of where the sound is: it does not both see and hear, or it is a "
            "fine-tuned one that fuses early."
        )
    for method in methods:
        if method not in known:
            raise UserError(f"this network has no maps by the method {method!r}: choose one of {', '.join(known)}.")


def choose(method: str | None, known: Collection[str]) -> str:
    """The method that is asked for, checked as by `check`; None asks for the first that the network has."""
    wanted = next(iter(known), None) if method is None else method
    check((wanted,), known)
    return wanted
