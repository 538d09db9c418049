"""Retrieval among clips, against plain loops; the evaluator, with a real network of the task "cmac"."""

import json
import types

import jax
import numpy as np
import pytest
from etils import epath
from scipy import stats

from cmav import distributed
from cmav.data import schema
from cmav.errors import UserError
from cmav.evals import figures, retrieval
from cmav.evals.evaluators import list_panels, make_evaluators
from cmav.tasks import make_task
from tests import fake_clips, tiny_config
from tests.models import fake_variables

NUM_CLIPS, SILENT, DAMAGED = 12, 5, 7


def random_embeddings(count, seed=0):
    x = np.random.default_rng(seed).normal(size=(count, 6)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def ranks_by_loops(queries, gallery):
    def dot(one, other):
        return sum(float(a) * float(b) for a, b in zip(one, other, strict=True))

    return [
        sum(dot(query, candidate) >= dot(query, partner) for candidate in gallery)
        for query, partner in zip(queries, gallery, strict=True)
    ]


def test_ranks_are_those_of_loops_and_a_tie_counts_against(monkeypatch):
    monkeypatch.setattr(retrieval, "_ROWS_AT_A_TIME", 8)
    video, audio = random_embeddings(37), random_embeddings(37, seed=1)
    audio[20] = audio[3]
    audio[11] = video[11]
    video[20] = video[3] = audio[3]
    ranks = retrieval.rank_of_partner(video, audio)
    np.testing.assert_array_equal(ranks, ranks_by_loops(video, audio))
    assert ranks[11] == 1 and ranks[3] == ranks[20] == 2 and len(set(ranks)) > 10


def test_each_direction_has_its_ranks():
    video, audio = random_embeddings(40), random_embeddings(40, seed=1) + random_embeddings(40)
    audio /= np.linalg.norm(audio, axis=1, keepdims=True)
    metrics = retrieval.measure(video, audio)
    by_direction = {"video_to_audio": ranks_by_loops(video, audio), "audio_to_video": ranks_by_loops(audio, video)}
    for name, ranks in by_direction.items():
        for k in (1, 5, 10):
            assert metrics[f"{name}_r{k}"] == sum(rank <= k for rank in ranks) / 40
        assert metrics[f"{name}_median_rank"] == np.median(ranks)
        interval = stats.binomtest(ranks.count(1), 40).proportion_ci(0.95, method="wilson")
        assert (metrics[f"{name}_r1_low"], metrics[f"{name}_r1_high"]) == pytest.approx(tuple(interval), abs=1e-6)
    assert by_direction["video_to_audio"] != by_direction["audio_to_video"]
    assert metrics["r1"] == (metrics["video_to_audio_r1"] + metrics["audio_to_video_r1"]) / 2
    assert 0.1 < metrics["r1"] < 0.9 and (metrics["r1_chance"], metrics["clips"]) == (1 / 40, 40)


@pytest.mark.parametrize("value", [0.5, np.nan])
def test_embeddings_that_are_all_the_same_or_no_numbers_find_nothing(value):
    x = np.full((30, 4), value, np.float32)
    metrics = retrieval.measure(x, x)
    assert metrics["r1"] == metrics["video_to_audio_r10"] == metrics["audio_to_video_r10"] == 0
    assert metrics["video_to_audio_median_rank"] == 30


@pytest.fixture
def config(tmp_path):
    split = fake_clips.write_dataset(tmp_path, "validation", NUM_CLIPS, silent=[SILENT], **tiny_config.CLIPS)
    fake_clips.flip_a_byte(split, DAMAGED)
    config = tiny_config.get_cmac_config()
    config.data.dir = str(tmp_path)
    config.data.max_bad_fraction = 0.2
    config.evals.retrieval.batch_size = 4
    return config


def make(config):
    task = make_task(config, config.phases[0])
    return task, make_evaluators(config, task, distributed.make_mesh())["retrieval"]


def test_the_clips_that_can_be_read_are_retrieved_by_what_the_network_makes_of_them(config, tmp_path):
    """Ten of eleven, in batches of four: the last is padded."""
    task, evaluator = make(config)
    variables = fake_variables.draw(jax.eval_shape(task.init, jax.random.key(0)))
    params = variables.pop("params")
    metrics = dict(evaluator.run(types.SimpleNamespace(params=params, model_state=variables)))

    video, audio = [], []
    apply = jax.jit(lambda batch: task.apply({"params": params, **variables}, batch, train=False)[0])
    for number in sorted(set(range(NUM_CLIPS)) - {SILENT, DAMAGED}):
        clip = fake_clips.make_clip(number, **tiny_config.CLIPS)
        example = task.only_example(schema.parse(schema.encode(clip)))
        outputs = apply({key: np.asarray(example[key])[None] for key in ("video", "audio", "has_audio")})
        video.append(outputs["video/embedding"][0])
        audio.append(outputs["audio/embedding"][0])
    assert metrics == retrieval.measure(np.array(video), np.array(audio))
    assert metrics["clips"] == 10 and metrics["r1_chance"] == 0.1
    assert metrics["video_to_audio_median_rank"] > 1  # It has learned nothing.

    (path,) = evaluator.write_report(epath.Path(tmp_path))
    assert path.name == "retrieval_validation.json" and json.loads(path.read_text()) == metrics


@pytest.mark.parametrize(
    ("clips", "expected"),
    [
        (0, [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11]),
        (3, [0, 6, 11]),
        (6, [0, 2, 4, 7, 9, 11]),
        (50, [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11]),
    ],
)
def test_as_many_clips_as_are_asked_for_evenly_spaced(config, clips, expected):
    config.evals.retrieval.clips = clips
    _, evaluator = make(config)
    assert evaluator._loader.records.tolist() == expected


def test_what_cannot_be_measured_is_said_before_training(config):
    config.evals.retrieval.clips = -1
    with pytest.raises(UserError, match=r"config\.evals\.retrieval.*clips=-1 must be a whole number, at least 0"):
        make(config)
    avs = tiny_config.get_config()
    with avs.unlocked():
        avs.evals = config.evals
    with pytest.raises(
        UserError,
        match=r"'retrieval' needs what is seen and what is heard, embedded in one space",
    ):
        make_evaluators(avs, make_task(avs, avs.phases[0]), distributed.make_mesh())


def test_curves_are_of_names_that_are_there(config, tmp_path):
    """The contrastive loss has no curve held out: it depends on how many clips are in a batch."""
    task = make_task(config, config.phases[0])

    def loss(key, batch):
        return task.loss(task.apply(task.init(key), batch, train=False)[0], batch)

    _, in_training = jax.eval_shape(loss, jax.random.key(0), task.batch_shapes(3))
    held_out = retrieval.measure(random_embeddings(5), random_embeddings(5, seed=1))
    panels = list_panels(config, task)
    assert [panel.held_out for panel in panels] == [
        None,
        "retrieval/video_to_audio_r1",
        "retrieval/audio_to_video_r1",
    ]
    for panel in panels:
        assert panel.train.removeprefix("train/") in in_training
        assert panel.held_out is None or panel.held_out.removeprefix("retrieval/") in held_out
    curves = {f"train/{name}": ([1, 2], [0.1, 0.3]) for name in in_training}
    figures.save_curves(panels, curves, epath.Path(tmp_path / "curves.png"))
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
