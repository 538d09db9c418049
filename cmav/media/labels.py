"""The label column of a list of videos: whole numbers, or names, never a mixture."""

import bisect
import re
from collections.abc import Collection, Sequence

import numpy as np

from cmav.data import schema

MAX_LABEL = int(np.iinfo(np.int32).max)  # the index of a split has int32
NONE = ("", str(schema.NO_LABEL))
_SPARSE = 1000  # so many numbers without a video deserve a note
_NUMBER = re.compile(r"[0-9]+")


class LabelError(Exception):
    """A label that cannot be used.

    Attributes:
      label: as listed.
    """

    def __init__(self, label: str, why: str):
        super().__init__(why)
        self.label = label


def class_list(labels: Collection[str]) -> tuple[str, ...]:
    """Names of the classes, sorted, of the labels of a column; empty where all labels are numbers.

    A number is written with the digits 0 to 9 and counts from 0; an empty label or -1 is none. One odd value among
    numbers, such as `0.0`, would make names of them all and number the classes anew, so it is refused.

    Raises:
      LabelError: for a label that looks like a number and is none, one number among names or one name among numbers,
        and a number past int32.
    """
    listed = sorted({label for label in labels if label not in NONE})
    numbers = [label for label in listed if _NUMBER.fullmatch(label)]
    for label in listed:
        if not _NUMBER.fullmatch(label) and _looks_like_number(label):
            raise LabelError(
                label, f"`label` is {label!r}, but numbers of classes are whole, from 0; empty or -1 is no label"
            )
    names = [label for label in listed if not _NUMBER.fullmatch(label)]
    if numbers and names:
        odd, others = (numbers[0], names[0]) if len(numbers) <= len(names) else (names[0], numbers[0])
        raise LabelError(
            odd,
            f"`label` is {odd!r}, and elsewhere {others!r}: give all classes numbers, or all names "
            "(of a class that is called by a number, a name such as 'class 7')",
        )
    for label in numbers:
        if int(label) > MAX_LABEL:
            raise LabelError(label, f"`label` is {label}, greater than {MAX_LABEL}, the greatest that can be stored")
    return tuple(names)


def class_number(label: str, classes: Sequence[str]) -> int:
    """The number of a label that `class_list` has let pass."""
    if label in NONE:
        return schema.NO_LABEL
    return bisect.bisect_left(classes, label) if classes else int(label)


def sparseness(labels: Collection[str], classes: Sequence[str]) -> str:
    """What to tell of numbers that leave out many; empty: nothing."""
    numbers = set() if classes else {int(label) for label in labels if label not in NONE}
    if not numbers or max(numbers) + 1 - len(numbers) < _SPARSE:
        return ""
    return (
        f"labels go up to {max(numbers)}, but only {len(numbers)} numbers occur: a network will have "
        f"{max(numbers) + 1} classes. With names in the column they are numbered one after the other"
    )


def _looks_like_number(label: str) -> bool:
    try:
        float(label)
    except ValueError:
        return False
    return label.lower().lstrip("+-") not in ("nan", "inf", "infinity")  # a class may be called so
