"""A checkpoint is looked at, and trained on, at the frame rate at which its run had it, by every command."""

import pytest
from etils import epath

from cmav.errors import UserError
from cmav.evals import evaluators
from cmav.training import evaluate_run, finetune, frozen, inheritance, preflight, splits
from tests import tiny_config
from tests.training.test_checkpoint import damage
from tests.training.test_pretrained import save_run

RATES = {6: 5.0, 12: 10.0}  # by the steps at which the two phases of the tiny config end


class Clip:
    """In the place of an evaluator: yields the frame rate of the clips that it would look at."""

    def __init__(self, config, data, task, mesh, split):
        self.rate = task.clip.achieved_frame_rate

    def run(self, state):
        yield "rate", self.rate

    def write_report(self, folder):
        return []


def in_place_of(kind):
    real = evaluators.EVALUATORS[kind]
    return type("Clip", (Clip,), {"needs": real.needs, "needs_head": real.needs_head, "settings": real.settings})


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs of both tasks with a checkpoint of each phase; in those called damaged the newest is not whole."""
    folder = tmp_path_factory.mktemp("runs")
    action = tiny_config.get_action_config()
    action.action.num_classes, action.phases = 3, tiny_config.get_config().phases
    for name, config in (("avs", tiny_config.get_config()), ("action", action)):
        save_run(folder / name, config)
        save_run(folder / f"{name}-damaged", config)
        damage(folder / f"{name}-damaged", 12, "params")
    return folder


def steps_of(place):
    """The run's folder, and what --step names: the step, or nothing."""
    folder, _, step = str(place).partition("/checkpoints/")
    return epath.Path(folder), int(step) if step else None


def as_config_files_say(task):
    """A config that knows nothing of the run: one phase, at another rate than any that the run has."""
    config = tiny_config.get_config() if task == "avs" else tiny_config.get_action_config()
    config.phases = (dict(frame_rate=2.5, batch_size=8, steps=3),)
    config.action.num_classes = 3
    return config


def evaluated(place, tmp_path):
    folder, step = steps_of(place)
    (name,) = (config := as_config_files_say(folder.name.split("-")[0])).evals
    return evaluate_run.evaluate(config, folder, step=step)[f"{name}/rate"]


def evaluated_by_split(place, tmp_path):
    folder, step = steps_of(place)
    (tmp_path / "split1").symlink_to(folder)
    config = as_config_files_say("action")
    return evaluate_run.evaluate_splits(config, str(tmp_path), [1], step)[1]["rate"]


def probed(place, tmp_path):
    config = as_config_files_say("action")
    config.init.checkpoint = str(place)
    config.evals = {"probe": dict(type="probe", every=1, batch_size=8, layers=(), cs=(), folds=())}
    return evaluate_run.evaluate(config, epath.Path(tmp_path))["probe/rate"]


def fine_tuned(place, tmp_path):
    config = as_config_files_say("action")
    config.init.checkpoint = str(place)
    (phase,) = inheritance.resolve_config(config, str(tmp_path), {}).phases
    return phase["frame_rate"]


def embedded(place, tmp_path):
    return frozen.load_to_embed(str(place)).task.clip.achieved_frame_rate


def localized(place, tmp_path):
    return frozen.load(str(place)).task.clip.achieved_frame_rate


@pytest.mark.parametrize("place", ["/checkpoints/6", "/checkpoints/12", "", "-damaged"])
@pytest.mark.parametrize(
    ("task", "command"),
    [
        ("avs", evaluated),
        ("action", evaluated),
        ("action", evaluated_by_split),
        ("avs", probed),
        ("action", probed),
        ("avs", fine_tuned),
        ("avs", embedded),
        ("action", embedded),
        ("avs", localized),
        ("action", localized),
    ],
)
def test_the_rate_is_that_of_the_checkpoints_phase(runs, tmp_path, monkeypatch, place, task, command):
    for kind in ("pretext", "action", "probe"):
        monkeypatch.setitem(evaluators.EVALUATORS, kind, in_place_of(kind))
    expected = RATES[6] if place in ("/checkpoints/6", "-damaged") else RATES[12]
    assert command(f"{runs}/{task}{place}", tmp_path) == expected


def test_the_command_line_may_set_the_rate_of_a_phase_but_not_where_it_ends(runs, tmp_path, monkeypatch):
    monkeypatch.setitem(evaluators.EVALUATORS, "pretext", in_place_of("pretext"))
    config, folder = as_config_files_say("avs"), epath.Path(runs / "avs")

    def rate(step, **overrides):
        overrides = {f"phases[{key[1]}].{key[3:]}": value for key, value in overrides.items()}
        return evaluate_run.evaluate(config, folder, step=step, overrides=overrides)["pretext/rate"]

    assert rate(6, p0_steps=3) == 5.0
    assert (rate(6, p0_frame_rate=2.5), rate(12, p0_frame_rate=2.5), rate(6, p7_frame_rate=2.5)) == (2.5, 10.0, 5.0)


def test_the_run_keeps_which_checkpoint_it_started_from(runs, tmp_path):
    config = as_config_files_say("action")
    config.init.checkpoint = str(runs / "avs-damaged")
    assert inheritance.resolve_config(config, str(tmp_path), {}).init.checkpoint == f"{runs}/avs-damaged/checkpoints/6"


def test_all_splits_start_from_one_checkpoint_however_many_come_after(runs, tmp_path, monkeypatch):
    """And what is wrong with the last is said before the first is trained."""
    started = []
    monkeypatch.setattr(splits, "report", lambda rows, workdir: None)
    monkeypatch.setattr(preflight, "plan", lambda config, workdir, mesh: None)
    monkeypatch.setattr(finetune, "finetune", lambda config, *args: started.append(config.init.checkpoint))
    config = as_config_files_say("action")
    config.init.checkpoint = str(runs / "avs")
    finetune.finetune_splits(config, str(tmp_path / "one"), [1, 2], {})
    assert started == [f"{runs}/avs/checkpoints/12"] * 2

    def refuse_the_second(config, workdir, mesh):
        if workdir.endswith("split2"):
            raise UserError("no clips")

    started.clear()
    monkeypatch.setattr(preflight, "plan", refuse_the_second)
    with pytest.raises(UserError, match="split 2: no clips"):
        finetune.finetune_splits(config, str(tmp_path / "other"), [1, 2], {})
    assert started == []
