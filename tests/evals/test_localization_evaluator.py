"""The evaluator of localization: each record's maps against the boxes of its own video, what it writes, what it draws.

The network is one that shows where the picture is bright, so that a map tells which record it is of.
"""

import dataclasses
import functools
import json
import re
import types

import jax
import jax.numpy as jnp
import matplotlib.image
import numpy as np
import pytest
import tensorflow as tf
from etils import epath
from scipy.interpolate import RegularGridInterpolator
from sklearn import metrics as sk

from cmav import config as cmav_config
from cmav import distributed
from cmav.data import clip_ids
from cmav.errors import UserError
from cmav.evals import localization, localization_evaluator, localization_pictures
from cmav.evals.evaluators import make_evaluators
from cmav.localization.boxes import SIZE, Truth
from cmav.localization.task import HEADS, LocalizationTask, find_maps
from cmav.models import encoders
from cmav.reporting import localization_results
from cmav.tasks import make_task
from cmav.tasks.avs import Avs
from tests import fake_clips, tiny_config
from tests.models import fake_variables

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


def bright(variables, batch, *, task, methods):
    """In the place of `_answer`: where the picture is bright. Its heads say so and the contrary, mirrored."""
    grey = batch["video"].astype(jnp.float32).mean(axis=(1, 4)).reshape(-1, GRID, 4, GRID, 4).mean(axis=(2, 4))
    grey = variables["params"]["sign"] * (grey - variables["faint"]["level"])
    found = {"alignment": grey, "attention": grey[:, :, ::-1], HEADS: jnp.stack([grey, -grey[:, :, ::-1]], axis=1)}
    return {**{name: found[name] for name in (*methods, HEADS)}, "file": batch["file"], "mask": batch["mask"]}


STATE = types.SimpleNamespace(
    step=np.int32(70), params={"sign": np.float32(1)}, model_state={"faint": {"level": np.float32(9)}}
)


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


@pytest.mark.parametrize("batch_size", [4, 16])
def test_numbers_are_those_of_each_records_maps_and_its_own_boxes(config, make, folder, tmp_path, caplog, batch_size):
    config.evals.localization.batch_size = batch_size
    evaluator = make(config)
    values = dict(evaluator.run(STATE))
    assert "1 in 'validation' that were cut" in caplog.text
    assert "1 clip whose boxes are all damaged, left out: fake0008" in caplog.text

    truths = expected_truths(folder)
    names = (
        *("pixel_ap", "ciou50", "auc", "source_recall", "distractor_recall"),
        *("sounding_above_silent", "false_alarm_rate"),
    )
    assert values.keys() == {f"{method}_{name}" for method in METHODS for name in names} | {"maps"}
    for method in METHODS:
        heatmaps = [enlarge(expected_maps(f"{file}_0")[method]) for file in JUDGED]
        precisions = [
            sk.average_precision_score(truths[file].mask().ravel() > 0, heatmap.ravel())
            for file, heatmap in zip(JUDGED, heatmaps, strict=True)
        ]
        assert np.std(precisions) > 0.02  # It matters which map is whose.
        assert values[f"{method}_pixel_ap"] == pytest.approx(np.mean(precisions), abs=1e-4)
        scores = localization.score(heatmaps, [truths[file] for file in JUDGED])
        for name in names[1:-1]:
            assert values[f"{method}_{name}"] == pytest.approx(getattr(scores, name), abs=1e-3), name
        peaks = {file: expected_maps(f"{file}_0")[method].max() for file in (*JUDGED, *WITHOUT)}
        threshold = min(peaks[file] for file in JUDGED)  # All of so few: 95% of five clips.
        assert values[f"{method}_false_alarm_rate"] == np.mean([peaks[file] >= threshold for file in WITHOUT])

    assert [path.name for path in evaluator.write_report(epath.Path(tmp_path))] == [
        f"localization_validation.{ending}" for ending in ("png", "json", "txt")
    ]
    results = localization_results.Results.parse(json.loads((tmp_path / "localization_validation.json").read_text()))
    assert (results.split, results.step, results.clips, results.clips_without) == ("validation", 70, 5, 2)
    rows = {(row.kind, row.name): row for row in results.rows}
    trivial = localization.trivial_scores(list(truths.values()))
    assert set(rows) == {
        *(("network", method) for method in METHODS),
        *(("untrained", f"{method}, untrained") for method in METHODS),
        *(("trivial", name) for name in trivial),
    }
    assert rows["network", "alignment"].numbers["pixel_ap"] == values["alignment_pixel_ap"]
    assert rows["trivial", "centred disc"].numbers["pixel_ap"] == pytest.approx(trivial["centred disc"].pixel_ap)
    assert rows["trivial", "centred disc"].numbers["distractor_recall"] is not None
    dark = [enlarge(-expected_maps(f"{file}_0")["alignment"]) for file in JUDGED]
    untrained = localization.score(dark, [truths[file] for file in JUDGED])
    assert rows["untrained", "alignment, untrained"].numbers["pixel_ap"] == pytest.approx(untrained.pixel_ap, abs=1e-4)

    table = (tmp_path / "localization_validation.txt").read_text()
    assert table.startswith("Step 70, 5 clips of 'validation'.")
    for words in ("alignment, untrained", "centred disc", "false alarms", f"{100 * values['attention_pixel_ap']:.1f}"):
        assert words in table
    picture = matplotlib.image.imread(tmp_path / "localization_validation.png")
    np.testing.assert_array_equal((255 * picture).round().astype(np.uint8)[..., :3], values["maps"])


