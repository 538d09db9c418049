"""Small videos with known content, written with PyAV, for the tests of data preparation."""

import dataclasses
from collections.abc import Sequence
from fractions import Fraction

import av
import numpy as np

SAMPLE_RATE = 48_000


@dataclasses.dataclass(frozen=True)
class Sound:
    """Silence with beeps of 50 ms. `start` is the first sample's timestamp, `beeps` are times on the same clock."""

    beeps: Sequence[float] = ()
    seconds: float = 2.0
    start: float = 0.0
    sample_rate: int = SAMPLE_RATE
    layout: str = "stereo"
    codec: str = "pcm_s16le"
    hole: tuple[float, float] = (0.0, 0.0)  # no packets at all between these times
    loud: int = 12_000


def steady_times(fps: Fraction | int, seconds: float, start: float = 0.0) -> list[Fraction]:
    """Timestamps of frames at a constant rate."""
    count = round(seconds * fps)
    return [Fraction(str(start)) + Fraction(k) / fps for k in range(count)]


def flashes_at(times: Sequence[Fraction], flashes: Sequence[float], size: int = 64) -> list[np.ndarray]:
    """Dark pictures, white during the 100 ms after each flash begins."""
    return [
        np.full((size, size, 3), 255 if any(0 <= time - flash < 0.1 for flash in flashes) else 16, np.uint8)
        for time in times
    ]


def numbered(count: int, size: int = 64) -> list[np.ndarray]:
    """Grey pictures whose brightness tells their number, 4 levels apart, 0 to 63 over and over."""
    return [np.full((size, size, 3), 4 * (k % 64), np.uint8) for k in range(count)]


def write_video(
    path: str,
    times: Sequence[Fraction],
    pictures: Sequence[np.ndarray],
    sound: Sound | None = None,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    time_base: Fraction = Fraction(1, 90_000),
    options: dict[str, str] | None = None,
    rate: Fraction | int = 30,
) -> str:
    """Writes pictures at their timestamps, without loss, with sound or without, and returns the path."""
    with av.open(path, "w") as container:
        lossless = {"qp": "0", "bf": "0"} if codec == "libx264" else {}
        video = container.add_stream(codec, rate=rate, options=lossless | (options or {}))
        video.height, video.width = pictures[0].shape[:2]
        video.pix_fmt = pixel_format
        video.codec_context.time_base = time_base
        packets = []
        audio = None
        if sound is not None:
            audio = container.add_stream(sound.codec, rate=sound.sample_rate, layout=sound.layout)
        for time, picture in zip(times, pictures, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            frame.pts, frame.time_base = round(time / time_base), time_base
            packets += video.encode(frame)
        packets += video.encode()
        if audio is not None:
            for frame in _sound_frames(sound):
                packets += audio.encode(frame)
            packets += audio.encode()
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            container.mux(packet)
    return path


def write_sound(path: str, sound: Sound) -> str:
    """Writes a file without pictures. Returns its path."""
    with av.open(path, "w") as container:
        audio = container.add_stream(sound.codec, rate=sound.sample_rate, layout=sound.layout)
        for frame in [*_sound_frames(sound), None]:
            container.mux(audio.encode(frame))
    return path


def wave(sound: Sound) -> np.ndarray:
    """The samples of one channel: int16 [samples]."""
    samples = np.zeros(round(sound.seconds * sound.sample_rate), np.int16)
    for beep in sound.beeps:
        first = round((beep - sound.start) * sound.sample_rate)
        length = round(0.05 * sound.sample_rate)
        tone = sound.loud * np.sign(np.sin(2 * np.pi * 1000 * np.arange(length) / sound.sample_rate + 0.1))
        samples[first : first + length] = tone[: len(samples) - first]
    return samples


def _sound_frames(sound: Sound):
    samples = wave(sound)
    size = 1024
    for first in range(0, len(samples), size):
        time = sound.start + first / sound.sample_rate
        if sound.hole[0] <= time < sound.hole[1]:
            continue
        piece = samples[first : first + size]
        channels = av.AudioLayout(sound.layout).nb_channels
        packed = np.repeat(piece, channels)[None]
        frame = av.AudioFrame.from_ndarray(packed, "s16", sound.layout)
        frame.sample_rate = sound.sample_rate
        frame.time_base = Fraction(1, sound.sample_rate)
        frame.pts = round(sound.start * sound.sample_rate) + first
        yield frame
