"""Where the sound is: the boxes of VGG-SS, of Flickr-SoundNet and of the synthetic world.

| format                                     | boxes                                              | truth g       |
| ------------------------------------------ | -------------------------------------------------- | ------------- |
| VGG-SS, a JSON file (Chen et al. 2021)     | of what sounds: x0, y0, x1, y1, from 0 to 1        | their union   |
| the synthetic world's `vggss.json`         | as VGG-SS, in the video's middle frame             | their union   |
| Flickr-SoundNet, a folder of `<id>.xml`    | each annotator's of the one source, on 256×256     | min(sum/2, 1) |

Boxes and maps are of the whole picture: a picture whose middle was cut out does not fit its boxes.
"""

import dataclasses
import json
import math
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from typing import Any

import numpy as np
from etils import epath

from cmav.data import storage
from cmav.errors import UserError

SIZE = 224  # pixels of a side of the square that maps and truths are compared on

_FLICKR_GRID = 256
_FLICKR_VOTES = 2  # so many annotators make a pixel count in full
_SLACK = 0.01  # a box may stick out by so much without a word: rounding, not damage


@dataclasses.dataclass(frozen=True)
class Truth:
    """Where the sound of one clip is.

    Attributes:
      file: the clip's name, without its ending.
      label: its class; "" where the format has none.
      boxes_Kx4: float64, x0, y0, x1, y1 from 0 to 1; at least one.
      votes: how many boxes have to agree on a pixel for it to count in full. 1: every box is a source of its own.
      silent_Kx4: boxes of what is seen, might sound and does not, where they are known (`cmav.localization.scenes`).
    """

    file: str
    label: str
    boxes_Kx4: np.ndarray
    votes: int = 1
    silent_Kx4: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((0, 4)))

    def mask(self, size: int = SIZE) -> np.ndarray:
        """Returns g, float32 [size, size], from 0 to 1."""
        count = np.zeros((size, size), np.float32)
        for box in self.boxes_Kx4:
            count[pixels(box, size)] += 1
        return np.minimum(count / self.votes, 1)


@dataclasses.dataclass(frozen=True)
class Damage:
    """A box that is not as it should be: what it says, and what is wrong."""

    file: str
    box: Any
    why: str


@dataclasses.dataclass(frozen=True)
class Annotations:
    """What was read, and what could not be.

    Attributes:
      truths: of the clips that have a box, in the order of the file.
      damaged: boxes that were clipped to the picture or left out.
      without_boxes: clips that are listed without a box: nothing that is seen in them sounds.
      unknown: clips that have boxes, none of which is whole. Nothing can be said about them: they are left out.
    """

    truths: list[Truth]
    damaged: list[Damage]
    without_boxes: list[str]
    unknown: list[str]

    def report(self, most: int = 5) -> str:
        """Returns lines for people: how much was read, the first `most` damaged boxes, the clips left out."""
        boxes = sum(len(truth.boxes_Kx4) for truth in self.truths)
        lines = [f"{_count(len(self.truths), 'clip', 'clips')} with {_count(boxes, 'box', 'boxes')}."]
        if self.damaged:
            lines.append(f"{_count(len(self.damaged), 'damaged box', 'damaged boxes')}:")
            lines += [f"  {damage.file}: {damage.box}: {damage.why}" for damage in self.damaged[:most]]
            lines += [f"  … and {len(self.damaged) - most} more"] * (len(self.damaged) > most)
        for files, what in (
            (self.without_boxes, "without a box, in which nothing that is seen sounds"),
            (self.unknown, "whose boxes are all damaged, left out"),
        ):
            if files:
                names = ", ".join(files[:most]) + ", …" * (len(files) > most)
                lines.append(f"{_count(len(files), 'clip', 'clips')} {what}: {names}")
        return "\n".join(lines)


def pixels(box: Sequence[float], size: int = SIZE) -> tuple[slice, slice]:
    """The rows and columns of a box, its ends rounded down as in the field's code; at least one pixel."""
    x0, y0, x1, y1 = (int(size * float(end)) for end in box)
    x0, y0 = min(x0, size - 1), min(y0, size - 1)
    return slice(y0, max(y1, y0 + 1)), slice(x0, max(x1, x0 + 1))


