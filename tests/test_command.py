"""`cmav COMMAND`, completion in a shell, and the wheel outside of the checkout."""

import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile

import pytest

from cmav import completion, presets
from cmav.__main__ import COMMANDS
from tests import commands


def cmav(*words, **more) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "cmav", *words], capture_output=True, text=True, timeout=300, **more)


def test_help_names_every_command_and_imports_nothing_heavy():
    said = cmav("--help", env={**os.environ, "PYTHONPROFILEIMPORTTIME": "1"})
    assert said.returncode == 0 and all(f"\n  {name}" in said.stdout for name in COMMANDS)
    heavy = ("jax", "tensorflow", "numpy", "absl")
    assert not [line for line in said.stderr.splitlines() if line.rpartition("|")[2].strip().startswith(heavy)]


def test_every_command_is_a_module():
    assert all(importlib.util.find_spec(module) for module, _ in COMMANDS.values())


def test_a_command_is_its_module():
    of_command, of_module = cmav("synthesize", "--help"), cmav("synthesize")
    assert of_command.returncode == 0 and "--distractors" in of_command.stdout
    assert of_module.returncode == 2  # as `python -m cmav.world.synthesize_videos` without arguments
    said = commands.run("data_prep/synthesize_videos.py", "--help")
    assert said == of_command.stdout


@pytest.mark.parametrize(("word", "meant"), [("trian", "cmav train"), ("xyz", "cmav --help")])
def test_a_mistyped_command_is_told_what_to_give(word, meant):
    said = cmav(word)
    assert said.returncode == 2 and said.stderr.endswith(f"\n  {meant}\n") and repr(word) in said.stderr


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["tr"], ["train"]),
        (["evaluate", "--spl"], ["--split=", "--splits="]),
        (["prep", "--vali"], ["--validation_share="]),
        (["train", "--con"], ["--config="]),
        (["train", "--config=sync_grid_"], ["--config=sync_grid_multisensory"]),
        (["train", "--config", "=", "sync_grid_"], ["sync_grid_multisensory"]),
        (["describe", "avs_a"], ["avs_aga"]),
        (["localize", "avs_a"], []),  # a video
        (["completion", "z"], ["zsh"]),
        (["nothing", "--"], []),
    ],
)
def test_completion(typed, meant):
    assert completion.words(typed, COMMANDS) == meant


def test_completion_knows_all_configs():
    assert completion.words(["train", ""], COMMANDS) == presets.names()
    assert completion.words(["train", "--config", "="], COMMANDS) == presets.names()


@pytest.mark.skipif(not shutil.which("bash"), reason="without bash")
def test_bash_completes(tmp_path):
    program = tmp_path / "cmav"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m cmav "$@"\n')
    program.chmod(0o755)
    script = (
        'eval "$(cmav completion bash)"; COMP_WORDS=(cmav localize --ch); COMP_CWORD=2; _cmav; echo "${COMPREPLY[@]}"'
    )
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    said = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env={**os.environ, "PATH": path})
    assert said.stdout == "--checkpoint=\n", said.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder like site-packages, of the wheel alone."""
    folder = tmp_path_factory.mktemp("wheel")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=commands.ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    for name in filter(None, listed.stdout.split("\0")):
        if not name.startswith("tests/") and os.path.lexists(commands.ROOT / name):
            (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(commands.ROOT / name, folder / "source" / name, follow_symlinks=False)
    build = "from setuptools import build_meta; print(build_meta.build_wheel('..'))"
    subprocess.run([sys.executable, "-c", build], cwd=folder / "source", check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(folder / "site")
    shutil.rmtree(folder / "source")
    return folder / "site"


def test_the_wheel_has_one_package_with_the_configs(installed):
    top = {path.name for path in installed.iterdir()}
    assert {name for name in top if not name.endswith(".dist-info")} == {"cmav"}
    assert {path.stem for path in (installed / "cmav" / "configs").glob("[a-z]*.py")} == set(presets.names())
    (entry,) = installed.glob("*.dist-info/entry_points.txt")
    assert "cmav = cmav.__main__:main" in entry.read_text()


@pytest.mark.parametrize("config", ["demo_multisensory", "configs/demo_multisensory.py"])
def test_a_config_that_comes_with_cmav_is_found_without_a_checkout(installed, tmp_path, config):
    environment = {**os.environ, "PYTHONPATH": str(installed), "JAX_PLATFORMS": "cpu"}
    said = cmav("describe", config, "--json", cwd=tmp_path, env=environment)
    assert '"parameters": 88' in said.stdout, said.stderr
