"""Frequency grounding, against loops; the evaluator, with networks that attend to what is seen, and to all else.

The tiny network hears eight bands, 56 Hz apart.
"""

import dataclasses
import json
import shutil
import types

import jax
import jax.numpy as jnp
import matplotlib.image
import numpy as np
import pytest
from etils import epath
from scipy import stats
from sklearn import metrics as sk

from cmav import config as cmav_config
from cmav import distributed
from cmav.data.index import SplitIndex
from cmav.errors import UserError
from cmav.evals import frequencies
from cmav.evals.evaluators import make_evaluators
from cmav.localization.scenes import Scene, Sound
from cmav.models import encoders
from cmav.tasks import make_task
from cmav.tasks.cmac import Cmac
from tests import fake_clips, tiny_config
from tests.models import fake_variables

NUM_CLIPS, DAMAGED = 9, 4
BANDS = 1000 / 2 / 9 * np.arange(1, 9)
# Of each video of the world, between which frequencies something sounds that is seen, and that is not.
ONSCREEN = {
    0: [(100, 180)],
    1: [(300, 400), (20, 70)],
    2: [],
    3: [(210, 350)],
    DAMAGED: [(210, 290)],
    5: [(600, 700)],  # above all bands
    6: [(210, 350), (120, 140)],  # the second between two bands, the 111 Hz nearer
    7: [(90, 240)],
}
OFFSCREEN = {1: [(200, 250)], 2: [(200, 250)], 3: [(250, 300)], 6: [(300, 400)], 7: [(380, 400), (430, 460)]}
JUDGED = [0, 1, 3, 6, 7]  # 2 and 5 have nothing to be found, and of 8 nothing is known.
TOLD = [1, 6, 7]  # In 3, all that is off-screen is within the band of what is seen.


def within(bands, ranges):
    found = np.zeros(len(bands), bool)
    for low, high in ranges:
        inside = [low <= hz <= high for hz in bands]
        middle = (low + high) / 2
        if not any(inside) and middle < bands[-1] + (bands[-1] - bands[-2]) / 2:
            inside[min(range(len(bands)), key=lambda band: abs(bands[band] - middle))] = True
        found |= np.array(inside)
    return found


def scene_of(number):
    onscreen, offscreen = (tuple(ranges.get(number, ())) for ranges in (ONSCREEN, OFFSCREEN))
    return Scene(Sound.ON_SCREEN, np.zeros((0, 4)), np.zeros((len(onscreen), 3, 4)), 10.0, onscreen, offscreen)


def test_attention_is_judged_as_by_loops():
    given = np.random.default_rng(0).integers(0, 4, (len(JUDGED), 8)) / 4  # with ties
    result = frequencies.judge(given, [scene_of(number) for number in JUDGED], BANDS)
    told = []
    for auc, given_F, number in zip(result.aucs_N, given, JUDGED, strict=True):
        seen, unseen = within(BANDS, ONSCREEN[number]), within(BANDS, OFFSCREEN.get(number, []))
        assert auc == pytest.approx(sk.roc_auc_score(seen, given_F))
        if number in TOLD:
            one = [given_F[band] for band in range(8) if seen[band] and not unseen[band]]
            other = [given_F[band] for band in range(8) if unseen[band] and not seen[band]]
            told.append(sum(one) / len(one) > sum(other) / len(other))
    assert result.told_apart_K.tolist() == told and set(told) == {True, False}

    numbers = result.numbers()
    assert numbers["band_auc"] == result.aucs_N.mean()
    assert numbers["band_auc_low"] < numbers["band_auc"] < numbers["band_auc_high"]
    assert numbers["told_apart"] == sum(told) / 3
    interval = stats.binomtest(sum(told), 3).proportion_ci(0.95, method="wilson")
    assert (numbers["told_apart_low"], numbers["told_apart_high"]) == pytest.approx(tuple(interval), abs=1e-6)


def test_a_range_between_two_bands_is_that_of_the_nearer():
    """As that of the lowest sounds is, in a coarse map."""
    bands = np.array([280.0, 500.0, 730.0])
    for low, high, expected in [(110, 240, 0), (395, 480, 1), (300, 385, 0), (740, 830, 2)]:
        scene = dataclasses.replace(scene_of(0), onscreen_hz=((low, high),))
        (auc,) = frequencies.judge(np.eye(3)[[expected]], [scene], bands).aucs_N
        assert auc == 1, (low, high)


