"""How sure a measured mean is."""

import math

import numpy as np

Z_95 = 1.959964  # of the standard normal distribution, two-sided 95%
_RESAMPLES = 1000


def wilson_interval(accuracy: float, count: int) -> tuple[float, float]:
    """The 95% score interval of a proportion (Wilson, 1927): within [0, 1], and never of no width."""
    center = accuracy + Z_95**2 / (2 * count)
    spread = Z_95 * math.sqrt(accuracy * (1 - accuracy) / count + Z_95**2 / (4 * count**2))
    scale = 1 + Z_95**2 / count
    return max(0.0, (center - spread) / scale), min(1.0, (center + spread) / scale)


def bootstrap_interval(values_N: np.ndarray) -> tuple[float, float]:
    """The 95% interval of a mean over clips, by resampling them 1,000 times; always the same of the same values.

    The percentile interval (Efron, 1979), as SciPy's `bootstrap` has it, which refuses a single clip.
    """
    rng = np.random.default_rng(0)
    means = [rng.choice(values_N, len(values_N)).mean() for _ in range(_RESAMPLES)]
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)
