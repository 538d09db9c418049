"""Windows of one's own videos: where they lie, and that they are what shards of the same file hold."""

import pathlib
from fractions import Fraction

import numpy as np
import pytest
import tensorflow as tf

from cmav.data import schema
from cmav.data.clip_shape import ClipShape
from cmav.media import clips, windows
from cmav.media.manifest import Video
from cmav.media.streams import RejectedError
from cmav.media.windows import Spacing, cut_windows
from tests.media.sample_videos import Sound, numbered, steady_times, write_video

RATE, SAMPLE_RATE, SIZE = 10, 1000, 20
SHAPE = ClipShape(seconds=2.0, stored_frame_rate=RATE, frame_rate=RATE, sample_rate=SAMPLE_RATE)


def write(folder, name, seconds, sound=True):
    """10 pictures per second, each grey by its number, and beeps."""
    times = steady_times(RATE, seconds)
    beeps = Sound(beeps=[0.3, 1.7], seconds=seconds) if sound else None
    return write_video(str(folder / name), times, numbered(len(times)), beeps, rate=RATE)


def whole(path, start=0.0, end=None):
    """The record that a labelled set would have of the video: all of it, in one clip."""
    options = clips.ClipOptions(Fraction(0), SIZE, Fraction(RATE), SAMPLE_RATE)
    (clip,) = clips.cut(Video(path, "v", start, end), "/", options, lambda: None)
    return clip


def watch(path, spacing, start=0.0, end=None):
    return list(cut_windows(Video(path, "v", start, end), "/", SHAPE, SIZE, spacing(SHAPE)))


@pytest.fixture(scope="module")
def five_seconds(tmp_path_factory):
    return write(tmp_path_factory.mktemp("videos"), "v.mkv", 5.3)


@pytest.mark.parametrize(("start", "end"), [(0.0, None), (1.2, 4.9)])
@pytest.mark.parametrize("spacing", [Spacing.side_by_side, Spacing.every_second])
def test_windows_are_parts_of_the_record(five_seconds, spacing, start, end):
    record = whole(five_seconds, start, end)
    found = watch(five_seconds, spacing, start, end)
    for window in found:
        first = round((window.start_seconds - start) * RATE)
        assert window.frames == record.frames[first : first + 20]
        samples = record.audio[first * SAMPLE_RATE // RATE :][:2000]
        np.testing.assert_array_equal(window.audio[: len(samples)], samples)
        assert len(window.audio) == 2000
        assert window.has_audio == record.has_audio and window.seconds == 2.0
    assert record.audio.any() and any(window.audio.any() for window in found)


def starts(path, spacing, **part):
    return [round(window.start_seconds, 3) for window in watch(path, spacing, **part)]


def test_side_by_side_covers_the_video_and_ends_with_it(five_seconds):
    assert starts(five_seconds, Spacing.side_by_side) == [0.0, 2.0, 3.3]
    assert starts(five_seconds, Spacing.side_by_side, end=4.0) == [0.0, 2.0]
    assert starts(five_seconds, Spacing.side_by_side, start=0.5, end=4.6) == [0.5, 2.5, 2.6]


def test_every_second_is_centred_and_moved_inwards(five_seconds):
    """Seconds 0 to 4, whose middles are 0.5 to 4.5; the rest of 0.3 s is less than a half."""
    assert starts(five_seconds, Spacing.every_second) == [0.0, 0.5, 1.5, 2.5, 3.3]
    assert len(starts(five_seconds, Spacing.every_second, end=4.6)) == 5
    assert len(starts(five_seconds, Spacing.every_second, end=4.4)) == 4


@pytest.mark.parametrize("seconds", [0.3, 1.9])
def test_a_short_video_is_given_whole(tmp_path, seconds):
    path = write(tmp_path, "short.mkv", seconds)
    record = whole(path)
    (window,) = watch(path, Spacing.side_by_side)
    assert window.frames == record.frames
    np.testing.assert_array_equal(window.audio, record.audio)
    assert len(watch(path, Spacing.every_second)) == max(1, round(seconds))


def test_has_audio_is_the_videos_and_not_the_windows(tmp_path):
    """The first beep comes late: the windows before it are of a video with sound, and silent."""
    times = steady_times(RATE, 6)
    sounds = {"late": Sound(beeps=[5.5], seconds=6), "zeros": Sound(beeps=[], seconds=6), "none": None}
    has_audio = {}
    for name, sound in sounds.items():
        path = write_video(str(tmp_path / f"{name}.mkv"), times, numbered(60), sound, rate=RATE)
        has_audio[name] = [window.has_audio for window in watch(path, Spacing.side_by_side)]
    assert has_audio == {"late": [True] * 3, "zeros": [False] * 3, "none": [False] * 3}
    first_four_seconds = watch(str(tmp_path / "late.mkv"), Spacing.side_by_side, end=4.0)
    assert [window.has_audio for window in first_four_seconds] == [False, False]


def test_damage_comes_after_what_can_be_seen(tmp_path):
    path = pathlib.Path(write(tmp_path, "v.mkv", 6.0, sound=False))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    seen = []
    with pytest.raises(RejectedError, match=r"damaged \(after [2-5]\.\d s"):
        for window in cut_windows(Video(str(path), "v"), "/", SHAPE, SIZE, Spacing.side_by_side(SHAPE)):
            seen.append(window)
    assert len(seen) >= 2


def test_nothing_to_see(tmp_path, five_seconds):
    (tmp_path / "stub.mp4").write_text("no video")
    for video, reason in [
        (Video("stub.mp4", "stub"), "cannot be opened"),
        (Video("gone.mp4", "gone"), "no such file"),
        (Video(five_seconds, "late", 7.0), "ends before the start"),
    ]:
        with pytest.raises(RejectedError, match=reason):
            next(cut_windows(video, str(tmp_path), SHAPE, SIZE, Spacing.side_by_side(SHAPE)))


def test_rates_of_a_config_are_fractions_again():
    assert windows.as_fraction(30000 / 1001) == Fraction(30000, 1001)
    assert windows.as_fraction(24000 / 1001) == Fraction(24000, 1001)
    assert windows.as_fraction(29.97) == Fraction(2997, 100)
    assert windows.as_fraction(10.0) == 10


def test_an_example_is_that_of_the_record(five_seconds):
    """Through `make_example`, as the loader calls it."""
    from cmav.tasks import make_task
    from tests import tiny_config

    config = tiny_config.get_action_config()
    config.action.num_classes, config.action.eval_clips = 1, 1
    config.data.clip_seconds = 2.0
    task = make_task(config, config.phases[0])
    make_example = windows.example_maker(task.only_example)
    window = watch(five_seconds, Spacing.side_by_side)[0]
    record = schema.parse(tf.constant(schema.encode(whole(five_seconds, 0.0, 2.0))))
    expected = task.make_example(record, tf.constant([0, 0]), tf.constant(0), train=False)
    example = make_example(window)
    assert example["video"].shape == (20, 16, 16, 3) and example["video"].dtype == np.uint8
    for key in ("video", "audio", "has_audio"):
        np.testing.assert_array_equal(example[key], expected[key])
