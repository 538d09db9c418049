"""A split, boxes of some of its videos and of others, and the evaluator of a network that shows what is bright."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cmav import config as cmav_config
from cmav import distributed
from cmav.evals import localization_evaluator
from cmav.evals.evaluators import make_evaluators
from cmav.tasks import make_task
from cmav.tasks.avs import Avs
from tests import fake_clips, tiny_config
from tests.evals.localization_evaluator.bright import BESIDE, DAMAGED, JUDGED, METHODS, ORDER, WITHOUT, bright, clip_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The split "validation", boxes of some of its videos and of others, and what is silent there."""
    folder = tmp_path_factory.mktemp("world")
    split = fake_clips.write_clips(folder, "validation", [clip_of(clip_id) for clip_id in ORDER])
    fake_clips.flip_a_byte(split, ORDER.index(DAMAGED))

    rng = np.random.default_rng(3)
    corners = {file: rng.uniform(0, 0.5, (number % 2 + 1, 2)) for number, file in enumerate(sorted(JUDGED))}
    bboxes = {file: np.hstack([low, low + rng.uniform(0.15, 0.5, low.shape)]).tolist() for file, low in corners.items()}
    for file in ("elsewhere", "fake0004", "fake0005"):
        bboxes[file] = [[0.1, 0.1, 0.6, 0.6]]
    bboxes |= {file: [] for file in WITHOUT}
    bboxes["fake0008"] = [[0.3, 1.0, 0.7, 1.0]]
    files = [list(bboxes)[place] for place in rng.permutation(len(bboxes))]
    entries = [{"file": file, "class": "thing", "bbox": bboxes[file]} for file in files]
    (folder / "vggss.json").write_text(json.dumps(entries))

    (folder / "boxes").mkdir()
    scenes = []
    for file in [*JUDGED, "not_here"]:
        silent = [{"sounding": False, "onscreen": True, "box_row": row} for row in range(BESIDE.get(file, 0))]
        scenes.append({"file": file, "frame_rate": 10.0, "num_frames": 7, "actors": silent})
        low = rng.uniform(0, 0.5, (len(silent), 7, 2))
        np.save(folder / "boxes" / f"{file}.npy", np.concatenate([low, low + 0.3], axis=-1))
    (folder / "events.json").write_text(json.dumps(scenes))
    return folder


@pytest.fixture
def config(folder):
    config = tiny_config.get_config()
    config.data.dir = str(folder)
    config.data.max_bad_fraction = 0.2
    with config.unlocked():
        config.evals = dict(localization=cmav_config.get_default().evals.localization)
    settings = config.evals.localization
    settings.batch_size, settings.methods, settings.pictures = 4, METHODS, 3
    settings.stride = 4
    settings.boxes, settings.scenes = str(folder / "vggss.json"), str(folder)
    return config


@pytest.fixture
def make(monkeypatch):
    """Makes the evaluator of a config whose network is `bright`; before training it shows what is dark."""
    monkeypatch.setattr(localization_evaluator, "_answer", bright)
    untrained = {"params": {"sign": np.float32(-1)}, "faint": {"level": np.float32(9)}}
    monkeypatch.setattr(Avs, "init", lambda self, key: jax.tree.map(jnp.asarray, untrained))

    def make(config):
        task = make_task(config, config.phases[-1])
        return make_evaluators(config, task, distributed.make_mesh())["localization"]

    return make
