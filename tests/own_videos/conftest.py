"""Runs of small networks, and videos that are read in this process."""

import pytest

from cmav.media import decoding
from cmav.own_videos.sound_maps import Localizer
from cmav.training import frozen
from tests import tiny_config
from tests.fake_worker import FakeWorker
from tests.own_videos.sample_overlays import SIZE
from tests.test_embed import save_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A pretraining run with windows of 2 s, and a run of fine-tuning."""
    folder = tmp_path_factory.mktemp("runs")
    action = tiny_config.get_action_config()
    action.action.num_classes = 5
    return save_run(folder / "avs", tiny_config.get_config()), save_run(folder / "action", action)


@pytest.fixture(scope="module")
def network(runs):
    return frozen.load(runs[0])


@pytest.fixture(scope="module")
def localizer(network, here):
    return Localizer(network, "similarity", size=SIZE, batch_size=2)


@pytest.fixture(scope="module")
def here():
    """Videos are read in this process: tests/media/test_decoding.py has the real ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoding, "worker", FakeWorker)
        yield
