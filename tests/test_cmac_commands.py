"""Whole commands on CMAC: training that stops and goes on, evaluation, and what is made of a run."""

import jax
import numpy as np
import pytest
from etils import epath

from cmav.media import decoding
from cmav.own_videos.embed import embed
from cmav.own_videos.localize import localize
from cmav.training import evaluate_run, finetune, frozen, pretrained, run_config, train
from tests import fake_clips, tiny_config
from tests.fake_worker import FakeWorker
from tests.media.sample_videos import Sound, numbered, steady_times, write_video

STEPS = 4


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    fake_clips.write_dataset(folder, "train", 24, **tiny_config.CLIPS)
    fake_clips.write_dataset(folder, "validation", 12, seed=1, silent=[3], **tiny_config.CLIPS)
    for split in ("train1", "test1"):
        fake_clips.write_dataset(folder, split, 12, num_labels=3, seed=2, **tiny_config.CLIPS)
    return folder


def make_config(data_dir):
    config = tiny_config.get_cmac_config()
    config.data.dir = str(data_dir)
    config.phases = (dict(frame_rate=10.0, batch_size=8, steps=STEPS),)
    config.cmac.queue = 12
    config.checkpoint.every = 2
    return config


@pytest.fixture(scope="module")
def run(data_dir, tmp_path_factory):
    """A run's folder, and the state at its end."""
    folder = tmp_path_factory.mktemp("runs") / "cmac"
    return folder, train.train(make_config(data_dir), str(folder))


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("videos") / "v.mkv"
    times = steady_times(10, 1.5)
    return write_video(str(path), times, numbered(15, size=20), Sound(beeps=[0.3, 1.1], seconds=1.5), rate=10)


@pytest.fixture(autouse=True, scope="module")
def here():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoding, "worker", FakeWorker)
        yield


def test_a_run_that_stopped_goes_on_to_the_same_bits_with_its_memory(data_dir, run, tmp_path, monkeypatch):
    save = train.Trainer._save

    def stop(self, state, step):
        save(self, state, step)
        if step == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(train.Trainer, "_save", stop)
        with pytest.raises(KeyboardInterrupt):
            train.train(make_config(data_dir), str(tmp_path))
    state = train.train(make_config(data_dir), str(tmp_path))
    assert np.asarray(state.model_state["queue"]["weight"]).sum() == 12
    jax.tree.map(np.testing.assert_array_equal, state.items(), run[1].items())


def test_retrieval_is_among_the_clips_that_are_heard(data_dir, run):
    config = make_config(data_dir)
    config.cmac.queue = 0  # as in the config file; the run's own has one
    metrics = evaluate_run.evaluate(config, epath.Path(run[0]))
    assert metrics["retrieval/clips"] == 11 and metrics["step"] == STEPS
    assert 0 <= metrics["retrieval/r1"] <= 1 and (run[0] / "retrieval_validation.json").exists()


def test_fine_tuning_starts_from_its_backbone(data_dir, run, tmp_path):
    config = tiny_config.get_action_config()
    config.data.dir = str(data_dir)
    config.action.num_classes = 3
    config.init.checkpoint = str(run[0])
    config.action.mode = "full"
    config.optim.frozen = ("backbone",)
    config.phases = (dict(frame_rate=10.0, batch_size=8, steps=1),)
    summary = finetune.finetune(config, str(tmp_path), {})
    assert summary["steps"] == 1
    stored = run_config.read(epath.Path(tmp_path))
    assert stored.model.audio.name == "log_mel_2d" and stored.model.depth == 0
    tuned = frozen.load(str(tmp_path))
    ours, theirs = tuned.variables["params"]["backbone"], run[1].params["backbone"]
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(ours), jax.device_get(theirs))
    assert tuned.task.map_methods().keys() == {"similarity", "alignment"}


def test_embeddings_are_those_of_both_streams(run, video, tmp_path):
    embed(video.rpartition("/")[0], str(run[0]), str(tmp_path / "f.npz"), size=20)
    (features,) = np.load(tmp_path / "f.npz")["features"]
    network = frozen.load_to_embed(str(run[0]))
    assert features.shape == (2 * network.task.cmac_config.embed_size,)
    head = jax.device_get(network.variables["params"]["head"])
    jax.tree.map(np.testing.assert_array_equal, head, jax.device_get(run[1].params["head"]))


@pytest.mark.parametrize("method", ["guided", "pure"])
def test_localization_by_its_own_methods(run, video, tmp_path, method):
    result = localize([video], str(run[0]), str(tmp_path), method=method, size=20)
    ((path, (_, _, maps)),) = result.written.items()
    found = np.load(maps)
    assert path == video and found["method"] == method and np.abs(found["maps"]).max() > 1e-4


def test_the_newest_pretrained_run_may_be_one(run, monkeypatch):
    monkeypatch.setattr(pretrained, "RUNS", str(run[0].parent))
    assert pretrained.resolve("newest") == (str(run[0]), STEPS)
