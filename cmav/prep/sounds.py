"""Cutting one sound file into clips without pictures, for sets of sounds such as ESC-50."""

import contextlib
from collections.abc import Callable, Iterator

import numpy as np

from cmav.data import schema
from cmav.media.audio_track import AudioTrack
from cmav.media.clips import MAX_RECORD_BYTES, ClipOptions, check_amount, milliseconds
from cmav.media.manifest import Video
from cmav.media.streams import MAX_SECONDS, RejectedError, memory_in_words


def cut_sound(video: Video, root: str, options: ClipOptions, alive: Callable[[], None]) -> Iterator[schema.Clip]:
    """Yields the clips of a sound file, which start where its sound starts. They have no frames.

    Args:
      video: the file, the part of it to cut, and its labels.
      root: the folder that relative paths start from.
      options: what the clips are to be; those about pictures do not matter.
      alive: called often, so that a watcher sees that decoding goes on.

    Raises:
      RejectedError: after the clips that could be had, where there are none or something was lost. Says why.
      StorageError: where storage does not answer.
    """
    rate = options.sample_rate
    start = milliseconds(video.start)
    num_samples = num_clips = num_silent = num_bytes = 0
    clip_samples = options.first_sample(options.clip_frames)
    with memory_in_words(), contextlib.closing(AudioTrack(video.path(root), rate, None, alive)) as track:
        if track.ended:
            raise RejectedError(track.damage or "no audio stream")
        for samples in _pieces(track, video, rate, clip_samples):
            if len(samples) >= clip_samples:
                if samples.any():
                    num_bytes += samples.nbytes
                    check_amount(num_clips, num_bytes)
                    yield _make_clip(video, options, start + num_samples / rate, samples)
                    num_clips += 1
                else:
                    num_silent += 1
            num_samples += len(samples)
        if not num_samples:
            raise RejectedError(f"nothing to cut (it ends before the start, {video.start:g} s)")
        seconds = num_samples / rate
        if not num_clips and not num_silent:
            raise RejectedError(f"shorter than one clip of {float(options.clip_seconds):g} s ({seconds:.3g} s)")
        if num_silent:
            raise RejectedError(f"nothing but zeros in its sound ({num_silent} clips of it)")
        if track.damage:
            raise RejectedError(f"damaged (after {seconds:.1f} s: {track.damage})")


def _pieces(track: AudioTrack, video: Video, rate: int, clip_samples: int) -> Iterator[np.ndarray]:
    """Yields the used part of a sound in pieces of a clip's length, or whole where that is 0: int16 [samples, 2]."""
    first = round(milliseconds(video.start) * rate)
    left = MAX_SECONDS * rate if video.end is None else round(milliseconds(video.end) * rate) - first
    together, num_bytes = [], 0
    for samples in track.pieces(first, clip_samples or rate):
        if len(samples) > left and video.end is None:
            raise RejectedError(f"it goes on for more than {MAX_SECONDS // 3600} hours")
        samples = samples[:left]
        if clip_samples:
            yield samples
        else:
            together.append(samples)
            num_bytes += samples.nbytes
            if num_bytes > MAX_RECORD_BYTES:
                raise RejectedError("too long for one record (more than 1 GiB of sound; give --clip_seconds)")
        left -= len(samples)
        if not left:
            break
    if together:
        yield np.concatenate(together)


def _make_clip(video: Video, options: ClipOptions, start: float, samples: np.ndarray) -> schema.Clip:
    start = float(start)
    return schema.Clip(
        clip_id=f"{video.name}_{round(start * 1000)}",
        source=video.source,
        start_seconds=start,
        frames=(),
        frame_rate=float(options.frame_rate),
        audio=samples,
        sample_rate=options.sample_rate,
        has_audio=True,
        label=video.label,
        label_name=video.label_name,
        splits=video.splits,
    )
