"""Pictures at a constant rate, upright, in the right colours."""

import itertools
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import tensorflow as tf
from av.video.reformatter import Interpolation, VideoReformatter

from cmav.media.streams import DamagedError
from cmav.media.video_track import VideoTrack, in_order, resized, upright
from tests.media.sample_videos import numbered, steady_times, write_video

NTSC = Fraction(30000, 1001)
REAL_VIDEOS = Path(__file__).parents[3] / "shared" / "videos"
real_videos = pytest.mark.skipif(not REAL_VIDEOS.is_dir(), reason="the real videos are not beside the repository")


def track_of(path, size=16) -> VideoTrack:
    return VideoTrack(str(path), size, 95, lambda: None)


def pictures_of(path, rate=NTSC, start=0, end=None, size=16) -> np.ndarray:
    frames = track_of(path, size).frames(Fraction(rate), Fraction(start), None if end is None else Fraction(end))
    return np.stack([tf.io.decode_jpeg(jpeg).numpy() for jpeg in frames])


def numbers_of(path, **kwargs) -> np.ndarray:
    """Which of the numbered pictures is on screen in each frame."""
    return np.round(pictures_of(path, **kwargs).mean(axis=(1, 2, 3)) / 4).astype(int)


def on_screen(times, rate, seconds) -> list[int]:
    """The definition, said plainly: at each instant, the last picture that has come, to half a millisecond."""
    times = [time - times[0] for time in times]
    shown = []
    for k in range(int(np.ceil(seconds * rate))):
        shown.append(max(number for number, time in enumerate(times) if time < k / rate + Fraction(1, 2000)))
    return shown


@pytest.mark.parametrize("fps", [10, 25, 30, 50, 60])
def test_constant_rates(tmp_path, fps):
    times = steady_times(fps, 1)
    path = write_video(str(tmp_path / "v.mp4"), times, numbered(fps), rate=fps)
    assert numbers_of(path).tolist() == on_screen(times, NTSC, Fraction(1))


def test_variable_rate(tmp_path):
    gaps = np.random.default_rng(3).integers(5, 200, 40)
    times = [Fraction(int(t), 1000) for t in np.cumsum(gaps)]
    path = write_video(str(tmp_path / "v.mkv"), times, numbered(40))
    numbers = numbers_of(path)
    expected = on_screen(times, NTSC, times[-1] - times[0])
    assert numbers[: len(expected)].tolist() == expected
    assert set(numbers[len(expected) :]) == {39}


def test_milliseconds_of_matroska_do_not_double_frames(tmp_path):
    times = steady_times(NTSC, 60 / NTSC)
    path = write_video(str(tmp_path / "v.mkv"), times, numbered(60), rate=NTSC)
    assert numbers_of(path).tolist() == list(range(60))


def test_start_and_end(tmp_path):
    times = steady_times(25, 2)
    path = write_video(str(tmp_path / "v.mp4"), times, numbered(50))
    assert numbers_of(path, rate=25, start=Fraction("0.4"), end=Fraction("1.2")).tolist() == list(range(10, 30))
    assert len(list(track_of(path).frames(NTSC, Fraction(3), None))) == 0


def test_only_shown_frames_are_converted(tmp_path, monkeypatch):
    path = write_video(str(tmp_path / "v.mp4"), steady_times(60, 1), numbered(60))
    converted = []
    encode = VideoTrack._encode
    monkeypatch.setattr(VideoTrack, "_encode", lambda self, frame: converted.append(1) or encode(self, frame))
    assert len(list(track_of(path).frames(Fraction(15, 2), Fraction(0), None))) == 8
    assert len(converted) == 8


@pytest.mark.parametrize("size", [(2, 2), (6, 50), (121, 161), (50, 66)])
def test_odd_and_tiny_sizes(tmp_path, size):
    picture = np.full((*size, 3), 200, np.uint8)
    path = write_video(
        str(tmp_path / "v.mkv"), steady_times(25, 0.2), [picture] * 5, codec="ffv1", pixel_format="yuv444p"
    )
    pictures = pictures_of(path, size=32)
    assert pictures.shape == (6, 32, 32, 3)
    np.testing.assert_allclose(pictures, 200, atol=3)


