"""Clips of synthesized videos, above all: a flash and a beep of the same moment come out at the same moment."""

from fractions import Fraction

import numpy as np
import pytest
import tensorflow as tf

from cmav.media.clips import ClipOptions, cut
from cmav.media.manifest import Video
from cmav.media.streams import RejectedError
from tests.media import sample_videos
from tests.media.sample_videos import Sound, flashes_at, numbered, steady_times, write_video

NTSC = Fraction(30000, 1001)
OPTIONS = ClipOptions(clip_seconds=Fraction(2), size=32)


def clips_of(path, options=OPTIONS, **video):
    """Returns (clips, reason or None)."""
    clips = []
    try:
        for clip in cut(Video(source=str(path), name="video", **video), "/", options, lambda: None):
            clips.append(clip)
    except RejectedError as error:
        return clips, str(error)
    return clips, None


def brightness(jpeg: bytes) -> float:
    return float(np.mean(tf.io.decode_jpeg(jpeg).numpy()))


def first_flash(clip) -> float:
    """Seconds from the clip's start at which the picture turns white."""
    return next(k for k, jpeg in enumerate(clip.frames) if brightness(jpeg) > 128) / clip.frame_rate


def first_beep(clip, channel: int) -> float:
    loud = np.flatnonzero(np.abs(clip.audio[:, channel].astype(int)) > np.abs(clip.audio.astype(int)).max() / 3)
    return loud[0] / clip.sample_rate


