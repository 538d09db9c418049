"""Clips of sound files, without pictures."""

from fractions import Fraction

import numpy as np
import pytest

from cmav.media.clips import ClipOptions
from cmav.media.manifest import Video
from cmav.media.streams import RejectedError
from cmav.prep.sounds import cut_sound
from tests.media.sample_videos import Sound, flashes_at, steady_times, write_sound, write_video

OPTIONS = ClipOptions(clip_seconds=Fraction(0), sample_rate=16_000, sound_only=True)


def clips_of(path, options=OPTIONS, **video):
    """Returns (clips, reason or None)."""
    clips = []
    try:
        for clip in cut_sound(Video(source=str(path), name="sound", **video), "/", options, lambda: None):
            clips.append(clip)
    except RejectedError as error:
        return clips, str(error)
    return clips, None


def beeps(clip) -> list[float]:
    """Seconds at which the loud 50 ms begin."""
    loud = np.flatnonzero(np.abs(clip.audio[:, 0].astype(int)) > 6000) / clip.sample_rate
    return [loud[0], *loud[1:][np.diff(loud) > 0.05]]


@pytest.mark.parametrize("layout", ["mono", "stereo"])
@pytest.mark.parametrize("start", [0.0, 0.5])
def test_a_sound_is_whole_and_starts_at_its_start(tmp_path, layout, start):
    sound = Sound(beeps=[start + 0.25, start + 1.5], seconds=2.5, start=start, layout=layout)
    (clip,), reason = clips_of(write_sound(str(tmp_path / "sound.mka"), sound), label=3, splits=("fold1",))
    assert reason is None
    assert clip.audio.shape == pytest.approx((40_000, 2), abs=16) and clip.seconds == pytest.approx(2.5, abs=1e-3)
    assert beeps(clip) == pytest.approx([0.25, 1.5], abs=0.002)
    assert not clip.frames and clip.has_audio
    assert (clip.clip_id, clip.label, clip.splits, clip.start_seconds) == ("sound_0", 3, ("fold1",), 0.0)


def test_a_part_of_a_sound(tmp_path):
    path = write_sound(str(tmp_path / "sound.wav"), Sound(beeps=[1.5], seconds=3))
    (clip,), reason = clips_of(path, start=1.0, end=2.25)
    assert reason is None and clip.clip_id == "sound_1000" and clip.audio.shape == (20_000, 2)
    assert beeps(clip) == pytest.approx([0.5], abs=0.002)
    assert clips_of(path, start=5.0) == ([], "nothing to cut (it ends before the start, 5 s)")


def test_clips_of_a_length_are_those_that_sound(tmp_path):
    path = write_sound(str(tmp_path / "sound.wav"), Sound(beeps=[0.2, 2.7], seconds=3.7))
    options = ClipOptions(clip_seconds=Fraction(1), sample_rate=16_000, frame_rate=Fraction(25), sound_only=True)
    clips, reason = clips_of(path, options)
    assert [(clip.clip_id, len(clip.audio)) for clip in clips] == [("sound_0", 16_000), ("sound_2000", 16_000)]
    assert beeps(clips[1]) == pytest.approx([0.7], abs=0.002)
    assert reason == "nothing but zeros in its sound (1 clips of it)"
    short = ClipOptions(clip_seconds=Fraction(5), sample_rate=16_000, sound_only=True)
    assert clips_of(path, short) == ([], "shorter than one clip of 5 s (3.7 s)")


def test_files_without_sound(tmp_path):
    assert clips_of(tmp_path / "none.wav") == ([], "no such file")
    (tmp_path / "stub.wav").write_text("no sound")
    assert "cannot be opened" in clips_of(tmp_path / "stub.wav")[1]
    times = steady_times(25, 0.5)
    video = write_video(str(tmp_path / "video.mkv"), times, flashes_at(times, []))
    assert clips_of(video) == ([], "no audio stream")
    silent = write_sound(str(tmp_path / "silent.wav"), Sound(seconds=1))
    assert clips_of(silent) == ([], "nothing but zeros in its sound (1 clips of it)")
