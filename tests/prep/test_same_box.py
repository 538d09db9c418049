"""One box for all videos of a split, as the evaluator of localization reads it."""

import numpy as np
import pytest

from cmav.localization import boxes
from cmav.prep import same_box
from tests import fake_clips

BOX = ["0.5", "0.1", "0.9", "0.7"]  # as config.data.covered has it: top, left, bottom, right


def test_every_video_of_the_split_has_the_box(tmp_path, capsys):
    fake_clips.write_dataset(tmp_path, "train", 2, seconds=0.5, size=16)
    fake_clips.write_dataset(tmp_path, "validation", 3, seed=1, seconds=0.5, size=16)
    arguments = ["--data", str(tmp_path), "--out", str(tmp_path / "boxes.json"), "--box"]
    assert same_box.main([*arguments, *BOX]) == 0
    assert "the box of 3 videos" in capsys.readouterr().out
    read = boxes.read(str(tmp_path / "boxes.json"))
    assert len(read.truths) == 3 and not read.damaged
    for truth in read.truths:
        np.testing.assert_allclose(truth.boxes_Kx4, [[0.1, 0.5, 0.7, 0.9]])
        assert truth.file.startswith("fake")


@pytest.mark.parametrize("box", [["0.5", "0.7", "0.9", "0.1"], ["0.5", "0.1", "1.2", "0.7"]])
def test_a_box_outside_of_the_picture_is_refused(tmp_path, capsys, box):
    assert same_box.main(["--data", str(tmp_path), "--out", str(tmp_path / "boxes.json"), "--box", *box]) == 1
    assert (
        "the top above the bottom, left before right" in capsys.readouterr().err
        and not (tmp_path / "boxes.json").exists()
    )
