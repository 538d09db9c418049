"""A network that learned what is in sync shows where the sound is, and not what flashes in silence; others do not.

Its world is made here: a disc flashes, each time with a burst of noise; in half of the clips another one, which looks
the same, flashes without a sound at moments of its own.
"""

import functools

import jax
import numpy as np
import pytest

from cmav import distributed
from cmav.evals import localization
from cmav.localization.boxes import SIZE, Truth
from cmav.localization.task import LocalizationTask, find_maps
from cmav.models import maps
from cmav.tasks import make_task
from cmav.training import train
from cmav.training.optim import make_optimizer, make_schedule
from tests import tiny_config

SIDE, RADIUS, SECONDS, DECAY_SECONDS = 20, 2.5, 2.0, 0.12
STEPS, BATCH_SIZE, SEED = 100, 16, 0
METHODS = ("alignment", "similarity")


def loudness(times, events):
    """How strongly events sound and light up: 1 at each, then falling."""
    since = times[:, None] - events
    return np.where(since >= 0, np.exp(-np.maximum(since, 0) / DECAY_SECONDS), 0).max(axis=1)


def make_clips(config, count, seed):
    """Videos, pairs of audios (of the same moment, and of 2 s later), and where the sound is in the middle."""
    rng = np.random.default_rng(seed)
    frame_rate, sample_rate = config.data.stored_frame_rate, config.data.sample_rate
    frame_times = np.arange(int(SECONDS * frame_rate)) / frame_rate
    sample_times = np.arange(int(2 * SECONDS * sample_rate)) / sample_rate
    rows, columns = np.mgrid[:SIDE, :SIDE] + 0.5
    videos, audios, truths = [], [], []
    for number in range(count):
        places = rng.uniform(RADIUS, SIDE - RADIUS, (2, 2))
        while abs(places[0] - places[1]).max() < 3 * RADIUS:
            places = rng.uniform(RADIUS, SIDE - RADIUS, (2, 2))
        events = rng.uniform(-1, 2 * SECONDS, (2, 8))  # of the source, and of the silent disc
        video = np.tile(np.kron(rng.integers(0, 100, (5, 5, 3)), np.ones((4, 4, 1))), (len(frame_times), 1, 1, 1))
        boxes_2x4 = []
        for place, moments in zip(places, events, strict=True):
            moved = place + (frame_times[:, None] - SECONDS / 2) * rng.uniform(-1, 1, 2)
            y, x = np.clip(moved, RADIUS, SIDE - RADIUS).T
            boxes_2x4.append(np.array([x - RADIUS, y - RADIUS, x + RADIUS, y + RADIUS])[:, len(x) // 2] / SIDE)
            if moments is events[1] and number % 2:
                continue
            disc = np.hypot(rows - y[:, None, None], columns - x[:, None, None]) < RADIUS
            video += 150 * (disc * loudness(frame_times, moments)[:, None, None])[..., None]
        noise = rng.uniform(-8000, 8000, (len(sample_times), 2))
        videos.append(video.astype(np.uint8))
        audios.append((loudness(sample_times, events[0])[:, None] * noise).astype(np.int16).reshape(2, -1, 2))
        silent = np.reshape(boxes_2x4[1:][: 1 - number % 2], (-1, 4))
        truths.append(Truth(str(number), "flash", boxes_2x4[0][None], silent_Kx4=silent))
    return np.stack(videos), np.stack(audios), truths


def make_config():
    config = tiny_config.get_config()
    config.phases = (dict(frame_rate=10.0, batch_size=BATCH_SIZE, steps=STEPS),)
    config.data.crop_size = SIDE
    config.model.video.layers = (("conv", 12, (3, 5, 5), (1, 2, 2)), ("conv", 24, (3, 3, 3), (2, 2, 2)))
    config.model.remat = "none"
    config.optim.learning_rate = 3e-3
    config.loss.alignment_weight = 1.0
    config.seed = SEED
    return config


@pytest.fixture(scope="module")
def held_out():
    return make_clips(make_config(), 48, seed=2 * SEED + 1)


@pytest.fixture(scope="module")
def scores(held_out):
    """What is measured in held-out clips: {"trained", "untrained", "misled": {method: scores}}.

    "misled" was trained in the same way, with the sound of another clip in each step.
    """
    config = make_config()
    task = make_task(config, config.phases[0])
    optimizer = make_optimizer(config.optim, make_schedule(config.optim, STEPS))
    step = jax.jit(functools.partial(train.train_step, task=task, optimizer=optimizer, seed=SEED))
    fresh = train.create_state(config, task, optimizer, distributed.make_mesh())
    videos, audios, _ = make_clips(config, 256, seed=2 * SEED)
    labels = np.tile(np.float32([1, 0]), (BATCH_SIZE, 1))

    def learn(places):
        """Trains on clips with the sound of the clip that is so many places before them in the batch."""
        rng, state = np.random.default_rng(SEED), fresh
        for _ in range(STEPS):
            rows = rng.choice(len(videos), BATCH_SIZE, replace=False)
            state, _ = step(state, {"video": videos[rows], "audio": audios[np.roll(rows, places)], "labels": labels})
        return state

    whole_pictures = LocalizationTask.of(task, size=SIDE)

    @jax.jit
    def look(variables, batch):
        found = find_maps(variables, batch, task=whole_pictures, methods=METHODS)
        # Without the first and the last moment, at which all of a clip begins and ends.
        lit = {method: jax.nn.relu(found[method])[:, 1:-1].mean(axis=1) for method in METHODS}
        return {method: maps.upsample(x, (SIZE, SIZE), whole_pictures.centres) for method, x in lit.items()}

    def judge(state):
        videos, audios, truths = held_out
        found = look({"params": state.params, **state.model_state}, {"video": videos, "audio": audios[:, 0]})
        return {method: localization.score(np.asarray(found[method]), truths) for method in METHODS}

    return {"untrained": judge(fresh), "trained": judge(learn(0)), "misled": judge(learn(1))}


@pytest.fixture(scope="module")
def unlearned(scores, held_out):
    """By method, the better pixel AP of the centred disc and of the network before training."""
    disc = localization.trivial_scores(held_out[-1])["centred disc"]
    return {method: max(disc.pixel_ap, scores["untrained"][method].pixel_ap) for method in METHODS}


# With seeds 0, 1 and 2 the trained network is better by 0.5 or more, and by 0.16 or more.
@pytest.mark.parametrize(("method", "margin"), [("alignment", 0.3), ("similarity", 0.08)])
def test_a_trained_network_shows_where_the_sound_is(scores, unlearned, method, margin):
    assert scores["trained"][method].pixel_ap > unlearned[method] + margin


def test_what_flashes_in_silence_is_not_lit(scores):
    assert scores["trained"]["alignment"].source_recall > 0.6
    assert scores["trained"]["alignment"].distractor_recall < 0.2
    for method in METHODS:
        assert scores["trained"][method].sounding_above_silent > 0.75


@pytest.mark.parametrize("method", METHODS)
def test_sounds_of_other_clips_teach_it_nothing(scores, unlearned, method):
    assert scores["misled"][method].pixel_ap < unlearned[method] + 0.08
    assert scores["misled"][method].source_recall < 0.25