@pytest.mark.parametrize(
    "pixel_format, color_range",
    [("yuv420p", "tv"), ("yuv420p", "pc"), ("yuvj420p", "pc"), ("yuv420p10le", "tv"), ("gray", "pc"), ("bgr0", "pc")],
)
def test_colours_and_their_range(tmp_path, pixel_format, color_range):
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[:32], picture[32:, :32], picture[32:, 32:] = 255, (200, 40, 40), 0
    path = str(tmp_path / "v.mkv")
    with av.open(path, "w") as container:
        codec = "mjpeg" if pixel_format == "yuvj420p" else "ffv1"
        stream = container.add_stream(codec, rate=25, options={"qmin": "1", "qmax": "1"})
        stream.width = stream.height = 64
        stream.pix_fmt = pixel_format
        stream.codec_context.color_range = 2 if color_range == "pc" else 1
        for k in range(5):
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            frame = frame.reformat(format=pixel_format, dst_color_range=2 if color_range == "pc" else 1)
            frame.pts, frame.time_base = k, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    shown = pictures_of(path, size=32)[0].astype(int)
    np.testing.assert_allclose(shown[4], 255, atol=6)
    np.testing.assert_allclose(shown[28, 28], 0, atol=6)
    if pixel_format != "gray":
        np.testing.assert_allclose(shown[28, 4], (200, 40, 40), atol=12)


# For a picture of two rows and three columns, where each stored point (x, y) is shown, by the display matrix.
@pytest.mark.parametrize(
    "a, b, c, d", [(s, 0, 0, t) for s in (1, -1) for t in (1, -1)] + [(0, s, t, 0) for s in (1, -1) for t in (1, -1)]
)
def test_upright_puts_each_point_where_the_matrix_says(a, b, c, d):
    stored = np.arange(6).reshape(2, 3, 1)
    points = {}
    for y in range(2):
        for x in range(3):
            points[x * a + y * c, x * b + y * d] = stored[y, x, 0]
    left, top = min(x for x, _ in points), min(y for _, y in points)
    shown = upright(stored, 65536 * np.array([a, b, 0, c, d, 0, 0, 0, 16384]))
    assert {(x + left, y + top): shown[y, x, 0] for y, x in np.ndindex(*shown.shape[:2])} == points