def read(path: str) -> Annotations:
    """Reads Flickr-SoundNet where `path` is a folder, VGG-SS's JSON where it is a file."""
    return read_flickr(path) if epath.Path(path).is_dir() else read_vggss(path)


def read_vggss(path: str) -> Annotations:
    """Reads a list of `{"file": name, "class": name, "bbox": [[x0, y0, x1, y1], ...]}`.

    Raises:
      UserError: where there is no such file or it is something else.
    """
    entries = _load_list(path, '{"file": …, "class": …, "bbox": [[x0, y0, x1, y1], …]}')
    clips = []
    for number, entry in enumerate(entries):
        try:
            clips.append((str(entry["file"]), str(entry["class"]), list(entry["bbox"])))
        except (KeyError, TypeError) as error:
            raise UserError(
                f'{path}: entry {number} must have "file", "class" and a list "bbox", but is {_short(entry)}.'
            ) from error
    return _annotations(path, clips, votes=1)


def read_flickr(folder: str) -> Annotations:
    """Reads `<id>.xml` of a folder: root > item > bbox > (something, xmin, ymin, xmax, ymax), from 0 to 256.

    Raises:
      UserError: where there are no such files or they are something else.
    """
    paths = sorted(path for path in epath.Path(folder).iterdir() if path.suffix == ".xml")
    if not paths:
        raise UserError(f"{folder} has no .xml files: name Flickr-SoundNet's folder of annotations, or a vggss.json.")
    clips = []
    for path in paths:
        try:
            root = ET.fromstring(storage.patiently(path.read_bytes, str(path)))
        except ET.ParseError as error:
            raise UserError(f"{path} is not whole XML ({error}): get the annotations anew.") from error
        boxes = [[child.text for child in box][1:] for box in root.findall("./*/bbox")]
        clips.append((path.stem, "", [[_on_flickr_grid(text) for text in box] for box in boxes]))
    return _annotations(folder, clips, votes=_FLICKR_VOTES)


def _annotations(path: str, clips: Sequence[tuple[str, str, list]], votes: int) -> Annotations:
    truths, damaged, without, unknown, seen = [], [], [], [], set()
    for file, label, boxes in clips:
        if file in seen:
            raise UserError(f"{path}: {file!r} is there twice: leave one of the entries.")
        seen.add(file)
        whole = []
        for box in boxes:
            clipped, why = _clip(box)
            if why:
                damaged.append(Damage(file, box, why))
            if clipped is not None:
                whole.append(clipped)
        if whole:
            truths.append(Truth(file, label, np.array(whole), votes))
        else:
            (unknown if boxes else without).append(file)
    if not truths:
        raise UserError(f"{path}: no clip there has a box (of {len(clips)}), so there is nothing to compare with.")
    return Annotations(truths, damaged, without, unknown)


def _clip(box: Any) -> tuple[list[float] | None, str]:
    """Returns a box within the picture, or None where there is no such; and what is wrong with it, or ""."""
    if not (isinstance(box, list) and len(box) == 4 and all(_is_finite(end) for end in box)):
        return None, "not four numbers, left out"
    x0, y0, x1, y1 = clipped = [min(max(float(end), 0.0), 1.0) for end in box]
    if x0 >= x1 or y0 >= y1:
        return None, "no area within the picture, left out"
    if min(box) < -_SLACK or max(box) > 1 + _SLACK:
        return clipped, "sticks out of the picture, clipped"
    return clipped, ""


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _on_flickr_grid(text: str | None) -> Any:
    """A coordinate from 0 to 1; what is no number remains as it is, to be named."""
    try:
        return int(text) / _FLICKR_GRID
    except (TypeError, ValueError):
        return text


def _load_list(path: str, form: str) -> list:
    try:
        entries = storage.read_json(path)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise UserError(f"{path}: no such file. It should be a JSON list of {form}.") from error
    except ValueError as error:  # json.JSONDecodeError, or bytes that are no text
        raise UserError(f"{path} is not whole JSON ({error}): get it anew.") from error
    if not isinstance(entries, list) or not entries:
        raise UserError(f"{path} must be a JSON list of {form}, but is {_short(entries)}.")
    return entries


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "…"


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
