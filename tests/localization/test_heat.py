import numpy as np
import pytest

from cmav.localization import heat

TOKENS = np.array([-0.4, -0.1, 0.5, 1.2, 2.1, 2.3])  # of a window of 2 s; the outer ones lie outside of it
SPANS = [(0.0, 2.0), (1.0, 3.0), (1.6, 3.6)]  # the last was moved inwards


def windows(seed=0):
    return list(np.random.default_rng(seed).normal(size=(len(SPANS), len(TOKENS), 2, 3)))


def slow_blend(maps, instants):
    """Instant by instant, location by location, with numpy.interp."""
    result = np.zeros((len(instants), 2, 3))
    for n, instant in enumerate(instants):
        weights = [max(1 - abs(instant - (start + end) / 2), 0) for start, end in SPANS]
        if not any(weights):  # the very first and last instant
            weights = [float(start <= instant <= end) for start, end in SPANS]
        for y in range(2):
            for x in range(3):
                found = [
                    np.interp(instant - start, TOKENS[1:-1], m[1:-1, y, x])
                    for m, (start, _) in zip(maps, SPANS, strict=True)
                ]
                result[n, y, x] = np.dot(weights, found) / sum(weights)
    return result


def test_blend_against_a_slow_loop():
    instants = np.linspace(0, 3.6, 37)
    found = heat.blend(windows(), SPANS, TOKENS, instants)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, slow_blend(windows(), instants), atol=1e-5)


def test_blend_has_no_seam():
    """Where a window begins or ends nothing jumps; windows that agree on a course give this course."""
    around = np.array([at + side * 1e-5 for at in (1.0, 1.6, 2.0, 3.0) for side in (-1, 1)])
    found = heat.blend(windows(), SPANS, TOKENS, around).reshape(4, 2, -1)
    assert abs(found[:, 0] - found[:, 1]).max() < 1e-3
    courses = [(TOKENS + start)[:, None, None] * np.ones((1, 2, 3)) for start, _ in SPANS]
    instants = np.linspace(0, 3.6, 50)
    found = heat.blend(courses, SPANS, TOKENS, instants)
    np.testing.assert_allclose(found[:, 1, 2], instants, atol=1e-5)


def test_blend_leaves_a_windows_edges_out_if_it_can():
    """What the outermost maps say has no say, but where there are no others."""
    maps = np.ones((1, len(TOKENS), 2, 3))
    maps[:, [0, -1]] = 100.0
    instants = np.linspace(0, 2, 9)
    np.testing.assert_allclose(heat.blend(maps, SPANS[:1], TOKENS, instants), 1.0)
    few = heat.blend(maps[:, [0, 2, -1]], SPANS[:1], TOKENS[[0, 2, -1]], instants)
    np.testing.assert_allclose(few[:, 0, 0], np.interp(instants, TOKENS[[0, 2, -1]], [100.0, 1.0, 100.0]), rtol=1e-6)


def test_between_is_constant_outside_and_knows_a_single_map():
    maps = np.array([1.0, 3.0, 2.0])[:, None, None]
    found = heat.between(maps, np.array([0.0, 1.0, 3.0]), np.array([-1.0, 0.25, 1.0, 2.0, 9.0]))
    np.testing.assert_allclose(found[:, 0, 0], [1.0, 1.5, 3.0, 2.5, 2.0])
    np.testing.assert_allclose(heat.between(maps[:1], np.array([0.7]), np.array([0.0, 2.0]))[:, 0, 0], [1.0, 1.0])


def test_full_is_of_what_is_above_zero():
    maps = np.concatenate([-np.ones(10_000), np.arange(1, 101)])
    assert heat.full(maps) == pytest.approx(97.03)
    assert heat.full(-np.ones(5)) == 0.0 and heat.full(np.zeros((2, 3))) == 0.0


def test_brightness_is_from_half_of_full():
    np.testing.assert_allclose(heat.brightness(np.array([[-3.0, 2.0, 3.0, 4.0, 9.0]]), 4.0), [[0, 0, 0.5, 1, 1]])


def test_what_is_not_lit_stays_as_it_is():
    picture = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    np.testing.assert_array_equal(heat.paint(picture, np.zeros((4, 6)), 0.0), picture)
    np.testing.assert_array_equal(heat.paint(picture, -np.ones((4, 6)), 0.0), picture)
    lit = np.zeros((4, 6))
    lit[1, 2] = 5.0
    painted = heat.paint(picture, lit, 5.0)
    changed = (painted != picture).any(axis=-1)
    assert changed[1, 2] and changed.sum() == 1
    red = np.array([195, 36, 2])  # turbo's at 0.9
    np.testing.assert_allclose(painted[1, 2], (picture[1, 2] + red) / 2, atol=1)


def test_each_head_has_its_colour():
    heads = np.zeros((3, 1, 4))
    heads[0, 0, 0] = heads[2, 0, 1] = 7.0
    heads[:2, 0, 2] = 3.0, 1.0
    heads[1, 0, 3] = -1.0
    colours = heat.head_colours(3)
    mixed = heat.mix_heads(heads)[:, 0].T
    np.testing.assert_allclose(mixed[0], colours[0], atol=1e-6)
    np.testing.assert_allclose(mixed[1], colours[2], atol=1e-6)
    np.testing.assert_allclose(mixed[2], 0.9 * colours[0] + 0.1 * colours[1], atol=1e-6)
    np.testing.assert_array_equal(mixed[3], 0)  # nothing above 0
    assert len(np.unique(heat.head_colours(8), axis=0)) == 8


def test_boxes_are_outlines():
    """White, with black within, on whatever is there. A box may be too small for both, or overlap another."""
    picture = np.full((20, 40, 3), 99, np.uint8)
    drawn = heat.draw_boxes(picture, np.array([[0.25, 0.5, 0.75, 1.0], [0.1, 0.1, 0.13, 0.16]]))[..., 0]
    expected = picture[..., 0].copy()
    expected[10:20, 10:30] = 255
    expected[11:19, 11:29] = 0
    expected[12:18, 12:28] = 99
    expected[2:3, 4:5] = 255
    np.testing.assert_array_equal(drawn, expected)
    assert (picture == 99).all()
    nested = heat.draw_boxes(picture, np.array([[0.0, 0.0, 1.0, 1.0], [0.25, 0.5, 0.75, 0.9]]))[..., 0]
    assert (nested[0] == 255).all() and nested[10, 20] == 255 and nested[11, 20] == 0 and nested[12, 20] == 99


def test_what_is_far_below_the_loudest_has_no_source():
    loudness = np.array([[-18.0, -43.0, -48.0, -53.0, -64.0, -120.0], [-61.0, -61.0, -62.0, -70.0, -100.0, -61.0]])
    np.testing.assert_allclose(heat.audible(loudness), [[1, 1, 0.5, 0, 0, 0], [0] * 6])
    np.testing.assert_allclose(heat.audible(loudness[0]), [1, 1, 0.5, 0, 0, 0])
