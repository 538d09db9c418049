"""What is wrong is said before the first step, whichever phase, split or evaluator it is of."""

import json

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

from cmav import config as cmav_config
from cmav import distributed
from cmav.errors import UserError
from cmav.training import preflight, train
from tests import fake_clips, tiny_config
from tests.training.test_pretrained import save_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Splits of both tasks; "short" has clips that are too short for a pair; boxes of the videos, and of others."""
    folder = tmp_path_factory.mktemp("data")
    for split in ("train", "validation", "train1", "test1"):
        fake_clips.write_dataset(folder, split, 8, num_labels=3, seed=len(split), **tiny_config.CLIPS)
    fake_clips.write_dataset(folder, "single", 1, num_shards=1, **tiny_config.CLIPS)
    fake_clips.write_dataset(folder, "short", 4, num_labels=1, **{**tiny_config.CLIPS, "seconds": 2.5})
    for name, file in (("boxes", "fake0003"), ("other", "elsewhere")):
        entries = [{"file": file, "class": "x", "bbox": [[0, 0, 1, 0.5]]}]
        (folder / f"{name}.json").write_text(json.dumps(entries))
    return folder


def avs_config(folder):
    config = tiny_config.get_config()
    config.data.dir = str(folder)
    with config.unlocked():
        config.evals.localization = cmav_config.get_default("avs").evals.localization
    config.evals.localization.boxes = str(folder / "boxes.json")
    return config


def action_config(folder):
    config = tiny_config.get_action_config()
    config.data.dir = str(folder)
    config.action.num_classes = 3
    probe = dict(type="probe", every=1, batch_size=8, layers=("features",), cs=(1.0,), folds=())
    with config.unlocked():
        config.evals.probe = probe
    return config


def set_phase(number, **settings):
    def change(config):
        phases = list(config.phases)
        phases[number] = {**phases[number], **settings}
        config.phases = tuple(phases)

    return change


def set_keys(**values):
    return lambda config: config.update_from_flattened_dict(
        {key.replace("__", "."): value for key, value in values.items()}
    )


def delete(*keys):
    def change(config):
        with config.unlocked():
            for key in keys:
                del config.evals.pretext[key]

    return change


def boxes_of_others(config):
    config.evals.localization.boxes = config.evals.localization.boxes.replace("boxes.json", "other.json")


AVS = [
    (set_keys(phases=()), r"config\.phases is empty"),
    (set_phase(1, frame_rate=7.0), r"config\.phases\[1\]: a frame rate of 7 Hz cannot be had"),
    (set_phase(1, batch_size=12), r"config\.phases\[1\]: a batch of 12 does not divide over 8 devices"),
    (set_phase(1, steps=0), r"config\.phases\[1\]=.*greater than 0"),
    (set_phase(1, batch_size=8.0), r"config\.phases\[1\]=.*whole numbers"),
    (set_phase(1, step=5), r"config\.phases\[1\]=.*nothing else"),
    (set_phase(1, shift_seconds=0.5), r"config\.phases\[1\]\.shift_seconds=0.5: give the least and the greatest"),
    (set_phase(1, shift_seconds=(2.0, 1.0)), r"^config\.phases\[1\]: shift_seconds=\(2, 1\) is 20 to 10 frames"),
    (set_phase(1, shift_seconds=(40.0, 50.0)), r"config\.phases\[1\]: none of the .* records"),
    (set_phase(1, other_share=1.5), r"config\.phases\[1\]: other_share=1\.5 must be a number from 0 to 1"),
    (set_keys(data__other_share=-0.5), r"config\.phases\[0\]: other_share=-0\.5 must be a number from 0 to 1"),
    (set_keys(data__other_share=0.5, data__shift_both=True), r"config\.phases\[0\]: .*shift_both is the control"),
    (
        set_keys(data__other_share=0.5, data__train_split="single"),
        r"config\.phases\[0\]: split 'single' .* has usable records of one video only",
    ),
    (
        set_keys(evals__pretext__negatives="other", data__eval_split="single", evals__localization__boxes=""),
        r"config\.evals\.pretext: split 'single' .* has usable records of one video only",
    ),
    (set_keys(evals__pretext__negatives="both"), r"config\.evals\.pretext: negatives='both': choose one of shifted"),
    (delete("negatives"), r"config\.evals\.pretext: type 'pretext' needs .*no negatives"),
    (set_keys(data__train_split="trian"), r"no split 'trian'"),
    (set_keys(data__train_split="short"), r"config\.phases\[0\]: none of the 4 records of split 'short'"),
    (set_keys(data__eval_split="short"), r"config\.evals\.pretext: none of the 4 records of split 'short'"),
    (set_keys(model__num_heads=5), r"config\.model\.num_heads=5"),
    (set_keys(task="avz"), r"config\.task='avz'"),
    (set_keys(log_every=0), r"config\.log_every=0 must be a whole number, at least 1"),
    (set_keys(data__max_videos=-1), r"config\.data\.max_videos=-1 must be a whole number, at least 0"),
    (set_keys(data__max_videos=1000), r"config\.phases\[0\]: config\.data\.max_videos=1000: .* has \d+ videos"),
    (set_keys(checkpoint__every=0), r"config\.checkpoint\.every=0"),
    (set_keys(optim__name="sgdm"), r"config\.optim\.name='sgdm'"),
    (set_keys(optim__schedule="linear"), r"config\.optim\.schedule='linear'"),
    (set_keys(optim__frozen=("backbon",)), r"config\.optim: the network has no parameters 'backbon'"),
    (set_keys(optim__multipliers=(("heads", 0.1),)), r"config\.optim: the network has no parameters 'heads'"),
    (set_keys(init__checkpoint="/nowhere"), r"there are no checkpoints in /nowhere"),
    (set_keys(evals__pretext__batch_size=12), r"config\.evals\.pretext: a batch of 12 does not divide over 8 devices"),
    (set_keys(evals__pretext__batch_size=0), r"config\.evals\.pretext: batch_size=0 must be"),
    (set_keys(evals__pretext__every=-1), r"config\.evals\.pretext: every=-1 must be"),
    (set_keys(evals__pretext__type="pretexts"), r"config\.evals\.pretext: type='pretexts'"),
    (set_keys(evals__pretext__type="action"), r"config\.evals\.pretext: type 'action' needs classes of whole videos"),
    (delete("seed"), r"config\.evals\.pretext: type 'pretext' needs .*no seed"),
    (boxes_of_others, r"config\.evals\.localization: none of the clips of split 'validation'.*'elsewhere'"),
]
ACTION = [
    (set_keys(evals__action__batch_size=12), r"config\.evals\.action: a batch of 12 does not divide over 8 devices"),
    (set_keys(evals__probe__batch_size=12), r"config\.evals\.probe: a batch of 12 does not divide over 8 devices"),
    (set_keys(evals__probe__layers=("video/mop",)), r"config\.evals\.probe: layers.* no layer 'video/mop'"),
    (set_keys(evals__probe__cs=()), r"config\.evals\.probe: cs=\(\) must be"),
    (set_phase(0, shift_seconds=(0.2, 0.4)), r"config\.phases\[0\]: .*the task 'action' shifts no sound"),
    (set_phase(0, other_share=0.5), r"config\.phases\[0\]: other_share=0\.5: the task 'action' has no audios beside"),
    (set_keys(data__other_share=0.5), r"config\.phases\[0\]: other_share=0\.5: the task 'action' has no audios beside"),
    (set_keys(data__train_split="short"), r"config\.evals\.probe: a probe needs .* at least two classes"),
    (set_keys(action__num_classes=2), r"config\.phases\[0\]: .* has the label 2, but the network has 2 classes"),
]


def eight_devices():
    """This machine's one, named eight times: a mesh on which nothing can be computed, nor is."""
    return Mesh(np.array(jax.devices() * 8), ("data",))


