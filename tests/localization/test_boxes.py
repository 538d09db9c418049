"""Readers of boxes, against masks and numbers made by hand."""

import json

import numpy as np
import pytest

from cmav.errors import UserError
from cmav.localization import boxes
from cmav.world import truth
from cmav.world.world import World

FAR = -2.8823037615171176e16  # what VGG-SS's damaged boxes have


def write_json(path, entries):
    path.write_text(json.dumps(entries))
    return str(path)


def entry(file, *bbox):
    return {"file": file, "class": "elk bugling", "bbox": list(bbox)}


def write_flickr(folder, file, *annotators):
    """Every annotator an item, with a box of (xmin, ymin, xmax, ymax) after a child that says something else."""
    items = ""
    for box in annotators:
        ends = "".join(
            f"<{name}>{end}</{name}>" for name, end in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
        )
        items += f"<item><id>7</id><bbox><label>5</label>{ends}</bbox></item>"
    (folder / f"{file}.xml").write_text(f'<?xml version="1.0" encoding="UTF-8"?><annotation>{items}</annotation>')


def test_vggss_mask_is_the_union(tmp_path):
    path = write_json(tmp_path / "vggss.json", [entry("a", [0.25, 0.0, 0.5, 1.0], [0.4, 0.5, 0.999, 0.75])])
    (truth,) = boxes.read(path).truths
    expected = np.zeros((224, 224))
    expected[0:224, 56:112] = 1
    expected[112:168, 89:223] = 1  # 224 · 0.4 = 89.6 and 224 · 0.999 = 223.8, rounded down
    np.testing.assert_array_equal(truth.mask(), expected)
    assert (truth.file, truth.label, truth.votes) == ("a", "elk bugling", 1)


def test_smallest_box_has_a_pixel():
    truth = boxes.Truth("a", "", np.array([[0.9999, 0.5, 1.0, 0.5001]]))
    assert np.argwhere(truth.mask(100)).tolist() == [[50, 99]]


def test_damaged_boxes_are_clipped_or_left_out_and_named(tmp_path):
    entries = [
        entry("a", [0.1, 0.2, FAR, 0.9], [0.5, 0.5, 1.4, 0.6], [-0.001, 0.0, 0.3, 1.001]),
        entry("b", [0.3, 1.0, 0.7, 1.0]),
        entry("c"),
        entry("d", [0.1, 0.2, 0.3], ["x", 0, 1, 1], [0, 0, 1, float("nan")], [0, 0, 1, 1]),
    ]
    found = boxes.read(write_json(tmp_path / "vggss.json", entries))
    assert [truth.file for truth in found.truths] == ["a", "d"]
    np.testing.assert_array_equal(found.truths[0].boxes_Kx4, [[0.5, 0.5, 1.0, 0.6], [0.0, 0.0, 0.3, 1.0]])
    np.testing.assert_array_equal(found.truths[1].boxes_Kx4, [[0, 0, 1, 1]])
    assert (found.without_boxes, found.unknown) == (["c"], ["b"])
    no_area, clipped = "no area within the picture, left out", "sticks out of the picture, clipped"
    assert [(damage.file, damage.why) for damage in found.damaged] == [
        *(("a", no_area), ("a", clipped), ("b", no_area)),
        *[("d", "not four numbers, left out")] * 3,
    ]
    report = found.report(most=2)
    assert "2 clips with 3 boxes" in report
    assert "6 damaged boxes" in report
    assert f"a: [0.1, 0.2, {FAR}, 0.9]: {no_area}" in report
    assert "and 4 more" in report
    assert "1 clip without a box, in which nothing that is seen sounds: c" in report
    assert "1 clip whose boxes are all damaged, left out: b" in report


def test_flickr_truth_is_the_annotators_consensus(tmp_path):
    # 224/256 = 7/8: 10 -> 8.75, 41 -> 35.875, 101 -> 88.375, 255 -> 223.125; rounded down.
    write_flickr(tmp_path, "123", (10, 41, 101, 255), (10, 41, 101, 255), (0, 0, 256, 256))
    write_flickr(tmp_path, "45", (64, 128, 128, 256))
    (tmp_path / "readme.txt").write_text("not a clip")
    first, second = boxes.read(str(tmp_path)).truths
    expected = np.full((224, 224), 0.5)
    expected[35:223, 8:88] = 1
    np.testing.assert_array_equal(first.mask(), expected)
    expected = np.zeros((224, 224))
    expected[112:224, 56:112] = 0.5
    np.testing.assert_array_equal(second.mask(), expected)
    assert [first.file, second.file] == ["123", "45"]


def test_flickr_damage_is_named(tmp_path):
    write_flickr(tmp_path, "1", (10, 10, 20, 20), (10, "", 20, 20), (30, 10, 20, 20))
    found = boxes.read(str(tmp_path))
    assert [damage.why for damage in found.damaged] == [
        "not four numbers, left out",
        "no area within the picture, left out",
    ]
    assert len(found.truths[0].boxes_Kx4) == 1


def test_synthetic_world_through_the_same_reader(tmp_path):
    world = World(num_sources=(2, 2), offscreen_share=0.6, seed=3)
    truth.write_truth(tmp_path, world, num_videos=12, train_share=0.75)
    found = boxes.read(str(tmp_path / "vggss.json"))
    assert not found.damaged
    assert all(len(truth.boxes_Kx4) == 2 for truth in found.truths)
    assert found.without_boxes, "no video of this seed has its only sound off-screen"
    assert len(found.truths) + len(found.without_boxes) == 12


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        ("", "not whole JSON"),
        ('[{"file": "a", "class"', "not whole JSON"),
        ("{}", "must be a JSON list"),
        ("[]", "must be a JSON list"),
        ('[{"file": "a", "class": "b"}]', 'entry 0 must have "file", "class" and a list "bbox"'),
        ('["a"]', "entry 0 must have"),
        ('[{"file": "a", "class": "b", "bbox": []}]', "no clip there has a box"),
        (json.dumps([entry("a", [0, 0, 1, 1])] * 2), "'a' is there twice"),
    ],
)
def test_other_json_is_explained(tmp_path, content, message):
    path = tmp_path / "vggss.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=message) as error:
        boxes.read(str(path))
    assert str(path) in str(error.value)


def test_other_folders_are_explained(tmp_path):
    with pytest.raises(UserError, match=r"no \.xml files"):
        boxes.read(str(tmp_path))
    (tmp_path / "9.xml").write_text("<annotation><item>")
    with pytest.raises(UserError, match=r"9\.xml is not whole XML"):
        boxes.read(str(tmp_path))
    (tmp_path / "9.xml").write_text("<annotation><item/></annotation>")
    with pytest.raises(UserError, match="no clip there has a box"):
        boxes.read(str(tmp_path))