CASES = {
    "25 fps": dict(fps=25),
    "29.97 fps": dict(fps=NTSC),
    "60 fps": dict(fps=60),
    "audio starts later": dict(fps=25, sound=dict(start=0.5, seconds=2.0)),
    "audio starts earlier": dict(fps=25, start=0.48, sound=dict(seconds=3.0)),
    "both start late": dict(fps=25, start=10.0, sound=dict(start=9.9, seconds=3.0)),
    "mono 44.1 kHz": dict(fps=NTSC, sound=dict(layout="mono", sample_rate=44_100)),
    "5.1": dict(fps=25, sound=dict(layout="5.1")),
    "aac in mp4": dict(fps=NTSC, suffix=".mp4", sound=dict(codec="aac")),
    "aac in mp4, audio later": dict(fps=25, suffix=".mp4", sound=dict(codec="aac", start=0.5, seconds=2.0)),
    "aac in mp4, audio earlier": dict(fps=25, start=0.48, suffix=".mp4", sound=dict(codec="aac", seconds=3.0)),
    "aac 5.1 in mp4": dict(fps=25, suffix=".mp4", sound=dict(codec="aac", layout="5.1")),
    "b-frames in mp4": dict(fps=25, suffix=".mp4", options={"bf": "2"}, sound=dict(codec="aac")),
    "transport stream": dict(fps=25, suffix=".ts", sound=dict(codec="aac")),
    "avi": dict(fps=25, suffix=".avi", codec="mpeg4", time_base=Fraction(1, 25), rate=25),
    "a hole in the audio": dict(fps=25, sound=dict(hole=(0.2, 0.7), seconds=2.5)),
    "variable rate": dict(fps="variable"),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_flash_and_beep_stay_together(tmp_path, case):
    case = dict(case)
    fps, start = case.pop("fps"), case.pop("start", 0.0)
    if fps == "variable":
        gaps = np.random.default_rng(0).integers(1, 8, 100)
        times = [Fraction(int(t), 100) for t in np.cumsum(gaps) if t < 240]
    else:
        times = steady_times(fps, 2.4, start)
    event = min(times, key=lambda time: abs(time - (times[0] + 1)))
    sound = Sound(**{"beeps": [float(event)], "seconds": 2.4} | case.pop("sound", {}))
    path = write_video(
        str(tmp_path / f"video{case.pop('suffix', '.mkv')}"), times, flashes_at(times, [event]), sound, **case
    )
    (clip,), reason = clips_of(path)
    assert reason is None and clip.has_audio
    assert len(clip.frames) == 60 and clip.audio.shape == (42042, 2)
    one_frame = 1 / clip.frame_rate
    assert first_flash(clip) == pytest.approx(float(event - times[0]), abs=one_frame)
    for channel in (0, 1):
        assert first_beep(clip, channel) == pytest.approx(first_flash(clip), abs=one_frame)


def test_second_clip_keeps_the_moment_too(tmp_path):
    times = steady_times(25, 4.5)
    sound = Sound(beeps=[0.6, 3.0], seconds=4.5)
    path = write_video(str(tmp_path / "video.mkv"), times, flashes_at(times, [0.6, 3.0]), sound)
    clips, reason = clips_of(path)
    assert reason is None
    assert [clip.clip_id for clip in clips] == ["video_0", "video_2002"]
    assert first_flash(clips[1]) == pytest.approx(3.0 - 60 * 1001 / 30000, abs=1 / 29.97)
    assert first_beep(clips[1], 0) == pytest.approx(3.0 - 60 * 1001 / 30000, abs=0.002)


def test_start_and_end_cut_first(tmp_path):
    times = steady_times(25, 6)
    path = write_video(str(tmp_path / "video.mkv"), times, flashes_at(times, [2.4]), Sound(beeps=[2.4], seconds=6))
    (clip,), reason = clips_of(path, start=1.4, end=4.9)
    assert reason is None
    assert clip.clip_id == "video_1400" and clip.start_seconds == pytest.approx(1.4)
    assert first_flash(clip) == pytest.approx(1.0, abs=1 / 29.97)
    assert first_beep(clip, 0) == pytest.approx(1.0, abs=0.002)


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_a_late_start_gives_the_bytes_of_decoding_all(tmp_path, monkeypatch, suffix):
    times = steady_times(10, 34)
    # Not AAC: its decoder makes up noise from random numbers, which depend on where it began.
    sound = Sound(beeps=np.arange(0.3, 33, 0.7), seconds=34, codec="mp3")
    path = write_video(str(tmp_path / f"video{suffix}"), times, numbered(340), sound, options={"g": "40", "bf": "2"})
    packets = []
    video = Video(path, "video", start=30.0)
    (sought,) = cut(video, "/", OPTIONS, lambda: packets.append("sought"))
    monkeypatch.setattr("cmav.media.streams.SEEKABLE_FORMATS", ())
    (decoded,) = cut(video, "/", OPTIONS, lambda: packets.append("decoded"))
    assert sought.frames == decoded.frames
    # The resampler's grid begins where decoding did, so samples may be a fraction of a sample apart.
    assert np.corrcoef(sought.audio[:, 0], decoded.audio[:, 0])[0, 1] > 0.95
    assert first_beep(sought, 0) == pytest.approx(first_beep(decoded, 0), abs=0.001)
    assert packets.count("sought") < packets.count("decoded") / 2


def test_whole_video(tmp_path):
    times = steady_times(25, 1.52)
    path = write_video(str(tmp_path / "video.mkv"), times, numbered(38), Sound(seconds=1.0, beeps=[0.5]))
    options = ClipOptions(clip_seconds=Fraction(0), size=32, frame_rate=Fraction(25), sample_rate=16_000)
    (clip,), reason = clips_of(path, options, label=3, label_name="swim", splits=("test1",))
    assert reason is None
    assert len(clip.frames) == 38 and len(clip.audio) == 24_320
    assert (clip.label, clip.label_name, clip.splits) == (3, "swim", ("test1",))
    assert not clip.audio[16_100:].any()  # the sound ends before the pictures do


def test_silent_videos_are_marked(tmp_path):
    times = steady_times(25, 2.4)
    without = write_video(str(tmp_path / "without.mp4"), times, numbered(60))
    zeros = write_video(str(tmp_path / "zeros.mp4"), times, numbered(60), Sound(seconds=2.4, codec="aac"))
    for path in (without, zeros):
        (clip,), reason = clips_of(path)
        assert reason is None
        assert clip.has_audio is False and clip.audio.shape == (42042, 2) and not clip.audio.any()


def test_two_frames_may_be_missing_of_ten_seconds(tmp_path):
    options = ClipOptions(size=32)
    for missing, expected in ((2, 1), (9, 0)):
        times = steady_times(NTSC, 300 / NTSC)[: 300 - missing]
        clips, reason = clips_of(write_video(str(tmp_path / f"{missing}.mkv"), times, numbered(len(times))), options)
        assert len(clips) == expected
        if clips:
            assert len(clips[0].frames) == 300 and clips[0].frames[-1] == clips[0].frames[297]
        else:
            assert reason == "shorter than one clip of 10 s (9.71 s)"


def test_reasons(tmp_path):
    times = steady_times(25, 1)
    short = write_video(str(tmp_path / "short.mp4"), times, numbered(25), Sound(seconds=1))
    assert clips_of(short) == ([], "shorter than one clip of 2 s (1 s)")
    assert clips_of(short, start=5.0) == ([], "nothing to cut (it ends before the start, 5 s)")
    assert clips_of(tmp_path / "none.mp4") == ([], "no such file")
    (tmp_path / "text.mp4").write_text("not a video" * 100)
    assert clips_of(tmp_path / "text.mp4")[1].startswith("cannot be opened (")
    with sample_videos.av.open(str(tmp_path / "sound.m4a"), "w") as container:
        stream = container.add_stream("aac", rate=48_000)
        for frame in sample_videos._sound_frames(Sound(beeps=[0.5])):
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert clips_of(tmp_path / "sound.m4a") == ([], "no video stream")


def test_clips_come_while_the_video_is_being_decoded(tmp_path):
    times = steady_times(25, 20)
    path = write_video(str(tmp_path / "long.mp4"), times, numbered(500), Sound(seconds=20, codec="aac"))
    packets = []
    clips = cut(Video(path, "long"), "/", OPTIONS, lambda: packets.append(1))
    next(clips)
    early = len(packets)
    assert len(list(clips)) == 9
    assert early < len(packets) / 4


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_file_that_breaks_off_keeps_the_clips_before(tmp_path, suffix):
    times = steady_times(25, 8)
    noise = np.random.default_rng(0).integers(0, 255, (200, 64, 64, 3), np.uint8)
    path = tmp_path / f"whole{suffix}"
    write_video(str(path), times, list(noise), Sound(seconds=8))
    if suffix == ".mp4":  # with the header in front, as files for the web have it
        path = _with_header_in_front(path, tmp_path / "front.mp4")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    clips, reason = clips_of(path)
    assert len(clips) == 2
    assert reason.startswith("damaged (after 4.") and "2 clips of which are kept" in reason and "breaks off" in reason
    (whole,), reason = clips_of(path, ClipOptions(clip_seconds=Fraction(0), size=32))
    assert 4 < whole.seconds < 5.5 and "breaks off" in reason


def test_garbage_in_the_middle_does_not_end_a_video_whose_decoder_recovers(tmp_path):
    times = steady_times(25, 8)
    noise = np.random.default_rng(0).integers(0, 255, (200, 64, 64, 3), np.uint8)
    path = tmp_path / "video.mkv"
    write_video(str(path), times, list(noise), options={"g": "10"})
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 20_000] = np.random.default_rng(1).bytes(20_000)
    path.write_bytes(data)
    clips, _ = clips_of(path)
    assert len(clips) == 4


def _with_header_in_front(path, out):
    with (
        sample_videos.av.open(str(path)) as old,
        sample_videos.av.open(str(out), "w", options={"movflags": "faststart"}) as new,
    ):
        streams = {stream.index: new.add_stream_from_template(stream) for stream in old.streams}
        for packet in old.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                new.mux(packet)
    return out
