import threading

import pytest

from cmav.training import progress


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0s"), (59, "59s"), (65, "1m05s"), (3600 * 3 + 1200, "3h20m"), (86400 * 2 + 14400, "2d04h")],
)
def test_seconds_for_people(seconds, text):
    assert progress.format_seconds(seconds) == text


def test_a_line_has_speed_and_time_left(monkeypatch, caplog):
    now = iter([100.0, 105.0, 107.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(now))
    report = progress.Progress(first_step=20, total_steps=100)
    with caplog.at_level("INFO", logger="absl"):
        assert report.report(30, {"loss": 0.693147}) == pytest.approx({"steps_per_second": 2.0, "input_wait": 0.0})
        assert report.report(40, {"loss": 0.5}) == pytest.approx({"steps_per_second": 5.0, "input_wait": 0.0})
    assert "step  30/100  loss 0.6931  2 steps/s, 0.0% waiting for input  35s left" in caplog.text
    assert "step  40/100  loss 0.5  5 steps/s, 0.0% waiting for input  12s left" in caplog.text


class Result:
    """Of a step: there when it is said to be."""

    def __init__(self):
        self.is_there = threading.Event()

    def block_until_ready(self):
        assert self.is_there.wait(60)


def test_the_wait_for_a_batch_counts_while_the_devices_have_nothing_to_do(monkeypatch, caplog):
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    report = progress.Progress(first_step=0, total_steps=6)
    results = [Result(), Result()]

    def end(step):
        results[step].is_there.set()
        report._end.result()

    def batches():
        nonlocal now
        now += 3.0  # Nothing was given to the devices yet: they wait.
        yield 0
        now += 2.0  # They are at step 0 ...
        end(step=0)
        now += 1.0  # ... and have done it.
        yield 1
        now += 2.0  # They are at step 1 when the batch comes.
        yield 2
        end(step=1)

    with caplog.at_level("INFO", logger="absl"):
        for batch in report.count_waits(batches()):
            if batch < 2:
                report.begin(results[batch])
        assert report.report(3, {})["input_wait"] == pytest.approx(0.5)  # 3 and 1 of 8 seconds
        now += 1.0
        assert report.report(4, {})["input_wait"] == 0.0  # Told once.
    assert "50.0% waiting for input" in caplog.text