@pytest.mark.parametrize("degrees, matrix", [(90, (0, 1, -1, 0)), (180, (-1, 0, 0, -1)), (270, (0, -1, 1, 0))])
def test_a_phone_that_was_held_sideways(tmp_path, degrees, matrix):
    upright_picture = np.zeros((64, 64, 3), np.uint8)
    upright_picture[:32, :32] = 250  # bright in the upper left
    stored = np.rot90(upright_picture, degrees // 90)  # as the sensor sees it: the player turns it clockwise
    path = tmp_path / "v.mp4"
    write_video(str(path), steady_times(25, 0.2), [stored] * 5)
    data = bytearray(path.read_bytes())
    header = data.index(b"tkhd") + 4
    a, b, c, d = matrix
    data[header + 40 : header + 76] = np.array(
        [a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30], ">i4"
    ).tobytes()
    path.write_bytes(data)
    picture = pictures_of(path)[0].astype(int)
    assert picture[3, 3].min() > 200
    assert max(picture[3, 12].max(), picture[12, 3].max(), picture[12, 12].max()) < 50


def fake_frames(stamps):
    for number, pts in enumerate(stamps):
        frame = av.VideoFrame(16, 16, "gray")
        frame.pts, frame.time_base = pts, Fraction(1, 10)
        frame.opaque = number
        yield frame


def in_order_of(stamps):
    frames = list(in_order(fake_frames(stamps), Fraction(1, 10)))
    assert [frame.opaque for _, frame in frames] == list(range(len(stamps)))
    return [int(time * 10) for time, _ in frames]


def test_scrambled_timestamps_are_sorted_but_frames_stay():
    assert in_order_of([1, 4, 3, 5, 7, 6, 9, 8, 10, 11]) == [1, 3, 4, 5, 6, 7, 8, 9, 10, 11]


def test_missing_timestamps_follow_the_one_before():
    assert in_order_of([None, None, None]) == [0, 1, 2]
    assert in_order_of([5, None, None, 8]) == [5, 6, 7, 8]


def test_a_clock_that_is_set_back_goes_on():
    assert in_order_of([100, 101, 102, 0, 1, 2]) == [100, 101, 102, 103, 104, 105]


def test_frames_before_the_damage_are_kept():
    def damaged():
        yield from fake_frames([0, 1, 2])
        raise DamagedError("broken")

    seen = []
    with pytest.raises(DamagedError, match="broken"):
        seen.extend(int(time * 10) for time, _ in in_order(damaged(), Fraction(1, 10)))
    assert seen == [] or seen == [0, 1, 2]
    frames = in_order(damaged(), Fraction(1, 10))
    assert [int(next(frames)[0] * 10) for _ in range(3)] == [0, 1, 2]


def test_a_timestamp_far_ahead_is_damage_not_a_thousand_still_pictures(tmp_path):
    times = [*steady_times(25, 1), Fraction(100_000)]
    path = write_video(str(tmp_path / "v.mkv"), times, numbered(26))
    frames = track_of(path).frames(NTSC, Fraction(0), None)
    seen = []
    with pytest.raises(DamagedError, match="timestamps jump"):
        for jpeg in frames:
            seen.append(jpeg)
    assert 25 <= len(seen) <= 30


@pytest.mark.parametrize("size", [7, 48, 256])
@pytest.mark.parametrize("form", ["yuv420p", "yuvj422p", "yuv444p10le", "nv12", "p010le", "yuva420p", "gray", "bgr24"])
def test_pictures_are_those_of_an_exact_conversion_to_rgb(form, size):
    """Shards that were built by way of it have the same bytes."""
    frame = av.VideoFrame(90, 66, form)
    rng = np.random.default_rng(0)
    for plane in frame.planes:
        plane.update(rng.integers(0, 256, plane.buffer_size, np.uint8).tobytes())
    exact = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
    expected = VideoReformatter().reformat(frame, size, size, "rgb24", interpolation=exact, threads=1).to_ndarray()
    np.testing.assert_array_equal(resized(VideoReformatter(), frame, size), expected)


@real_videos
@pytest.mark.parametrize("name", ["odd/decord__video_90.mov", "odd/PHP-FFMpeg__portrait.MOV"])
def test_real_rotated_videos_are_turned_as_ffmpeg_turns_them(name):
    with av.open(str(REAL_VIDEOS / name)) as container:
        frame = next(container.decode(video=0))
        stored = frame.reformat(64, 64, "rgb24", interpolation="BICUBIC").to_ndarray()
    shown = pictures_of(REAL_VIDEOS / name, size=64)[0].astype(int)
    distances = [np.abs(shown - np.rot90(stored, quarter)).mean() for quarter in range(4)]
    assert frame.rotation != 0
    assert int(np.argmin(distances)) == frame.rotation // 90 % 4


@real_videos
def test_real_avi_with_scrambled_timestamps():
    path = REAL_VIDEOS / "action/vision__TrumanShow_wave_f_nm_np1_fr_med_26.avi"
    jpegs = list(track_of(path).frames(Fraction(30), Fraction(0), None))
    with av.open(str(path)) as container:
        stamps = [frame.pts for frame in container.decode(video=0)]
    assert stamps != sorted(stamps)
    # Each picture is shown, once, twice where a timestamp is left out, and none comes back.
    changes = sum(one != other for one, other in itertools.pairwise(jpegs))
    assert changes + 1 == len(set(jpegs)) >= len(stamps) - 1
