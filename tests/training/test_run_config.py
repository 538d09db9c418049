"""A run's config.json: older ones mean what they meant, and what a run may go on with."""

import errno
import functools
import json
import operator
import pathlib

import pytest
from etils import epath

from cmav import config as cmav_config
from cmav.data import storage
from cmav.errors import UserError
from cmav.training import run_config
from tests import tiny_config

OLD = pathlib.Path(__file__).parent / "config_version_0.json"  # of the first runs, before there was fine-tuning
BATCHES = ((5.0, 8, 6), (10.0, 8, 6))


def phases(*settings):
    keys = ("frame_rate", "batch_size", "steps", "shift_seconds")
    return tuple(dict(zip(keys, one, strict=False)) for one in settings)


def content(folder):
    return json.loads((folder / "config.json").read_text())


@pytest.fixture
def config():
    return tiny_config.get_config()


def test_what_is_written_is_read(config, tmp_path):
    assert run_config.read(tmp_path) is None
    run_config.write(config, tmp_path / "run", step=0)
    assert content(tmp_path / "run")["version"] == run_config.VERSION
    assert run_config.read(tmp_path / "run").to_dict() == config.to_dict()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["config.json"]


def test_a_run_without_a_version_means_what_it_meant(tmp_path):
    """The defaults of fine-tuning are those of its first day, whatever they are today."""
    (tmp_path / "config.json").write_text(OLD.read_text())
    stored = run_config.read(tmp_path)
    assert stored.model.num_heads == 4 and stored.model.video.layers == tiny_config.get_config().model.video.layers
    assert stored.init.load == ("backbone",) and stored.optim.frozen == ()
    expected = dict(mode="full", hidden_size=512, dropout=0.5, standardise=False, eval_clips=25, videos_per_class=0)
    assert {key: stored.action[key] for key in expected} == expected
    # Every key of today is there. Who adds one adds a step to UPGRADES, with what held before.
    today = cmav_config.get_default()
    for section in ("data", "model", "action", "init", "loss", "optim", "checkpoint"):
        assert set(stored[section]) == set(today[section]), section
    assert set(stored) == set(today)


def test_a_run_without_a_version_goes_on(config, tmp_path):
    (tmp_path / "config.json").write_text(OLD.read_text())
    config.data.dir = "data"
    run_config.check_can_go_on(config, tmp_path, step=7)
    run_config.write(config, tmp_path, step=7)
    assert content(tmp_path)["version"] == run_config.VERSION and "changes" not in content(tmp_path)
    config.model.num_heads = 2
    with pytest.raises(UserError, match=r"model\.num_heads: 4 in the run, 2 now"):
        run_config.check_can_go_on(config, tmp_path, step=7)


@pytest.mark.parametrize("old", [OLD, OLD.parent / "run_version_1" / "config.json"])
def test_a_run_from_before_there_was_augmentation_had_none(tmp_path, old):
    (tmp_path / "config.json").write_text(old.read_text())
    stored = run_config.read(tmp_path).data.augment.to_dict()
    assert set(stored) == set(cmav_config.get_default().data.augment)
    on = {key: value for key, value in stored.items() if value not in (0.0, (0.0, 0.0))}
    # Without a crop_area, an aspect says nothing; nor does a sigma without a blur.
    assert on == {"crop_area": (1.0, 1.0), "crop_aspect": (3 / 4, 4 / 3), "blur_sigma": (0.1, 2.0)}


def test_a_run_whose_guided_attentions_had_one_temperature_has_it_for_both(tmp_path):
    config = tiny_config.get_cmac_config()
    run_config.write(config, tmp_path, step=0)
    cmac = {key: x for key, x in config.cmac.to_dict().items() if not key.endswith("guided_temperature")}
    then = {**content(tmp_path), "version": 2, "cmac": {**cmac, "guided_temperature": 0.25}}
    (tmp_path / "config.json").write_text(json.dumps(then))
    stored = run_config.read(tmp_path).cmac
    assert stored.video_guided_temperature == stored.audio_guided_temperature == 0.25
    assert set(stored) == set(config.cmac)


def test_a_run_from_before_parts_could_be_covered_saw_all(config, tmp_path):
    run_config.write(config, tmp_path, step=0)
    data = {key: x for key, x in content(tmp_path)["data"].items() if key not in ("covered", "shown")}
    (tmp_path / "config.json").write_text(json.dumps({**content(tmp_path), "version": 4, "data": data}))
    stored = run_config.read(tmp_path).data
    assert stored.covered == stored.shown == ()
    config.data.covered = ((0.5, 0.0, 1.0, 1.0),)
    with pytest.raises(UserError, match=r"data\.covered: \[\] in the run, \[\[0\.5, 0\.0, 1\.0, 1\.0\]\] now"):
        run_config.check_can_go_on(config, tmp_path, step=1)


