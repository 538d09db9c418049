"""A network that shows where the picture is bright, so that a map tells which record it is of."""

import dataclasses
import json
import types

import jax.numpy as jnp
import numpy as np
import tensorflow as tf
from scipy.interpolate import RegularGridInterpolator

from cmav.localization.boxes import SIZE, Truth
from cmav.localization.task import HEADS
from cmav.models import encoders
from tests import fake_clips, tiny_config

# In the split's order. There are boxes of 4, but its record is damaged; 5 was cut in two; the only
# box of 8 is damaged.
ORDER = ["fake0002_0", "fake0007_0", "fake0000_0", "fake0005_0", "fake0003_0", "fake0004_0"]

ORDER += ["fake0001_0", "fake0006_0", "fake0008_0", "fake0005_2000", "fake0009_0"]

DAMAGED = "fake0004_0"

WITHOUT = ["fake0003", "fake0006"]  # nothing that is seen sounds: the first is silent

JUDGED = ["fake0002", "fake0007", "fake0000", "fake0001", "fake0009"]

BESIDE = {"fake0007": 1, "fake0001": 2}  # silent objects

METHODS = ("alignment", "attention")

SIDE = tiny_config.CLIPS["size"]

GRID = SIDE // 4


def clip_of(clip_id):
    number, start = int(clip_id[4:8]), int(clip_id[9:])
    clip = fake_clips.make_clip(number, seed=start, has_audio=clip_id != "fake0003_0", **tiny_config.CLIPS)
    return dataclasses.replace(clip, clip_id=clip_id)


def bright(variables, batch, *, task, methods):
    """In the place of `_answer`: where the picture is bright. Its heads say so and the contrary, mirrored.

    When it sounds, all is upside down.
    """
    grey = batch["video"].astype(jnp.float32).mean(axis=(1, 4)).reshape(-1, GRID, 4, GRID, 4).mean(axis=(2, 4))
    grey = variables["params"]["sign"] * (grey - variables["faint"]["level"])
    found = {"alignment": grey, "attention": grey[:, :, ::-1], HEADS: jnp.stack([grey, -grey[:, :, ::-1]], axis=1)}
    sounding = {f"sounding/{name}": found[name][:, ::-1] for name in methods}
    names = (*methods, HEADS)
    return {**{name: found[name] for name in names}, **sounding, "file": batch["file"], "mask": batch["mask"]}


STATE = types.SimpleNamespace(
    step=np.int32(70), params={"sign": np.float32(1)}, model_state={"faint": {"level": np.float32(9)}}
)


def expected_maps(clip_id):
    """The maps of a clip by method, float64 [5, 5]: of the 20 of its 50 frames in the middle."""
    frames = np.stack([tf.io.decode_jpeg(frame).numpy() for frame in clip_of(clip_id).frames[15:35]])
    grey = frames.mean(axis=(0, 3))
    blocks = [[grey[4 * y : 4 * y + 4, 4 * x : 4 * x + 4].mean() for x in range(GRID)] for y in range(GRID)]
    return {"alignment": np.array(blocks) - 9, "attention": np.array(blocks)[:, ::-1] - 9}


def enlarge(map_5x5):
    model = tiny_config.get_config().model
    model.video.layers = model.video.layers[:2]
    rows, columns = encoders.video(model).places((SIDE, SIDE))
    pixels = (np.arange(SIZE) + 0.5) / SIZE
    grid = np.meshgrid(np.clip(pixels, rows[0], rows[-1]), np.clip(pixels, columns[0], columns[-1]), indexing="ij")
    return RegularGridInterpolator((rows, columns), map_5x5)(np.stack(grid, axis=-1)).astype(np.float32)


def expected_truths(folder):
    boxes = {entry["file"]: np.array(entry["bbox"]) for entry in json.loads((folder / "vggss.json").read_text())}
    silent = {file: np.load(folder / "boxes" / f"{file}.npy")[:, 3] for file in JUDGED}
    return {file: Truth(file, "thing", boxes[file], silent_Kx4=silent[file]) for file in JUDGED}
