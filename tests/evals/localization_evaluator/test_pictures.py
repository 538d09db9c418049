"""What is drawn of the maps, and that pictures and numbers can be had without each other."""

import numpy as np
import tensorflow as tf
from etils import epath

from cmav.evals import localization_evaluator, localization_pictures
from tests.evals.localization_evaluator.bright import METHODS, ORDER, STATE, clip_of, expected_maps, expected_truths


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
                np.testing.assert_allclose(example.maps[method], expected_maps(clip_id)[method][::-1], atol=1e-3)


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
