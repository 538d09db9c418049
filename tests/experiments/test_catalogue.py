"""The experiments that there are: their commands are such as the configs know, and ask what they should."""

import shlex
import sys

import pytest
from absl import flags
from clu import metric_writers
from etils import epath
from ml_collections import config_flags

from cmav.configs.sync_grid import MOUTH
from cmav.experiments.catalogue import EXPERIMENTS
from cmav.training.phases import list_phases
from tests.experiments.fake_experiment import runs_of


def config_of(command, monkeypatch):
    """The config that a command comes to."""
    _, _, module, *arguments = command
    monkeypatch.setattr(sys, "argv", [module, *arguments])  # Where ml_collections looks for overrides.
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", lock_config=True, flag_values=values)
    for other in ("workdir", "split"):
        flags.DEFINE_string(other, None, "", flag_values=values)
    assert values([module, *arguments]) == [module], shlex.join(arguments)
    return values.config


@pytest.fixture
def configs(monkeypatch):
    """Configs of an experiment's runs with seed 1, by arm and value: of a stage, the first where none is named."""

    def find(name, stage=None):
        runs = [run for run in runs_of(EXPERIMENTS[name], "runs", seeds=2) if run.seed == 1]
        return {(r.arm, r.value): config_of(r.command(stage or next(iter(r.stages))), monkeypatch) for r in runs}

    return find


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_its_commands_have_flags_that_their_configs_know(name, monkeypatch):
    experiment = EXPERIMENTS[name]
    assert experiment.reference in experiment.arms and set(experiment.instead) <= set(experiment.arms)
    assert {key.partition("/")[0] for key in experiment.columns.values()} == set(experiment.stages)
    assert set(experiment.chance) <= set(experiment.columns)
    for of_arms in experiment.published.values():
        assert set(of_arms) <= set(experiment.arms)
    runs = runs_of(experiment, "runs", seeds=2)
    assert len({run.folder for run in runs}) == len(runs)
    for run in runs:
        for stage in run.stages:
            config = config_of(run.command(stage), monkeypatch)
            assert config.seed == run.seed or "seed" not in run.stages[stage].command
            assert list_phases(config)


def test_controls_cover_the_mouth_or_all_else(configs):
    for (arm, _), config in configs("sync_grid").items():
        covered, shown = {"mouth covered": ((MOUTH,), ()), "only the mouth": ((), (MOUTH,))}.get(arm, ((), ()))
        assert (config.data.covered, config.data.shown) == (covered, shown)


@pytest.mark.parametrize("name", ["table1", "table1_grid"])
def test_the_networks_of_table_1_are_trained_alike(name, configs):
    made = {arm: config for (arm, _), config in configs(name).items() if arm in EXPERIMENTS["table1"].arms}
    models = {arm: config.model for arm, config in made.items()}
    assert {arm: (model.video.name, model.depth, model.attention) for arm, model in models.items()} == {
        "Multisensory": ("multisensory", 1, "cma"),
        "CMA, the paper's loss": ("conv3d", 1, "cma"),
        "no attention": ("conv3d", 0, "cma"),
        "AGA": ("conv3d", 1, "aga"),
        "VGA": ("conv3d", 1, "vga"),
        "CMA": ("conv3d", 1, "cma"),
    }
    assert not any(model.fusion_moments for model in models.values())
    by_the_papers_loss = {arm for arm, config in made.items() if not config.loss.alignment_weight}
    assert by_the_papers_loss == {"Multisensory", "CMA, the paper's loss"}
    assert len({(str(config.phases), config.optim.to_json(), config.data.to_json()) for config in made.values()}) == 1


def test_table_3_varies_depth_and_heads(configs):
    sizes = {(config.model.depth, config.model.num_heads) for config in configs("table3").values()}
    assert sizes == {(depth, heads) for depth in (1, 2) for heads in (4, 8, 16)}
    best = {heading: max(of_arms, key=of_arms.get) for heading, of_arms in EXPERIMENTS["table3"].published.items()}
    assert set(best.values()) == {"L = 1, A = 8"} == {EXPERIMENTS["table3"].reference}  # as the paper says


