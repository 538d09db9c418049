"""A copy of a video whose sound is in time.

Pictures and sound are copied, packet by packet, and only their times are others. Nothing is cut: where the sound was
late, the pictures begin later, and where it was early, the sound does. A sound that drifts cannot be mended so: it is
resampled and encoded again, and the pictures are copied.
"""

import contextlib
import math
import os
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import av
import numpy as np

from cmav.errors import UserError
from cmav.media import decoding
from cmav.media.audio_track import AudioTrack
from cmav.media.streams import RejectedError, words
from cmav.media.video_track import VideoTrack
from cmav.offsets.course import Segment

# Other containers have no times of their own (AVI), or such that cannot be moved: their copies are Matroska.
_MOVABLE = (".mp4", ".m4v", ".mov", ".3gp", ".mkv", ".webm", ".ts", ".mts", ".m2ts")
_COPIED = ("video", "audio", "subtitle")
SOUND_RATE = 48_000
_PIECE = 1024


def target_of(source: str, folder: str, taken: set[str]) -> str:
    """Where the copy of a video is to be, under a name that is not `taken`; it is then."""
    stem, suffix = os.path.splitext(os.path.basename(source))
    suffix = suffix if suffix.lower() in _MOVABLE else ".mkv"
    number, name = 1, f"{stem}{suffix}"
    while name in taken:
        number += 1
        name = f"{stem}~{number}{suffix}"
    taken.add(name)
    target = os.path.join(folder, name)
    if os.path.exists(target) and os.path.exists(source) and os.path.samefile(source, target):
        raise UserError(f"--fix={folder} is where {source} lies: choose another folder.")
    return target


def fix(worker: Any, source: str, target: str, segment: Segment) -> str:
    """Writes the copy, in a process that may die.

    Args:
      worker: as `cmav.media.decoding.worker` gives it.
      source: the video, local.
      target: of the copy, with one of the endings that `target_of` gives.
      segment: how late its sound is, from the first frame to the end.

    Returns:
      What became of it, in words.

    Raises:
      RejectedError: where it cannot be copied.
    """
    (said,) = decoding.read(worker, send_fixed, source, target, segment)
    return said


def send_fixed(
    source: str, target: str, segment: Segment, *, send: Callable[[str], None], alive: Callable[[], None]
) -> None:
    """In the process: see `fix`."""
    part = f"{target}.part{os.path.splitext(target)[1]}"
    try:
        if segment.slope:
            left_out = _resample(source, part, segment, alive)
            said = f"its sound was resampled by {100 * segment.slope:+.3g}% and encoded again"
        else:
            left_out = _move(source, part, segment.first, alive)
            said = "its streams were copied, and their times moved"
        os.replace(part, target)
    except (av.FFmpegError, ValueError) as error:
        raise RejectedError(f"could not be copied ({words(error)})") from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(part)
    send(said + (f"; left out: {', '.join(left_out)}" if left_out else ""))


def _move(source: str, target: str, late: float, alive: Callable[[], None]) -> list[str]:
    """Copies all streams. Returns what the container does not take."""
    delayed = "video" if late > 0 else "audio"
    with _open(source) as given, av.open(target, "w") as made:
        copies, left_out = _copy_streams(given, made)
        for packet in _packets(given, copies, alive):
            # Subtitles are of the pictures.
            is_sound = packet.stream.type == "audio"
            _send(made, packet, copies, abs(late) if is_sound == (delayed == "audio") else 0.0)
    return left_out


