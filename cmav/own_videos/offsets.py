"""The offset between picture and sound of one's own videos, as a network hears it."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from typing import Any

import jax
import numpy as np

from cmav.media.windows import Spacing
from cmav.offsets.calibration import Calibration
from cmav.offsets.course import Segment, course, follow
from cmav.offsets.estimate import MIN_CONFIDENCE, Estimate, estimate, in_words
from cmav.offsets.evidence import Evidence, Scores
from cmav.offsets.stretch import Stretch
from cmav.own_videos.watch import Seen, watch
from cmav.training.frozen import FrozenNetwork


@dataclasses.dataclass(frozen=True)
class Found:
    """What is said of a video.

    Attributes:
      estimate: its offset; where that changes, the mean of it.
      segments: how it goes over time, where it changes; else empty.
      scores: of all windows.
      curve: float64 [S], the log-likelihood of each shift; NaN: it could not be tried.
      note: what of the video was lost, and why; empty: nothing.
    """

    estimate: Estimate
    segments: list[Segment]
    scores: Scores
    curve: np.ndarray
    note: str


def find_offsets(
    network: FrozenNetwork,
    videos: Iterable[Any],
    root: str,
    stretch: Stretch,
    calibration: Calibration | None,
    *,
    size: int,
    batch_size: int,
    min_confidence: float = MIN_CONFIDENCE,
    num_workers: int | None = None,
) -> Iterator[Found | str]:
    """Yields of each video what is found, or why nothing of it can be decoded.

    Args:
      network: whose task has the ability `Offsets`.
      videos: `cmav.media.manifest.Video`s.
      root: the folder that their relative paths start from.
      stretch: of the network's task: which shifts are tried.
      calibration: of the network; None: there is none.
      size: width and height of the pictures before the crop, in pixels.
      batch_size: stretches that the network sees at a time.
      min_confidence: below it nothing is said.
      num_workers: processes that decode, each another video; None: one for each CPU core.

    Raises:
      UserError: where storage does not answer.
    """

    def answer(variables: Mapping[str, Any], batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        return stretch.scores(variables, batch)

    needs = Fraction(stretch.num_frames - stretch.advance, 2)
    spacing = Spacing(Fraction(stretch.advance), needs)
    tolerance = 1 / network.task.clip.achieved_frame_rate
    how = {"size": size, "spacing": spacing, "batch_size": batch_size, "num_workers": num_workers, "sees": stretch}
    for seen in watch(network, videos, root, answer, **how):
        if seen.windows:
            yield judge(join(seen, stretch), calibration, tolerance, seen, min_confidence)
        else:
            yield seen.note


def judge(
    scores: Scores, calibration: Calibration | None, tolerance: float, seen: Seen, min_confidence: float
) -> Found:
    """Says what the scores of a video mean: a constant offset, or one that changes."""
    trusted = calibration or Calibration()
    has_audio = any(window.has_audio for window in seen.windows)
    settings = {"tolerance": tolerance, "has_audio": has_audio, "min_confidence": min_confidence}
    segments = course(scores, trusted)
    if len(segments) == 1 and abs(segments[0].last - segments[0].first) <= tolerance:
        segments = []
    together, mean = follow(scores, segments) if segments else (scores, 0.0)
    said = estimate(together, calibration, **settings)
    if said.offset_ms is None:
        segments = []
    elif segments:
        # The parabola moves the whole course.
        segments = [
            dataclasses.replace(
                one, first=one.first + said.offset_ms / 1000 - mean, last=one.last + said.offset_ms / 1000 - mean
            )
            for one in segments
        ]
        ending = "" if calibration else said.verdict[said.verdict.rindex(" (") :]
        said = dataclasses.replace(said, verdict=course_in_words(segments, tolerance) + ending)
    curve = trusted.log_likelihood(Evidence.of(together)) if len(scores.starts) else np.full(len(scores.shifts), np.nan)
    return Found(said, segments, scores, curve, seen.note)


def join(seen: Seen, stretch: Stretch) -> Scores:
    """The windows of a video's stretches, each once.

    Where stretches overlap, a window is taken from the one in which no shift is missing.
    """
    rate = stretch.task.clip.stored_frame_rate
    rows: dict[int, tuple[float, dict[str, np.ndarray]]] = {}
    last = len(seen.windows) - 1
    for number, (window, answer) in enumerate(zip(seen.windows, seen.answers, strict=True)):
        room = round((window.end - window.start) * rate) - stretch.span  # the last start that fits
        for row, start in enumerate(stretch.starts.tolist()):
            if start > room:
                break
            is_cut = (number > 0 and start < stretch.margin) or (number < last and start > room - stretch.margin)
            if not is_cut:
                at = window.start + start / rate
                rows.setdefault(round(at * rate), (at, {key: answer[key][row] for key in answer}))
    ordered = [rows[number] for number in sorted(rows)]
    columns = {
        name: np.array([row[name] for _, row in ordered], np.float32).reshape(len(ordered), *shape)
        for name, shape in (("logits", (len(stretch.shifts),)), ("motion", ()), ("loudness", ()))
    }
    starts = np.array([at for at, _ in ordered], np.float64)
    return Scores(starts, stretch.span / rate, stretch.shifts, **columns)


def course_in_words(segments: list[Segment], tolerance: float) -> str:
    """ "the sound drifts from 40 ms late to 320 ms late" or "the sound is 200 ms late until 0:35, then in time"."""
    said = []
    for number, segment in enumerate(segments):
        until = f" until {clock(segment.end)}" if number < len(segments) - 1 else ""
        if abs(segment.last - segment.first) <= tolerance:
            words = in_words(500 * (segment.first + segment.last), 1000 * tolerance)
        else:
            first, last = (_where(one) for one in (segment.first, segment.last))
            words = f"the sound drifts from {first} to {last} ({1000 * segment.slope:+.2g} ms per second)"
        said.append((words.removeprefix("the sound ") if number else words) + until)
    return ", then ".join(said)


def clock(seconds: float) -> str:
    """75 as "1:15"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _where(offset: float) -> str:
    ms = round(1000 * offset)
    return f"{abs(ms)} ms {'late' if ms > 0 else 'early'}" if ms else "in time"
