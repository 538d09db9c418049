"""From evidence to probability, by what held-out clips showed.

A shift's log-likelihood is `scale` * coverage^(`growth` - 1) * total (`Evidence`): with `growth` 1 every window's
length of video counts as new evidence, with 0 more of it only makes the mean more exact. Before anything is seen every
offset in the range is as likely as any other, and `UNRELATED` is the probability that the sound is of something else
(music, another take, an offset out of the range), whose log-likelihood is `unrelated`. With the probability `lapse` the
network is wrong whatever it says, so that no evidence, however strong, makes certain.
"""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import scipy.optimize
import scipy.special
from etils import epath

from cmav.data import storage
from cmav.errors import UserError
from cmav.offsets.evidence import Evidence

NAME = "offset_calibration.json"
UNRELATED = 0.1
POINTS_PER_STEP = 10
_PARAMETERS = ("scale", "growth", "unrelated", "lapse")


@dataclasses.dataclass(frozen=True)
class Posterior:
    """How likely each offset is.

    Attributes:
      offsets: float64 [N], seconds, evenly spaced, finer than the shifts.
      density: float64 [N], per second. Its integral and `unrelated` are 1 together.
      unrelated: probability that none of them is right.
    """

    offsets: np.ndarray
    density: np.ndarray
    unrelated: float

    def within(self, low: float, high: float) -> float:
        """Probability that the offset is there."""
        cumulative = self._cumulative()
        return float(np.diff(np.interp([low, high], self.offsets, cumulative))[0])

    def interval(self, share: float = 0.95) -> tuple[float, float]:
        """The central interval that has this share of what is related."""
        cumulative = self._cumulative()
        ends = np.array([(1 - share) / 2, (1 + share) / 2]) * cumulative[-1]
        low, high = np.interp(ends, cumulative, self.offsets)
        return float(low), float(high)

    def _cumulative(self) -> np.ndarray:
        steps = np.diff(self.offsets) * (self.density[1:] + self.density[:-1]) / 2
        return np.concatenate([[0.0], np.cumsum(steps)])


@dataclasses.dataclass(frozen=True)
class Calibration:
    """See the module's docstring. The defaults take the logits at their word, and are no calibration.

    Attributes:
      scale, growth, unrelated, lapse: see above.
      fitted_on: of what it was fitted: `step` of the checkpoint, `split`, `clips`, settings of the search; None: it was
        not.
    """

    scale: float = 1.0
    growth: float = 0.5
    unrelated: float = 0.0
    lapse: float = 0.01
    fitted_on: dict[str, Any] | None = None

    def log_likelihood(self, evidence: Evidence) -> np.ndarray:
        """float64 [S]; NaN where no window has the shift."""
        coverage = np.where(evidence.coverage > 0, evidence.coverage, np.nan)
        return self.scale * coverage ** (self.growth - 1) * evidence.total

    def posterior(self, evidence: Evidence) -> Posterior:
        """Between the shifts, log-likelihoods are linear. What no window has is out of the range."""
        there = evidence.coverage > 0
        log = self.log_likelihood(evidence)[there]
        offsets, density, unrelated = self._posteriors(evidence.shifts[there], log[None])
        return Posterior(offsets, density[0], float(unrelated[0]))

    def _posteriors(self, shifts: np.ndarray, log_NxS: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Offsets [P], densities [N, P] and probabilities of none of them, [N], of log-likelihoods."""
        offsets = np.linspace(shifts[0], shifts[-1], max((len(shifts) - 1) * POINTS_PER_STEP, 1) + 1)
        place = np.linspace(0, len(shifts) - 1, len(offsets))
        before = np.minimum(place.astype(int), max(len(shifts) - 2, 0))
        after = np.minimum(before + 1, len(shifts) - 1)
        log_NxP = log_NxS[:, before] + (place - before) * (log_NxS[:, after] - log_NxS[:, before])
        greatest_N = log_NxP.max(axis=1)
        likelihood_NxP = np.exp(log_NxP - greatest_N[:, None])
        mean_N = (likelihood_NxP[:, 1:] + likelihood_NxP[:, :-1]).mean(axis=1) / 2
        odds_N = np.log(UNRELATED / (1 - UNRELATED)) + self.unrelated - greatest_N - np.log(mean_N)
        unrelated_N = scipy.special.expit(odds_N)
        width = max(offsets[-1] - offsets[0], 1e-9)
        density_NxP = ((1 - self.lapse) * likelihood_NxP / mean_N[:, None] + self.lapse) / width
        return offsets, (1 - unrelated_N)[:, None] * density_NxP, unrelated_N

    def save(self, folder: epath.Path) -> epath.Path:
        path = folder / NAME
        path.write_text(json.dumps(dataclasses.asdict(self), indent=2))
        return path

    @classmethod
    def load(cls, folder: epath.Path) -> Self | None:
        """Of a run's folder; None: there is none.

        Raises:
          UserError: where the file is damaged.
        """
        path = folder / NAME
        try:
            content = storage.read_json(path)
            values = {name: float(content[name]) for name in _PARAMETERS}
            return cls(**values, fitted_on=dict(content["fitted_on"]))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path} is damaged, or not what cmav writes ({error!r}): make it again (evaluator 'offset')."
            ) from error


def fit(related: Sequence[tuple[Evidence, float]], unrelated: Sequence[Evidence]) -> Calibration:
    """Fits by maximum likelihood.

    Args:
      related: evidence of clips, and their true offsets in seconds. The shifts that have evidence are the same in all.
      unrelated: evidence of clips with the sound of others. They weigh as `UNRELATED` says, however many there are.
    """
    there = related[0][0].coverage > 0
    shifts = related[0][0].shifts[there]

    def stacked(several: Sequence[Evidence]) -> tuple[np.ndarray, np.ndarray]:
        return np.stack([one.total[there] for one in several]), np.stack([one.coverage[there] for one in several])

    related_sums, unrelated_sums = stacked([evidence for evidence, _ in related]), stacked(unrelated)
    step = (shifts[1] - shifts[0]) / POINTS_PER_STEP
    nearest = np.round((np.array([offset for _, offset in related]) - shifts[0]) / step).astype(int)

    def make(x: np.ndarray) -> Calibration:
        scale, growth, lapse = np.exp(x[0]), scipy.special.expit(x[1]), scipy.special.expit(x[3])
        return Calibration(float(scale), float(growth), float(x[2]), float(lapse))

    def cost(x: np.ndarray) -> float:
        calibration = make(x)

        def posteriors(sums: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            total, coverage = sums
            return calibration._posteriors(shifts, calibration.scale * coverage ** (calibration.growth - 1) * total)

        _, density_NxP, _ = posteriors(related_sums)
        _, _, unrelated_N = posteriors(unrelated_sums)
        right_N = density_NxP[np.arange(len(nearest)), np.clip(nearest, 0, density_NxP.shape[1] - 1)]
        surprise = -(1 - UNRELATED) * np.log(np.maximum(right_N, 1e-12)).mean()
        surprise -= UNRELATED * np.log(np.maximum(unrelated_N, 1e-12)).mean()
        # What the clips do not determine stays near to where it began.
        return float(surprise + 1e-3 * np.square(x - start).sum())

    start = np.array([0.0, 0.0, 0.0, -3.0])
    bounds = [(-6, 8), (-6, 6), (-20, 20), (-8, 3)]
    found = scipy.optimize.minimize(cost, start, method="L-BFGS-B", bounds=bounds)
    return make(found.x)
