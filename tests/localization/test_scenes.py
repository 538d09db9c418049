"""What is silent and what is off-screen, against the world that wrote it."""

import json

import numpy as np
import pytest

from cmav.errors import UserError
from cmav.localization import scenes
from cmav.localization.scenes import Sound
from cmav.world import truth
from cmav.world.scene import plan_scene
from cmav.world.sounds import band
from cmav.world.world import World


@pytest.fixture(scope="module")
def world() -> World:
    return World(distractors=(0, 1), offscreen_share=0.6, seed=3)


@pytest.fixture
def folder(world, tmp_path):
    truth.write_truth(tmp_path, world, num_videos=12, train_share=0.75)
    for number in range(12):
        stem = truth.video_name(world, number).split("/")[1].removesuffix(".mp4")
        truth.write_boxes(tmp_path / "boxes" / f"{stem}.npy", world, plan_scene(world, number))
    return tmp_path


def test_scenes_are_those_of_the_world(world, folder):
    found = scenes.read_scenes(str(folder))
    assert len(found) == 12
    for number in range(12):
        planned = plan_scene(world, number)
        scene = found[truth.video_name(world, number).split("/")[1].removesuffix(".mp4")]
        boxes = truth.scene_boxes(world, planned)[:, world.num_frames // 2]
        silent = [box for actor, box in zip(planned.onscreen, boxes, strict=True) if not actor.sounding]
        np.testing.assert_array_equal(scene.distractors_Kx4, np.reshape(silent, (-1, 4)))
        tracks = truth.scene_boxes(world, planned)[[actor.sounding for actor in planned.onscreen]]
        np.testing.assert_array_equal(scene.sources_KxTx4, tracks)
        assert scene.frame_rate == float(world.frame_rate)
        heard = [(actor.onscreen, band(actor.action.timbre, 44_100)) for actor in planned.actors if actor.sounding]
        assert scene.onscreen_hz == tuple(hertz for onscreen, hertz in heard if onscreen)
        assert scene.offscreen_hz == tuple(hertz for onscreen, hertz in heard if not onscreen)
        is_seen = len(silent) < len(planned.onscreen)
        assert scene.sound == (Sound.ON_SCREEN if is_seen else Sound.OFF_SCREEN)
    assert {scene.sound for scene in found.values()} == {Sound.ON_SCREEN, Sound.OFF_SCREEN}
    assert {len(scene.distractors_Kx4) for scene in found.values()} >= {0, 1}


def test_worlds_that_are_older_than_hertz(folder):
    with_hertz = scenes.read_scenes(str(folder))
    entries = json.loads((folder / "events.json").read_text())
    for entry in entries:
        for actor in entry["actors"]:
            del actor["hertz"]
    (folder / "events.json").write_text(json.dumps(entries))
    for file, scene in scenes.read_scenes(str(folder)).items():
        assert scene.onscreen_hz == scene.offscreen_hz == ()
        assert scene.sound == with_hertz[file].sound


def test_silent_where_nothing_sounds(folder):
    entries = json.loads((folder / "events.json").read_text())
    for actor in entries[0]["actors"]:
        actor["sounding"] = False
    (folder / "events.json").write_text(json.dumps(entries))
    assert scenes.read_scenes(str(folder))[entries[0]["file"]].sound == Sound.SILENT


def test_missing_and_damaged_files_are_explained(tmp_path):
    with pytest.raises(UserError, match=r"events\.json: no such file.*synthesize_videos"):
        scenes.read_scenes(str(tmp_path))
    actor = {"sounding": False, "onscreen": True, "box_row": 0}
    (tmp_path / "events.json").write_text(json.dumps([{"file": "v", "num_frames": 3, "actors": [actor]}]))
    with pytest.raises(UserError, match=r"v\.npy: no such file"):
        scenes.read_scenes(str(tmp_path))
    (tmp_path / "boxes").mkdir()
    np.save(tmp_path / "boxes" / "v.npy", np.zeros((0, 3, 4)))
    with pytest.raises(UserError, match="damaged"):
        scenes.read_scenes(str(tmp_path))
    np.save(tmp_path / "boxes" / "v.npy", np.zeros((1, 3, 4)))
    entry = {"file": "v", "num_frames": 3, "frame_rate": 10, "actors": [{**actor, "sounding": True, "hertz": [90]}]}
    (tmp_path / "events.json").write_text(json.dumps([entry]))
    with pytest.raises(UserError, match="damaged"):
        scenes.read_scenes(str(tmp_path))
    (tmp_path / "events.json").write_text('[{"file"')
    with pytest.raises(UserError, match="damaged"):
        scenes.read_scenes(str(tmp_path))
