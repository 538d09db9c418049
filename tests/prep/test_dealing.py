"""Shards by number of videos, or by bytes where videos are long; long videos in parts that give the same clips."""

import itertools
from fractions import Fraction

import numpy as np
import pytest

from cmav.media.clips import ClipOptions, cut
from cmav.media.videos import Video, Videos
from cmav.prep import dealing, lookup
from tests.media.sample_videos import Sound, numbered, steady_times, write_video
from tests.prep.sample_work import run_here

OPTIONS = ClipOptions()
HOUR = 3600


def video(number, num_bytes, **changes):
    return Video(f"v{number}.mp4", f"v{number}", num_bytes=num_bytes, **changes)


@pytest.fixture
def headers(monkeypatch):
    """Seconds by the name of the video, as headers say them; which were asked for."""
    said, asked = {}, []

    def seconds(videos, *_):
        asked.extend(video.name for video in videos)
        return [said.get(video.name) for video in videos]

    monkeypatch.setattr(lookup, "seconds", seconds)
    return said, asked


def deal(videos, options=OPTIONS, num_shards=0):
    return [list(shard) for shard in dealing.deal(Videos(videos), "/", "train", options, num_shards, 1)]


@pytest.mark.parametrize("num_bytes", [300_000, 5_000_000, 25_000_000])
@pytest.mark.parametrize("options", [OPTIONS, ClipOptions(size=48, frame_rate=Fraction(10), sample_rate=8000)])
def test_usual_sets_are_dealt_as_ever(headers, num_bytes, options):
    videos = [video(k, num_bytes) for k in range(600)]
    count = dealing.auto_shards(600)
    assert deal(videos, options) == [videos[shard::count] for shard in range(count)]
    assert headers[1] == []


def test_large_files_of_short_videos_are_dealt_as_ever(headers):
    videos = [video(k, 200_000_000) for k in range(40)]
    headers[0].update({one.name: 12.0 for one in videos})
    assert deal(videos) == [videos[shard::16] for shard in range(16)]
    assert len(headers[1]) == 40


def test_hours_are_dealt_by_bytes(headers):
    """32 of them came to 57 GB in a shard."""
    videos = [video(k, 900_000_000) for k in range(512)] + [video(512 + k, 1_000_000) for k in range(100)]
    headers[0].update({one.name: HOUR for one in videos[:512]})
    shards = deal(videos)
    sizes = [sum(dealing._expected(part, headers[0].get(part.name)) for part in shard) * 575_017 for shard in shards]
    assert max(sizes) < 1.25 * dealing.BYTES_PER_SHARD and max(sizes) < 1.3 * min(sizes)
    parts = sorted(itertools.chain(*shards), key=lambda part: (int(part.name[1:]), part.start))
    for name, group in itertools.groupby(parts, key=lambda part: part.name):
        group = list(group)
        assert group[0].start == 0 and group[-1].end is None
        assert [part.end for part in group[:-1]] == [part.start for part in group[1:]]
        assert len(group) == (33 if int(name[1:]) < 512 else 1)
    assert headers[1] == [one.name for one in videos[:512]]


def test_shards_that_were_asked_for_stay_what_they_are(headers):
    videos = [video(k, 900_000_000) for k in range(64)]
    assert deal(videos, num_shards=2) == [videos[::2], videos[1::2]]


@pytest.mark.parametrize("options", [ClipOptions(clip_seconds=Fraction(0)), OPTIONS])
def test_what_is_not_divided(headers, options):
    """Whole videos, those of official splits, those whose header says nothing: each in a shard by itself."""
    splits = () if not options.clip_seconds else ("test1",)
    videos = [video(k, 900_000_000, splits=splits) for k in range(40)] + [video(40, 2_000_000_000)]
    headers[0].update({one.name: 4 * HOUR for one in videos[:40]})
    shards = deal(videos, options)
    assert sorted(itertools.chain(*shards), key=lambda one: int(one.name[1:])) == videos
    assert max(map(len, shards)) == 1


def test_the_listed_part_is_what_counts(headers):
    videos = [video(k, 10**9, start=100.0, end=110.0) for k in range(600)]
    assert deal(videos) == [videos[shard::19] for shard in range(19)] and not headers[1]
    videos = [video(k, 10**9, start=100.0, end=99_999.0) for k in range(600)]
    headers[0].update({one.name: HOUR for one in videos})
    assert max(part.start for part in itertools.chain(*deal(videos))) < HOUR - 10


@pytest.mark.parametrize(
    ("clip_seconds", "frame_rate", "sample_rate"),
    [
        (Fraction(2), Fraction(30000, 1001), 21_000),
        (Fraction(7, 3), Fraction(24), 22_050),
        (Fraction(1), Fraction(25), 16_000),
    ],
)
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_the_parts_of_a_long_video_give_its_clips(tmp_path, monkeypatch, suffix, clip_seconds, frame_rate, sample_rate):
    times = steady_times(25, 93.7)
    # Not AAC: its decoder makes up noise from random numbers, which depend on where it began.
    sound = Sound(beeps=np.arange(0.3, 93, 0.7), seconds=93.7, codec="mp3")
    path = write_video(str(tmp_path / f"long{suffix}"), times, numbered(len(times)), sound, options={"g": "50"})
    options = ClipOptions(clip_seconds, 16, frame_rate, sample_rate)
    whole = Video(path, "long", start=1.5, num_bytes=1)
    monkeypatch.setattr("cmav.prep.workers.run", run_here)
    (duration,) = lookup.seconds([whole], "/", "train", 1)
    assert duration == pytest.approx(93.7, abs=0.1)
    step = float(dealing.clips_step(options))
    parts = dealing._divide(whole, duration, options, 2 * step + 0.1)
    assert len(parts) == int((93.7 - 1.5 - step - 2) / (2 * step)) + 1 > 2
    undivided = list(cut(whole, "/", options, lambda: None))
    divided = [clip for part in parts for clip in cut(part, "/", options, lambda: None)]
    assert [clip.clip_id for clip in divided] == [clip.clip_id for clip in undivided]
    for ours, theirs in zip(divided, undivided, strict=True):
        assert ours.frames == theirs.frames and ours.start_seconds == theirs.start_seconds
        assert ours.audio.shape == theirs.audio.shape
        # The resampler's grid begins where decoding did, so samples may be a fraction of a sample apart.
        beeps, expected = is_loud(ours), is_loud(theirs)
        num_edges = np.count_nonzero(np.diff(expected)) + 2
        assert np.count_nonzero(beeps != expected) <= num_edges * 0.001 * sample_rate


def is_loud(clip):
    window = np.ones(clip.sample_rate // 500)
    return np.convolve(np.abs(clip.audio[:, 0].astype(float)), window / len(window), "same") > 3000


def test_a_header_that_cannot_be_read_says_nothing(tmp_path, monkeypatch):
    (tmp_path / "text.mp4").write_text("not a video")
    write_video(str(tmp_path / "short.avi"), steady_times(25, 2), numbered(50))
    monkeypatch.setattr("cmav.prep.workers.run", run_here)
    videos = [Video(name, name) for name in ("text.mp4", "none.mp4", "short.avi")]
    assert lookup.seconds(videos, str(tmp_path), "train", 1) == [None, None, None]  # AVIs are not sought in
