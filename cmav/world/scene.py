"""Who is in a video of the synthetic world, and what happens there. A pure function of the options and the number.

Events lie on frame times, so that the first frame that shows an event and the first sample that sounds it are the same
instant. Their gaps are random, so audio that is shifted by seconds is wrong.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from cmav.world import drawing, sounds
from cmav.world.drawing import Look
from cmav.world.motions import MOTIONS, Arena, Track
from cmav.world.world import ActionClass, World, label_of

# Seconds between the events of one object: at least the first, and the rest exponential, truncated.
_GAP_LEAST, _GAP_REST, _GAP_MOST = 0.3, 0.5, 1.6
_EDGE_SECONDS = 0.15  # without events, at both ends of a video

# Independent streams of random numbers of one video; the objects' begin at _OBJECTS.
_SCENE, _AUDIO, _OBJECTS = 0, 1, 2

_TRIES = 8  # of an object, to find a track that keeps clear of the others


@dataclasses.dataclass(frozen=True, eq=False)
class Actor:
    """One source or distractor. Off-screen it has neither look nor track."""

    action: ActionClass
    sounding: bool  # if not, its timbre is never heard
    events: np.ndarray  # frame numbers, ascending
    look: Look | None = None
    track: Track | None = None

    @property
    def onscreen(self) -> bool:
        return self.track is not None


@dataclasses.dataclass(frozen=True, eq=False)
class Scene:
    """All that happens in one video. Those on screen are drawn in the order of `actors`."""

    number: int
    label: ActionClass
    background: np.ndarray  # float32 [height, width, 3]
    actors: tuple[Actor, ...]

    @property
    def onscreen(self) -> tuple[Actor, ...]:
        return _onscreen(self.actors)


def plan_scene(world: World, number: int) -> Scene:
    """Draws what happens in video `number`.

    Where the only sound comes from off-screen it has the timbre of the video's class, while an object with the motion
    of that class moves at other times: the class stays decidable, but nothing in the picture sounds.
    """
    rng = _stream(world, number, _SCENE)
    background = drawing.random_background(rng, world.width, world.height)
    label = label_of(world, number)
    num_sources = int(rng.integers(*world.num_sources, endpoint=True))
    num_distractors = int(rng.integers(*world.distractors, endpoint=True))
    has_offscreen, only_offscreen = rng.random() < world.offscreen_share, rng.random() < 0.5

    actions = [label]
    while len(actions) < num_sources + has_offscreen:
        used = {action.timbre for action in actions}
        actions.append(_choose(rng, [action for action in world.classes if action.timbre not in used]))
    # (action, on screen, sounding) of every actor
    if has_offscreen and only_offscreen:
        cast = [(action, True, False) for action in actions[:num_sources]] + [(label, False, True)]
    else:
        cast = [(action, k < num_sources, True) for k, action in enumerate(actions)]
    cast += [(_choose(rng, world.classes), True, False) for _ in range(num_distractors)]
    crowd = sum(onscreen for _, onscreen, _ in cast)
    actors = []
    for k, role in enumerate(cast):
        actors.append(_plan_actor(world, _stream(world, number, _OBJECTS + k), *role, crowd, others=actors))
    return Scene(number, label, background, tuple(actors))


def render_frames(world: World, scene: Scene) -> Iterator[np.ndarray]:
    """Yields the frames, uint8 [height, width, 3]."""
    for k in range(world.num_frames):
        picture = scene.background.copy()
        for actor in scene.onscreen:
            track = actor.track
            drawing.paint(picture, actor.look, track.centers[k], track.scales[k], track.glow[k])
        yield np.rint(picture).astype(np.uint8)


def render_audio(world: World, scene: Scene) -> np.ndarray:
    """Returns the sound, float32 [samples, 2]."""
    rng = _stream(world, scene.number, _AUDIO)
    audio = np.zeros((world.num_samples, 2))
    for actor in scene.actors:
        if not actor.sounding:
            continue
        note = sounds.random_note(rng, actor.action.timbre, world.sample_rate)
        loudness, elsewhere = rng.uniform(0.4, 0.7), rng.random()
        for frame in actor.events:
            start = round(frame / world.frame_rate * world.sample_rate)
            pan = actor.track.centers[frame, 0] / world.width if actor.onscreen else elsewhere
            sounds.strike(audio, note, start, loudness * rng.uniform(0.75, 1.0), pan)
    return sounds.master(rng, audio)


def _stream(world: World, number: int, stream: int) -> np.random.Generator:
    return np.random.default_rng([world.seed, number, stream])


def _choose(rng: np.random.Generator, actions: Sequence[ActionClass]) -> ActionClass:
    return actions[rng.integers(len(actions))]


def _onscreen(actors: Sequence[Actor]) -> tuple[Actor, ...]:
    return tuple(actor for actor in actors if actor.onscreen)


def _plan_actor(
    world: World,
    rng: np.random.Generator,
    action: ActionClass,
    onscreen: bool,
    sounding: bool,
    crowd: int,
    others: Sequence[Actor],
) -> Actor:
    """Plans one of `crowd` objects on screen, or somebody off-screen; `others` are those before."""
    # The look comes first, so that nothing about the action can reach it, unless it is to tell of the timbre.
    side = min(world.width, world.height)
    kind = list(sounds.TIMBRES).index(action.timbre) if world.looks_by_timbre else None
    look = drawing.random_look(rng, side * min(1.0, np.sqrt(2 / crowd)), kind)
    events = _random_events(world, rng)
    if not onscreen:
        return Actor(action, sounding, events)
    left_top, right_bottom = look.extent
    arena = Arena(-left_top, [world.width, world.height] - right_bottom, side, np.abs(look.extent))

    def random_actor() -> Actor:
        track = MOTIONS[action.motion](rng, events, world.num_frames, float(world.frame_rate), arena)
        return Actor(action, sounding, events, look, track)

    others = _onscreen(others)
    if not others:
        return random_actor()
    return min((random_actor() for _ in range(_TRIES)), key=lambda actor: sum(_overlap(actor, o) for o in others))


def _overlap(one: Actor, other: Actor) -> float:
    """How deep two objects are in each other, by the circles around them, on average over the frames."""
    distances = np.linalg.norm(one.track.centers - other.track.centers, axis=1)
    return float(np.maximum(0, one.look.radius + other.look.radius - distances).mean())


def _random_events(world: World, rng: np.random.Generator) -> np.ndarray:
    """Returns at least one event: frame numbers [events], ascending, at gaps of `_GAP_LEAST` to `_GAP_MOST`."""
    seconds = [rng.uniform(_EDGE_SECONDS, 1.0)]
    while seconds[-1] < world.duration:
        seconds.append(seconds[-1] + min(_GAP_LEAST + rng.exponential(_GAP_REST), _GAP_MOST))
    within = np.array([second for second in seconds if second < world.duration - _EDGE_SECONDS])
    return np.rint(within * float(world.frame_rate)).astype(int)
