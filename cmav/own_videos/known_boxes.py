"""Where the sound of a video really is, to be drawn over it: boxes of its middle frame, or of every frame."""

import dataclasses

import numpy as np
from etils import epath

from cmav.localization import boxes, scenes

NEARBY_SECONDS = 0.5  # so long before and after it the boxes of a middle frame are drawn: things move
_ROUNDING = 1e-3  # of a frame: its own time may be a little less in floats


@dataclasses.dataclass(frozen=True)
class MiddleBoxes:
    """Boxes of a video's middle frame, as the field's annotations are: x0, y0, x1, y1 from 0 to 1."""

    boxes_Kx4: np.ndarray

    is_of_middle = True

    def at(self, seconds: float, middle: float) -> np.ndarray:
        """Boxes of an instant, [K, 4], in a video with this middle, in seconds; none far from the middle."""
        return self.boxes_Kx4 if abs(seconds - middle) <= NEARBY_SECONDS else self.boxes_Kx4[:0]


@dataclasses.dataclass(frozen=True)
class MovingBoxes:
    """Boxes of every frame of a video at a constant rate, as a synthetic world has them."""

    boxes_KxTx4: np.ndarray
    frame_rate: float

    is_of_middle = False

    def at(self, seconds: float, middle: float) -> np.ndarray:
        """Boxes of an instant, [K, 4]."""
        del middle
        number = int(seconds * self.frame_rate + _ROUNDING)
        return self.boxes_KxTx4[:, min(number, self.boxes_KxTx4.shape[1] - 1)]


KnownBoxes = MiddleBoxes | MovingBoxes


def read(path: str) -> dict[str, KnownBoxes]:
    """Reads what is known of videos, by their names.

    Args:
      path: VGG-SS's JSON file, Flickr-SoundNet's folder of XML, or the folder of a synthetic world.

    Raises:
      UserError: where it is none of these, or damaged.
    """
    if (epath.Path(path) / "events.json").exists():
        return {
            file: MovingBoxes(scene.sources_KxTx4, scene.frame_rate) for file, scene in scenes.read_scenes(path).items()
        }
    return {truth.file: MiddleBoxes(truth.boxes_Kx4) for truth in boxes.read(path).truths}
