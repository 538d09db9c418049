"""Each record's maps are measured against the boxes of its own video."""

import functools
import json
import types
import weakref

import jax
import matplotlib.image
import numpy as np
import pytest
from etils import epath
from sklearn import metrics as sk

from cmav.evals import localization, localization_evaluator
from cmav.localization.task import HEADS, LocalizationTask, find_maps
from cmav.reporting import localization_results
from cmav.tasks import make_task
from tests import tiny_config
from tests.evals.localization_evaluator.bright import (
    JUDGED,
    METHODS,
    SIDE,
    STATE,
    WITHOUT,
    enlarge,
    expected_maps,
    expected_truths,
)
from tests.models import fake_variables


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
        *("sounding_above_silent", "false_alarm_rate", "mass_in_boxes"),
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
        for name in names[1:-2]:
            assert values[f"{method}_{name}"] == pytest.approx(getattr(scores, name), abs=1e-3), name
        sounding = [np.maximum(enlarge(expected_maps(f"{file}_0")[method][::-1]), 0) for file in JUDGED]
        masses = [x[truths[file].mask() > 0].sum() / x.sum() for file, x in zip(JUDGED, sounding, strict=True)]
        assert values[f"{method}_mass_in_boxes"] == pytest.approx(np.mean(masses), abs=1e-4)
        assert np.std(masses) > 0.02
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
    areas = [(truth.mask() > 0).mean() for truth in truths.values()]
    assert rows["trivial", "whole image"].numbers["mass_in_boxes"] == pytest.approx(np.mean(areas))
    assert rows["trivial", "centred disc"].numbers["mass_in_boxes"] is None
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


def test_enlarged_maps_are_made_and_dropped_one_by_one(config, make, monkeypatch):
    """However many clips there are: of the 5 judged ones no more than two enlarged maps are there at a time."""
    evaluator, alive, counts = make(config), weakref.WeakSet(), []

    def watched(map_HxW, enlarge=evaluator._enlarge):
        counts.append(len(alive))
        alive.add(enlarged := enlarge(map_HxW).view(Watched))
        return enlarged

    monkeypatch.setattr(evaluator, "_enlarge", watched)
    list(evaluator.run(STATE))
    assert len(counts) > 20 and max(counts) <= 2


class Watched(np.ndarray):
    """An array that can be told from others, as a set of what is alive asks for."""

    __hash__, __eq__ = object.__hash__, object.__eq__


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
    assert answer.keys() == {*METHODS, HEADS, *(f"sounding/{name}" for name in METHODS), "file", "mask"}
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
    for name in METHODS:  # Of noise throughout, all moments sound.
        np.testing.assert_allclose(answer[f"sounding/{name}"], answer[name], atol=1e-6)

    # With a pause at the end of the first clip, and only quiet noise, all the same not zeros, in the second.
    batch["audio"][0, 1230:] = np.sign(batch["audio"][0, 1230:])
    batch["audio"][1] = np.sign(batch["audio"][1])
    by_moment, answer = (call(f, variables, batch) for f in (find_maps, localization_evaluator._answer))
    weights = np.maximum(0, 1 - abs(task.token_times - 1))
    heard = weights * (task.token_times < 1.35)  # An eighth of a second before an instant is heard with it.
    for name in METHODS:
        moments = np.maximum(by_moment[name][0], 0)
        np.testing.assert_allclose(answer[name][0], np.tensordot(weights / weights.sum(), moments, 1), atol=1e-6)
        sounding = np.tensordot(heard / heard.sum(), moments, 1)
        np.testing.assert_allclose(answer[f"sounding/{name}"][0], sounding, atol=1e-6)
        assert np.abs(sounding - answer[name][0]).max() > 1e-4
        assert not answer[name][1].any() and not answer[f"sounding/{name}"][1].any()
