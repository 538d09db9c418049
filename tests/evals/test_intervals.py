"""Intervals of proportions, against SciPy."""

import pytest
from scipy import stats

from cmav.evals.intervals import wilson_interval


@pytest.mark.parametrize(("right", "count"), [(0, 9), (5, 9), (170, 200), (200, 200)])
def test_wilson_interval(right, count):
    low, high = stats.binomtest(right, count).proportion_ci(0.95, method="wilson")
    assert wilson_interval(right / count, count) == pytest.approx((low, high), abs=1e-6)
