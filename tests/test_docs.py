"""The pages: they build, what they say to type exists, and their code runs as it stands."""

import os
import pathlib
import re
import shlex

import numpy as np
import pytest
import tensorflow_datasets as tfds

from cmav import completion, presets
from cmav.__main__ import COMMANDS
from cmav.data import schema
from cmav.training import weights
from tests import fake_clips, tiny_config
from tests.commands import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
MODULES = {module: name for name, (module, _) in COMMANDS.items()}


def commands():
    """Each command in a block of a page that is to be typed: page, words."""
    for page in PAGES:
        for block in re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                line = re.sub(r"^(\w+=\S+ )+", "", line.partition(" && ")[2] or line)
                if line.startswith(("cmav ", "python -m ", "python data_prep/")):
                    yield pytest.param(line, id=f"{page.name}: {line[:60]}")


@pytest.mark.parametrize("line", commands())
def test_what_is_to_be_typed_exists(line):
    """The command, its flags, keys of the config, presets, and what comes with cmav."""
    words = shlex.split(line, comments=True)
    name, arguments = (words[1], words[2:]) if words[0] == "cmav" else (None, words[2:])
    if name == "completion":
        return
    if name is None:
        module = words[2] if words[1] == "-m" else None
        if module is None:
            assert (ROOT / words[1]).is_file()
            module = {"build_tfrecords": "cmav.prep", "synthesize_videos": "cmav.world", "same_box": "cmav.prep"}[
                pathlib.Path(words[1]).stem
            ] + f".{pathlib.Path(words[1]).stem}"
        else:
            arguments = words[3:]
            assert (ROOT / module.replace(".", "/")).with_suffix(".py").is_file(), module
    else:
        module = COMMANDS[name][0]
    flags = completion.flags_of(module)
    if "config" in flags and arguments and not arguments[0].startswith("-"):
        arguments = [f"--config={arguments[0]}", *arguments[1:]]
    for flag, value in (re.fullmatch(r"--([^=]+)=?(.*)", word).groups() for word in arguments if word.startswith("--")):
        key = flag.removeprefix("config.")
        if key != flag:
            assert has_key(key, config_of(arguments)), f"config has no {key}"
        else:
            assert {flag, flag.removeprefix("no")} & set(flags), f"{module} has no --{flag}"
        if flag == "config" and not value.startswith(("runs/", "my_")):
            assert os.path.exists(presets.resolve(value)), value
        if flag in ("checkpoint", "config.init.checkpoint"):
            assert value == "" or "/" in value or value in (*weights.shipped(), "my_network", "RUN"), value


def config_of(arguments):
    """The name of the config that a command is given; empty: none."""
    given = [word.partition("=")[2] for word in arguments if word.startswith("--config=")]
    return pathlib.Path(given[0]).stem if given else ""


def has_key(key, config_name):
    """Whether the config of a command has a key; where that is another's, whether one that comes with cmav has it."""
    names = [config_name] if config_name in presets.names() else presets.names()
    for name in names:
        found = importlib_config(name)
        for part in re.sub(r"\[(\d+)\]", r".\1", key).split("."):
            try:
                found = found[int(part) if part.isdecimal() else part]
            except (KeyError, IndexError, TypeError):
                break
        else:
            return True
    return False


def importlib_config(name, made={}):  # noqa: B006  made once for all
    if name not in made:
        scope = {}
        exec(compile((presets.FOLDER / f"{name}.py").read_text(), name, "exec"), scope)
        made[name] = scope["get_config"]()
    return made[name]


def test_the_pages_build(tmp_path):
    build = pytest.importorskip("mkdocs.commands.build")
    load_config = pytest.importorskip("mkdocs.config").load_config
    build.build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path)))
    assert "encode_video" in (tmp_path / "api" / "index.html").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert target.startswith("http") or (page.parent / target).exists(), target


def test_the_record_is_read_without_cmav(tmp_path):
    fake_clips.write_dataset(tmp_path, "train", 3, num_shards=2, **tiny_config.CLIPS)
    tfds.folder_dataset.write_metadata(
        data_dir=str(tmp_path),
        features=schema.tfds_features(tiny_config.CLIPS["size"]),
        split_infos=[tfds.core.SplitInfo(name="train", shard_lengths=[2, 1], num_bytes=0)],
        filename_template=schema.FILENAME_TEMPLATE,
    )
    page = (ROOT / "docs" / "record.md").read_text()
    assert {f"`{name}`" for name in schema.tfds_features(20)} <= set(re.findall(r"`\w+`", page))
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert sum(len(block.splitlines()) for block in blocks) <= 40 and "cmav" not in "".join(blocks)
    scope = {}
    for block in blocks:
        exec(block, scope)
    for number, clip in enumerate(scope["clips"](str(tmp_path), "train")):
        jpegs, audio, frame_rate, sample_rate = scope["parse"](scope["record"](tmp_path, "train", number))
        np.testing.assert_array_equal(audio, clip["audio"])
        assert (len(jpegs), frame_rate) == (len(clip["frames"]), clip["frame_rate"])
        assert sample_rate == clip["sample_rate"] == tiny_config.CLIPS["sample_rate"] and jpegs[0][:2] == b"\xff\xd8"
    assert number == 2
