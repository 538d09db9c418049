"""The offset of a video in numbers and words, or why it cannot be told."""

import dataclasses

import numpy as np

from cmav.models import loudness
from cmav.offsets.calibration import Calibration, Posterior
from cmav.offsets.evidence import Evidence, Scores

MIN_CONFIDENCE = 0.5
# Below it there is nothing to see: what a codec makes of a still picture lies below.
STILL_GREY_LEVELS = 0.5
NOT_CALIBRATED = "not calibrated"


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What is said of a video. Milliseconds; positive: the sound is late.

    Attributes:
      offset_ms: None: it cannot be told.
      low_ms, high_ms: the 95% interval; None: it cannot be told, or there is no calibration.
      confidence: probability that the true offset is within a tolerance, of one frame, of what the curve shows best;
        None: there is no calibration.
      verdict: in words.
    """

    offset_ms: float | None
    low_ms: float | None
    high_ms: float | None
    confidence: float | None
    verdict: str


@dataclasses.dataclass(frozen=True)
class Reading:
    """What evidence shows, whether or not it is enough to say it.

    Attributes:
      peak: the likeliest offset, seconds.
      at_the_end: whether it is the first or the last shift that could be tried.
      confidence: probability that the offset is within the tolerance of the peak.
      posterior: of all offsets.
    """

    peak: float
    at_the_end: bool
    confidence: float
    posterior: Posterior

    def doubt(self, min_confidence: float = MIN_CONFIDENCE) -> str:
        """Why it is not enough; empty: it is."""
        if self.posterior.unrelated > 0.5:
            return "the sound fits the pictures at no shift that was tried"
        if self.confidence < min_confidence:
            return "no shift stands out"
        if self.at_the_end:
            return "the best shift is the greatest that was tried"
        return ""


def estimate(
    scores: Scores,
    calibration: Calibration | None,
    *,
    tolerance: float,
    has_audio: bool = True,
    min_confidence: float = MIN_CONFIDENCE,
) -> Estimate:
    """Says by how much the sound is late.

    Args:
      scores: of the video; W may be 0.
      calibration: of the network; None: there is none. Then nothing is said of how sure it is, and whether it can be
        told at all is judged by the logits as they are.
      tolerance: seconds; what counts as right, and as in time.
      has_audio: whether the video has sound.
      min_confidence: below it nothing is said.
    """
    if reason := nothing_to_tell(scores, has_audio):
        return _cannot_tell(None, reason)
    found = read(Evidence.of(scores), calibration or Calibration(), tolerance)
    confidence = None if calibration is None else found.confidence
    if reason := found.doubt(min_confidence):
        return _cannot_tell(confidence, reason)
    offset_ms = 1000 * found.peak
    verdict = in_words(offset_ms, 1000 * tolerance)
    if calibration is None:
        return Estimate(offset_ms, None, None, None, f"{verdict} ({NOT_CALIBRATED})")
    low, high = found.posterior.interval()
    return Estimate(offset_ms, 1000 * low, 1000 * high, confidence, verdict)


def nothing_to_tell(scores: Scores, has_audio: bool) -> str:
    """Why nothing can be said whatever the network says; empty: it can."""
    if not has_audio:
        return "it has no sound"
    if not np.isfinite(scores.logits).any():
        return f"it is shorter than the {scores.seconds:g} s that the network looks at"
    if scores.loudness.max() < loudness.SILENT_DBFS:
        return "it is silent"
    if scores.motion.max() < STILL_GREY_LEVELS:
        return "nothing moves"
    if (np.isfinite(scores.logits).any(axis=0)).sum() < 3:
        return f"it is hardly longer than the {scores.seconds:g} s that the network looks at, so no shift can be tried"
    return ""


def read(evidence: Evidence, calibration: Calibration, tolerance: float) -> Reading:
    """The likeliest offset, between the shifts by a parabola, and how sure it is. `tolerance` in seconds."""
    curve = calibration.log_likelihood(evidence)
    best = int(np.nanargmax(curve))
    around = curve[max(best - 1, 0) : best + 2]
    at_the_end = len(around) < 3 or not np.isfinite(around).all()
    peak = evidence.shifts[best]
    if not at_the_end:
        peak += vertex(around) * (evidence.shifts[1] - evidence.shifts[0])
    posterior = calibration.posterior(evidence)
    confidence = posterior.within(peak - tolerance, peak + tolerance)
    return Reading(float(peak), at_the_end, confidence, posterior)


def vertex(around: np.ndarray) -> float:
    """Where the parabola through three points is highest, from the middle one, the greatest: -0.5 to 0.5 spacings."""
    before, here, after = around
    curvature = before - 2 * here + after
    return 0.0 if curvature >= 0 else float(np.clip((before - after) / (2 * curvature), -0.5, 0.5))


def in_words(offset_ms: float, tolerance_ms: float) -> str:
    """ "the sound is 120 ms late"."""
    if abs(offset_ms) <= tolerance_ms:
        return "in time"
    return f"the sound is {abs(offset_ms):.0f} ms {'late' if offset_ms > 0 else 'early'}"


def _cannot_tell(confidence: float | None, reason: str) -> Estimate:
    return Estimate(None, None, None, confidence, f"cannot tell: {reason}")
