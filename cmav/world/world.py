"""The synthetic world: its action classes and its options. What happens in its videos is in `scene.py`.

An action class is a motion and a timbre (`BounceBell`). Look, place and background are drawn independently of it, and
in the default eight classes each timbre occurs with two motions and two of the motions with two timbres: no single
frame gives the class away, and neither the pictures alone nor the sound alone decide all of it. With `looks_by_timbre`
the look tells the timbre: of two sounds at once, a single frame tells which is of something that is seen.
"""

import dataclasses
from fractions import Fraction

from cmav.world.motions import MOTIONS
from cmav.world.sounds import TIMBRES

DURATIONS = (2, 3600)  # seconds
MIN_SIDE = 32  # pixels
MAX_OBJECTS = 6  # in one picture


@dataclasses.dataclass(frozen=True)
class ActionClass:
    motion: str  # a name in MOTIONS
    timbre: str  # a name in TIMBRES

    @property
    def name(self) -> str:
        return self.motion + self.timbre


def _catalogue() -> tuple[ActionClass, ...]:
    """All classes. The first four differ in both motion and timbre, the next four share one of them with these."""
    first = [
        ActionClass("Bounce", "Bell"),
        ActionClass("Hop", "Drum"),
        ActionClass("Pulse", "Whistle"),
        ActionClass("Kick", "Buzz"),
        ActionClass("Bounce", "Drum"),
        ActionClass("Hop", "Bell"),
        ActionClass("Flash", "Whistle"),
        ActionClass("Shake", "Buzz"),
    ]
    return tuple(dict.fromkeys(first + [ActionClass(motion, timbre) for timbre in TIMBRES for motion in MOTIONS]))


CATALOGUE = _catalogue()


@dataclasses.dataclass(frozen=True)
class World:
    """The options. Ranges are inclusive: (least, most).

    Raises:
      ValueError: where an option is out of range, or where two contradict each other.
    """

    seed: int = 0
    duration: float = 10.0  # seconds
    width: int = 128  # pixels
    height: int = 128
    frame_rate: Fraction = Fraction(30000, 1001)
    sample_rate: int = 44_100
    classes: tuple[ActionClass, ...] = CATALOGUE[:8]
    num_sources: tuple[int, int] = (1, 1)  # sounding objects on screen
    distractors: tuple[int, int] = (0, 0)  # silent moving objects
    looks_by_timbre: bool = False  # an object's shape and hue tell its timbre
    offscreen_share: float = 0.0  # of the videos have a sound from off-screen, half of these have no other

    def __post_init__(self):
        def check(holds: bool, what: str):
            if not holds:
                raise ValueError(what)

        check(self.seed >= 0, f"the seed must not be negative, not {self.seed}")
        shortest, longest = DURATIONS
        check(
            shortest <= self.duration <= longest, f"duration must be {shortest} to {longest} s, not {self.duration:g}"
        )
        for side in (self.width, self.height):
            check(side >= MIN_SIDE and side % 2 == 0, f"sides must be even and at least {MIN_SIDE} pixels, not {side}")
        check(10 <= self.frame_rate <= 120, f"frame rate must be from 10 to 120 Hz, not {float(self.frame_rate):g}")
        check(0 <= self.offscreen_share <= 1, f"offscreen_share must be from 0 to 1, not {self.offscreen_share}")
        for name, least in (("num_sources", 1), ("distractors", 0)):
            low, high = getattr(self, name)
            check(
                least <= low <= high, f"{name} must be a number or an ascending range from {least} on, not {low}-{high}"
            )
        most = self.num_sources[1] + self.distractors[1]
        check(most <= MAX_OBJECTS, f"{most} sources and distractors in one picture are more than {MAX_OBJECTS}")
        heard = self.num_sources[1] + (self.offscreen_share > 0)
        timbres = len({action.timbre for action in self.classes})
        check(heard <= timbres, f"{heard} sounds at once need {heard} timbres, the classes have {timbres}: add classes")

    @property
    def num_frames(self) -> int:
        return round(self.duration * self.frame_rate)

    @property
    def num_samples(self) -> int:
        return round(self.num_frames / self.frame_rate * self.sample_rate)


def label_of(world: World, number: int) -> ActionClass:
    """Returns the class of video `number`: the classes take turns."""
    return world.classes[number % len(world.classes)]
