"""One line now and then, for whoever watches: step, loss, speed, time left."""

import time
from collections.abc import Mapping

from absl import logging


class Progress:
    """Logs where training stands.

    Args:
      first_step: steps done before this start.
      total_steps: of the whole of training.
    """

    def __init__(self, first_step: int, total_steps: int):
        self._total = total_steps
        self._digits = len(str(total_steps))
        self._last_step, self._last_time = first_step, time.monotonic()

    def report(self, step: int, metrics: Mapping[str, float]) -> float:
        """Logs one line, and returns the steps per second since the last one (evaluation and saving counted in)."""
        now = time.monotonic()
        rate = (step - self._last_step) / max(now - self._last_time, 1e-9)
        self._last_step, self._last_time = step, now
        shown = "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())
        left = format_seconds((self._total - step) / rate)
        logging.info("step %*d/%d  %s  %.3g steps/s  %s left", self._digits, step, self._total, shown, rate, left)
        return rate


def format_seconds(seconds: float) -> str:
    """Seconds for people: `42s`, `7m05s`, `3h20m`, `2d04h`."""
    seconds = round(seconds)
    for unit, size, part, part_size in (("d", 86400, "h", 3600), ("h", 3600, "m", 60), ("m", 60, "s", 1)):
        if seconds >= size:
            return f"{seconds // size}{unit}{seconds % size // part_size:02d}{part}"
    return f"{seconds}s"
