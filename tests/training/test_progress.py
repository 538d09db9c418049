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
        assert report.report(30, {"loss": 0.693147}) == pytest.approx(2.0)
        assert report.report(40, {"loss": 0.5}) == pytest.approx(5.0)
    assert "step  30/100  loss 0.6931  2 steps/s  35s left" in caplog.text
    assert "step  40/100  loss 0.5  5 steps/s  12s left" in caplog.text
