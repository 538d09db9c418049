"""Parts of the pictures that a network is not to see: for controls, such as a talking face without its mouth."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from cmav.errors import UserError

Box = tuple[float, float, float, float]


@dataclasses.dataclass(frozen=True)
class Cover:
    """What is painted grey, of whole pictures as they are stored, before they are cropped, resized and mirrored.

    Attributes:
      covered: boxes (top, left, bottom, right) that are covered, as shares of the picture's height and width, 0 to 1.
      shown: such boxes; all but these is covered. Empty: all is shown.
    """

    covered: tuple[Box, ...] = ()
    shown: tuple[Box, ...] = ()

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> "Cover":
        """By `config.data`.

        Raises:
          UserError: where a box is none; names the key.
        """
        return cls(*(_boxes(key, data[key]) for key in ("covered", "shown")))

    def __bool__(self) -> bool:
        """Whether anything is covered."""
        return bool(self.covered or self.shown)

    def __str__(self) -> str:
        return ", ".join(f"config.data.{key}={boxes}" for key, boxes in vars(self).items() if boxes)


def _boxes(key: str, boxes: Sequence[Sequence[float]]) -> tuple[Box, ...]:
    for box in boxes:
        if not is_box(box):
            raise UserError(
                f"config.data.{key}={boxes}: {box!r} is no box. Give boxes of four numbers from 0 to 1, ((top, left, "
                "bottom, right), ...), such as ((0.5, 0.25, 1.0, 0.75),): the top above the bottom, left before right."
            )
    return tuple(tuple(map(float, box)) for box in boxes)


def is_box(box: Any) -> bool:
    """Whether something is (top, left, bottom, right), from 0 to 1, and has an area."""
    try:
        top, left, bottom, right = map(float, box)
    except (TypeError, ValueError):
        return False
    return 0 <= top < bottom <= 1 and 0 <= left < right <= 1
