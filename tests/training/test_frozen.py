"""A checkpoint loaded to look at: all that its maps are of."""

import json

import jax
import numpy as np

from cmav.data.cover import Cover
from cmav.tasks import make_task
from cmav.training import frozen
from tests import tiny_config
from tests.models import fake_variables
from tests.own_videos.sample_overlays import WINDOW
from tests.test_embed import save_run


def test_loads_the_head_of_a_pretraining_run(tmp_path):
    config = tiny_config.get_config()
    network = frozen.load(save_run(tmp_path, config))
    assert network.step == 9 and network.task.clip.seconds == WINDOW and network.task.clip.achieved_frame_rate == 10.0
    task = make_task(config, config.phases[-1])
    saved = fake_variables.draw(jax.eval_shape(task.init, jax.random.key(0)), 9)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(network.variables["params"]), saved["params"])


def test_a_run_that_was_trained_from_scratch_has_its_own_weights(tmp_path):
    """Also where the dataset, which says how many classes there are, is not at hand."""
    action = tiny_config.get_action_config()
    action.action.num_classes, action.action.mode = 5, "scratch"
    run = save_run(tmp_path / "scratch", action)
    stored = json.loads((tmp_path / "scratch" / "config.json").read_text())
    stored["action"]["num_classes"] = 0
    (tmp_path / "scratch" / "config.json").write_text(json.dumps(stored))
    task = make_task(action, action.phases[0])
    saved = fake_variables.draw(jax.eval_shape(task.init, jax.random.key(0)), 9)["params"]["backbone"]
    loaded = jax.device_get(frozen.load(run).variables["params"]["backbone"])
    jax.tree.map(np.testing.assert_array_equal, loaded, saved)


def test_a_network_that_was_trained_on_covered_pictures_sees_such(tmp_path, caplog):
    """Wherever they come from: it is said, and a run that starts from it or embeds with it does the same."""
    config = tiny_config.get_config()
    run = save_run(tmp_path / "plain", config)
    assert not frozen.load(run).task.cover and "covered" not in caplog.text
    config.data.covered = ((0.5, 0.0, 1.0, 1.0),)
    run = save_run(tmp_path / "covered", config)
    for load in (frozen.load, frozen.load_to_embed):
        assert load(run).task.cover == Cover(covered=config.data.covered)
    assert caplog.text.count("config.data.covered=((0.5, 0.0, 1.0, 1.0),)): it sees these covered as well") == 2
