"""The probe from records to numbers: which videos, which views, and that the test split stays out of the fit."""

import dataclasses
import json
import logging
import types

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from cmav import distributed
from cmav.data import resampling
from cmav.errors import UserError
from cmav.evals.evaluators import make_evaluators
from cmav.evals.svm import Features, LinearProbe
from cmav.tasks import features, make_task
from tests import fake_clips, tiny_config
from tests.models import fake_variables

NUM_VIDEOS = 18
CLIPS = {**tiny_config.CLIPS, "seconds": 2.0}
CS = (1e-2, 1.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two classes: of the second the sound and the pictures flash faster. Three official splits, and three folds."""
    folder = tmp_path_factory.mktemp("labelled")
    clips = [fake_clips.make_clip(number, label=number % 2, seed=number % 2, **CLIPS) for number in range(NUM_VIDEOS)]
    fake_clips.write_clips(folder, "videos", clips)
    numbers = np.arange(NUM_VIDEOS)
    splits = {"train1": numbers[:12], "test1": numbers[12:], "train2": numbers[6:], "test2": numbers[:6]}
    splits |= {f"fold{k + 1}": numbers[6 * k : 6 * k + 6] for k in range(3)}
    listed = {"test1": 9}
    views = {name: {"listed": listed.get(name, len(x)), "records": x.tolist()} for name, x in splits.items()}
    (folder / "splits-videos.json").write_text(json.dumps(views))
    (folder / "classes.txt").write_text("slow\nfast\n")
    return folder


@pytest.fixture
def config(folder):
    config = tiny_config.get_action_config()
    config.data.dir = str(folder)
    probe = ConfigDict({"type": "probe", "every": 1, "batch_size": 8, "layers": ("video/map", "features")})
    probe.cs, probe.folds = CS, ()
    with config.unlocked():
        config.evals = ConfigDict({"probe": probe})
    return config


def make_state(config, seed=0):
    task = make_task(config, config.phases[0])
    variables = fake_variables.draw(jax.eval_shape(task.init, jax.random.key(0)), seed)
    return types.SimpleNamespace(params=variables.pop("params"), model_state=variables)


def make_probe(config, split=None):
    task = make_task(config, config.phases[0])
    return make_evaluators(config, task, distributed.make_mesh(), split)["probe"]


def by_hand(config, evaluator, state, loader):
    """Features, one view of one video at a time, in a plain loop."""
    task, values = make_task(config, config.phases[0]), []
    look = jax.jit(lambda batch: task.apply({"params": state.params, **state.model_state}, batch, train=False)[0])
    batches = loader.eval_batches(seed=0, batch_size=1, repeats=task.num_views)
    for batch in batches:
        outputs = look({key: x for key, x in batch.items() if x.dtype != object})
        video_map = np.asarray(outputs["video/map"]).mean(axis=(1, 2, 3))
        values.append(np.concatenate([video_map, outputs["features"]], axis=1)[0])
    labels = loader.index.rows["label"][loader.records]
    return Features(np.stack(values).reshape(len(labels), task.num_views, -1), labels)


def test_end_to_end_against_a_loop(config, tmp_path, caplog):
    state, evaluator = make_state(config), make_probe(config)
    with caplog.at_level(logging.WARNING):
        metrics = dict(evaluator.run(state))
    train = by_hand(config, evaluator, state, evaluator._train_loader)
    test = by_hand(config, evaluator, state, evaluator._loaders["test1"])
    assert train.values_NxVxF.shape == (12, 4, 16 + 64)
    probe = LinearProbe.fit(train, CS)
    predicted = probe.scores(test.values_NxVxF, 2).argmax(axis=1)
    right = predicted == test.labels_N
    assert metrics["top1"] == right.mean()
    assert metrics["mean_class_accuracy"] == np.mean([right[test.labels_N == label].mean() for label in (0, 1)])
    assert metrics["C"] == probe.c
    assert metrics["top5"] == 1.0  # of two classes
    assert metrics["top1_low"] < metrics["top1"] <= metrics["top1_high"]
    assert (metrics["videos"], metrics["videos_listed"], metrics["train_videos"]) == (6, 9, 12)
    assert "6 of the 9 videos of split 'test1' were judged" in caplog.text
    (path,) = evaluator.write_report(tmp_path)
    report = json.loads(path.read_text())
    assert report["layers"] == ["video/map", "features"] and report["C"] == probe.c
    assert [(row["label_name"], row["videos"]) for row in report["per_class"]] == [("slow", 3), ("fast", 3)]


def test_labels_of_the_test_split_reach_nothing_but_the_score(config):
    """What would leak: C, the fit, the standardiser. The same scores come out whatever the test labels are."""
    state, evaluator = make_state(config), make_probe(config)
    honest = dict(evaluator.run(state))
    answer = evaluator._answer

    def flip_test_labels(variables, batch):
        said = jax.device_get(answer(variables, batch))
        is_test = np.isin(np.asarray(said["features"])[:, 0], list(test_values))
        return {**said, "label": np.where(is_test, 1 - said["label"], said["label"])}

    test_values = set(evaluator._features(state, evaluator._loaders["test1"]).values_NxVxF[..., 0].ravel())
    evaluator._answer = flip_test_labels
    flipped = dict(evaluator.run(state))
    assert flipped["C"] == honest["C"]
    assert flipped["top1"] == pytest.approx(1 - honest["top1"])


def test_training_videos_are_seen_without_augmentation_and_few_if_asked(config):
    config.action.videos_per_class = 2
    evaluator = make_probe(config)
    first, again = (evaluator._features(make_state(config), evaluator._train_loader) for _ in range(2))
    np.testing.assert_array_equal(first.values_NxVxF, again.values_NxVxF)
    assert np.bincount(first.labels_N).tolist() == [2, 2]
    assert len(evaluator._loaders["test1"].records) == 6


def test_folds(config):
    config.evals.probe.folds = ("fold1", "fold2", "fold3")
    config.action.mode = "audio_only"
    config.evals.probe.layers = ("audio/map",)
    state, evaluator = make_state(config), make_probe(config)
    metrics = dict(evaluator.run(state))
    accuracies = [metrics[f"fold{k}/top1"] for k in (1, 2, 3)]
    assert metrics["top1"] == pytest.approx(np.mean(accuracies))
    assert metrics["videos"] == NUM_VIDEOS and metrics["fold2/train_videos"] == 12
    # One fold by name: the same number as among all.
    single = dict(make_probe(config, "fold2").run(state))
    assert single["fold2/top1"] == metrics["fold2/top1"] and "fold1/top1" not in single
    # And by hand.
    seen = [evaluator._features(state, evaluator._loaders[f"fold{k}"]) for k in (1, 2, 3)]
    probe = LinearProbe.fit(Features.join([seen[0], seen[2]]), CS)
    right = probe.scores(seen[1].values_NxVxF, 2).argmax(axis=1) == seen[1].labels_N
    assert metrics["fold2/top1"] == right.mean()


def test_sounds_of_any_rates(config, tmp_path, folder):
    """Built once, probed by networks of other rates: the sound is resampled, and nobody asks for a frame rate."""
    for listed in ("classes.txt", "splits-videos.json"):
        (tmp_path / listed).write_text((folder / listed).read_text())
    clips = [
        dataclasses.replace(
            fake_clips.make_clip(number, label=number % 2, **CLIPS | dict(sample_rate=3000)),
            frames=(),
            frame_rate=29.97,
        )
        for number in range(NUM_VIDEOS)
    ]
    fake_clips.write_clips(tmp_path, "videos", clips)
    config.data.dir = str(tmp_path)
    config.evals.probe.folds = ("fold1", "fold2", "fold3")
    config.action.mode, config.evals.probe.layers = "audio_only", ("audio/map",)
    metrics = dict(make_probe(config).run(make_state(config)))
    assert metrics["videos"] == NUM_VIDEOS
    loader = make_probe(config)._loaders["fold1"]
    first = next(loader.eval_batches(seed=0, batch_size=1, repeats=4))["audio"][0]
    np.testing.assert_array_equal(first, resampling.resample(clips[0].audio, 3000, 1000)[: len(first)])


def test_a_test_split_that_shares_videos_with_training_is_refused(config):
    with pytest.raises(UserError, match="'train1' and the test split 'test2' share 6 videos"):
        make_probe(config, "test2")


def test_mistakes_are_named(config):
    config.evals.probe.layers = ("video/mop",)
    with pytest.raises(UserError, match=r"'video/mop'; it has .*video/map"):
        make_probe(config)
    config.evals.probe.layers, config.evals.probe.folds = ("features",), ("fold1",)
    with pytest.raises(UserError, match="at least two"):
        make_probe(config)
    config.evals.probe.folds, config.action.videos_per_class = ("fold1", "fold2"), 3
    with pytest.raises(UserError, match=r"action\.videos_per_class.*not together with folds"):
        make_probe(config)
    config.action.videos_per_class, config.data.max_videos = 0, 3
    with pytest.raises(UserError, match=r"data\.max_videos.*not together with folds"):
        make_probe(config)


def test_another_task_has_no_views(config):
    avs = tiny_config.get_config()
    task = make_task(avs, avs.phases[0])
    avs.data.dir = config.data.dir
    with avs.unlocked():
        avs.evals = config.evals
    with pytest.raises(UserError, match=r"'probe' needs classes of whole videos.*'avs'.*one of pretext, local"):
        make_evaluators(avs, task, distributed.make_mesh())


def test_the_configs_name_layers_of_the_papers_network():
    from cmav.configs import probe_dcase2013, probe_esc50, probe_ucf101

    found = {}
    for module in (probe_ucf101, probe_esc50, probe_dcase2013):
        config = module.get_config()
        assert list(config.evals) == ["probe"]
        task = make_task(config, config.phases[0])
        found[module] = features.find_layers(config.evals.probe.layers, task, "config")
    assert len(found[probe_esc50]) == len(found[probe_dcase2013]) == 8  # layers of the audio encoder
    assert found[probe_ucf101] == ("video/map", "audio/map")
