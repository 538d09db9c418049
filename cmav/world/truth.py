"""The truth about a synthetic world, in the formats that evaluators read anyway.

| file                      | what                                                                                     |
| ------------------------- | ---------------------------------------------------------------------------------------- |
| `manifest.csv`            | path, label, split ("train" or "validation") of every video, for `build_tfrecords.py`    |
| `classInd.txt`            | UCF101's class list, in alphabetical order: "1 BounceBell"                               |
| `trainlist01.txt` to `03` | UCF101's splits: "BounceBell/v_BounceBell_g02_c01.mp4 1"                                 |
| `testlist01.txt` to `03`  | the same without the label; the groups of the three test lists are disjoint              |
| `vggss.json`              | VGG-SS's list of file, class and the boxes of what sounds, in the middle frame           |
| `events.json`             | who is in each video, on screen or off, between which Hz each sounds, when events are    |
| `boxes/<stem>.npy`        | float32 [objects, frames, 4]: the box of each object on screen in each frame             |

Boxes are x0, y0, x1, y1, from 0 to 1, and around all of an object, also where another one hides part of it: those that
come later in `events.json` are in front. `box_row` there is an object's row in `boxes/<stem>.npy`.
"""

import json
import math
from pathlib import Path

import numpy as np

from cmav.world import drawing, sounds
from cmav.world.scene import Actor, Scene, plan_scene
from cmav.world.world import World, label_of

NUM_GROUPS = 25  # per class, as in UCF101
NUM_SPLITS = 3


def video_name(world: World, number: int) -> str:
    """Returns a name of UCF101's form, "BounceBell/v_BounceBell_g01_c01.mp4"."""
    label, place = label_of(world, number).name, number // len(world.classes)
    return f"{label}/v_{label}_g{_group(place):02d}_c{place // NUM_GROUPS + 1:02d}.mp4"


def _group(place: int) -> int:
    """The group of a class's video number `place`, from 1."""
    return place % NUM_GROUPS + 1


def is_validation(world: World, number: int, train_share: float) -> bool:
    """Whether the manifest holds the video out. Every class gives its share, evenly, however many videos follow."""
    place, turn = divmod(number, len(world.classes))
    start = turn / len(world.classes)  # the classes do not all give their first, nor all their fifth

    def held_out_before(place: int) -> int:
        return math.floor(start + place * (1 - train_share) + 1e-9)

    return held_out_before(place + 1) > held_out_before(place)


def scene_boxes(world: World, scene: Scene) -> np.ndarray:
    """Returns the boxes of the objects on screen, float32 [objects, frames, 4], in the order of `scene.onscreen`."""
    return np.stack([drawing.boxes(actor.look, actor.track, world.width, world.height) for actor in scene.onscreen])


def write_boxes(path: Path, world: World, scene: Scene) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, scene_boxes(world, scene))


def write_truth(folder: Path, world: World, num_videos: int, train_share: float) -> None:
    """Writes every file of the table above but the boxes. `manifest.csv` comes last: where it is, all is whole."""
    names = [video_name(world, number) for number in range(num_videos)]
    _write_ucf101_lists(folder, world, names)
    events, boxes = [], []
    for number, name in enumerate(names):
        scene = plan_scene(world, number)
        events.append(_events_entry(world, scene, name))
        boxes.append(_vggss_entry(world, scene, name))
    write_text(folder / "events.json", json.dumps(events, indent=1))
    write_text(folder / "vggss.json", json.dumps(boxes))
    rows = ["path,label,split"]
    for number, name in enumerate(names):
        split = "validation" if is_validation(world, number, train_share) else "train"
        rows.append(f"videos/{name},{label_of(world, number).name},{split}")
    write_text(folder / "manifest.csv", "\n".join(rows) + "\n")


def _write_ucf101_lists(folder: Path, world: World, names: list[str]) -> None:
    labels = {label: k for k, label in enumerate(sorted(action.name for action in world.classes), start=1)}
    write_text(folder / "classInd.txt", "".join(f"{k} {label}\n" for label, k in labels.items()))
    for split in range(NUM_SPLITS):
        train, test = [], []
        for number, name in sorted(enumerate(names), key=lambda item: item[1]):
            if (_group(number // len(world.classes)) - 1) % NUM_SPLITS == split:
                test.append(f"{name}\n")
            else:
                train.append(f"{name} {labels[name.split('/')[0]]}\n")
        write_text(folder / f"trainlist{split + 1:02d}.txt", "".join(train))
        write_text(folder / f"testlist{split + 1:02d}.txt", "".join(test))


def _vggss_entry(world: World, scene: Scene, name: str) -> dict:
    middle = scene_boxes(world, scene)[:, world.num_frames // 2]
    sounding = [box for actor, box in zip(scene.onscreen, middle, strict=True) if actor.sounding]
    return {"file": Path(name).stem, "class": scene.label.name, "bbox": [_rounded(box) for box in sounding]}


def _events_entry(world: World, scene: Scene, name: str) -> dict:
    return {
        "file": Path(name).stem,
        "class": scene.label.name,
        "frame_rate": float(world.frame_rate),
        "num_frames": world.num_frames,
        "actors": [_actor_entry(world, scene, actor) for actor in scene.actors],
    }


def _actor_entry(world: World, scene: Scene, actor: Actor) -> dict:
    """Motion is null where it is not seen, timbre and its band where it is not heard, class where either is."""
    return {
        "class": actor.action.name if actor.onscreen and actor.sounding else None,
        "motion": actor.action.motion if actor.onscreen else None,
        "timbre": actor.action.timbre if actor.sounding else None,
        "hertz": list(sounds.band(actor.action.timbre, world.sample_rate)) if actor.sounding else None,
        "onscreen": actor.onscreen,
        "sounding": actor.sounding,
        "shape": actor.look.shape if actor.onscreen else None,
        "box_row": scene.onscreen.index(actor) if actor.onscreen else None,
        "event_seconds": _rounded(actor.events / float(world.frame_rate)),
    }


def _rounded(values: np.ndarray) -> list[float]:
    return [round(float(value), 4) for value in values]


def write_text(path: Path, text: str) -> None:
    """Writes a file that has its name only when it is whole."""
    unfinished = path.with_name(path.name + ".unfinished")
    unfinished.write_text(text)
    unfinished.replace(path)
