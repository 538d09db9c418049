"""The benchmark's command line."""

import re
import sys

import pytest

from cmav.data import benchmark
from tests import fake_clips


def test_prints_clips_per_second_and_the_ratio(tmp_path, monkeypatch, capsys):
    fake_clips.write_dataset(tmp_path, "train", 2, seconds=6.5, size=16)
    command = f"benchmark --data {tmp_path} --frame_rate 7.5 --crop_size 12 --batch_size 2 --num_batches 2"
    monkeypatch.setattr(sys, "argv", command.split())
    assert benchmark.main() == 0
    printed = capsys.readouterr().out
    assert "clips of 32 frames of 12x12, 2 records" in printed
    fast, slow, ratio = (float(number) for number in re.findall(r"(?:threads?: +|ratio: )([\d.]+)", printed))
    assert fast > 0 and slow > 0
    assert ratio == pytest.approx(fast / slow, rel=0.05)


def test_without_data_it_says_how_to_make_some(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmark", "--data", str(tmp_path)])
    assert benchmark.main() == 1
    assert "build_tfrecords.py" in capsys.readouterr().err
