"""The picture of clips and their maps: what is drawn where."""

import dataclasses

import numpy as np

from cmav.evals import localization_pictures
from cmav.evals.localization_pictures import Example

METHODS = ("alignment", "attention")


def test_a_picture_shows_each_map_over_its_clip():
    """Of two clips and two methods: what is lit changes the picture there, in this row and column of it."""
    rng = np.random.default_rng(0)
    dark = dict.fromkeys(METHODS, np.zeros((2, 2)))
    examples = [Example(file, rng.integers(0, 99, (8, 8, 3)).astype(np.uint8), np.zeros((0, 4)), dark) for file in "ab"]
    centres = (np.array([0.25, 0.75]), np.array([0.25, 0.75]))
    plain = localization_pictures.draw(examples, centres)
    assert plain.dtype == np.uint8

    def change(**fields):
        drawn = localization_pictures.draw([examples[0], dataclasses.replace(examples[1], **fields)], centres)
        return (drawn != plain).any(axis=-1)

    changed = change(maps={**dark, "attention": np.array([[0, 0], [0, 2.0]])})
    rows, columns = (np.flatnonzero(changed.any(axis=axis)) for axis in (1, 0))
    height, width = changed.shape
    # The third of three columns, the second of two rows, and there the corner on the right and below.
    assert rows.min() > 0.7 * height and columns.min() > 0.8 * width
    changed = change(boxes_Kx4=np.array([[0.2, 0.2, 0.8, 0.8]]))
    assert changed[height // 2 :, : width // 3].any() and changed[height // 2 :, -width // 3 :].any()
    assert not changed[: height // 2].any()


def test_long_names_do_not_stick_out_of_a_picture():
    long = Example("/folders/that/are/long/" + 30 * "name", np.zeros((8, 8, 3), np.uint8), np.zeros((0, 4)), {})
    short = dataclasses.replace(long, file="…" + 33 * "x")
    drawn = [localization_pictures.draw([one], (np.array([0.5]), np.array([0.5]))) for one in (long, short)]
    assert drawn[0].shape == drawn[1].shape
    for picture in drawn:  # Above and below the frame, where a name that is too long goes on, nothing is written.
        column = (picture < 128).any(axis=-1)[:, : picture.shape[1] // 8]
        assert column.any() and not column[:3].any() and not column[-3:].any()
