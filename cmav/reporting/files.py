"""Reading the JSON that a run left."""

from collections.abc import Callable
from typing import Any, TypeVar

from etils import epath

from cmav.data import storage
from cmav.errors import UserError

T = TypeVar("T")


def read(path: epath.Path, parse: Callable[[Any], T]) -> T | None:
    """What `parse` makes of a JSON file; None where there is no such file.

    Raises:
      UserError: where the file is no JSON, or has not what `parse` looks for.
    """
    try:
        return parse(storage.read_json(path))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is damaged, or not what cmav writes ({error!r}): make it again, or move it away."
        ) from error


def percent(value: float) -> str:
    """0.9219 as "92.2"."""
    return f"{100 * value:.1f}"


def interval(low: float, high: float) -> str:
    return f"{percent(low)}–{percent(high)}"


def how_often(value: float, low: float, high: float, chance: float | None) -> str:
    """HTML: how often something was right, with the 95% interval, and beside guessing where `chance` is known."""
    text = f"It was right in <strong>{percent(value)}%</strong> of the cases (95% interval {interval(low, high)}%)"
    if chance is None:
        return f"{text}."
    text += f"; guessing is right in {100 * chance:.3g}%."
    return f"{text} That cannot be told from guessing." if low <= chance <= high else text