def test_heads_of_clips_with_several_sources(config, make, folder, tmp_path):
    evaluator = make(config)
    list(evaluator.run(STATE))
    evaluator.write_report(epath.Path(tmp_path))
    (two,) = json.loads((tmp_path / "localization_validation.json").read_text())["heads"]
    found = []
    for file, truth in expected_truths(folder).items():
        if len(truth.boxes_Kx4) == 2:
            by_method = expected_maps(f"{file}_0")
            heads = by_method["alignment"], -by_method["attention"]
            found.append([localization.find_sources(enlarge(x), truth) for x in (by_method["attention"], *heads)])
    combined, *heads = np.moveaxis(found, 1, 0)
    assert (two["sources"], two["clips"]) == (2, len(found)) and len(found) >= 2
    assert two["combined"] == combined.sum(axis=-1).mean()
    assert two["by_any_head"] == np.any(heads, axis=0).sum(axis=-1).mean()


def test_the_network_before_training_is_judged_once(config, make):
    """And what is judged at another step is its own state."""
    evaluator = make(config)
    first = dict(evaluator.run(STATE))
    untrained = evaluator._untrained
    other = types.SimpleNamespace(step=np.int32(80), params={"sign": np.float32(-1)}, model_state=STATE.model_state)
    second = dict(evaluator.run(other))
    assert evaluator._untrained is untrained
    assert second["alignment_pixel_ap"] == untrained.scores["alignment"].pixel_ap != first["alignment_pixel_ap"]


def test_pictures_are_of_the_same_clips_with_their_own_boxes_and_maps(config, make, folder, monkeypatch):
    drawn = []

    def draw(examples, centres):
        drawn.append(examples)
        return localization_pictures.draw(examples, centres)

    monkeypatch.setattr(localization_evaluator, "draw", draw)
    # Of the ten with sound the first, the last, and four between them; one of these is damaged.
    expected = ["fake0002_0", "fake0000_0", "fake0001_0", "fake0008_0", "fake0009_0"]
    config.evals.localization.pictures = 6
    evaluator = make(config)
    first, second = (dict(evaluator.run(STATE))["maps"] for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert first.dtype == np.uint8 and first.ndim == 3 and first.shape[2] == 3
    truths = expected_truths(folder)
    list(make(config).run(STATE))
    assert len(drawn) == 3
    for examples in drawn:
        assert [example.file for example in examples] == [clip_id[:8] for clip_id in expected]
        for example, clip_id in zip(examples, expected, strict=True):
            np.testing.assert_array_equal(example.picture, tf.io.decode_jpeg(clip_of(clip_id).frames[25]))
            boxes_Kx4 = truths[example.file].boxes_Kx4 if example.file in truths else np.zeros((0, 4))
            np.testing.assert_array_equal(example.boxes_Kx4, boxes_Kx4)
            for method in METHODS:
                np.testing.assert_allclose(example.maps[method], expected_maps(clip_id)[method], atol=1e-3)


def test_pictures_alone(config, make, tmp_path, monkeypatch):
    """Without boxes nothing but the clips that are drawn goes through the network, and it is not judged."""
    config.evals.localization.boxes = ""
    evaluator = make(config)
    monkeypatch.setattr(evaluator, "_judge", None)
    seen = []
    real = evaluator._find
    monkeypatch.setattr(evaluator, "_find", lambda variables, records: seen.append(records) or real(variables, records))
    values = dict(evaluator.run(STATE))
    assert list(values) == ["maps"] and values["maps"].std() > 0
    # The first with sound and the last; the one in the middle is damaged.
    assert [[ORDER[record] for record in records] for records in seen] == [["fake0002_0", "fake0009_0"]]
    assert [path.name for path in evaluator.write_report(epath.Path(tmp_path))] == ["localization_validation.png"]
    assert len(list(tmp_path.iterdir())) == 1


def test_numbers_without_pictures(config, make, tmp_path):
    config.evals.localization.pictures = 0
    config.evals.localization.scenes = ""
    evaluator = make(config)
    values = dict(evaluator.run(STATE))
    assert "maps" not in values and "alignment_pixel_ap" in values
    assert not any("silent" in name or "distractor" in name for name in values)
    names = [path.name for path in evaluator.write_report(epath.Path(tmp_path))]
    assert names == ["localization_validation.json", "localization_validation.txt"]


def test_neither_boxes_nor_pictures_is_nothing_to_do(config, make, tmp_path):
    config.evals.localization.boxes, config.evals.localization.pictures = "", 0
    evaluator = make(config)
    assert dict(evaluator.run(STATE)) == {} and evaluator.write_report(epath.Path(tmp_path)) == []


@pytest.fixture
def other_boxes(config, tmp_path):
    path = tmp_path / "other.json"
    path.write_text(json.dumps([{"file": "elsewhere", "class": "x", "bbox": [[0, 0, 1, 0.5]]}]))
    config.evals.localization.boxes = str(path)


OTHER_BOXES = r"none of the clips of split 'validation' .* boxes in .*other\.json.*elsewhere"


def test_boxes_of_other_videos_are_an_error_before_training(config, make, other_boxes):
    with pytest.raises(UserError, match=OTHER_BOXES):
        make(config)


@pytest.mark.parametrize(("looked_at", "unread"), [(4, ()), (100, (5,))])
def test_boxes_are_not_refused_as_long_as_a_clip_could_have_some(
    config, make, other_boxes, caplog, monkeypatch, looked_at, unread
):
    """The split has more clips than are looked at, or one cannot be read: then it is said when all are."""
    monkeypatch.setattr(clip_ids, "_CLIPS_TO_LOOK_AT", looked_at)
    real = clip_ids._read
    monkeypatch.setattr(clip_ids, "_read", lambda index, record: None if record in unread else real(index, record))
    evaluator = make(config)
    assert re.search(rf"after a look at {min(looked_at, 11) - len(unread)} of 11 clips: {OTHER_BOXES}", caplog.text)
    with pytest.raises(UserError, match=OTHER_BOXES):
        list(evaluator.run(STATE))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"evals.localization.methods": ("cam", "glow")},
            r"no maps by the method 'glow'.*cam, attention, simil",
        ),
        ({"model.attention": "vga"}, r"no maps by the method 'attention': choose one of cam, similarity"),
        ({"model.depth": 0}, r"no maps by the method 'attention': choose one of cam, similarity"),
        ({"evals.localization.stride": 5}, r"stride of 5 pixels: choose one of 2, 4, 8"),
        ({"evals.localization.boxes": "nowhere.json"}, r"nowhere\.json: no such file"),
        ({"evals.localization.scenes": "nowhere"}, r"events\.json: no such file"),
    ],
)
def test_what_cannot_be_measured_is_said_before_training(config, make, changes, words):
    config.update_from_flattened_dict(changes)
    with pytest.raises(UserError, match=words):
        make(config)


