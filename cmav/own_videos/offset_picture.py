"""The picture of a video's offset: the curve over shifts, and of a long video the logits over time."""

import textwrap

import numpy as np
from etils import epath
from matplotlib.figure import Figure

from cmav.evals import figures
from cmav.offsets.course import LEAST_WINDOWS
from cmav.own_videos.offsets import Found

_TITLE_CHARACTERS = 72


def draw(found: Found, title: str, path: str) -> None:
    """The curve of a video, and of a long one the logits over time, as a PNG.

    Args:
      found: of the video.
      title: over the picture.
      path: of the picture.
    """
    scores, said = found.scores, found.estimate
    shifts_ms = 1000 * scores.shifts
    duration = scores.starts[-1] + scores.seconds - scores.starts[0] if len(scores.starts) else 0
    is_long = duration >= LEAST_WINDOWS * scores.seconds
    figure = Figure(figsize=(7, 5.5 if is_long else 3.2), layout="constrained")
    rows = figure.subplots(2 if is_long else 1, 1, squeeze=False)[:, 0]
    verdict = "\n".join(textwrap.wrap(said.verdict, _TITLE_CHARACTERS))
    axes = rows[0]
    axes.plot(shifts_ms, found.curve, color="tab:blue")
    axes.axvline(0, color="grey", linestyle=":")
    if said.offset_ms is not None:
        axes.axvline(said.offset_ms, color="tab:orange")
        if said.low_ms is not None:
            axes.axvspan(said.low_ms, said.high_ms, color="tab:orange", alpha=0.25)
    axes.set(title=f"{title}\n{verdict}", xlabel="offset (ms; positive: the sound is late)", ylabel="log-likelihood")
    axes.spines[["top", "right"]].set_visible(False)
    if is_long:
        axes = rows[1]
        image = axes.pcolormesh(scores.times, shifts_ms, scores.logits.T, cmap="viridis", shading="nearest")
        for segment in found.segments:
            ends = 1000 * segment.at(np.array([segment.start, segment.end]))
            axes.plot([segment.start, segment.end], ends, color="tab:orange", linewidth=2)
        axes.set(xlabel="time (s)", ylabel="offset (ms)")
        figure.colorbar(image, ax=axes, label="logit: in sync")
    figures.save(figure, epath.Path(path))
