"""Which videos go into which shard: by their number where they are short, else by the bytes that their clips will have.

So that batches of a seed stay what they are, only sets that would come out in shards of gigabytes are dealt by bytes.
"""

import dataclasses
import heapq
import math
from collections.abc import Sequence
from fractions import Fraction

from cmav.media.clips import ClipOptions, milliseconds
from cmav.media.videos import Video, Videos
from cmav.prep import lookup

VIDEOS_PER_SHARD = 32  # of one 10 s clip each, 2 to 6 MB: shards of 60 to 200 MB
MIN_SHARDS = 16  # where there are that many videos, so that a small set is built in parallel too
LARGEST_SHARD = 1 << 31  # bytes; where one is expected to be larger, shards are cut by bytes
BYTES_PER_SHARD = 1 << 28  # then
PARTS_PER_SHARD = 4  # into which long videos are divided, so that shards come out alike

_BYTES_PER_PIXEL = 0.25  # of JPEGs; seen are 0.2 to 0.35
_FILE_BYTES_PER_SECOND = 250_000  # of a video whose header has not been read: 2 Mbit/s
# What a header says may be a little more than what can be decoded. The last part of a divided video is to have a clip.
_MARGIN = 2  # seconds


def auto_shards(num_videos: int) -> int:
    """The number of shards for so many videos, on any machine."""
    return max(min(num_videos, MIN_SHARDS), math.ceil(num_videos / VIDEOS_PER_SHARD), 1)


def deal(
    videos: Videos, root: str, split: str, options: ClipOptions, num_shards: int, num_workers: int
) -> list[Sequence[Video]]:
    """Deals videos into shards.

    Args:
      videos: with the sizes of their files.
      root: the folder that relative paths start from.
      split: for messages.
      options: what the clips are to be.
      num_shards: as many shards, each of every n-th video; 0: by what is expected.
      num_workers: processes that read headers.

    Returns:
      The videos of each shard; long ones divided, where that leaves the same clips.
    """
    num_there = sum(video.num_bytes >= 0 for video in videos)
    usual = num_shards or auto_shards(num_there)
    # Every n-th video, so that shards are alike although neighbours in a folder often are.
    dealt = [videos[shard::usual] for shard in range(usual)]
    if num_shards or options.sound_only:
        return dealt
    rate = _bytes_per_second(options)
    known = _long_ones(videos, root, split, LARGEST_SHARD / VIDEOS_PER_SHARD / rate, num_workers)
    expected = [_expected(video, known.get(place)) * rate for place, video in enumerate(videos)]
    if max(sum(expected[shard::usual]) for shard in range(usual)) <= LARGEST_SHARD:
        return dealt
    parts: list[tuple[float, int, Video]] = []
    for place, video in enumerate(videos):
        pieces = _divide(video, known.get(place), options, BYTES_PER_SHARD / PARTS_PER_SHARD / rate)
        parts += [(_expected(piece, known.get(place)) * rate, place, piece) for piece in pieces]
    count = max(auto_shards(len(parts)), math.ceil(sum(size for size, *_ in parts) / BYTES_PER_SHARD))
    return _by_bytes(parts, count)


def _bytes_per_second(options: ClipOptions) -> float:
    return float(options.frame_rate) * options.size**2 * _BYTES_PER_PIXEL + 4 * options.sample_rate


def _long_ones(videos: Videos, root: str, split: str, limit: float, num_workers: int) -> dict[int, float]:
    """Seconds by their headers, of videos of which a shard would grow too large were all of its videos like them."""
    places = [place for place, video in enumerate(videos) if _expected(video, None) > limit]
    found = lookup.seconds(videos.take(places), root, split, num_workers) if places else []
    return {place: value for place, value in zip(places, found, strict=True) if value is not None}


def _expected(video: Video, duration: float | None) -> float:
    """Seconds of a video that are to be cut, as far as is known."""
    if video.num_bytes < 0:
        return 0.0
    ends = [end for end in (video.end, duration) if end is not None]
    end = min(ends, default=video.start + video.num_bytes / _FILE_BYTES_PER_SECOND)
    return max(end - video.start, 0.0)


def _divide(video: Video, duration: float | None, options: ClipOptions, most: float) -> list[Video]:
    """Cuts a long video into parts of about `most` seconds that give the same clips, under the same ids.

    Only where clips have a length, and the header is believed: parts are reached by seeking. Videos of official splits
    stay in one, because what is said of those counts videos.
    """
    if duration is None or not options.clip_frames or video.splits:
        return [video]
    step = clips_step(options)
    start, length = milliseconds(video.start), step * max(1, int(most / step))
    end = min(duration, math.inf if video.end is None else video.end) - float(step) - _MARGIN
    parts, rest = [], video
    while start + length <= end:
        start += length
        parts.append(dataclasses.replace(rest, end=float(start)))
        rest = dataclasses.replace(rest, start=float(start))
    return [*parts, rest]


def clips_step(options: ClipOptions) -> Fraction:
    """Seconds of the fewest clips that last a whole number of milliseconds and of samples."""
    seconds = options.clip_frames / options.frame_rate
    return seconds * math.lcm((seconds * 1000).denominator, (seconds * options.sample_rate).denominator)


def _by_bytes(parts: list[tuple[float, int, Video]], count: int) -> list[Sequence[Video]]:
    """The largest first, each to the shard that has the least; in a shard they are in the order of the list."""
    shards: list[list[int]] = [[] for _ in range(count)]
    least = [(0.0, shard) for shard in range(count)]
    for number in sorted(range(len(parts)), key=lambda number: -parts[number][0]):
        size, shard = least[0]
        shards[shard].append(number)
        heapq.heapreplace(least, (size + parts[number][0], shard))
    return [[parts[number][2] for number in sorted(shard)] for shard in shards if shard]
