"""The command: experiments by name, and the page of all."""

import pytest

from cmav.errors import UserError
from cmav.experiments import run
from tests.experiments.fake_experiment import FAKE


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
