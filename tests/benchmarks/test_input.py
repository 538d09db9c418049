"""The benchmark of the input: what it counts, and what it says."""

import importlib.util
import json
import sys
import time

import numpy as np
import pytest

from benchmarks import input as benchmark
from tests import fake_clips


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    fake_clips.write_dataset(folder, "train", 2, seconds=6.5, size=32)
    return folder


def test_rows_take_turns_and_neither_the_first_round_nor_the_first_batch_of_each_is_counted(monkeypatch):
    clock = cpu = 0.0
    turns = []

    def row(name, seconds):
        def batches(number):
            nonlocal clock, cpu
            turns.append((number, name))
            for duration in (100.0, *(2 * [seconds if number else 50.0])):
                clock, cpu = clock + duration, cpu + duration / 2
                yield None

        return batches

    monkeypatch.setattr(benchmark.time, "perf_counter", lambda: clock)
    monkeypatch.setattr(benchmark.time, "process_time", lambda: cpu)
    found = benchmark.measure({"slow": row("slow", 4.0), "fast": row("fast", 1.0)}, rounds=2, batch_size=8)
    assert found == {"slow": [(2.0, 4.0)] * 2, "fast": [(8.0, 16.0)] * 2}
    assert turns == [(number, name) for number in range(3) for name in ("slow", "fast")]


def test_a_ratio_is_of_the_same_round():
    # The machine is half as fast in the second round, and hardly there in the third.
    found = {"cmav": [(10.0, 30.0), (5.0, 31.0), (1.0, 29.0)], "other": [(20.0, 30.0), (10.0, 40.0), (2.0, 10.0)]}
    reference, other = benchmark.summarize(found)
    assert reference["ratio"] == 1.0 and other["ratio"] == 2.0
    assert other["clips_per_second"] == {"median": 10.0, "least": 2.0, "most": 20.0, "runs": [20.0, 10.0, 2.0]}
    assert other["clips_per_cpu_second"]["median"] == 30.0


def test_far_storage_is_asked_once_for_a_record(folder, monkeypatch):
    split = benchmark.SplitIndex.load(str(folder), "train")
    near, slept = split.read(1), []
    with monkeypatch.context() as patch:
        patch.setattr(time, "sleep", slept.append)
        with benchmark.far_storage(0.02):
            assert split.read(1) == near
    assert slept == [0.02]
    with monkeypatch.context() as patch:
        patch.setattr(time, "sleep", slept.append)
        split.read(1)  # near again
    assert slept == [0.02]


def test_every_row_makes_whole_batches_or_says_what_is_missing(folder, tmp_path, monkeypatch, capsys):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in ("grain", "torch") else find(name))
    shapes = {}

    def measure(rows, rounds, batch_size):
        for name, batches in rows.items():
            made = [batch["video"] if isinstance(batch, dict) else batch for batch in batches(0)]
            shapes[name] = [video.shape for video in made]
            assert all(np.ptp(video) > 0 for video in made)
        # What a busy machine takes is no test.
        return {name: [(20.0 + number, 30.0)] * rounds for number, name in enumerate(rows)}

    monkeypatch.setattr(benchmark, "measure", measure)
    command = (
        f"input.py --data {folder} --frame_rate 7.5 --crop_size 12 --batch_size 2 --num_batches 1 --threads 2 "
        f"--latency 1 --json {tmp_path / 'input.json'}"
    )
    monkeypatch.setattr(sys, "argv", command.split())
    assert benchmark.main() == 0
    names = ["cmav", "cmav, 2 threads", "cmav, far, 1 thread", "cmav, far, 2 threads", "tf.data", "pyav"]
    assert shapes == {name: [(2, 32, 12, 12, 3)] * 2 for name in names}

    printed = capsys.readouterr().out
    assert "clips of 32 frames of 12x12, 2 records" in printed
    assert "21.0 (21.0–21.0)" in printed and "| 1.05 " in printed
    assert "missing: grain not installed" in printed
    (result,) = json.loads((tmp_path / "input.json").read_text())["results"]
    assert [row["row"] for row in result["rows"]] == [*names, "grain", "torchcodec"]
    assert result["rows"][0]["clips_per_cpu_second"]["median"] == 30.0
    assert "torch" in result["rows"][-1]["missing"]


def test_without_data_it_says_how_to_make_some(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["input.py", "--data", str(tmp_path)])
    assert benchmark.main() == 1
    assert "cmav prep" in capsys.readouterr().err
