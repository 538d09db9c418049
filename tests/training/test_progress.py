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


def test_the_wait_for_a_batch_counts_where_the_devices_have_nothing_to_do(monkeypatch, caplog):
    now = 0.0

    def sleep(seconds):
        nonlocal now
        now += seconds

    monkeypatch.setattr(progress.time, "monotonic", lambda: now)

    def batches():
        for seconds in (3.0, 2.0, 0.5):
            sleep(seconds)
            yield seconds

    is_idle = iter([True, False, True])
    report = progress.Progress(first_step=0, total_steps=6)
    seen = []
    for batch in report.count_waits(batches(), is_idle=lambda: next(is_idle)):
        seen.append(batch)
        sleep(1.5)  # at the step, which is no waiting
    assert seen == [3.0, 2.0, 0.5] and now == 10.0
    with caplog.at_level("INFO", logger="absl"):
        assert report.report(3, {})["input_wait"] == pytest.approx(0.35)  # 3 and 0.5 of 10 seconds
        sleep(1.0)
        assert report.report(4, {})["input_wait"] == 0.0  # Told once.
    assert "35.0% waiting for input" in caplog.text
