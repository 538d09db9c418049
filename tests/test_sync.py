"""`python -m cmav.sync`: the table, its report, going on after a kill, and what it refuses."""

import csv
import dataclasses
import json
import os
import sys

import numpy as np
import pytest
from absl import flags as absl_flags
from etils import epath

from cmav import cli
from cmav import sync as sync_module
from cmav.errors import UserError
from cmav.media import decoding
from cmav.offsets.calibration import Calibration
from cmav.own_videos import sync as offsets_of_videos
from cmav.own_videos.sync import sync
from cmav.reporting.offsets import write_page
from cmav.training import frozen
from tests import tiny_config
from tests.fake_worker import FakeWorker
from tests.media.sample_videos import Sound, flashes_at, steady_times, write_sound, write_video
from tests.offsets import fake_sync
from tests.own_videos.test_fixed_video import payloads
from tests.own_videos.test_offsets import write
from tests.test_embed import save_run

LATE = {"late.mkv": 0.2, "early.mp4": -0.36, "in_time.mov": 0.0}


@pytest.fixture(autouse=True)
def here(monkeypatch):
    """Videos are read in this process: tests/media/test_decoding.py has the real ones."""
    monkeypatch.setattr(decoding, "worker", FakeWorker)


@pytest.fixture
def network(tmp_path, monkeypatch):
    """A calibrated one, in place of whatever is asked for."""
    run = tmp_path / "run"
    run.mkdir()
    fitted_on = {"step": 7, "split": "validation", "clips": 50}
    Calibration(scale=1.0, growth=0.5, lapse=1e-3, fitted_on=fitted_on).save(epath.Path(run))
    network = dataclasses.replace(fake_sync.make_network(), run=str(run))
    monkeypatch.setattr(frozen, "load", lambda checkpoint: network)
    return network


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Three videos, one without sound, and a file that is none."""
    folder = tmp_path_factory.mktemp("videos")
    (folder / "more").mkdir()
    for name, late in LATE.items():
        write(folder / name, late, codec="pcm_s16le" if name.endswith(("mkv", "mov")) else "aac")
    times = steady_times(25, 4.0)
    write_video(str(folder / "more" / "late.mkv"), times, flashes_at(times, [1.0, 2.2], size=16), rate=25)
    (folder / "broken.mp4").write_text("no video")
    return folder


def run(videos, out, **more):
    result = sync([str(videos)], "run", str(out), **{"max_shift_ms": 800, "size": 16, **more})
    write_page(result.report, result.rows, result.made_with)
    return result


def read(path):
    with open(path, newline="", encoding="utf-8") as file:
        return {os.path.basename(row["path"]): row for row in csv.DictReader(file) if "more" not in row["path"]}


def test_the_table_and_its_report(network, videos, tmp_path):
    result = run(videos, tmp_path / "sync.csv")
    rows = read(tmp_path / "sync.csv")
    assert list(rows["late.mkv"]) == ["path", "offset_ms", "low_ms", "high_ms", "confidence", "verdict"]
    for name, late in LATE.items():
        row = rows[name]
        assert row["path"] == str(videos / name)
        offset, low, high, confidence = (float(row[key]) for key in list(row)[1:5])
        assert offset == pytest.approx(1000 * late, abs=25) and low < offset < high and 0.5 < confidence <= 1
    assert rows["late.mkv"]["verdict"] == f"the sound is {float(rows['late.mkv']['offset_ms']):.0f} ms late"
    assert rows["early.mp4"]["verdict"].endswith("ms early") and rows["in_time.mov"]["verdict"] == "in time"
    assert rows["broken.mp4"]["verdict"].startswith("cannot tell: ") and rows["broken.mp4"]["offset_ms"] == ""
    assert result.num_new == 4 and len(result.rows) == 5
    report = tmp_path / "sync_report"
    assert sorted(path.name for path in report.iterdir()) == [
        "early.png",
        "in_time.png",
        "index.html",
        "late.mkv.png",
        "more_late.mkv.png",
        "rows.jsonl",
    ]
    page = (report / "index.html").read_text()
    assert "Is the sound in time?" in page and page.count("<img") == 4 and "cannot tell: it has no sound" in page
    assert "not calibrated" not in page


def test_what_is_there_is_not_done_again(network, videos, tmp_path, monkeypatch):
    out = tmp_path / "sync.json"
    run(videos, out)
    before = json.loads(out.read_text())
    rows = tmp_path / "sync_report" / "rows.jsonl"
    lines = rows.read_text().splitlines()
    assert len(lines) == 1 + 4
    rows.write_text("\n".join([*lines[:3], lines[3][:40]]))  # A kill cut off the third video's line.
    seen = []
    from cmav.own_videos import watch as watch_module

    real = watch_module.window_of
    monkeypatch.setattr(watch_module, "window_of", lambda clip: seen.append(clip.source) or real(clip))
    result = run(videos, out)
    assert result.num_new == 2 and len(set(seen)) == 2
    assert json.loads(out.read_text()) == before
    assert {row["path"] for row in before} == {str(path) for path in videos.rglob("*.*")}
    (late,) = (row for row in before if row["path"] == str(videos / "late.mkv"))
    assert len(late["curve"]) == len(late["shifts_ms"]) == 33
    assert late["shifts_ms"][int(np.argmax(late["curve"]))] == pytest.approx(200, abs=26)


def test_other_settings_are_refused(network, videos, tmp_path):
    run(videos / "late.mkv", tmp_path / "sync.csv")
    with pytest.raises(UserError, match=r"(?s)found otherwise.*max_shift_ms was 800.*, is 400"):
        run(videos / "late.mkv", tmp_path / "sync.csv", max_shift_ms=400)
    with pytest.raises(UserError, match=r"ends with \.csv or \.json"):
        run(videos, tmp_path / "sync.txt")
    with pytest.raises(UserError, match="no such video"):
        run(tmp_path / "nothing.mp4", tmp_path / "other.csv")


def test_parts_of_a_csv(network, tmp_path):
    write(tmp_path / "long.mkv", lambda t: np.where(t < 5, 0.3, -0.2), seconds=10.0)
    (tmp_path / "list.csv").write_text("path,start,end\nlong.mkv,0,4.8\nlong.mkv,5.2,\n")
    run(tmp_path / "list.csv", tmp_path / "sync.csv")
    with open(tmp_path / "sync.csv", newline="") as file:
        first, second = csv.DictReader(file)
    assert (first["start"], first["end"], second["start"], second["end"]) == ("0.0", "4.8", "5.2", "")
    assert float(first["offset_ms"]) == pytest.approx(300, abs=30)
    assert float(second["offset_ms"]) == pytest.approx(-200, abs=30)


@pytest.mark.parametrize("step", [None, 5])
def test_without_a_calibration_of_this_step_it_is_said(network, videos, tmp_path, caplog, step):
    path = epath.Path(network.run) / "offset_calibration.json"
    if step is None:
        path.unlink()
    else:
        path.write_text(path.read_text().replace('"step": 7', f'"step": {step}'))
    run(videos / "late.mkv", tmp_path / "sync.csv")
    row = read(tmp_path / "sync.csv")["late.mkv"]
    assert row["verdict"].endswith("ms late (not calibrated)") and float(row["offset_ms"]) > 100
    assert row["low_ms"] == row["high_ms"] == row["confidence"] == ""


def test_a_run_of_this_code(videos, tmp_path):
    """A network with drawn weights knows nothing, and says so without a calibration to say it better."""
    folder = save_run(tmp_path / "avs", tiny_config.get_config())
    result = sync([str(videos / "late.mkv")], folder, str(tmp_path / "sync.csv"), size=20)
    (row,) = result.rows
    assert row["verdict"].startswith("cannot tell: ") and len(row["curve"]) == 21
    assert json.loads((tmp_path / "sync_report" / "rows.jsonl").read_text().splitlines()[0])["step"] == 9
    other = save_run(tmp_path / "cmac", tiny_config.get_cmac_config())
    with pytest.raises(UserError, match="offsets need pictures and sounds encoded apart, and a logit"):
        sync([str(videos / "late.mkv")], other, str(tmp_path / "other.csv"))


def test_corrected_copies_are_in_time_and_their_streams_the_same(network, videos, tmp_path):
    result = run(videos, tmp_path / "sync.csv", fix=str(tmp_path / "corrected"))
    rows = read(tmp_path / "sync.csv")
    assert sorted(path.name for path in (tmp_path / "corrected").iterdir()) == ["early.mp4", "late.mkv"]
    for name in ("early.mp4", "late.mkv"):
        copy = tmp_path / "corrected" / name
        assert rows[name]["fixed"] == str(copy)
        assert rows[name]["fixed_verdict"] == "in time (its streams were copied, and their times moved)"
        assert payloads(copy) == payloads(videos / name)
    assert rows["in_time.mov"]["fixed_verdict"] == rows["broken.mp4"]["fixed_verdict"] == ""
    assert "corrected, late.mkv: in time" in (tmp_path / "sync_report" / "index.html").read_text()
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "corrected").iterdir()}
    again = run(videos, tmp_path / "sync.csv", fix=str(tmp_path / "corrected"))
    assert again.rows == result.rows
    assert times == {path: path.stat().st_mtime_ns for path in (tmp_path / "corrected").iterdir()}
    with pytest.raises(UserError, match="choose another folder"):
        run(videos / "late.mkv", tmp_path / "other.csv", fix=str(videos))


def test_a_drift_is_resampled_and_a_jump_is_not_mended(network, tmp_path):
    write(tmp_path / "drift.mp4", lambda t: -0.3 + 0.02 * t, seconds=20.0, codec="aac")
    write(tmp_path / "jump.mp4", lambda t: np.where(t < 9, 0.4, -0.2), seconds=20.0, codec="aac")
    run(tmp_path, tmp_path / "sync.csv", fix=str(tmp_path / "corrected"))
    rows = read(tmp_path / "sync.csv")
    assert rows["drift.mp4"]["fixed_verdict"].startswith("in time (its sound was resampled by +")
    copied, given = payloads(tmp_path / "corrected" / "drift.mp4"), payloads(tmp_path / "drift.mp4")
    assert copied["video"] == given["video"] and copied["audio"] != given["audio"]
    assert "jumps" in rows["jump.mp4"]["fixed_verdict"] and rows["jump.mp4"]["fixed"] == ""


def test_where_a_sound_belongs(network, tmp_path):
    video = write(tmp_path / "long.mkv", 7.77, seconds=30.0)
    grid = np.arange(30 * 25) / 25
    moments = grid[np.searchsorted(grid, fake_sync.events(30.0, seed=2))] - 11.2
    beeps = np.concatenate([moments, moments + 0.05])
    write_sound(str(tmp_path / "sound.wav"), Sound(beeps[(beeps > 0) & (beeps < 3.9)], 4.0))
    (tmp_path / "broken.mp4").write_text("no video")
    paths = [str(video), str(tmp_path / "broken.mp4")]
    rows = offsets_of_videos.find(str(tmp_path / "sound.wav"), paths, "run", str(tmp_path / "found.csv"), size=16)
    with open(tmp_path / "found.csv", newline="") as file:
        found, broken = csv.DictReader(file)
    assert list(found) == ["path", "seconds", "confidence", "verdict", "others"]
    assert float(found["seconds"]) == pytest.approx(11.2, abs=0.03) and float(found["confidence"]) > 0.5
    assert found["verdict"] == f"the sound belongs at 0:11 ({float(found['seconds']):.2f} s)"
    assert len(found["others"].split()) == 3 and rows[0]["seconds"] == float(found["seconds"])
    assert broken["seconds"] == "" and "cannot be opened" in broken["verdict"]


def test_command_line(network, videos, tmp_path, monkeypatch, capsys):
    values = absl_flags.FlagValues()
    with monkeypatch.context() as patch:
        patch.setattr(sync_module.flags, "FLAGS", values)
        for kind in ("string", "float", "integer"):
            define = getattr(absl_flags, f"DEFINE_{kind}")
            patch.setattr(
                absl_flags, f"DEFINE_{kind}", lambda *a, define=define, **k: define(*a, flag_values=values, **k)
            )
        sync_module._define_flags()
        out = tmp_path / "sync.csv"
        values([sys.argv[0], "--checkpoint=x", f"--out={out}", "--size=16", "--max_shift_ms=800"])
        assert cli._exit_on_user_error(lambda: sync_module.main([str(videos / "late.mkv")])) is None
        said = capsys.readouterr().out
        assert f"{videos / 'late.mkv'}: the sound is " in said and str(tmp_path / "sync_report" / "index.html") in said
        assert cli._exit_on_user_error(lambda: sync_module.main([])) == 1
        assert "VIDEOS is missing" in capsys.readouterr().err