@pytest.mark.parametrize("shifts", [(0.5, 1.0), [0.5, 1.0]])
def test_a_run_whose_phases_have_shifts_goes_on_unchanged(config, tmp_path, shifts):
    config.phases = phases((5.0, 8, 6, shifts), (10.0, 8, 6))
    run_config.write(config, tmp_path, step=0)
    run_config.check_can_go_on(config, tmp_path, step=7)
    config.phases = phases((5.0, 8, 6, [0.5, 2.0]), (10.0, 8, 6))
    with pytest.raises(UserError, match=r"phases\[0\]\.shift_seconds: \(0\.5, 1\.0\) in the run, \[0\.5, 2\.0\] now"):
        run_config.check_can_go_on(config, tmp_path, step=7)


def test_a_run_from_before_there_were_other_videos_had_shifted_negatives(config, tmp_path):
    run_config.write(config, tmp_path, step=0)
    then = {**content(tmp_path), "version": 5}
    del then["data"]["other_share"], then["evals"]["pretext"]["negatives"]
    then["evals"]["retrieval"] = {"type": "retrieval"}
    (tmp_path / "config.json").write_text(json.dumps(then))
    stored = run_config.read(tmp_path)
    assert stored.data.other_share == 0.0 and stored.evals.pretext.to_dict() == config.evals.pretext.to_dict()
    assert stored.evals.retrieval.to_dict() == {"type": "retrieval"}
    run_config.check_can_go_on(config, tmp_path, step=1)
    config.phases = ({**config.phases[0], "other_share": 1.0}, config.phases[1])
    with pytest.raises(UserError, match=r"phases\[0\]\.other_share: not there in the run, 1\.0 now"):
        run_config.check_can_go_on(config, tmp_path, step=1)


def test_a_run_from_before_videos_could_be_few_had_all_and_flattened_its_tokens(config, tmp_path):
    run_config.write(config, tmp_path, step=0)
    then = {**content(tmp_path), "version": 6}
    del then["data"]["max_videos"], then["model"]["fusion"], then["model"]["fusion_moments"]
    (tmp_path / "config.json").write_text(json.dumps(then))
    stored = run_config.read(tmp_path)
    assert (stored.data.max_videos, stored.model.fusion, stored.model.fusion_moments) == (0, "flatten", 0.0)
    run_config.check_can_go_on(config, tmp_path, step=1)
    config.data.max_videos = 5
    with pytest.raises(UserError, match=r"data\.max_videos: 0 in the run, 5 now"):
        run_config.check_can_go_on(config, tmp_path, step=1)


def test_a_newer_version_is_refused(config, tmp_path):
    run_config.write(config, tmp_path, step=0)
    (tmp_path / "config.json").write_text(json.dumps({**content(tmp_path), "version": run_config.VERSION + 1}))
    with pytest.raises(UserError, match=rf"config\.json is of version {run_config.VERSION + 1}.* up to"):
        run_config.read(tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "[]",
        lambda text: "",
        lambda text: text.replace(f'"version": {run_config.VERSION}', '"version": "one"'),
        lambda text: text.replace('"task"', '"tusk"'),
        lambda text: json.dumps({**json.loads(text), "data": None}),
        lambda text: json.dumps({**json.loads(text), "loss": {}}),
        lambda text: json.dumps({**json.loads(text), "phases": []}),
        lambda text: json.dumps({**json.loads(text), "phases": [{"frame_rate": 5.0, "steps": 3}]}),
    ],
)
def test_a_damaged_one_is_named(config, tmp_path, damage):
    run_config.write(config, tmp_path, step=0)
    (tmp_path / "config.json").write_text(damage((tmp_path / "config.json").read_text()))
    with pytest.raises(UserError, match=rf"{tmp_path}/config\.json is damaged"):
        run_config.read(tmp_path)


def test_writing_that_fails_leaves_what_was_there(config, tmp_path):
    run_config.write(config, tmp_path, step=0)
    before = (tmp_path / "config.json").read_bytes()
    (tmp_path / "config.json.tmp").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        run_config.write(config, tmp_path, step=0)
    assert (tmp_path / "config.json").read_bytes() == before


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("optim.learning_rate", 1e-4),
        ("optim.clip_norm", 1.0),
        ("optim.warmup_steps", 3),
        ("loss.alignment_weight", 0.5),
        ("evals.pretext.every", 3),
        ("evals.pretext.negatives", "other"),
        ("log_every", 7),
        ("checkpoint.every", 1),
        ("data.dir", "elsewhere"),
        ("data.eval_split", "test"),
        ("data.num_threads", 1),
        ("data.prefetch_batches", 1),
        ("data.max_bad_fraction", 0.5),
        ("model.remat", "none"),
        ("model.conv_lowering", "native"),
        ("action.dropout", 0.1),  # of another task
    ],
)
def test_what_may_change_is_kept_and_said(config, tmp_path, key, value):
    run_config.write(config, tmp_path, step=0)
    before = functools.reduce(operator.getitem, key.split("."), config)
    config.update_from_flattened_dict({key: value})
    run_config.check_can_go_on(config, tmp_path, step=7)
    run_config.write(config, tmp_path, step=7)
    assert content(tmp_path)["changes"] == [{"step": 7, "keys": {key: [before, value]}}]
    run_config.write(config, tmp_path, step=9)
    assert len(content(tmp_path)["changes"]) == 1
    assert run_config.read(tmp_path).to_dict() == config.to_dict()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", 1),
        ("model.num_heads", 2),
        ("model.positions", "none"),
        ("model.fusion_moments", 0.1),
        ("model.audio.companding", "none"),
        ("model.dtype", "bfloat16"),
        ("data.train_split", "train2"),
        ("data.clip_seconds", 1.5),
        ("data.crop_size", 12),
        ("data.sample_rate", 2000),
        ("data.flip", True),
        ("data.shift_both", True),
        ("data.other_share", 0.5),
        ("data.augment.hue", 0.1),
        ("optim.name", "sgd"),
    ],
)
def test_what_weights_or_examples_depend_on_is_refused(config, tmp_path, key, value):
    run_config.write(config, tmp_path, step=0)
    before = (tmp_path / "config.json").read_bytes()
    config.update_from_flattened_dict({key: value})
    shown = json.dumps(value)
    with pytest.raises(UserError, match=rf"has done 7 steps with other settings:\n  {key}: .* in the run, {shown} now"):
        run_config.check_can_go_on(config, tmp_path, step=7)
    assert (tmp_path / "config.json").read_bytes() == before