@pytest.mark.parametrize(
    ("make", "change", "words"),
    [*((avs_config, *case) for case in AVS), *((action_config, *case) for case in ACTION)],
)
def test_a_mistake_is_said_before_the_first_step(folder, tmp_path, make, change, words):
    config = make(folder)
    change(config)
    with pytest.raises(UserError, match=words):
        preflight.plan(config, str(tmp_path / "run"), eight_devices())
    assert not (tmp_path / "run").exists()


def test_names_of_what_is_to_be_loaded(folder, tmp_path):
    save_run(tmp_path / "pretrained", tiny_config.get_config(), steps=(6,))
    config = action_config(folder)
    config.init.checkpoint, config.init.load = str(tmp_path / "pretrained"), ("backbone", "haed")
    with pytest.raises(UserError, match=r"config\.init\.load: the network has no parameters 'haed'"):
        preflight.plan(config, str(tmp_path / "run"), distributed.make_mesh())


@pytest.mark.parametrize("make", [avs_config, action_config])
def test_a_plan_has_an_evaluator_for_each_phase_that_comes(folder, tmp_path, make):
    config = make(folder)
    plan = preflight.plan(config, str(tmp_path), distributed.make_mesh())
    assert [task.clip.frame_rate for task in plan.tasks] == [phase["frame_rate"] for phase in config.phases]
    assert set(plan.evaluators) == set(plan.tasks)
    assert all(set(evaluators) == set(config.evals) for evaluators in plan.evaluators.values())


@pytest.mark.parametrize(("step", "first"), [(6, 0), (7, 1)])
def test_phases_that_are_over_need_no_evaluators(folder, tmp_path, step, first):
    """Of the phase that has just ended an evaluation may have been cut off."""
    config = avs_config(folder)
    save_run(tmp_path, config, steps=(step,))
    plan = preflight.plan(config, str(tmp_path), distributed.make_mesh())
    assert list(plan.evaluators) == plan.tasks[first:]


def test_a_start_that_is_refused_leaves_the_run_as_it_was(folder, tmp_path):
    config = avs_config(folder)
    save_run(tmp_path, config, steps=(6,))

    def files():
        return {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    before = files()
    for change, words in (
        (set_keys(model__num_heads=2), r"model\.num_heads: 4 in the run, 2 now"),
        (set_keys(model__num_heads=4, evals__pretext__batch_size=-8), r"config\.evals\.pretext: batch_size=-8"),
    ):
        change(config)
        with pytest.raises(UserError, match=words):
            train.train(config, str(tmp_path))
        assert files() == before
