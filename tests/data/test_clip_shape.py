"""The numbers of a clip, against those that the paper prints."""

import subprocess
import sys

import pytest

from cmav.data.clip_shape import ClipShape
from cmav.errors import UserError

STORED = 30000 / 1001


@pytest.mark.parametrize("frame_rate, stride, num_frames", [(29.97, 1, 126), (7.5, 4, 32), (15, 2, 63), (10, 3, 42)])
def test_clip_of_the_paper(frame_rate, stride, num_frames):
    shape = ClipShape(seconds=4.2, stored_frame_rate=STORED, frame_rate=frame_rate, sample_rate=21_000)
    assert shape.stride == stride
    assert shape.num_frames == num_frames
    assert shape.stored_frames == 126
    assert shape.num_samples == 88_200
    assert shape.achieved_frame_rate == pytest.approx(frame_rate, rel=0.02)
    assert len(range(0, shape.stored_frames, shape.stride)) == shape.num_frames


def test_whole_numbers_of_frames_are_not_rounded_up():
    for seconds in (0.1, 0.7, 1.1, 2.3, 4.2):
        assert ClipShape(seconds, 30.0, 30.0, 16_000).stored_frames == round(seconds * 30)


@pytest.mark.parametrize("frame_rate", [12, 25, 60, 40])
def test_a_rate_that_no_stride_gives_is_refused_with_those_possible(frame_rate):
    with pytest.raises(UserError, match=rf"{frame_rate} Hz cannot be had .* 29\.97, 14\.985"):
        ClipShape(4.2, STORED, frame_rate, 21_000)


@pytest.mark.parametrize("name", ["seconds", "stored_frame_rate", "frame_rate", "sample_rate"])
@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_values_must_be_positive(name, value):
    values = dict(seconds=4.2, stored_frame_rate=30.0, frame_rate=30.0, sample_rate=16_000)
    with pytest.raises(UserError, match=f"{name} must be positive"):
        ClipShape(**values | {name: value})


def test_shifts_are_rounded_inwards():
    shape = ClipShape(4.2, STORED, 7.5, 21_000)
    assert shape.shift_frames((2.0, 5.8)) == (60, 173)  # 59.94 and 173.8 frames
    assert ClipShape(1.0, 10.0, 10.0, 100).shift_frames((0.3, 0.7)) == (3, 7)
    assert shape.shortest_seconds((2.0, 5.8)) == pytest.approx((126 + 60) / STORED)


@pytest.mark.parametrize("shift", [(0.0, 1.0), (2.0, 1.0), (-1.0, 1.0), (0.501, 0.502)])
def test_impossible_shifts_are_refused(shift):
    with pytest.raises(UserError, match=r"^shift_seconds=\("):  # of `data`, or of a phase
        ClipShape(1.0, 30.0, 30.0, 100).shift_frames(shift)


def test_import_does_not_load_tensorflow():
    code = "import sys, cmav.data.clip_shape; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
