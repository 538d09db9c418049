"""How the objects of the synthetic world move, and what of it is an event.

Each motion is a function from the event frames to a `Track`: the event times come first, drawn at random, and the
trajectory is made to fit them. Every event is a large change that starts in its very frame and stays visible for at
least 100 ms, so that it can be seen in small pictures and at low frame rates. Lengths are in pixels, x before y.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

_LONG_AGO = 1e3  # seconds since the last event, where there was none yet

PULSE_GROWTH = 0.6  # of the radius
SHAKE_WIDTH = 0.15  # of the shorter side
_DRIFT_WIDTH = 0.03  # of the shorter side


@dataclasses.dataclass(frozen=True, eq=False)
class Arena:
    """Where the centre of an object may be, so that all of the object is in the picture."""

    low: np.ndarray  # [2]
    high: np.ndarray  # [2]
    side: float  # the shorter side of the picture
    reach: np.ndarray  # [2, 2], how far the object reaches to the left and top, and to the right and bottom

    def shrink(self, margin: float) -> "Arena":
        return dataclasses.replace(self, low=self.low + margin, high=self.high - margin)

    def sample(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Returns random places [count, 2]."""
        return rng.uniform(self.low, self.high, (count, 2))


@dataclasses.dataclass(frozen=True, eq=False)
class Track:
    """What an object does, frame by frame."""

    centers: np.ndarray  # [frames, 2]
    scales: np.ndarray  # [frames, 2], of the radius along x and y
    glow: np.ndarray  # [frames], from 0 (its own colour) to 1 (white)


def _track(centers: np.ndarray, scales: np.ndarray | float = 1.0, glow: np.ndarray | float = 0.0) -> Track:
    scales = np.asarray(scales, float)
    if scales.ndim == 1:
        scales = scales[:, None]
    return Track(centers, np.broadcast_to(scales, centers.shape), np.broadcast_to(glow, len(centers)))