def _resample(source: str, target: str, segment: Segment, alive: Callable[[], None]) -> list[str]:
    """Copies all streams but the sound, which is made to last as long as the pictures. Returns what is left out."""
    pictures = VideoTrack(source, 16, 90, alive)
    zero = pictures.zero
    pictures.close()
    # Read with this rate and played with the other, the sound is as much faster as it was slower.
    rate = round(SOUND_RATE / (1 + segment.slope))
    sound = AudioTrack(source, rate, zero, alive)
    first = round((segment.first - segment.slope * segment.start) * rate)
    with contextlib.closing(sound), _open(source) as given, av.open(target, "w") as made:
        copies, left_out = _copy_streams(given, made, without="audio")
        left_out += [f"{stream.type} {stream.index}" for stream in given.streams.audio[1:]]
        codec = "libopus" if target.lower().endswith(".webm") else "aac"
        encoded = made.add_stream(codec, rate=SOUND_RATE, layout="stereo", bit_rate=192_000)
        resampler = av.AudioResampler(encoded.format, "stereo", SOUND_RATE)
        written = 0

        def write_until(seconds: float) -> None:
            nonlocal written
            while written / SOUND_RATE < seconds:
                start = written + first
                samples = np.zeros((_PIECE, 2), np.int16)
                if start + _PIECE > 0:  # Nothing is known of before the sound's first moment.
                    there = sound.read(max(start, 0), min(start + _PIECE, _PIECE))
                    samples[-len(there) :] = there
                frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), "s16", "stereo")
                frame.sample_rate, frame.time_base = SOUND_RATE, Fraction(1, SOUND_RATE)
                frame.pts = written + math.floor(zero * SOUND_RATE)
                for one in resampler.resample(frame):
                    made.mux(encoded.encode(one))
                written += _PIECE

        for packet in _packets(given, copies, alive):
            if packet.stream.type == "video" and packet.pts is not None:
                write_until(float(packet.pts * packet.time_base - zero))
            _send(made, packet, copies, 0.0)
        length = _seconds(given)
        if length is not None:
            write_until(length - float(zero))
        for one in resampler.resample(None):
            made.mux(encoded.encode(one))
        made.mux(encoded.encode(None))
    return left_out


def _open(source: str) -> Any:
    return av.open(source, metadata_errors="replace", options={"fflags": "+genpts"})


def _seconds(given: Any) -> float | None:
    """When a file ends, on its own clock."""
    return None if given.duration is None else (given.duration + (given.start_time or 0)) / av.time_base


def _copy_streams(given: Any, made: Any, without: str = "") -> tuple[dict[int, Any], list[str]]:
    """Streams of the copy by the number of their original, and what the container does not take."""
    copies, left_out = {}, []
    made.metadata.update(given.metadata)
    for stream in given.streams:
        if stream.type == without:
            continue
        try:
            if stream.type not in _COPIED:
                raise ValueError("it has no times")
            copies[stream.index] = made.add_stream_from_template(stream)
        except (ValueError, av.FFmpegError):
            if stream.type in ("video", "audio"):
                raise
            left_out.append(f"{stream.type} {stream.index}")
    return copies, left_out


def _packets(given: Any, copies: dict[int, Any], alive: Callable[[], None]) -> Iterator[Any]:
    """The packets of a file. Those that have no time of decoding, as the first ones in Matroska, get one."""
    waiting: dict[int, list[Any]] = {number: [] for number in copies}
    last: dict[int, int] = {}
    for packet in given.demux([given.streams[number] for number in copies]):
        alive()
        number = packet.stream.index
        if packet.size and packet.dts is None:
            waiting[number].append(packet)
        elif packet.size:
            missing, waiting[number] = waiting[number], []
            step = missing[0].duration or 1 if missing else 0
            before = last.get(number, packet.dts - step * (len(missing) + 1))
            for place, one in enumerate(missing, 1):
                one.dts = before + (packet.dts - before) * place // (len(missing) + 1)
            last[number] = packet.dts
            yield from (*missing, packet)
    for number, missing in waiting.items():
        for packet in missing:
            if packet.pts is None:
                continue
            last[number] = packet.dts = max(packet.pts, last.get(number, packet.pts - 1) + 1)
            yield packet


def _send(made: Any, packet: Any, copies: dict[int, Any], delay: float) -> None:
    ticks = round(delay / packet.time_base)
    packet.dts += ticks
    if packet.pts is not None:
        packet.pts += ticks
    packet.stream = copies[packet.stream.index]
    made.mux(packet)
