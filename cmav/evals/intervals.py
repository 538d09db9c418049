"""How sure a measured mean is."""

import math

import numpy as np
from scipy import stats

Z_95 = 1.959964  # of the standard normal distribution, two-sided 95%
_RESAMPLES = 1000


def wilson_interval(accuracy: float, count: int) -> tuple[float, float]:
    """The 95% score interval of a proportion (Wilson, 1927): within [0, 1], and never of no width.

    `accuracy` may be of more answers than there are clips to count, so that accuracy * count is not whole: SciPy's
    `binomtest`, which has the same interval, refuses that.
    """
    center = accuracy + Z_95**2 / (2 * count)
    spread = Z_95 * math.sqrt(accuracy * (1 - accuracy) / count + Z_95**2 / (4 * count**2))
    scale = 1 + Z_95**2 / count
    return max(0.0, (center - spread) / scale), min(1.0, (center + spread) / scale)


def bootstrap_interval(values_N: np.ndarray) -> tuple[float, float]:
    """The 95% percentile interval (Efron, 1979) of a mean over clips, of 1,000 resamples; always the same."""
    if len(values_N) == 1:  # SciPy refuses it.
        return float(values_N[0]), float(values_N[0])
    rng = np.random.default_rng(0)
    found = stats.bootstrap((values_N,), np.mean, n_resamples=_RESAMPLES, method="percentile", rng=rng)
    return tuple(map(float, found.confidence_interval))
