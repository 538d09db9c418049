"""Intervals of proportions and means, against SciPy."""

import numpy as np
import pytest
from scipy import stats

from cmav.evals.intervals import bootstrap_interval, wilson_interval


@pytest.mark.parametrize(("right", "count"), [(0, 9), (5, 9), (170, 200), (200, 200)])
def test_wilson_interval(right, count):
    low, high = stats.binomtest(right, count).proportion_ci(0.95, method="wilson")
    assert wilson_interval(right / count, count) == pytest.approx((low, high), abs=1e-6)


@pytest.mark.parametrize("count", [6, 2000])
def test_bootstrap_interval_is_that_of_the_mean(count):
    values = np.random.default_rng(0).exponential(size=count)
    interval = bootstrap_interval(values)
    many = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=1)
    low, high = many.confidence_interval
    assert interval == pytest.approx((low, high), abs=0.08 * (high - low))
    assert bootstrap_interval(values) == interval


@pytest.mark.parametrize("values", [np.full(5, 0.3), np.array([0.3])])
def test_bootstrap_interval_of_what_is_all_the_same(values):
    assert bootstrap_interval(values) == pytest.approx((0.3, 0.3))
