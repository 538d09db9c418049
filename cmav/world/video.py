"""Frames and sound of the synthetic world as an MP4 file: H.264 and AAC, the same bytes for the same input."""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

_GOP_SECONDS = 1  # between keyframes
# Of one thread, and without x264's macroblock tree, which now and then gives other bytes for the same frames.
_VIDEO_OPTIONS = {"preset": "veryfast", "crf": "20", "bf": "0", "threads": "1", "x264-params": "mbtree=0"}
_AUDIO_OPTIONS = {"aac_coder": "fast"}  # half the time of the default, and here the smaller error
_AUDIO_BIT_RATE = 128_000


def write_mp4(
    path: Path,
    frames: Iterable[np.ndarray],
    size: tuple[int, int],
    frame_rate: Fraction,
    audio: np.ndarray,
    sample_rate: int,
) -> None:
    """Writes a video whose first frame and first sample are both at time 0.

    The file gets its name only when it is whole, so a killed run leaves no half video under a final name.

    Args:
      path: where to, with the suffix .mp4.
      frames: uint8 [height, width, 3] each.
      size: (width, height) in pixels, both even.
      frame_rate: in Hz; the time stamps are exact multiples of its inverse.
      audio: float32 [samples, 2], from -1 to 1.
      sample_rate: in Hz.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".mp4.unfinished")
    # "bitexact" keeps library versions out of the file.
    with av.open(str(unfinished), "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        video = container.add_stream("libx264", rate=frame_rate, options=_VIDEO_OPTIONS)
        video.width, video.height, video.pix_fmt = *size, "yuv420p"
        video.codec_context.gop_size = round(_GOP_SECONDS * frame_rate)
        sound = container.add_stream("aac", rate=sample_rate, layout="stereo", options=_AUDIO_OPTIONS)
        sound.codec_context.bit_rate = _AUDIO_BIT_RATE
        sound.codec_context.flags |= av.codec.context.Flags.bitexact

        # A frame and its sound together, so that the muxer has both at hand to interleave.
        for k, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = k, 1 / frame_rate
            container.mux(video.encode(frame))
            start, end = (round(edge / frame_rate * sample_rate) for edge in (k, k + 1))
            block = av.AudioFrame.from_ndarray(audio[start:end].T.copy(), format="fltp", layout="stereo")
            block.pts, block.rate, block.time_base = start, sample_rate, Fraction(1, sample_rate)
            container.mux(sound.encode(block))
        for stream in (video, sound):
            container.mux(stream.encode(None))
    unfinished.replace(path)
