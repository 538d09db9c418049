"""What a config covers, no example has, whatever makes it: a task, an evaluator, or a command on one's own videos."""

import numpy as np
import pytest
import tensorflow as tf

from cmav.data import schema
from cmav.data.video import GREY
from cmav.errors import UserError
from cmav.localization.task import LocalizationTask
from cmav.offsets.stretch import Stretch
from cmav.own_videos.sound_search import Pictures
from cmav.tasks import make_task
from tests import fake_clips, tiny_config

SIZE = tiny_config.CLIPS["size"]
CONFIGS = {
    "avs": tiny_config.get_config,
    "action": tiny_config.get_action_config,
    "cmac": tiny_config.get_cmac_config,
}


def task_of(name, **data):
    config = CONFIGS[name]()
    config.action.num_classes = 5
    config.data.update(data)
    return make_task(config, config.phases[-1])


def examples_of(name, task):
    """Each way to make an example of a task, by what it is for."""
    seed, view = tf.constant([1, 2]), tf.constant(0)
    ways = {train: lambda record, train=train: task.make_example(record, seed, view, train=train) for train in (0, 1)}
    ways |= {"alone": task.only_example, "maps": LocalizationTask.of(task, size=SIZE).make_example}
    if name == "avs":
        ways["offsets"] = Stretch.of(task, max_seconds=0.5, num_frames=40).only_example
        ways["search"] = Pictures(task).only_example
    return ways


@pytest.mark.parametrize("name", CONFIGS)
def test_no_example_has_what_is_covered(name):
    """The upper half, which is all that a crop of any place has above its middle."""
    record = schema.parse(tf.constant(schema.encode(fake_clips.make_clip(1, label=0, **tiny_config.CLIPS))))
    covered, half = task_of(name, covered=((0.0, 0.0, 0.5, 1.0),)), task_of(name, shown=((0.5, 0.0, 1.0, 1.0),))
    for use, make in examples_of(name, task_of(name)).items():
        plain = make(record)["video"].numpy()
        with_cover = examples_of(name, covered)[use](record)["video"].numpy()
        np.testing.assert_array_equal(with_cover, examples_of(name, half)[use](record)["video"].numpy())
        hidden = (with_cover == GREY).all(axis=(0, 2, 3))  # rows
        rows = np.flatnonzero(hidden)
        assert 3 <= len(rows) < len(hidden) - 2 and rows[-1] == len(rows) - 1, use
        np.testing.assert_array_equal(with_cover[:, len(rows) :], plain[:, len(rows) :])
        assert not (plain == GREY).all(axis=(0, 2, 3)).any()


def test_a_box_that_is_none_is_refused_before_anything_is_read():
    for name in CONFIGS:
        with pytest.raises(UserError, match=r"config\.data\.covered=.* is no box"):
            task_of(name, covered=((0.5, 0.0, 0.4, 1.0),))
