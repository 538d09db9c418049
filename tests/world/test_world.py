"""The synthetic world before it becomes files: what happens in it, how it looks and how it sounds."""

import collections
import colorsys
import dataclasses
import hashlib
import json
from fractions import Fraction

import numpy as np
import pytest
from scipy import signal

from cmav.world import drawing, truth
from cmav.world.motions import MOTIONS
from cmav.world.scene import plan_scene, render_audio, render_frames
from cmav.world.sounds import TIMBRES, band, random_note
from cmav.world.world import CATALOGUE, ActionClass, World

FRAME_RATE = 30000 / 1001


def test_event_times_are_irregular():
    gaps = np.concatenate([np.diff(plan_scene(World(), n).actors[0].events) for n in range(40)]) / FRAME_RATE
    assert gaps.min() > 0.25
    assert 0.6 < gaps.mean() < 1.0
    assert gaps.std() > 0.25


@pytest.mark.parametrize("motion", MOTIONS)
def test_boxes_surround_what_is_drawn(motion):
    world = World(seed=5, duration=3, classes=(ActionClass(motion, "Bell"),), width=120, height=90)
    for number in range(4):
        scene = plan_scene(world, number)
        actor = scene.actors[0]
        boxes = drawing.boxes(actor.look, actor.track, world.width, world.height) * [120, 90, 120, 90]
        background = np.rint(scene.background).astype(int)
        for picture, box in zip(render_frames(world, scene), boxes, strict=True):
            # Half of the object's contrast or more: the pixels that it covers for the most part.
            difference = np.abs(picture.astype(int) - background).sum(axis=2)
            rows, columns = np.nonzero(difference > 0.5 * difference.max())
            drawn = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            np.testing.assert_allclose(box, drawn, atol=2.0)  # sharp corners fade before the outline ends


def test_sources_at_once_have_timbres_and_events_of_their_own():
    world = World(num_sources=(1, 3), distractors=(0, 2))
    scenes = [plan_scene(world, number) for number in range(40)]
    assert {sum(actor.sounding for actor in scene.actors) for scene in scenes} == {1, 2, 3}
    assert {sum(not actor.sounding for actor in scene.actors) for scene in scenes} == {0, 1, 2}
    for scene in scenes:
        timbres = [actor.action.timbre for actor in scene.actors if actor.sounding]
        assert len(set(timbres)) == len(timbres)
        assert scene.actors[0].action == scene.label
        times = {tuple(actor.events) for actor in scene.actors}
        assert len(times) == len(scene.actors)


def test_mixture_is_heard_where_each_source_is_struck():
    """The sound of two sources is louder, right after each of their events, than just before."""
    world = World(seed=2, duration=4, num_sources=(2, 2))
    scene = plan_scene(world, 0)
    audio = np.abs(render_audio(world, scene)).max(axis=1)
    assert audio.max() <= 0.85
    events = np.sort(np.concatenate([actor.events for actor in scene.actors]))
    alone = [event for event in events if np.abs(events - event)[events != event].min() > 8]
    assert len(alone) >= 4
    for event in alone:
        sample = round(event / FRAME_RATE * world.sample_rate)
        assert audio[sample : sample + 900].max() > 1.5 * audio[sample - 900 : sample].max()


def test_looks_tell_nothing_about_the_class():
    one, other = (dataclasses.replace(World(), classes=CATALOGUE[k : k + 1]) for k in (0, 3))
    for number in range(10):
        (left,), (right,) = plan_scene(one, number).actors, plan_scene(other, number).actors
        assert (left.look.shape, left.look.radius, left.look.angle) == (
            right.look.shape,
            right.look.radius,
            right.look.angle,
        )
        np.testing.assert_array_equal(left.look.color, right.look.color)
        np.testing.assert_array_equal(plan_scene(one, number).background, plan_scene(other, number).background)


CROWD = World(
    seed=3, duration=2, num_sources=(1, 2), distractors=(0, 2), offscreen_share=0.6, looks_by_timbre=True, width=64
)


def test_shape_and_hue_tell_the_timbre_where_they_are_to():
    """Of what sounds and what is silent: each timbre has one shape, and its hues are by themselves."""
    world = dataclasses.replace(CROWD, classes=CATALOGUE)
    shapes, hues = collections.defaultdict(set), collections.defaultdict(list)
    for number in range(60):
        for actor in plan_scene(world, number).onscreen:
            shapes[actor.action.timbre].add(actor.look.shape)
            hues[actor.action.timbre].append(colorsys.rgb_to_hsv(*actor.look.color / 255)[0])
    assert shapes.keys() == TIMBRES.keys()
    assert all(len(shape) == 1 for shape in shapes.values()) and len(set.union(*shapes.values())) == len(TIMBRES)
    turns = {timbre: np.exp(2j * np.pi * np.array(hue)) for timbre, hue in hues.items()}
    for timbre, mine in turns.items():
        assert len(set(mine)) > 5
        spread = abs(np.angle(mine[:, None] / mine)).max()
        gap = min(abs(np.angle(mine[:, None] / others)).min() for other, others in turns.items() if other != timbre)
        assert gap > spread / 2, timbre


