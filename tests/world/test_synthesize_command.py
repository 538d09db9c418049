"""The command that makes a synthetic world: repeated, interrupted, misused."""

import json
from pathlib import Path

import pytest

from cmav.world import synthesize_videos
from tests.world.sample_worlds import make


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_same_seed_same_bytes_whatever_the_workers(tmp_path):
    options = ("--num_videos", "3", "--duration", "2", "--num_sources", "2", "--distractors", "0-1")
    one = files_of(make(tmp_path / "one", *options))
    two = files_of(make(tmp_path / "two", *options, "--workers", "2"))
    assert one == two
    other = files_of(make(tmp_path / "other", *options, "--seed", "1"))
    videos = [name for name in one if name.endswith(".mp4")]
    assert len(videos) == 3 and all(one[name] != other[name] for name in videos)


def test_interrupted_run_continues_and_grows(tmp_path):
    options = ("--duration", "2", "--size", "48")
    whole = files_of(make(tmp_path / "whole", "--num_videos", "4", *options))
    folder = make(tmp_path / "grown", "--num_videos", "2", *options)
    kept = next(folder.glob("videos/*/*.mp4"))
    before = kept.stat().st_mtime_ns
    # What a kill leaves: a part of the next video under its temporary name.
    next_name = next(name for name in whole if name.endswith(".mp4") and not (folder / name).exists())
    (folder / next_name).parent.mkdir(exist_ok=True)
    (folder / f"{next_name}.unfinished").write_bytes(whole[next_name][:100])
    make(folder, "--num_videos", "4", *options)
    assert files_of(folder) == whole
    assert kept.stat().st_mtime_ns == before


def test_folder_of_another_world_is_refused(tmp_path, capsys):
    make(tmp_path, "--num_videos", "1", "--duration", "2", "--size", "48")
    before = files_of(tmp_path)
    with pytest.raises(SystemExit):
        make(tmp_path, "--num_videos", "2", "--duration", "2", "--size", "48", "--seed", "5")
    assert "seed 0 there, 5 asked" in capsys.readouterr().err
    assert files_of(tmp_path) == before


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ((), ("--looks_by_timbre",), "looks_by_timbre False there, True asked"),
        (("--looks_by_timbre",), (), "looks_by_timbre True there, False asked"),
    ],
)
def test_looks_by_timbre_is_another_world(tmp_path, capsys, before, after, message):
    options = ("--num_videos", "1", "--duration", "2", "--size", "48")
    make(tmp_path, *options, *before)
    assert ("looks_by_timbre" in json.loads((tmp_path / "world.json").read_text())) == bool(before)
    with pytest.raises(SystemExit):
        make(tmp_path, *options, *after)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--classes", "BounceGong"), "no class 'BounceGong'"),
        (("--classes", "1", "--offscreen_share", "0.5"), "2 timbres"),
        (("--num_sources", "2-1"), "num_sources"),
        (("--num_sources", "0"), "num_sources"),
        (("--distractors", "many"), "'many' is neither a number"),
        (("--num_sources", "3", "--distractors", "4"), "7 sources and distractors"),
        (("--duration", "0.5"), "duration"),
        (("--size", "33"), "even"),
        (("--frame_rate", "1/0"), "'1/0' is neither a number"),
        (("--train_share", "80"), "'80' is not a number from 0 to 1"),
        (("--workers", "0"), "'0' is not a whole number"),
        (("--sample_rate", "1000"), "16000"),
    ],
)
def test_bad_options_are_named(tmp_path, capsys, options, message):
    with pytest.raises(SystemExit):
        make(tmp_path / "world", "--num_videos", "1", *options)
    assert message in capsys.readouterr().err
    assert not (tmp_path / "world").exists()


def test_no_arguments_print_help(capsys):
    assert synthesize_videos.main([]) == 2
    printed = capsys.readouterr().out
    assert "--num_videos" in printed and "cmav synthesize --out" in printed
