"""One line now and then, for whoever watches: step, loss, speed, time left, and whether the input keeps up."""

import concurrent.futures
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

import jax
from absl import logging

T = TypeVar("T")


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
        self._waited = 0.0  # seconds since then
        self._watch = concurrent.futures.ThreadPoolExecutor(1, "cmav-step-end")
        self._end: concurrent.futures.Future[float] | None = None  # when the devices were at the last step's end

    def begin(self, result: jax.Array) -> None:
        """A step was given to the devices, which work until its result is there."""
        self._end = self._watch.submit(_when_there, result)

    def count_waits(self, batches: Iterable[T]) -> Iterator[T]:
        """Yields the batches, and counts how long each kept devices waiting that had nothing else to do."""
        batches = iter(batches)
        while True:
            asked = time.monotonic()
            try:
                batch = next(batches)
            except StopIteration:
                return
            if not self._end or self._end.done():
                self._waited += time.monotonic() - max(asked, self._end.result() if self._end else asked)
            yield batch

    def report(self, step: int, metrics: Mapping[str, float]) -> dict[str, float]:
        """Logs one line.

        Returns:
          Of the time since the last line, evaluation and saving counted in: `steps_per_second`, and `input_wait`, the
          share of it, 0 to 1, in which the devices of this process had nothing to do because the next batch was not
          there.
        """
        now = time.monotonic()
        seconds = max(now - self._last_time, 1e-9)
        rate, wait = (step - self._last_step) / seconds, self._waited / seconds
        self._last_step, self._last_time, self._waited = step, now, 0.0
        shown = "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())
        left = format_seconds((self._total - step) / rate)
        logging.info(
            "step %*d/%d  %s  %.3g steps/s, %.1f%% waiting for input  %s left",
            *(self._digits, step, self._total, shown, rate, 100 * wait, left),
        )
        return {"steps_per_second": rate, "input_wait": wait}


def _when_there(result: jax.Array) -> float:
    jax.block_until_ready(result)
    return time.monotonic()


def format_seconds(seconds: float) -> str:
    """Seconds for people: `42s`, `7m05s`, `3h20m`, `2d04h`."""
    seconds = round(seconds)
    for unit, size, part, part_size in (("d", 86400, "h", 3600), ("h", 3600, "m", 60), ("m", 60, "s", 1)):
        if seconds >= size:
            return f"{seconds // size}{unit}{seconds % size // part_size:02d}{part}"
    return f"{seconds}s"
