"""The overlay that is written: upright, with even sides, whole or not at all."""

import contextlib
import pathlib
from fractions import Fraction

import numpy as np
import pytest

from cmav.own_videos.overlay_video import OverlayVideo, ShownFrames, even
from tests.media.sample_videos import steady_times, write_video
from tests.own_videos.sample_overlays import RATE, decoded, noisy


def test_turned_frames_are_written_upright(tmp_path, monkeypatch):
    """As preparation turns them: its own tests have real videos that are turned."""
    path = write_video(str(tmp_path / "v.mkv"), steady_times(RATE, 0.3), noisy(3), rate=RATE)
    with contextlib.closing(ShownFrames(path)) as frames:
        stored = [picture for _, picture in frames]
    monkeypatch.setattr("cmav.own_videos.overlay_video.as_shown", lambda picture, frame: np.rot90(picture))
    with contextlib.closing(ShownFrames(path)) as frames:
        turned = [picture for _, picture in frames]
        with OverlayVideo(str(tmp_path / "o.mp4"), frames.rate, has_sound=False) as overlay:
            for k, picture in enumerate(turned):
                overlay.write(k * frames.zero, picture)  # all at one time, as of a broken clock
    np.testing.assert_array_equal(np.rot90(stored[1]), turned[1])
    shown_at, pictures, *_ = decoded(tmp_path / "o.mp4")
    assert pictures[0].shape == (48, 32, 3) and len(set(shown_at)) == 3


def test_what_was_there_stays_where_writing_fails(tmp_path):
    path = str(tmp_path / "o.mp4")
    pathlib.Path(path).write_text("before")
    with pytest.raises(KeyError), OverlayVideo(path, Fraction(RATE), has_sound=False) as overlay:
        overlay.write(Fraction(0), noisy(1)[0])
        raise KeyError
    assert (tmp_path / "o.mp4").read_text() == "before" and len(list(tmp_path.iterdir())) == 1


def test_even_sides():
    picture = np.arange(3 * 4 * 3).reshape(3, 4, 3)
    assert even(picture[:2]).shape == (2, 4, 3)
    np.testing.assert_array_equal(even(picture)[3], picture[2])
    assert even(picture[:2, :3]).shape == (2, 4, 3)
