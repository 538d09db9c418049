"""Cutting one sound file into clips without pictures, for sets of sounds such as ESC-50."""

from collections.abc import Callable, Iterator

from cmav.data import schema
from data_prep.audio_track import AudioTrack
from data_prep.clips import ClipOptions, milliseconds
from data_prep.manifest import Video
from data_prep.media import RejectedError


def cut_sound(video: Video, root: str, options: ClipOptions, alive: Callable[[], None]) -> Iterator[schema.Clip]:
    """Yields the clips of a sound file, which start where its sound starts. They have no frames.

    Args:
      video: the file, the part of it to cut, and its labels.
      root: the folder that relative paths start from.
      options: what the clips are to be; those about pictures do not matter.
      alive: called often, so that a watcher sees that decoding goes on.

    Raises:
      RejectedError: after the clips that could be had, where there are none or something was lost. Says why.
    """
    track = AudioTrack(video.path(root), options.sample_rate, None, alive)
    try:
        audio = track.read_all()
    finally:
        track.close()
    if not len(audio):
        raise RejectedError(track.damage or "no audio stream")
    start = milliseconds(video.start)
    end = None if video.end is None else round(milliseconds(video.end) * options.sample_rate)
    audio = audio[round(start * options.sample_rate) : end]
    clip_samples = options.first_sample(options.clip_frames) or len(audio)
    if not len(audio):
        raise RejectedError(f"nothing to cut (it ends before the start, {video.start:g} s)")
    if len(audio) < clip_samples:
        seconds = len(audio) / options.sample_rate
        raise RejectedError(f"shorter than one clip of {float(options.clip_seconds):g} s ({seconds:.3g} s)")
    num_silent = 0
    for first in range(0, len(audio) - clip_samples + 1, clip_samples):
        samples = audio[first : first + clip_samples]
        if not samples.any():
            num_silent += 1
            continue
        clip_start = float(start + first / options.sample_rate)
        yield schema.Clip(
            clip_id=f"{video.name}_{round(clip_start * 1000)}",
            source=video.source,
            start_seconds=clip_start,
            frames=(),
            frame_rate=float(options.frame_rate),
            audio=samples,
            sample_rate=options.sample_rate,
            has_audio=True,
            label=video.label,
            label_name=video.label_name,
            splits=video.splits,
        )
    if num_silent:
        raise RejectedError(f"nothing but zeros in its sound ({num_silent} clips of it)")
    if track.damage:
        raise RejectedError(f"damaged (after {len(audio) / options.sample_rate:.1f} s: {track.damage})")