def test_runs_of_a_budget_share_all_but_the_way_to_use_the_network(configs):
    made = configs("label_budgets")
    modes = {"scratch": "scratch", "vision only": "vision_only", "full": "full", "frozen probe": "full"}
    assert {arm for arm, _ in made} == set(modes)
    for (arm, value), config in made.items():
        assert (config.data.train_split, config.data.eval_split, config.seed) == ("train2", "test2", 1)
        assert (config.action.mode, config.init.checkpoint) == (modes[arm], "runs/demo")
        assert config.action.videos_per_class == {"1": 1, "5": 5, "20": 20, "all": 0}[value]
        assert [settings.type for settings in config.evals.values()] == ["probe" if arm == "frozen probe" else "action"]
    trained = [config for (arm, _), config in made.items() if arm != "frozen probe"]
    for config in trained:
        assert config.evals.action.every == list_phases(config)[-1].last_step


def test_table_2_is_of_all_labels(configs):
    budgets, made = configs("label_budgets"), configs("table2")
    assert {arm for arm, _ in made} == {"scratch", "vision only", "full"}
    for (arm, _), config in made.items():
        assert config.to_json() == budgets[arm, "all"].to_json()


def test_the_plateau_is_left_in_as_many_clips(configs):
    made = {arm: config for (arm, _), config in configs("plateau").items()}
    assert len(made) == 11
    for arm, config in made.items():
        phases = list_phases(config)
        clips = phases[-1].example_at(phases[-1].last_step)
        assert clips == 700 * 16
        batch_size = phases[0].settings["batch_size"]
        assert (config.evals.pretext.every * batch_size, config.optim.warmup_steps * batch_size) == (800, 1600)
        assert bool(config.loss.alignment_weight) == ("alignment loss" in arm)
        assert bool(config.model.fusion_moments) == ("comparison of moments" in arm)
        assert (config.optim.name == "sgd") == (arm == "SGD") and config.evals.localization.every == 0
        # What the phases do not say is in the data's.
        data = config.data
        shares = [phase.settings.get("other_share", data.other_share) for phase in phases]
        shifts = {tuple(phase.settings.get("shift_seconds", data.shift_seconds)) for phase in phases}
        rates = [phase.settings["frame_rate"] for phase in phases]
        assert set(shares) == ({0.0, 0.5, 1.0} if "curriculum" in arm else {0.5} if arm == "half other" else {0.0})
        assert (shifts == {(2.0, 5.8)}) == ("curriculum" not in arm)
        assert rates[:-1] == ([5.0, 5.0] if "frame rate" in arm else [10.0] * (len(rates) - 1)) and rates[-1] == 10.0
    assert [arm for arm, config in made.items() if config.phases[0]["batch_size"] != 16] == [
        "batch 8, 1,400 steps",
        "batch 32, 350 steps",
    ]


def test_when_the_plateau_is_left_is_read_from_the_runs_scalars(tmp_path):
    writer = metric_writers.SummaryWriter(str(tmp_path))
    for step, low in ((50, 0.4), (100, 0.45), (150, 0.6), (200, 0.7)):
        writer.write_scalars(step, {"pretext/avs_accuracy_low": low})
    writer.close()
    stage = EXPERIMENTS["plateau"].stages["pretraining"]
    assert stage.more_numbers(epath.Path(tmp_path)) == {
        "steps_until_off_chance": 150,
        "steps_until_off_chance_is_at_least": False,
    }


def test_tokens_are_told_apart_in_every_way(configs):
    ways = {(config.model.positions, config.model.fusion) for config in configs("tokens").values()}
    assert ways == {(x, y) for x in ("none", "learned", "seconds") for y in ("flatten", "mean")}


def test_scaling_is_of_equal_steps(configs):
    made = {value: config for (_, value), config in configs("scaling_grid").items()}
    assert {value: config.data.max_videos for value, config in made.items()} == {
        **{str(n): n for n in (75, 150, 300)},
        "all 600": 0,
    }
    assert len({str(config.phases) for config in made.values()}) == 1