def _last_event(events: np.ndarray, num_frames: int, frame_rate: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns for each frame how many events have happened, and the seconds since the last one."""
    frames = np.arange(num_frames)
    count = np.searchsorted(events, frames, side="right")
    since = (frames - events[np.maximum(count - 1, 0)]) / frame_rate
    return count, np.where(count > 0, since, _LONG_AGO)


def _flare(since: np.ndarray) -> np.ndarray:
    """1 from the event for 100 ms, then fading."""
    return np.minimum(1.0, np.exp((0.1 - since) / 0.07))


def _drift(rng: np.random.Generator, num_frames: int, frame_rate: float, arena: Arena) -> np.ndarray:
    """A slow sway [frames, 2], so that an object between two events is not frozen. At most `_DRIFT_WIDTH`."""
    phase = rng.uniform(0, 2 * np.pi, 2)
    hertz = rng.uniform(0.15, 0.35, 2)
    seconds = np.arange(num_frames)[:, None] / frame_rate
    return _DRIFT_WIDTH * arena.side * np.sin(2 * np.pi * hertz * seconds + phase)


def _far_places(rng: np.random.Generator, count: int, arena: Arena) -> np.ndarray:
    """Returns places [count, 2], each at least a third of the picture from the one before, where the arena allows."""
    places = arena.sample(rng, 1)
    while len(places) < count:
        candidates = arena.sample(rng, 32)
        distances = np.linalg.norm(candidates - places[-1], axis=1)
        far = np.flatnonzero(distances >= 0.35 * arena.side)
        places = np.vstack([places, candidates[far[0] if len(far) else distances.argmax()]])
    return places


def hop(rng: np.random.Generator, events: np.ndarray, num_frames: int, frame_rate: float, arena: Arena) -> Track:
    """At each event the object is at a new place at once."""
    arena = arena.shrink(_DRIFT_WIDTH * arena.side)
    count, _ = _last_event(events, num_frames, frame_rate)
    places = _far_places(rng, len(events) + 1, arena)
    return _track(places[count] + _drift(rng, num_frames, frame_rate, arena))


def kick(rng: np.random.Generator, events: np.ndarray, num_frames: int, frame_rate: float, arena: Arena) -> Track:
    """At each event the object is knocked away, and friction brings it to rest at a new place."""
    arena = arena.shrink(_DRIFT_WIDTH * arena.side)
    count, since = _last_event(events, num_frames, frame_rate)
    places = _far_places(rng, len(events) + 1, arena)
    left = 0.75 * np.exp(-since / 0.13)  # of the way; a first quarter lies within the event's own frame
    centers = places[count] + left[:, None] * (places[np.maximum(count - 1, 0)] - places[count])
    return _track(centers + _drift(rng, num_frames, frame_rate, arena))


def pulse(rng: np.random.Generator, events: np.ndarray, num_frames: int, frame_rate: float, arena: Arena) -> Track:
    """At each event the object swells, then shrinks back."""
    arena = arena.shrink(_DRIFT_WIDTH * arena.side + PULSE_GROWTH * arena.reach.max())
    _, since = _last_event(events, num_frames, frame_rate)
    centers = arena.sample(rng, 1) + _drift(rng, num_frames, frame_rate, arena)
    return _track(centers, scales=1 + PULSE_GROWTH * _flare(since))


def flash(rng: np.random.Generator, events: np.ndarray, num_frames: int, frame_rate: float, arena: Arena) -> Track:
    """At each event the object lights up white, then fades back to its colour."""
    arena = arena.shrink(_DRIFT_WIDTH * arena.side)
    _, since = _last_event(events, num_frames, frame_rate)
    centers = arena.sample(rng, 1) + _drift(rng, num_frames, frame_rate, arena)
    return _track(centers, glow=_flare(since))


def shake(rng: np.random.Generator, events: np.ndarray, num_frames: int, frame_rate: float, arena: Arena) -> Track:
    """At each event the object is struck and swings about its place, ever less."""
    arena = arena.shrink((_DRIFT_WIDTH + SHAKE_WIDTH) * arena.side)
    _, since = _last_event(events, num_frames, frame_rate)
    angle = rng.uniform(0, 2 * np.pi)
    swing = SHAKE_WIDTH * arena.side * np.cos(2 * np.pi * 4 * since) * np.exp(-since / 0.2)
    centers = arena.sample(rng, 1) + _drift(rng, num_frames, frame_rate, arena)
    return _track(centers + swing[:, None] * [np.cos(angle), np.sin(angle)])


def bounce(rng: np.random.Generator, events: np.ndarray, num_frames: int, frame_rate: float, arena: Arena) -> Track:
    """The object flies straight from wall to wall of the picture; the impacts are the events and squash it."""
    # One impact before the first frame and one after the last, so that the flight has two ends everywhere.
    gap = round(0.8 * frame_rate)
    impacts = np.concatenate([[min(events[0] - gap, -1)], events, [max(events[-1] + gap, num_frames)]])
    speed = rng.uniform(0.7, 1.1) * arena.side / frame_rate  # pixels per frame, as far as the walls allow
    places = np.empty((len(impacts), 2))
    walls = np.zeros((len(impacts), 2))  # the direction of the wall that is hit
    places[0] = arena.sample(rng, 1)[0]
    for k in range(1, len(impacts)):
        candidates, directions = _points_on_walls(rng, 24, arena)
        flight = np.linalg.norm(candidates - places[k - 1], axis=1)
        same_wall = (directions == walls[k - 1]).all(axis=1)
        misfit = np.abs(flight - speed * (impacts[k] - impacts[k - 1])) + np.where(same_wall, 1e9, 0)
        places[k], walls[k] = candidates[misfit.argmin()], directions[misfit.argmin()]

    frames = np.arange(num_frames)
    centers = np.stack([np.interp(frames, impacts, places[:, axis]) for axis in (0, 1)], axis=1)
    count, since = _last_event(events, num_frames, frame_rate)
    squash = 0.4 * _flare(since)[:, None]
    wall = walls[count]  # impacts[count] is the last event
    # Flat against the wall: what the squash takes from the object's reach, its centre comes nearer.
    reach = np.where(wall < 0, arena.reach[0], arena.reach[1])
    return _track(centers + squash * wall * reach, scales=1 + squash * np.where(wall == 0, 0.6, -1))


def _points_on_walls(rng: np.random.Generator, count: int, arena: Arena) -> tuple[np.ndarray, np.ndarray]:
    """Returns points [count, 2] where an object touches a wall, away from the corners, and that wall's directions."""
    middle, half = (arena.low + arena.high) / 2, (arena.high - arena.low) / 2
    directions = np.array([[-1.0, 0.0], [1.0, 0.0], [0.0, -1.0], [0.0, 1.0]])[rng.integers(0, 4, count)]
    across = rng.uniform(-0.8, 0.8, (count, 1)) * (directions == 0)
    return middle + half * (directions + across), directions


MOTIONS: dict[str, Callable[[np.random.Generator, np.ndarray, int, float, Arena], Track]] = {
    "Bounce": bounce,
    "Hop": hop,
    "Pulse": pulse,
    "Kick": kick,
    "Flash": flash,
    "Shake": shake,
}
