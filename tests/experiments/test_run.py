"""The command: experiments by name, and the page of all."""

import pytest

from cmav.errors import UserError
from cmav.experiments import run
from tests.experiments.fake_experiment import FAKE, runs_of


def test_an_experiment_is_named():
    for names in ([], ["cmac_part"], ["cmac_parts", "cmac_parts"]):
        with pytest.raises(UserError, match="name one experiment: table1"):
            run.main(names, 1, 1, [], None, "")


def test_an_experiment_is_made_and_the_page_is_of_all(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run, "EXPERIMENTS", {"fake": FAKE, "another": FAKE})
    monkeypatch.setattr(run.signal, "signal", lambda *_: None)
    run.main(["fake"], 1, 2, [], str(tmp_path / "fake"), "--add=2")
    assert "| + one | 2.000 (0.000–1.000)" in capsys.readouterr().out
    run.summarize([], str(tmp_path))
    assert "## fake" in (tmp_path / "experiments.md").read_text()
    with pytest.raises(UserError, match="--summary is of all experiments"):
        run.summarize(["fake"], str(tmp_path))


def test_a_run_that_fails_takes_no_other_seeds_numbers_along(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run, "EXPERIMENTS", {"fake": FAKE})
    monkeypatch.setattr(run.signal, "signal", lambda *_: None)
    with pytest.raises(UserError, match="2 of 6 runs failed"):
        run.main(["fake"], 3, 3, [], str(tmp_path), "--fail_at=1")
    assert "Mean of 2 seeds" in capsys.readouterr().out
    assert len((tmp_path / "table.csv").read_text().splitlines()) == 1 + 2 * 2
    with pytest.raises(UserError, match="2 of 2 runs failed"):
        run.main(["fake"], 3, 1, [], str(tmp_path), "--fail_at=1")


def test_a_record_is_whole_or_not_there(tmp_path, monkeypatch):
    """Who is killed as it is written makes the run again."""
    (run_0, _) = runs_of(FAKE, tmp_path, seeds=1)
    run_0.folder.mkdir()
    (run_0.folder / "one.json").write_text('{"score": 1.0}')
    monkeypatch.setattr(type(run_0.folder), "replace", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run_0.keep("first")
    assert not run_0.done("first")
