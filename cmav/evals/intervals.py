"""How sure a measured accuracy is."""

import math

Z_95 = 1.959964  # of the standard normal distribution, two-sided 95%


def wilson_interval(accuracy: float, count: int) -> tuple[float, float]:
    """The 95% score interval of a proportion (Wilson, 1927): within [0, 1], and never of no width."""
    center = accuracy + Z_95**2 / (2 * count)
    spread = Z_95 * math.sqrt(accuracy * (1 - accuracy) / count + Z_95**2 / (4 * count**2))
    scale = 1 + Z_95**2 / count
    return max(0.0, (center - spread) / scale), min(1.0, (center + spread) / scale)
