"""What `--config` may be."""

import json

import pytest

from cmav import presets
from cmav.configs import demo
from cmav.training import run_config
from tests import commands


@pytest.fixture
def run(tmp_path):
    """The folder of a run that has a config of its own."""
    config = demo.get_config()
    config.model.hidden_size = 64
    run_config.write(config, tmp_path / "a:run", 0)
    return tmp_path / "a:run"


def test_a_file_that_is_there_comes_before_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ours = [str(presets.FOLDER / "demo.py")] * 3
    assert [presets.resolve(name) for name in ("demo", "demo.py", "configs/demo.py")] == ours
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "demo.py").touch()
    assert presets.resolve("configs/demo.py") == "configs/demo.py" and presets.resolve("demo") == ours[0]
    assert presets.resolve("demos") == "demos" and presets.resolve("mine.py:wide") == "mine.py:wide"


def test_a_run_gives_its_config_and_its_folder(run):
    """Without --config=, as the first argument, and with another key set."""
    described = json.loads(commands.run("-m", "cmav.describe", run, "--json", "--config.phases[0].batch_size=7"))
    assert described["phases"][0]["batch_size"] == 7
    wide = json.loads(commands.run("-m", "cmav.describe", "demo", "--json"))
    assert described["parameters"] < wide["parameters"] and wide["phases"][0]["batch_size"] == 16


def test_a_command_with_a_run_works_in_its_folder(run):
    process = commands.start("-m", "cmav.evaluate", run)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 1 and f"Error: no checkpoints in {run}: name the run's --workdir, or train" in said
    assert f"\n  python -m cmav.main --config=CONFIG --workdir={run}\n" in said


@pytest.mark.parametrize("config", ["nothing", "gs:", "configs/nothing.py"])
def test_what_is_no_config_gets_the_names_of_those_there_are(config):
    process = commands.start("-m", "cmav.describe", f"--config={config}")
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 1 and f"--config={config} cannot be read" in said
    assert all(name in said for name in presets.names()) and "Traceback" not in said


def test_a_damaged_config_of_a_run_is_named(run):
    (run / "config.json").write_text("{")
    process = commands.start("-m", "cmav.describe", run)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 2 and f"{run}/config.json is damaged" in said and "Traceback" not in said


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--config.optim.learning_rate=0.5", "--config.init.load=('a', 'b')"], "0.5 ('a', 'b') finetune_world"),
        (["--config.optim.learning_rat=0.5"], "learning_rate"),
    ],
)
def test_a_first_argument_takes_the_place_of_a_default(flags, said):
    """Of a command that has a default, with keys that the command line sets."""
    code = (
        "import os\nfrom cmav import cli\nholder = cli.define_flags(default_config='configs/finetune_ucf101.py')\n"
        "cli.run(lambda: print(holder.value.optim.learning_rate, holder.value.init.load, os.path.basename("
        "cli.workdir()), sorted(cli.overrides())))"
    )
    process = commands.start("-c", code, "finetune_world", *flags)
    output, _ = process.communicate(timeout=300)
    assert said in output and "Traceback" not in output
    assert (process.returncode == 0) == ("rate=" in flags[0])


def test_a_config_after_the_flags_is_told_to_come_first():
    process = commands.start("-m", "cmav.describe", "--json", "demo")
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 2 and "a config without --config= comes before them" in said