def test_only_of_networks_that_see_and_hear(config):
    action = tiny_config.get_action_config()
    action.data.dir = config.data.dir
    action.action.num_classes = 3
    action.action.mode = "vision_only"
    with action.unlocked():
        action.evals = config.evals
    task = make_task(action, action.phases[0])
    with pytest.raises(UserError, match=r"needs maps of where.*task 'action'.*one of action, probe"):
        make_evaluators(action, task, distributed.make_mesh(), "validation")


def test_what_is_above_0_counts_most_in_the_middle():
    """The answer of a real network, against a loop over its maps of each moment."""
    config = tiny_config.get_config()
    task = LocalizationTask.of(make_task(config, dict(frame_rate=10.0)), size=SIDE)
    rng = np.random.default_rng(0)
    batch = {
        "video": rng.integers(0, 256, (2, 20, SIDE, SIDE, 3)).astype(np.uint8),
        "audio": rng.integers(-8000, 8000, (2, 2000, 2)).astype(np.int16),
        "file": np.array([5, -1]),
        "mask": np.float32([1, 0]),
    }
    variables = fake_variables.draw(jax.eval_shape(task.of_network.init, jax.random.key(0)))

    @functools.partial(jax.jit, static_argnums=0)
    def call(function, variables, batch):
        return function(variables, batch, task=task, methods=METHODS)

    by_moment, answer = (call(f, variables, batch) for f in (find_maps, localization_evaluator._answer))
    assert answer.keys() == {*METHODS, HEADS, "file", "mask"}
    assert answer["file"].tolist() == [5, -1] and answer["mask"].tolist() == [1, 0]
    for name in (*METHODS, HEADS):
        total, weights = 0, 0
        for moment, seconds in enumerate(task.token_times):
            weight = max(0, 1 - abs(seconds - 1) / 1)  # of a clip of 2 s
            total, weights = total + weight * np.maximum(by_moment[name][:, moment], 0), weights + weight
        assert by_moment[name].shape[1] == len(task.token_times)
        np.testing.assert_allclose(answer[name], total / weights, atol=1e-6)
        assert np.any(answer[name] > 1e-3)
    assert np.any(by_moment["alignment"] < 0)


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_maps_of_tokens_that_nothing_made_comparable_are_doubted(config, make, tmp_path, caplog, weight):
    config.loss.alignment_weight = weight
    evaluator = make(config)
    dict(evaluator.run(STATE))
    evaluator.write_report(epath.Path(tmp_path))
    results = localization_results.Results.parse(json.loads((tmp_path / "localization_validation.json").read_text()))
    said = [*caplog.messages, results.doubt, (tmp_path / "localization_validation.txt").read_text()]
    doubts = ["alignment: only the temporal alignment loss" in text for text in said]
    assert sum(doubts) == (0 if weight else 3)
    assert "attention:" not in results.doubt