def test_of_fine_tuning_what_its_examples_depend_on_is_refused(tmp_path):
    config = tiny_config.get_action_config()
    run_config.write(config, tmp_path, step=0)
    config.action.eval_clips = 2
    run_config.check_can_go_on(config, tmp_path, step=3)
    config.action.videos_per_class, config.action.mode = 5, "vision_only"
    with pytest.raises(UserError, match=r"action\.mode: .*\n  action\.videos_per_class: 0 in the run, 5 now"):
        run_config.check_can_go_on(config, tmp_path, step=3)


@pytest.mark.parametrize(
    ("step", "now", "refused"),
    [
        (7, ((5.0, 8, 6), (10.0, 8, 20)), None),  # the phase under way gets longer
        (7, ((5.0, 8, 6), (10.0, 8, 2)), None),  # or shorter, if not shorter than it is
        (8, ((5.0, 8, 6), (10.0, 8, 1)), r"phases\[1\]\.steps: 6 in the run, 1 now"),
        (7, ((5.0, 8, 6), (10.0, 4, 6)), r"phases\[1\]\.batch_size: 8 in the run, 4 now"),
        (7, ((5.0, 8, 6), (5.0, 8, 6)), r"phases\[1\]\.frame_rate: 10\.0 in the run, 5\.0 now"),
        (7, ((5.0, 8, 5), (10.0, 8, 7)), r"phases\[0\]\.steps: 6 in the run, 5 now"),
        (7, ((5.0, 8, 7), (10.0, 8, 6)), r"phases\[0\]\.steps: 6 in the run, 7 now"),
        (7, ((5.0, 8, 6),), r"phases\[1\]\.frame_rate: 10\.0 in the run, not there now"),
        (6, ((5.0, 8, 6), (10.0, 4, 3)), None),  # a phase yet to come
        (6, ((5.0, 8, 9), (10.0, 8, 6)), None),  # one that is just at its end goes on
        (6, ((5.0, 8, 6),), None),
        (6, ((5.0, 4, 6), (10.0, 8, 6)), r"phases\[0\]\.batch_size: 8 in the run, 4 now"),
        (6, ((5.0, 8, 6, (1, 2)), (10.0, 8, 6)), r"phases\[0\]\.shift_seconds: not there in the run, \(1, 2\) now"),
        (6, ((5.0, 8, 6), (10.0, 8, 6, (1, 2))), None),
        (12, (*BATCHES, (2.5, 8, 6)), None),
        (12, ((5.0, 8, 6), (10.0, 8, 5)), r"phases\[1\]\.steps: 6 in the run, 5 now"),
    ],
)
def test_phases_that_are_past_stay_and_others_may_change(config, tmp_path, step, now, refused):
    config.phases = phases(*BATCHES)
    run_config.write(config, tmp_path, step=0)
    config.phases = phases(*now)
    if refused is None:
        run_config.check_can_go_on(config, tmp_path, step)
    else:
        with pytest.raises(UserError, match=refused):
            run_config.check_can_go_on(config, tmp_path, step)


def test_a_read_that_fails_once_is_no_damage(config, tmp_path, monkeypatch):
    run_config.write(config, tmp_path, step=0)
    path_class = type(epath.Path(tmp_path))
    read_text, calls = path_class.read_text, []

    def failing_once(path, *args, **kwargs):
        calls.append(path)
        if len(calls) == 1:
            raise OSError(errno.EIO, "Input/output error")
        return read_text(path, *args, **kwargs)

    monkeypatch.setattr(storage, "DELAYS", (0.0,))
    monkeypatch.setattr(path_class, "read_text", failing_once)
    assert run_config.read(tmp_path).to_dict() == config.to_dict()
    assert len(calls) == 2
