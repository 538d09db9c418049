"""The table of label budgets: which run is which, and its arithmetic."""

import numpy as np
import pytest
from etils import epath
from scipy import stats

from cmav.errors import UserError
from cmav.experiments import label_budgets
from cmav.experiments.table import Cell
from tests import tiny_config


def test_runs_of_a_column_share_all_that_chance_decides():
    base = tiny_config.get_action_config()
    base.seed = 10
    for run, split in ((0, 1), (1, 2), (2, 3), (3, 1)):
        configs = [label_budgets.run_config(base, method, "5", run) for method in label_budgets.METHODS]
        for config in configs:
            assert (config.data.train_split, config.data.eval_split) == (f"train{split}", f"test{split}")
            assert (config.seed, config.action.videos_per_class) == (10 + run, 5)
    assert [config.action.mode for config in configs] == ["scratch", "vision_only", "full", "full"]
    assert label_budgets.run_config(base, "full", "all", 0).action.videos_per_class == 0
    for budget in ("0", "-1", "many"):
        with pytest.raises(UserError, match="--budgets"):
            label_budgets.run_config(base, "full", budget, 0)


def test_intervals_are_students_and_differences_are_within_runs():
    one, other = Cell((0.9, 0.7, 0.8)), Cell((0.5, 0.3, 0.4))
    low, high = stats.t.interval(0.95, 2, loc=np.mean(one.values), scale=stats.sem(one.values))
    assert (one.mean - one.half_width, one.mean + one.half_width) == pytest.approx((low, high))
    assert (one - other).mean == pytest.approx(0.4) and (one - other).half_width == pytest.approx(0, abs=1e-9)
    text = label_budgets.write({"full": {"1": one}, "scratch": {"1": other}})
    assert "| full           | 0.800 ± 0.248  |" in text and "| full − scratch | +0.400 ± 0.000 |" in text


def test_it_makes_every_run_once_and_draws_the_table(tmp_path, monkeypatch):
    made = []

    def top1_of(config, workdir, overrides):
        made.append((config.action.mode, workdir.name))
        return 0.5 + 0.01 * config.seed

    monkeypatch.setattr(label_budgets, "top1_of", top1_of)
    arguments = (tiny_config.get_action_config(), epath.Path(tmp_path), ["full", "scratch"], ["1", "all"], 2, {})
    table = label_budgets.make_table(*arguments)
    assert len(set(made)) == len(made) == 8
    assert table["full"]["all"].values == (0.5, 0.51)
    label_budgets.save_picture(table, 0.125, epath.Path(tmp_path) / "table.png")
    assert (tmp_path / "table.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UserError, match=r"'fulll'.*scratch"):
        label_budgets.make_table(*arguments[:2], ["fulll"], ["1"], 2, {})


@pytest.mark.parametrize(("kind", "made_by"), [("probe", "evaluate"), ("action", "finetune")])
def test_what_looks_at_features_alone_is_not_trained(tmp_path, monkeypatch, kind, made_by):
    made = []
    monkeypatch.setattr(
        "cmav.training.evaluate_run.evaluate", lambda *args, **kwargs: made.append("evaluate") or {"probe/top1": 0.5}
    )
    monkeypatch.setattr("cmav.training.finetune.finetune", lambda *args: made.append("finetune") or {"top1": 0.5})
    config = tiny_config.get_action_config()
    with config.unlocked():
        config.evals = {kind: {"type": kind}}
    assert label_budgets.top1_of(config, epath.Path(tmp_path), {}) == 0.5 and made == [made_by]