def test_even_attention_is_at_chance_and_tells_nothing_apart():
    result = frequencies.judge(np.ones((len(JUDGED), 8)), [scene_of(number) for number in JUDGED], BANDS)
    assert result.aucs_N.tolist() == [0.5] * len(JUDGED)
    assert result.told_apart_K.tolist() == [False] * len(TOLD)


def test_without_sounds_off_screen_there_is_nothing_to_tell_apart():
    numbers = frequencies.judge(np.eye(8)[:1], [scene_of(0)], BANDS).numbers()
    assert numbers.keys() == {"band_auc", "band_auc_low", "band_auc_high"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The split "validation", one record of it damaged, and the world of all its videos but the last."""
    folder = tmp_path_factory.mktemp("world")
    split = fake_clips.write_dataset(folder, "validation", NUM_CLIPS, **tiny_config.CLIPS)
    fake_clips.flip_a_byte(split, DAMAGED)
    write_world(folder, {f"fake{number:04d}": scene_of(number) for number in ONSCREEN})
    return folder


def write_world(folder, scenes, *, with_hertz=True):
    entries = []
    (folder / "boxes").mkdir(exist_ok=True)
    for file, scene in scenes.items():
        actors = [
            {"sounding": True, "onscreen": onscreen, "box_row": row, **({"hertz": hertz} if with_hertz else {})}
            for onscreen, ranges in ((True, scene.onscreen_hz), (False, scene.offscreen_hz))
            for row, hertz in enumerate(ranges)
        ]
        actors.append({"sounding": False, "onscreen": True, "box_row": len(scene.onscreen_hz), "hertz": None})
        entries.append({"file": file, "frame_rate": 10.0, "num_frames": 50, "actors": actors})
        np.save(folder / "boxes" / f"{file}.npy", np.zeros((len(scene.onscreen_hz) + 1, 50, 4), np.float32))
    (folder / "events.json").write_text(json.dumps(entries))


@pytest.fixture
def config(folder):
    config = tiny_config.get_cmac_config()
    config.data.dir = str(folder)
    config.data.max_bad_fraction = 0.2
    with config.unlocked():
        config.evals = dict(frequencies=cmav_config.get_default("cmac").evals.frequencies)
    config.evals.frequencies.batch_size = 4
    config.evals.frequencies.pictures = 3
    config.evals.frequencies.scenes = str(folder)
    return config


def make(config):
    task = make_task(config, config.phases[0])
    return make_evaluators(config, task, distributed.make_mesh())["frequencies"]


STATE = types.SimpleNamespace(params={"sharpness": np.float32(8)}, model_state={})


@pytest.fixture
def ideal(monkeypatch):
    """In the place of a network: "guided" attends to the band of what is seen, most where nothing else is; "pure" to
    all other bands.
    """
    known = [number for number in ONSCREEN if number not in (2, 5)]
    seen, unseen = (
        np.array([within(BANDS, ranges.get(number, [])) for number in [*known, NUM_CLIPS]], np.float32)
        for ranges in ({**ONSCREEN, NUM_CLIPS: []}, OFFSCREEN)
    )

    def apply(self, variables, batch, *, train):
        assert not train
        logits = variables["params"]["sharpness"] * jnp.asarray(2 * seen - seen * unseen)[batch["file"]]
        logits = jnp.repeat(logits[:, None], 16, axis=1)
        return {"audio/guided": logits, "audio/pure": -logits}, {}

    monkeypatch.setattr(Cmac, "apply", apply)


def test_who_attends_to_what_is_seen_is_right_and_who_attends_elsewhere_wrong(config, ideal, tmp_path):
    evaluator = make(config)
    values = dict(evaluator.run(STATE))
    names = {
        f"{name}_{key}{end}"
        for name in ("guided", "pure", "energy")
        for key in ("band_auc", "told_apart")
        for end in ("", "_low", "_high")
    }
    assert values.keys() == names | {"attention"}
    assert values["guided_band_auc"] == values["guided_told_apart"] == 1
    assert values["pure_band_auc"] == values["pure_told_apart"] == 0
    assert 0.2 < values["energy_band_auc"] < 0.8  # The clips are noise.
    assert values["pure_told_apart_low"] == 0 < values["pure_told_apart_high"] < 1

    written = evaluator.write_report(epath.Path(tmp_path))
    assert [path.name for path in written] == ["frequencies_validation.json", "frequencies_validation.png"]
    report = json.loads(written[0].read_text())
    assert (report.pop("clips"), report.pop("clips_with_offscreen")) == (len(JUDGED), len(TOLD))
    assert {f"{name}_{key}": x for name, numbers in report.items() for key, x in numbers.items()} == {
        name: values[name] for name in names
    }
    picture = matplotlib.image.imread(written[1])
    np.testing.assert_array_equal((255 * picture).round().astype(np.uint8)[..., :3], values["attention"])


def test_pictures_are_of_the_same_clips_with_their_own_bands(config, ideal, monkeypatch):
    drawn = []

    def draw(*args):
        drawn.append(args)
        return real(*args)

    real = frequencies.draw
    monkeypatch.setattr(frequencies, "draw", draw)
    evaluator = make(config)  # of the records 0, 4 and 8, of which 4 is damaged
    picture = dict(evaluator.run(STATE))["attention"]
    ((clips, shown, seconds, mel_hz, bands_F),) = drawn
    assert clips == [("fake0000", ((100, 180),)), ("fake0008", ())]
    assert list(shown) == ["sound", "guided", "pure"] and seconds == 1
    assert [x.shape for x in shown.values()] == [(2, 32, 8), (2, 16, 8), (2, 16, 8)]
    np.testing.assert_allclose(shown["guided"].sum(axis=2), 1, rtol=1e-6)
    assert set(shown["guided"][0, 3].argsort()[-2:]) == {1, 2}
    np.testing.assert_allclose(mel_hz, BANDS)
    np.testing.assert_allclose(bands_F, BANDS)
    assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3


def test_the_picture_has_a_row_for_each_clip_and_a_column_for_each_attention():
    rng = np.random.default_rng(0)
    shown = {"sound": rng.uniform(0, 1, (3, 20, 40)), "guided": rng.uniform(0, 1, (3, 10, 8))}

    def shape(clips):
        first = {name: x[: len(clips)] for name, x in shown.items()}
        return frequencies.draw(clips, first, 2.0, np.geomspace(60, 4000, 40), np.geomspace(80, 3500, 8)).shape

    one, three = shape([("a", ())]), shape([("a", ()), ("b", [(100, 300)]), ("c", [(100, 300), (2000, 9000)])])
    assert three[0] > 2 * one[0] and three[1:] == one[1:]


def test_pictures_alone(config, ideal, tmp_path):
    config.evals.frequencies.scenes = ""
    evaluator = make(config)
    assert list(dict(evaluator.run(STATE))) == ["attention"]
    assert [path.name for path in evaluator.write_report(epath.Path(tmp_path))] == ["frequencies_validation.png"]


def test_no_picture_of_what_cannot_be_read(config, ideal, tmp_path):
    config.data.dir = str(shutil.copytree(config.data.dir, tmp_path / "data"))
    fake_clips.flip_a_byte(SplitIndex.load(config.data.dir, "validation"), 0)
    config.data.max_bad_fraction = 0.3
    config.evals.frequencies.scenes = ""
    config.evals.frequencies.pictures = 1
    evaluator = make(config)
    assert dict(evaluator.run(STATE)) == {} and evaluator.write_report(epath.Path(tmp_path)) == []


def test_what_a_band_gets_is_the_mean_over_moments_by_their_loudness(config):
    """Of a real network, against loops; its map has half the spectrogram's frames and bands."""
    config.model.audio.strides = ((2, 2), (1, 1))
    task = make_task(config, config.phases[0])
    encoder = encoders.audio(task.model_config)
    rng = np.random.default_rng(0)
    loudness = np.where(np.arange(1000) < 500, 0.05, 1.0)
    audio = (8000 * loudness[:, None] * rng.uniform(-1, 1, (3, 1000, 2))).astype(np.int16)
    audio[1, :, :] = (8000 * np.sin(2 * np.pi * 333 * np.arange(1000) / 1000))[:, None]
    audio[1, :600], audio[2] = 0, 0
    video = rng.integers(0, 256, (3, 10, 16, 16, 3)).astype(np.uint8)
    batch = task.batch_of(video, audio, np.array([True, True, False]))
    variables = fake_variables.draw(jax.eval_shape(task.init, jax.random.key(0)))
    beside = {"file": np.array([5, -1, 0]), "mask": np.float32([1, 0, 1])}
    answer = jax.jit(lambda *args: frequencies._answer(*args, task=task, encoder=encoder))(variables, batch | beside)
    outputs = jax.jit(lambda *args: task.apply(*args, train=False)[0])(variables, batch)
    assert answer.keys() == {"guided", "pure", "energy", "file", "mask"}
    assert answer["file"].tolist() == [5, -1, 0] and answer["mask"].tolist() == [1, 0, 1]

    sound = np.asarray(encoder.spectrogram(audio, 1000), np.float64)
    times, bands = encoder.times(1000, 1000), encoder.bands(1000)
    assert (len(times), len(bands), sound.shape[1:]) == (16, 4, (32, 8))

    def nearest(place, centres):
        distances = [abs(centre - place) for centre in centres]
        return [number for number in range(len(centres)) if distances[number] < min(distances) + 1e-4]

    for clip in range(2):
        cells = [[[] for _ in bands] for _ in times]
        for frame in range(32):
            for mel in range(8):
                for moment in nearest(frame * 0.032, times):
                    for band in nearest(BANDS[mel], bands):
                        cells[moment][band].append(sound[clip, frame, mel])
        energy = np.array([[np.mean(cell) for cell in row] for row in cells])
        weights = energy.mean(axis=1) / energy.mean(axis=1).sum()
        np.testing.assert_allclose(answer["energy"][clip], weights @ energy, rtol=1e-4)
        for name in ("guided", "pure"):
            logits = np.asarray(outputs[f"audio/{name}"][clip], np.float64)
            shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
            assert np.ptp(shares, axis=0).max() > 0.01  # It matters which moment is how loud.
            np.testing.assert_allclose(answer[name][clip], weights @ shares, atol=1e-5)
            assert answer[name][clip].sum() == pytest.approx(1, abs=1e-4)
    assert [answer["energy"][1].argmax()] == nearest(333, bands)
    assert not np.any(answer["energy"][2]) and not np.any(answer["guided"][2])  # Silence is nowhere loud.


def test_centres_that_no_place_is_nearest_to_get_nothing():
    weights_KxT = frequencies._mean_of_nearest(np.arange(4.0), np.array([0.5, 2.5, 9.0]))
    np.testing.assert_array_equal(weights_KxT, [[0.5, 0, 0], [0.5, 0, 0], [0, 0.5, 0], [0, 0.5, 0]])
    halfway_KxT = frequencies._mean_of_nearest(np.arange(4.0), np.array([1.0, 3.0]))
    np.testing.assert_array_equal(halfway_KxT, np.float32([[1 / 3, 0], [1 / 3, 0], [1 / 3, 0.5], [0, 0.5]]))


@pytest.mark.parametrize(
    ("scenes", "changes", "words"),
    [
        ({"elsewhere": scene_of(0)}, {}, r"none of the clips of split 'validation' .* such as 'elsewhere'.*scenes=''"),
        ({"fake0002": scene_of(2)}, {}, r"in no video of .* does anything that is seen sound"),
        ({"fake0005": scene_of(5)}, {}, r"frequencies, 56, 111, .*444 Hz, are too few .* sounds from 600 to 700 Hz"),
        ({"fake0000": scene_of(0)}, {"model.audio.strides": ((2, 8), (1, 1))}, r"frequencies, \d+ Hz, are too few"),
        ({}, {"evals.frequencies.scenes": "nowhere"}, r"nowhere/events\.json: no such file"),
        ({}, {"evals.frequencies.pictures": -2}, r"pictures=-2 must be a whole number, at least 0"),
    ],
)
def test_what_cannot_be_measured_is_said_before_training(config, tmp_path, scenes, changes, words):
    if scenes:
        write_world(tmp_path, scenes)
        config.evals.frequencies.scenes = str(tmp_path)
    config.update_from_flattened_dict(changes)
    with pytest.raises(UserError, match=rf"config\.evals\.frequencies.*{words}"):
        make(config)


def test_worlds_that_are_older_than_hertz_are_to_be_made_again(config, tmp_path):
    write_world(tmp_path, {"fake0000": scene_of(0)}, with_hertz=False)
    config.evals.frequencies.scenes = str(tmp_path)
    with pytest.raises(UserError, match=r"events\.json is older than `hertz`.*make the world again"):
        make(config)


def test_only_of_networks_that_hear_frequencies(config):
    config.model.audio = tiny_config.get_config().model.audio
    config.cmac.audio_consistency = 0.0
    with pytest.raises(UserError, match=r"attention over the frequencies.*choose one of localization, retrieval"):
        make(config)
