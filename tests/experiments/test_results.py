"""Tables and pictures of runs that are done, and the page of all experiments."""

import csv
import dataclasses
import io
import json

import numpy as np
import pytest
from etils import epath
from PIL import Image

from cmav.errors import UserError
from cmav.experiments import results
from cmav.experiments.experiment import Stage
from cmav.experiments.jobs import Jobs
from tests.experiments.fake_experiment import COMMAND, FAKE, SWEPT, runs_of


def write(experiment, folder, seeds=3, more=""):
    runs = runs_of(experiment, folder, seeds, more)
    Jobs(2).make(runs)
    text = results.write(experiment, "fake", runs, epath.Path(folder))
    assert (folder / "table.md").read_text() == text + "\n"
    picture = np.asarray(Image.open(folder / "table.png").convert("RGB"))
    assert picture.std() > 10
    return text, list(csv.DictReader(io.StringIO((folder / "table.csv").read_text())))


def rows(text):
    return [
        " | ".join(cell.strip() for cell in line.strip("|").split("|")) for line in text.splitlines() if "|" in line
    ]


def test_the_table_is_of_all_runs(tmp_path):
    text, lines = write(FAKE, tmp_path)
    assert rows(text)[0] == " | score | other | minutes a run"
    assert "plain | 1.000 ± 2.484 | 1.000 ± 2.484 | 0.0" in rows(text)
    assert "+ one | 2.000 ± 2.484 | 1.000 ± 2.484 | 0.0" in rows(text)
    assert "+ one | +1.000 ± 0.000 | +0.000 ± 0.000" in rows(text)  # Of the same seeds: far surer than the means.
    assert "Does adding help?" in text and "# + one: --add=1" in text and "make nothing" in text
    assert "run fake --seeds=3`" in text and "##" not in text
    assert [(line["arm"], line["seed"], line["score"]) for line in lines[:3]] == [
        ("plain", "0", "0.0"),
        ("+ one", "0", "1.0"),
        ("plain", "1", "1.0"),
    ]


def test_a_single_run_has_the_interval_over_its_clips(tmp_path):
    text, _ = write(FAKE, tmp_path, seeds=1)
    assert "+ one | 1.000 (0.000–1.000) | 0.000 (0.000–1.000) | 0.0" in rows(text) and "nan" not in text
    assert "One run of each arm" in text


def test_it_says_what_the_runs_were_given_beside_the_experiment(tmp_path):
    text, _ = write(FAKE, tmp_path, seeds=1, more="--add=2 --times=3")
    assert "run fake --seeds=1 --also='--add=2 --times=3'`" in text
    commands = [line for line in text.splitlines() if line.startswith("python -m")]
    assert ["--add=2 --times=3" in command for command in commands] == [True, False]


def test_a_sweep_has_a_table_for_each_column_and_lines_over_its_values(tmp_path):
    text, lines = write(SWEPT, tmp_path, seeds=2)
    score, other = text.split("## score, by how often")[1].split("## other, by how often")
    assert rows(score)[0].split(" | ")[1:] == ["once", "ten times", "minutes a run"]
    assert "+ one | 1.500 ± 6.353 | 15.0 ± 63.5 | 0.0" in rows(score)
    assert "+ one | +1.000 ± 0.000 | +10.0 ± 0.0" in rows(score)
    assert "+ one | +0.000 ± 0.000 | +0.000 ± 0.000" in rows(other)
    assert "# how often ten times: --times=10" in text
    assert [(line["arm"], line["how often"], line["seed"], line["score"]) for line in lines[2:5]] == [
        ("plain", "ten times", "0", "0.0"),
        ("+ one", "ten times", "0", "10.0"),
        ("plain", "once", "1", "1.0"),
    ]


def test_a_single_arm_differs_from_none(tmp_path):
    text, _ = write(dataclasses.replace(SWEPT, arms={"plain": ""}), tmp_path, seeds=1)
    assert "Differences" not in text


def test_what_an_arm_has_not_is_an_empty_cell_and_what_none_has_is_a_mistake(tmp_path):
    arms = {"plain": "", "with": "--error=0.5"}
    columns = {**FAKE.columns, "error": "first/error"}
    text, lines = write(dataclasses.replace(FAKE, arms=arms, columns=columns), tmp_path / "some", seeds=1)
    plain, there = (row.split(" | ") for row in rows(text) if row.startswith(("plain", "with")) and "(" in row)
    assert (plain[3], there[3]) == ("", "0.500")
    assert [line["error"] for line in lines] == ["", "0.5"]
    with pytest.raises(UserError, match="no run has 'first/error'; of 'first' there are score, score_interval"):
        write(dataclasses.replace(FAKE, columns=columns), tmp_path / "none", seeds=1)


def test_parameters_and_what_others_published_stand_beside_it(tmp_path):
    arms = {"plain": "--parameters=870000", "+ one": "--add=1", "other": "--parameters=15412865"}
    published = {"paper, elsewhere": {"plain": 0.653}}
    text, lines = write(dataclasses.replace(FAKE, arms=arms, published=published), tmp_path, seeds=2)
    assert rows(text)[0].split(" | ")[3:] == ["paper, elsewhere", "parameters", "minutes a run"]
    shown = [row.split(" | ")[3:] for row in rows(text)[2:5]]
    assert shown == [["0.653", "0.87M", "0.0"], ["", "", "0.0"], ["", "15.41M", "0.0"]]
    assert [line["parameters"] for line in lines[:3]] == ["870000", "", "15412865"]


def until(folder):
    score = json.loads((folder / "one.json").read_text())["judge/score"]
    return {"steps": 100 * score, "steps_is_at_least": score >= 2}


def test_numbers_of_runs_that_were_over_first_are_bounds(tmp_path):
    stages = {**FAKE.stages, "first": Stage(COMMAND, "one.json", until)}
    experiment = dataclasses.replace(FAKE, stages=stages, columns={"steps": "first/steps"})
    text, lines = write(experiment, tmp_path, seeds=2)
    assert [row.split(" | ")[1] for row in rows(text)[2:4]] == ["50 ± 635", "≥ 150"]
    assert "+ one | ≥ +100" in rows(text) and "≥: some runs were over" in text
    assert [line["steps"] for line in lines] == ["0.0", "100.0", "100.0", "≥200.0"]


def test_an_arm_with_another_command_shows_it(tmp_path):
    own = {"+ one": {"first": Stage(f"{COMMAND} --add=7", "one.json")}}
    text, _ = write(dataclasses.replace(FAKE, instead=own), tmp_path, seeds=1)
    shown = text.splitlines()
    (command,) = shown[shown.index("# + one:") + 1 : -1]
    assert command.startswith("python -m tests.experiments.fake_stage") and command.endswith("--add=1 --add=7")


def test_the_page_joins_the_tables_that_there_are(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write(SWEPT if name == "two" else FAKE, tmp_path / name, seeds=1)
    page = results.write_page(["two", "none", "one"], epath.Path(tmp_path))
    text = page.read_text()
    assert page == epath.Path(tmp_path) / "experiments.md" and "none" not in text
    assert [
        line for line in text.splitlines() if line.startswith("#") and "--" not in line and "nothing" not in line
    ] == [
        "# Experiments",
        "## fake",
        "### score, by how often",
        "### other, by how often",
        "## fake",
    ]
    assert "\n# + one: --add=1" in text  # In code that is a comment.
    assert text.index("![two](two/table.png)") < text.index("![one](one/table.png)")
    with pytest.raises(UserError, match="no experiment has a table"):
        results.write_page(["none"], epath.Path(tmp_path))
