"""What the evaluator refuses or doubts, before training where that can be known."""

import json
import re

import pytest
from etils import epath

from cmav import distributed
from cmav.data import clip_ids
from cmav.errors import UserError
from cmav.evals.evaluators import make_evaluators
from cmav.reporting import localization_results
from cmav.tasks import make_task
from tests import tiny_config
from tests.evals.localization_evaluator.bright import STATE


@pytest.fixture
def other_boxes(config, tmp_path):
    path = tmp_path / "other.json"
    path.write_text(json.dumps([{"file": "elsewhere", "class": "x", "bbox": [[0, 0, 1, 0.5]]}]))
    config.evals.localization.boxes = str(path)


OTHER_BOXES = r"none of the clips of split 'validation' .* boxes in .*other\.json.*elsewhere"


def test_boxes_of_other_videos_are_an_error_before_training(config, make, other_boxes):
    with pytest.raises(UserError, match=OTHER_BOXES):
        make(config)


@pytest.mark.parametrize(("looked_at", "unread"), [(4, ()), (100, (5,))])
def test_boxes_are_not_refused_as_long_as_a_clip_could_have_some(
    config, make, other_boxes, caplog, monkeypatch, looked_at, unread
):
    """The split has more clips than are looked at, or one cannot be read: then it is said when all are."""
    monkeypatch.setattr(clip_ids, "_CLIPS_TO_LOOK_AT", looked_at)
    real = clip_ids._read
    monkeypatch.setattr(clip_ids, "_read", lambda index, record: None if record in unread else real(index, record))
    evaluator = make(config)
    assert re.search(rf"after a look at {min(looked_at, 11) - len(unread)} of 11 clips: {OTHER_BOXES}", caplog.text)
    with pytest.raises(UserError, match=OTHER_BOXES):
        list(evaluator.run(STATE))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"evals.localization.methods": ("cam", "glow")},
            r"no maps by the method 'glow'.*cam, attention, simil",
        ),
        ({"model.attention": "vga"}, r"no maps by the method 'attention': choose one of cam, similarity"),
        ({"model.depth": 0}, r"no maps by the method 'attention': choose one of cam, similarity"),
        ({"evals.localization.stride": 5}, r"stride of 5 pixels: choose one of 2, 4, 8"),
        ({"evals.localization.boxes": "nowhere.json"}, r"nowhere\.json: no such file"),
        ({"evals.localization.scenes": "nowhere"}, r"events\.json: no such file"),
    ],
)
def test_what_cannot_be_measured_is_said_before_training(config, make, changes, words):
    config.update_from_flattened_dict(changes)
    with pytest.raises(UserError, match=words):
        make(config)


def test_only_of_networks_that_see_and_hear(config):
    action = tiny_config.get_action_config()
    action.data.dir = config.data.dir
    action.action.num_classes = 3
    action.action.mode = "vision_only"
    with action.unlocked():
        action.evals = config.evals
    task = make_task(action, action.phases[0])
    with pytest.raises(UserError, match=r"needs maps of where.*task 'action'.*one of action, probe"):
        make_evaluators(action, task, distributed.make_mesh(), "validation")


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_maps_of_tokens_that_nothing_made_comparable_are_doubted(config, make, tmp_path, caplog, weight):
    config.loss.alignment_weight = weight
    evaluator = make(config)
    dict(evaluator.run(STATE))
    evaluator.write_report(epath.Path(tmp_path))
    results = localization_results.Results.parse(json.loads((tmp_path / "localization_validation.json").read_text()))
    said = [*caplog.messages, results.doubt, (tmp_path / "localization_validation.txt").read_text()]
    doubts = ["alignment: only the temporal alignment loss" in text for text in said]
    assert sum(doubts) == (0 if weight else 3)
    assert "attention:" not in results.doubt
