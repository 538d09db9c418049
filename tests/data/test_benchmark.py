"""The benchmark's command line."""

import sys

from cmav.data import benchmark
from tests import fake_clips


def test_prints_clips_per_second_and_the_ratio(tmp_path, monkeypatch, capsys):
    fake_clips.write_dataset(tmp_path, "train", 2, seconds=6.5, size=16)
    run = benchmark.clips_per_second

    def clips_per_second(loader, batch_size, num_batches):
        assert run(loader, batch_size, num_batches) > 0
        return 30.0 if loader.num_threads != 1 else 20.0  # What a busy machine takes is no test.

    monkeypatch.setattr(benchmark, "clips_per_second", clips_per_second)
    command = f"benchmark --data {tmp_path} --frame_rate 7.5 --crop_size 12 --batch_size 2 --num_batches 2"
    monkeypatch.setattr(sys, "argv", command.split())
    assert benchmark.main() == 0
    printed = capsys.readouterr().out
    assert "clips of 32 frames of 12x12, 2 records" in printed
    assert "all threads: 30.0 clips/s, 960 frames/s" in printed
    assert "one thread:  20.0 clips/s, 640 frames/s" in printed
    assert "ratio: 1.50" in printed


def test_without_data_it_says_how_to_make_some(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmark", "--data", str(tmp_path)])
    assert benchmark.main() == 1
    assert "build_tfrecords.py" in capsys.readouterr().err
