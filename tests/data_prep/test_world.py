"""The synthetic world before it becomes files: what happens in it, how it looks and how it sounds."""

import collections
import dataclasses
from fractions import Fraction

import numpy as np
import pytest

from data_prep import world_drawing
from data_prep.world import CATALOGUE, ActionClass, World
from data_prep.world_motions import MOTIONS
from data_prep.world_scene import plan_scene, render_audio, render_frames
from data_prep.world_sounds import TIMBRES, random_note

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
        boxes = world_drawing.boxes(actor.look, actor.track, world.width, world.height) * [120, 90, 120, 90]
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


def test_catalogue_needs_both_motion_and_timbre():
    assert len(set(CATALOGUE)) == len(CATALOGUE) == len(MOTIONS) * len(TIMBRES)
    motions = collections.Counter(action.motion for action in CATALOGUE[:8])
    timbres = collections.Counter(action.timbre for action in CATALOGUE[:8])
    assert max(motions.values()) == 2  # the same to the eye, told apart by the sound
    assert min(timbres.values()) == 2  # the same to the ear, told apart by the motion
