"""What a training clip measures: its frames and samples, from its seconds and the rates. Free of TensorFlow.

The stored frames have one rate; a clip takes every `stride`-th of them, which gives the lower rates of a warm-up.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from cmav.errors import UserError

# How far, relatively, the achieved frame rate may be from the one asked for: 7.5 Hz is 29.97 / 4 = 7.4925.
RATE_TOLERANCE = 0.02

# Of products of seconds and rates that should be whole numbers: 2.0 s at 7.5 Hz is 15 frames, not 16.
_ROUNDING = 1e-6


@dataclasses.dataclass(frozen=True)
class ClipShape:
    """A clip of `seconds` at `frame_rate`, cut from records of `stored_frame_rate`.

    Raises:
      UserError: for a length or rate that is not positive, or a frame rate that no stride comes within 2% of.
    """

    seconds: float
    stored_frame_rate: float  # Hz, of the records
    frame_rate: float  # Hz, asked for; see `achieved_frame_rate`
    sample_rate: int  # Hz, of the audio, whatever that of the records

    def __post_init__(self):
        for name, value in dataclasses.asdict(self).items():
            if not value > 0:
                raise UserError(f"a clip's {name} must be positive, not {value}.")
        if abs(self.achieved_frame_rate / self.frame_rate - 1) > RATE_TOLERANCE:
            nearest = self.stride
            possible = ", ".join(f"{self.stored_frame_rate / n:.6g}" for n in range(max(1, nearest - 1), nearest + 3))
            raise UserError(
                f"a frame rate of {self.frame_rate:g} Hz cannot be had from frames stored at "
                f"{self.stored_frame_rate:g} Hz: every n-th frame gives {possible}, ... Choose one of these for the "
                "frame_rate of config.phases, or build the dataset with another --frame_rate."
            )

    @classmethod
    def from_config(cls, data: Mapping[str, Any], frame_rate: float) -> "ClipShape":
        """Of `config.data`, at the frame rate of a phase."""
        return cls(data["clip_seconds"], data["stored_frame_rate"], frame_rate, data["sample_rate"])

    @property
    def stride(self) -> int:
        """From a frame of the clip to the next, in stored frames."""
        return max(1, round(self.stored_frame_rate / self.frame_rate))

    @property
    def achieved_frame_rate(self) -> float:
        """Frames per second that the clip really has."""
        return self.stored_frame_rate / self.stride

    @property
    def stored_frames(self) -> int:
        """Stored frames that the clip spans: 126 for 4.2 s at 29.97 Hz."""
        return _ceil(self.seconds * self.stored_frame_rate)

    @property
    def num_frames(self) -> int:
        """Frames in the clip: 126 for 4.2 s at 29.97 Hz, 32 at 7.5 Hz."""
        return -(-self.stored_frames // self.stride)

    @property
    def num_samples(self) -> int:
        """Audio samples in the clip: 88,200 for 4.2 s at 21 kHz."""
        return round(self.seconds * self.sample_rate)

    @property
    def stored_seconds(self) -> float:
        """Length of the shortest record that holds the clip."""
        return self.stored_frames / self.stored_frame_rate

    def shift_frames(self, shift_seconds: tuple[float, float]) -> tuple[int, int]:
        """The least and the greatest |shift| of a shifted audio, in stored frames, both included.

        Raises:
          UserError: where no whole number of frames lies between the two, or the least would be no shift at all.
        """
        least, greatest = shift_seconds
        low, high = _ceil(least * self.stored_frame_rate), _floor(greatest * self.stored_frame_rate)
        if not 1 <= low <= high:
            raise UserError(
                f"shift_seconds=({least:g}, {greatest:g}) is {low} to {high} frames at "
                f"{self.stored_frame_rate:g} Hz: the least shift must be at least one frame and at most the greatest."
            )
        return low, high

    def shortest_seconds(self, shift_seconds: tuple[float, float]) -> float:
        """Length of the shortest record that holds an aligned/shifted pair: the clip and the least shift."""
        least, _ = self.shift_frames(shift_seconds)
        return (self.stored_frames + least) / self.stored_frame_rate


def _ceil(frames: float) -> int:
    return math.ceil(frames - _ROUNDING)


def _floor(frames: float) -> int:
    return math.floor(frames + _ROUNDING)
