"""What is silent, what sounds from off-screen, and how things move: the truth about a synthetic world beside its boxes.

A network that shows where the sound is should light nothing where nothing in the picture sounds, nor an object that
moves in silence. `cmav/world/truth.py` writes what is read here.
"""

import dataclasses
import enum

import numpy as np
from etils import epath

from cmav.data import storage
from cmav.errors import UserError


class Sound(enum.Enum):
    """Where the sound of a clip comes from."""

    ON_SCREEN = "on screen"  # from off-screen as well, perhaps
    OFF_SCREEN = "off screen"  # and nothing that is seen sounds
    SILENT = "silent"


@dataclasses.dataclass(frozen=True)
class Scene:
    """One video of the synthetic world.

    Attributes:
      sound: where its sound comes from.
      distractors_Kx4: boxes of what is seen and does not sound, in the middle frame (that of `vggss.json`), float32
        x0, y0, x1, y1 from 0 to 1; there may be none.
      sources_KxTx4: boxes of what is seen and sounds, in every frame.
      frame_rate: frames per second.
      onscreen_hz: of each of them, between which frequencies it sounds, Hz; none in older worlds.
      offscreen_hz: the same of what sounds and is not seen.
    """

    sound: Sound
    distractors_Kx4: np.ndarray
    sources_KxTx4: np.ndarray
    frame_rate: float
    onscreen_hz: tuple[tuple[float, float], ...] = ()
    offscreen_hz: tuple[tuple[float, float], ...] = ()


def read_scenes(folder: str) -> dict[str, Scene]:
    """Reads `events.json` and `boxes/<file>.npy` of a synthetic world's folder; returns the scenes by file.

    Raises:
      UserError: where one of them is missing or something else.
    """
    path = epath.Path(folder) / "events.json"
    try:
        entries = storage.read_json(path)
        return {entry["file"]: _scene(epath.Path(folder), entry) for entry in entries}
    except FileNotFoundError as error:
        raise UserError(
            f"{error.filename or path}: no such file. Name the folder that data_prep/synthesize_videos.py wrote, "
            "with events.json and boxes/."
        ) from error
    except (ValueError, KeyError, TypeError, IndexError, EOFError) as error:
        raise UserError(f"{path} or a file of boxes beside it is damaged ({error!r}): make the world again.") from error


def _scene(folder: epath.Path, entry: dict) -> Scene:
    actors = entry["actors"]
    if any(actor["sounding"] and actor["onscreen"] for actor in actors):
        sound = Sound.ON_SCREEN
    else:
        sound = Sound.OFF_SCREEN if any(actor["sounding"] for actor in actors) else Sound.SILENT
    seen = [actor for actor in actors if actor["onscreen"]]
    silent = [actor["box_row"] for actor in seen if not actor["sounding"]]
    sounding = [actor["box_row"] for actor in seen if actor["sounding"]]
    with (folder / "boxes" / f"{entry['file']}.npy").open("rb") as file:
        boxes_KxTx4 = np.load(file)
    middle = entry["num_frames"] // 2
    onscreen_hz, offscreen_hz = (
        tuple(_hertz(actor) for actor in actors if actor.get("hertz") and actor["onscreen"] == is_seen)
        for is_seen in (True, False)
    )
    silent_Kx4, sources_KxTx4 = boxes_KxTx4[silent, middle], boxes_KxTx4[sounding]
    return Scene(sound, silent_Kx4, sources_KxTx4, float(entry["frame_rate"]), onscreen_hz, offscreen_hz)


def _hertz(actor: dict) -> tuple[float, float]:
    low, high = actor["hertz"]
    return float(low), float(high)
