"""How often a map is bright where nothing in the picture sounds.

The protocol of `cmav.evals.localization` always lights half of the picture, so it cannot see a false alarm (SLAVC, Mo &
Morgado 2022). Here the brightest value of a map counts, as the network gives it, without any scaling per picture.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from cmav.evals.intervals import wilson_interval


@dataclasses.dataclass(frozen=True)
class FalseAlarms:
    """How often clips without a visible source are taken to have one.

    Attributes:
      rate: the share of the clips without one whose score is at least the threshold.
      low, high: the ends of its 95% interval.
      threshold: the highest that lets the wanted share of the clips with a source pass.
    """

    rate: float
    low: float
    high: float
    threshold: float


def false_alarms(seen: Sequence[float], unseen: Sequence[float], true_positive_rate: float = 0.95) -> FalseAlarms:
    """How often a network lights something where nothing in the picture sounds.

    Args:
      seen: a score of each clip with a visible source: the greatest value of its map, before any scaling per picture.
      unseen: the same of the clips that are silent or sound from off-screen only.
      true_positive_rate: the share of `seen` that has to be at the threshold or above.
    """
    if not len(seen) or not len(unseen):
        raise ValueError("False alarms need clips with a visible source, to set the threshold by, and clips without.")
    falling = np.sort(np.asarray(seen, np.float64))[::-1]
    # Less a hair: 0.55 · 100 is 55.00000000000001.
    threshold = float(falling[max(math.ceil(true_positive_rate * len(falling) - 1e-9), 1) - 1])
    rate = float((np.asarray(unseen, np.float64) >= threshold).mean())
    return FalseAlarms(rate, *wilson_interval(rate, len(unseen)), threshold)