def test_looks_that_tell_the_timbre_change_nothing_else():
    plain = dataclasses.replace(CROWD, looks_by_timbre=False)
    shapes, sounds_offscreen = [], 0
    for number in range(30):
        scene, other = plan_scene(CROWD, number), plan_scene(plain, number)
        np.testing.assert_array_equal(scene.background, other.background)
        for actor, same in zip(scene.actors, other.actors, strict=True):
            assert (actor.action, actor.sounding, actor.onscreen) == (same.action, same.sounding, same.onscreen)
            np.testing.assert_array_equal(actor.events, same.events)
            if actor.onscreen:
                assert (actor.look.angle, actor.look.radius) == (same.look.angle, same.look.radius)
                shapes.append(actor.look.shape == same.look.shape)
        if not any(actor.sounding and actor.onscreen for actor in scene.actors):  # Or where it is heard is another.
            np.testing.assert_array_equal(render_audio(CROWD, scene), render_audio(plain, other))
            sounds_offscreen += 1
    assert 0 < np.mean(shapes) < 0.5 and sounds_offscreen > 2


def test_worlds_without_the_option_are_what_they_were_before_it(tmp_path):
    """The digest is of the truth that was written before there were `looks_by_timbre` and `hertz`."""
    world = dataclasses.replace(CROWD, looks_by_timbre=False)
    truth.write_truth(tmp_path, world, num_videos=16, train_share=0.75)
    events = json.loads((tmp_path / "events.json").read_text())
    for entry in events:
        for actor in entry["actors"]:
            assert (actor.pop("hertz") is None) == (not actor["sounding"])
    colors = [actor.look.color.round(2).tolist() for n in range(16) for actor in plan_scene(world, n).onscreen]
    written = [json.dumps([events, colors], indent=1), (tmp_path / "vggss.json").read_text()]
    assert hashlib.sha256("".join(written).encode()).hexdigest()[:16] == "e2d76abd287b70d9"


def test_one_frame_does_not_give_the_class_away():
    """The nearest other frame, by colours or by a thumbnail, has the same class hardly more often than by chance."""
    world, count = World(width=64, height=64, frame_rate=Fraction(10), duration=2), 320
    scenes = [plan_scene(world, number) for number in range(count)]
    frames = [list(render_frames(world, scene))[number // 8 % 20] for number, scene in enumerate(scenes)]
    labels = np.array([CATALOGUE.index(scene.label) for scene in scenes])
    pictures = np.stack(frames).astype(float)
    colors = np.stack([pictures.mean(axis=(1, 2)), pictures.std(axis=(1, 2))], axis=1).reshape(count, -1)
    thumbnails = pictures.reshape(count, 8, 8, 8, 8, 3).mean(axis=(2, 4)).reshape(count, -1)
    for features in (colors, thumbnails):
        distances = np.linalg.norm(features[:, None] - features[None], axis=2)
        np.fill_diagonal(distances, np.inf)
        assert np.mean(labels[distances.argmin(axis=1)] == labels) < 0.125 + 3.5 * np.sqrt(0.125 * 0.875 / count)


def test_timbres_are_sharp_and_short():
    for timbre in TIMBRES:
        for seed in range(4):
            loudness = np.abs(random_note(np.random.default_rng(seed), timbre, 16_000))
            assert loudness.max() == 1
            assert np.argmax(loudness > 0.5) < 0.01 * 16_000
            assert loudness[round(0.35 * 16_000) :].max() < 0.1


def test_timbres_are_told_apart_whatever_their_pitch():
    """The nearest other note, by its spectrum in twelve bands, is nearly always of the same timbre."""
    rng = np.random.default_rng(0)
    names = np.repeat(list(TIMBRES), 8)
    notes = np.stack([random_note(rng, name, 16_000)[:4096] for name in names])
    bands = np.geomspace(80, 8000, 13)[1:-1]
    band_of = np.digitize(np.fft.rfftfreq(4096, 1 / 16_000), bands)
    power = np.abs(np.fft.rfft(notes)) ** 2 @ np.eye(12)[band_of]
    decibels = 10 * np.log10(power / power.sum(axis=1, keepdims=True) + 1e-4)
    distances = np.linalg.norm(decibels[:, None] - decibels[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    assert np.mean(names[distances.argmin(axis=1)] == names) > 0.95


# Of the middle pitch, 50 ms after the strike; of the noise of a snap the middle.
PITCHES = {"Bell": 800, "Drum": 141, "Whistle": 1983, "Buzz": 210, "Snap": 2850, "Pluck": 360}


@pytest.mark.parametrize("timbre", TIMBRES)
def test_a_band_holds_the_pitch_and_four_fifths_of_the_energy(timbre):
    low, high = band(timbre, 16_000)
    assert low < PITCHES[timbre] < high
    rng, inside, below, total = np.random.default_rng(9), 0.0, 0.0, 0.0
    for _ in range(60):
        hertz, power = signal.periodogram(random_note(rng, timbre, 16_000), 16_000)
        inside += power[(hertz >= low) & (hertz <= high)].sum()
        below += power[hertz < low].sum()
        total += power.sum()
    assert inside / total == pytest.approx(0.8, abs=0.05)
    assert below / total == pytest.approx(0.1, abs=0.04)
    assert band(timbre, 44_100) == pytest.approx((low, high), rel=0.03)


def test_catalogue_needs_both_motion_and_timbre():
    assert len(set(CATALOGUE)) == len(CATALOGUE) == len(MOTIONS) * len(TIMBRES)
    motions = collections.Counter(action.motion for action in CATALOGUE[:8])
    timbres = collections.Counter(action.timbre for action in CATALOGUE[:8])
    assert max(motions.values()) == 2  # the same to the eye, told apart by the sound
    assert min(timbres.values()) == 2  # the same to the ear, told apart by the motion
