"""Cutting one video into clips: pictures and sound of the same moments, clip by clip."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from fractions import Fraction

from cmav.data import schema
from cmav.media.audio_track import AudioTrack
from cmav.media.manifest import Video
from cmav.media.streams import DamagedError, RejectedError, memory_in_words
from cmav.media.video_track import VideoTrack

# A record is a protocol buffer, which must stay below 2 GiB.
MAX_RECORD_BYTES = 1 << 30
# Of one video. A whole day at 30 pictures of 256 x 256 per second is 40 GB, in clips of 10 s 8,640.
MAX_CLIPS = 100_000
MAX_BYTES = 1 << 36
# A video cut to "10 s" often has 299 frames of 29.97 Hz. So little may be missing at the end of a video's last clip:
# the last picture then stays.
MAX_MISSING = Fraction(1, 100)  # of a clip


@dataclasses.dataclass(frozen=True)
class ClipOptions:
    """What every clip of a split has in common.

    Attributes:
      clip_seconds: length of the clips, rounded to whole frames; 0 keeps each video as one clip.
      size: width and height of the pictures, in pixels.
      frame_rate: frames per second.
      sample_rate: audio samples per second.
      jpeg_quality: 1 to 100.
      sound_only: the clips have no pictures: the files are sounds.
    """

    clip_seconds: Fraction = Fraction(10)
    size: int = schema.DEFAULT_SIZE
    frame_rate: Fraction = Fraction(30000, 1001)
    sample_rate: int = schema.DEFAULT_SAMPLE_RATE
    jpeg_quality: int = 90
    sound_only: bool = False

    @property
    def clip_frames(self) -> int:
        """Frames in a clip; 0: all."""
        return round(self.clip_seconds * self.frame_rate)

    def first_sample(self, frame: int) -> int:
        """The sample of the same instant as a frame, both counted from the start of the first clip."""
        return frame * self.sample_rate // self.frame_rate


def cut(video: Video, root: str, options: ClipOptions, alive: Callable[[], None]) -> Iterator[schema.Clip]:
    """Yields the clips of a video, each as soon as it is whole: memory does not grow with the video's length.

    Args:
      video: the file, the part of it to cut, and its labels.
      root: the folder that relative paths start from.
      options: what the clips are to be.
      alive: called often, so that a watcher sees that decoding goes on.

    Raises:
      RejectedError: after the clips that could be had, where there are none or something was lost. Says why.
      StorageError: where storage does not answer.
    """
    path = video.path(root)
    start = milliseconds(video.start)
    end = None if video.end is None else milliseconds(video.end)
    with memory_in_words(), contextlib.ExitStack() as stack:
        pictures = VideoTrack(path, options.size, options.jpeg_quality, alive)
        stack.callback(pictures.close)
        sound = AudioTrack(path, options.sample_rate, pictures.zero + start, alive)
        stack.callback(sound.close)

        frames: list[bytes] = []
        num_clips = num_bytes = num_bytes_before = 0
        damage = None
        try:
            for jpeg in pictures.frames(options.frame_rate, start, end):
                frames.append(jpeg)
                num_bytes += len(jpeg)
                if len(frames) == options.clip_frames:
                    num_bytes_before += num_bytes
                    check_amount(num_clips, num_bytes_before)
                    yield _make_clip(video, options, num_clips * options.clip_frames, frames, sound)
                    num_clips += 1
                    frames, num_bytes = [], 0
                elif num_bytes > MAX_RECORD_BYTES:
                    raise RejectedError("too long for one record (more than 1 GiB of pictures; give --clip_seconds)")
        except DamagedError as error:
            damage = error
        missing = options.clip_frames - len(frames)
        seconds = float((num_clips * options.clip_frames + len(frames)) / options.frame_rate)
        # Of a damaged video that is to stay whole, what can be seen is kept.
        if frames and missing <= (0 if damage else MAX_MISSING * options.clip_frames):
            frames += missing * frames[-1:]
            yield _make_clip(video, options, num_clips * options.clip_frames, frames, sound)
            num_clips += 1
        if damage:
            raise RejectedError(f"damaged (after {seconds:.1f} s, {num_clips} clips of which are kept: {damage})")
        if not num_clips and not frames:
            raise RejectedError(f"nothing to cut (it ends before the start, {video.start:g} s)")
        if not num_clips:
            clip_seconds = float(options.clip_seconds)
            raise RejectedError(f"shorter than one clip of {clip_seconds:g} s ({round(seconds, 2):g} s)")
        if sound.damage:
            raise RejectedError(f"audio lost, zeros in its place ({sound.damage})")


def _make_clip(
    video: Video, options: ClipOptions, first_frame: int, frames: list[bytes], sound: AudioTrack
) -> schema.Clip:
    start = milliseconds(video.start) + first_frame / options.frame_rate
    audio = sound.read(options.first_sample(first_frame), options.first_sample(len(frames)))
    return schema.Clip(
        clip_id=f"{video.name}_{round(start * 1000)}",
        source=video.source,
        start_seconds=float(start),
        frames=frames,
        frame_rate=float(options.frame_rate),
        audio=audio,
        sample_rate=options.sample_rate,
        has_audio=bool(audio.any()),
        label=video.label,
        label_name=video.label_name,
        splits=video.splits,
    )


def check_amount(num_clips: int, num_bytes: int) -> None:
    """Raises RejectedError where a video has given so many clips, or would fill so many bytes, that no video can."""
    if num_clips >= MAX_CLIPS or num_bytes > MAX_BYTES:
        raise RejectedError(
            f"it has no end (more than {MAX_CLIPS:,} clips or {MAX_BYTES >> 30} GiB; the first are kept)"
        )


def milliseconds(seconds: float) -> Fraction:
    """Exact, whatever the float makes of 0.1."""
    return Fraction(round(seconds * 1000), 1000)
