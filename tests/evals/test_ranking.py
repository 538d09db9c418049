"""Pixels by brightness, against loops and scikit-learn."""

import jax
import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from cmav.evals.ranking import Ranking, resize

SIZE = 12


def bilinear_by_loop(heatmap, size):
    """Pixel k of `size` has its middle at (k + ½) / size of the picture."""
    height, width = heatmap.shape
    out = np.zeros((size, size))
    for row in range(size):
        for column in range(size):
            y = min(max((row + 0.5) / size * height - 0.5, 0), height - 1)
            x = min(max((column + 0.5) / size * width - 0.5, 0), width - 1)
            top, left = int(y), int(x)
            bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
            upper = heatmap[top, left] * (1 - (x - left)) + heatmap[top, right] * (x - left)
            lower = heatmap[bottom, left] * (1 - (x - left)) + heatmap[bottom, right] * (x - left)
            out[row, column] = upper * (1 - (y - top)) + lower * (y - top)
    return out


@pytest.mark.parametrize("shape", [(7, 7), (14, 9), (1, 3), (40, 37), (1, 1)])
def test_resize(shape):
    heatmap = np.random.default_rng(0).normal(size=shape)
    resized = resize(heatmap, 30)
    assert resized.shape == (30, 30)
    np.testing.assert_allclose(resized, bilinear_by_loop(heatmap, 30), atol=1e-5)
    if max(shape) <= 30:  # JAX takes the mean where it makes a picture smaller.
        np.testing.assert_allclose(resized, jax.image.resize(heatmap, (30, 30), "bilinear"), atol=1e-5)


def test_brightest_are_those_of_a_sort():
    heatmap = np.random.default_rng(1).normal(size=(SIZE, SIZE))
    ranking = Ranking.of(heatmap, SIZE)
    for count in (0, 1, 50, SIZE * SIZE):
        lit = ranking.brightest(count)
        assert sorted(heatmap[lit]) == sorted(heatmap.ravel())[SIZE * SIZE - count :]
    median_pixel = np.sort(heatmap.ravel())[SIZE * SIZE // 2]
    np.testing.assert_array_equal(ranking.brighter_half(), heatmap > median_pixel)
    assert ranking.share_by_lot == 0


def test_scaling_changes_nothing():
    heatmap = np.random.default_rng(2).normal(size=(SIZE, SIZE))
    scaled = (heatmap - heatmap.min()) / (heatmap.max() - heatmap.min())
    np.testing.assert_array_equal(Ranking.of(heatmap, SIZE).order_N, Ranking.of(scaled, SIZE).order_N)


def test_ties_are_filled_by_lot_to_exactly_half():
    heatmap = np.zeros((SIZE, SIZE))
    heatmap[:3] = 2
    heatmap[-3:] = -1
    ranking = Ranking.of(heatmap, SIZE)
    half = ranking.brighter_half()
    assert half.sum() == SIZE * SIZE // 2 - 1
    assert half[:3].all() and not half[-3:].any()
    assert ranking.share_by_lot == 0.5  # the 6 rows of zeros
    middle = half[3:-3]
    # By lot: no row and no column of the zeros has all that were drawn, as it would be in the order of the pixels.
    assert middle.any(axis=0).all() and middle.any(axis=1).all()


def test_constant_map_is_a_random_half():
    ranking = Ranking.of(np.full((3, 3), 0.3), SIZE)
    assert ranking.share_by_lot == 1
    assert ranking.brighter_half().sum() == SIZE * SIZE // 2 - 1
    positive = np.zeros((SIZE, SIZE), bool)
    positive[0, :6] = True
    assert ranking.average_precision(positive) == pytest.approx(6 / SIZE**2)


@pytest.mark.parametrize("levels", [3, 20, 10**6])
def test_average_precision(levels):
    rng = np.random.default_rng(levels)
    for _ in range(5):
        heatmap = rng.integers(levels, size=(SIZE, SIZE))
        positive = rng.random((SIZE, SIZE)) < 0.2
        expected = average_precision_score(positive.ravel(), heatmap.ravel())
        assert Ranking.of(heatmap, SIZE).average_precision(positive) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("heatmap", "message"),
    [(np.array([[0, np.nan]]), "not finite"), (np.zeros((2, 2, 1)), r"not \(2, 2, 1\)"), (np.zeros((0, 3)), "height")],
)
def test_no_map(heatmap, message):
    with pytest.raises(ValueError, match=message):
        Ranking.of(heatmap)


def test_places_are_those_in_the_order():
    ranking = Ranking.of(np.random.default_rng(3).random((7, 7)), size=7)
    places = ranking.places()
    for count in (0, 1, 20, 49):
        np.testing.assert_array_equal(places < count, ranking.brightest(count))
