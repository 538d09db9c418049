"""A run's `config.json`: what its weights mean. Written once all of it is resolved, read by all who take its network.

The file is the config as JSON. Beside the config's own keys it has

| key       | meaning                                                                                         |
| --------- | ----------------------------------------------------------------------------------------------- |
| `version` | of its form, `VERSION` when it was written; 0 where it is not there                             |
| `changes` | where the run went on with other settings: a list of {"step", "keys": {key: [before, after]}}   |

An older version is brought up to today's, step by step (`UPGRADES`), so that a run of then means what it meant then.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from absl import logging
from etils import epath
from ml_collections import ConfigDict

from cmav.config import get_default
from cmav.data import storage
from cmav.errors import UserError
from cmav.tasks import TASKS, list_sections
from cmav.training.phases import list_phases

NAME = "config.json"
_BESIDE = ("version", "changes")

# What may differ when a run goes on. These say what is done from here on, how it is computed, or what is looked at:
# neither what the weights so far mean, nor which examples they have seen. The optimizer and the loss are among them,
# because after a loss that was not finite one goes on with a smaller learning rate. All else is refused but what the
# task says of its own section, and of the phases what lies before the checkpoint.
_MAY_CHANGE = (
    *("log_every", "trackers", "checkpoint", "evals", "init", "loss", "optim"),
    *("data.dir", "data.eval_split", "data.max_bad_fraction", "data.num_threads", "data.prefetch_batches"),
    *("model.remat", "model.conv_lowering"),
)
_MAY_NOT = ("optim.name",)


def _to_1(config: dict[str, Any]) -> dict[str, Any]:
    """Version 0 had no version, and its first runs not all sections: fine-tuning came later, with these defaults."""
    came_later = {
        "init": {"checkpoint": "", "load": ["backbone"], "inherit": True},
        "action": {
            "mode": "full",
            "num_classes": 0,
            "hidden_size": 512,
            "dropout": 0.5,
            "standardise": False,
            "audio_shift_seconds": 0.5,
            "label_smoothing": 0.0,
            "mixup": 0.0,
            "videos_per_class": 0,
            "eval_clips": 25,
            "eval_crops": 1,
        },
        "optim": {"frozen": [], "multipliers": [], "head_warmup_steps": 0},
    }
    return {**config, **{section: {**keys, **config.get(section, {})} for section, keys in came_later.items()}}


def _to_2(config: dict[str, Any]) -> dict[str, Any]:
    """From version 2 on, encoders have names and settings of their own, there is augmentation, and a task "cmac"."""
    model = dict(config["model"])
    model["video"] = {"name": "conv3d", "layers": model.pop("video_layers")}
    model["audio"] = {
        "name": "conv1d",
        "layers": model.pop("audio_layers"),
        "companding": model.pop("audio_companding"),
    }
    augment = {
        "crop_area": [1.0, 1.0],
        "crop_aspect": [3 / 4, 4 / 3],
        "brightness": 0.0,
        "contrast": 0.0,
        "saturation": 0.0,
        "hue": 0.0,
        "grey": 0.0,
        "blur": 0.0,
        "blur_sigma": [0.1, 2.0],
        "gain_db": [0.0, 0.0],
        "audio_shift_seconds": 0.0,
    }
    cmac = {
        "embed_size": 128,
        "hidden_size": 512,
        "pooling": "attention",
        "negatives": "within",
        "within_weight": 1.0,
        "temperature": 0.1,
        "learn_temperature": False,
        "queue": 0,
        "consistency": "kl",
        "video_consistency": 1.0,
        "audio_consistency": 1.0,
        "guided_temperature": 0.1,
    }
    return {**config, "model": model, "data": {**config["data"], "augment": augment}, "cmac": cmac}


def _to_3(config: dict[str, Any]) -> dict[str, Any]:
    """Until version 2 the guided attentions of both streams had one temperature."""
    cmac = dict(config["cmac"])
    both = cmac.pop("guided_temperature")
    return {**config, "cmac": {**cmac, "video_guided_temperature": both, "audio_guided_temperature": both}}


def _to_4(config: dict[str, Any]) -> dict[str, Any]:
    """From version 4 on, a clip may have several shifted audios."""
    data, loss = {"num_shifted": 1, **config["data"]}, {"softmax_weight": 0.0, **config["loss"]}
    return {**config, "data": data, "loss": loss}


def _to_5(config: dict[str, Any]) -> dict[str, Any]:
    """From version 5 on, parts of the pictures may be covered."""
    return {**config, "data": {"covered": [], "shown": [], **config["data"]}}


def _to_6(config: dict[str, Any]) -> dict[str, Any]:
    """From version 6 on, a clip's negatives may be of another video."""
    evals = {
        name: {"negatives": "shifted", **settings} if settings.get("type") == "pretext" else settings
        for name, settings in config.get("evals", {}).items()
    }
    return {**config, "data": {"other_share": 0.0, **config["data"]}, "evals": evals}


def _to_7(config: dict[str, Any]) -> dict[str, Any]:
    """Until version 6 all videos of a split were trained on, and the head saw the tokens flattened, and no more."""
    model = {"fusion": "flatten", "fusion_moments": 0.0, **config["model"]}
    return {**config, "data": {"max_videos": 0, **config["data"]}, "model": model}


def _to_8(config: dict[str, Any]) -> dict[str, Any]:
    """Until version 7 the stem was computed again by default, which suits no longer every backend."""
    model = dict(config["model"])
    return {**config, "model": {**model, "remat": "auto"} if model["remat"] == "stem" else model}


def _to_9(config: dict[str, Any]) -> dict[str, Any]:
    """From version 9 on, scalars may go elsewhere too."""
    return {"trackers": [], **config}


# The n-th makes of a config of version n one of version n + 1.
UPGRADES: tuple[Callable[[dict[str, Any]], dict[str, Any]], ...] = (
    *(_to_1, _to_2, _to_3, _to_4),
    *(_to_5, _to_6, _to_7, _to_8, _to_9),
)
VERSION = len(UPGRADES)


def path_of(run: epath.PathLike) -> epath.Path:
    return epath.Path(run) / NAME


def read(run: epath.PathLike) -> ConfigDict | None:
    """The config of a run, in today's form; None where the folder has none.

    Raises:
      UserError: where the file is damaged or of a newer version; names it.
    """
    content = _load(path_of(run))
    if content is None:
        return None
    return ConfigDict(_tuples({key: value for key, value in content.items() if key not in _BESIDE}))


def get_config(run: str) -> ConfigDict:
    """The config of a run, for the flag --config (`cmav.presets`).

    Raises:
      UserError: as `read`, or where the folder has none.
    """
    config = read(run)
    if config is None:
        raise UserError(f"--config={run}: there is no {NAME} in this folder. Name that of a run, or a config.")
    return config


def check_can_go_on(config: ConfigDict, run: epath.PathLike, step: int) -> None:
    """Checks that a run can go on with a config as if it had been its own from the start.

    Args:
      config: with which it is to go on.
      run: its folder.
      step: that it has done.

    Raises:
      UserError: where the network, or the examples of the steps done, would have been others. Names the keys.
    """
    stored = read(run)
    if stored is None:
        logging.warning(
            "%s is not there: it cannot be checked that the run goes on with its own settings", path_of(run)
        )
        return
    ours, theirs = _flat(_plain(config)), _flat(_plain(stored))
    differences = [key for key in _differing(theirs, ours) if not _may_change(key, config.task)]
    lines = [f"{key}: {_shown(theirs, key)} in the run, {_shown(ours, key)} now" for key in differences]
    lines += _phase_differences(stored, config, step)
    if lines:
        listed = "\n  ".join(lines)
        raise UserError(
            f"the run in {run} has done {step} steps with other settings:\n  {listed}\n"
            "Its weights would mean something else with these, or its steps would not be those that it did. Give the "
            f"settings of the run ({path_of(run)} has all), or start another run from its weights: another --workdir, "
            f"and --config.init.checkpoint={run}."
        )


def write(config: ConfigDict, run: epath.PathLike, step: int) -> None:
    """Writes a run's `config.json`, whole or not at all. Called by one process.

    Args:
      config: of the run.
      run: its folder.
      step: that it has done. From 1 on, what differs from the file that is there is kept in `changes`, and said.
    """
    path = path_of(run)
    content = _plain(config)
    old = (_load(path) if step else None) or {}
    changes = old.pop("changes", [])
    before, after = (_flat({key: value for key, value in one.items() if key != "version"}) for one in (old, content))
    if old and (keys := _differing(before, after)):
        changes = [*changes, {"step": step, "keys": {key: [before.get(key), after.get(key)] for key in keys}}]
        said = "\n  ".join(f"{key}: {_shown(before, key)} until now, {_shown(after, key)} from here on" for key in keys)
        logging.info("other settings than in %s:\n  %s", path, said)
    content = {"version": VERSION, **content, **({"changes": changes} if changes else {})}
    path.parent.mkdir(parents=True, exist_ok=True)
    storage.write_text(path, json.dumps(content, indent=2))


def _load(path: epath.Path) -> dict[str, Any] | None:
    """The file's content in today's form, as JSON has it."""
    if not path.exists():
        return None
    try:
        content = storage.read_json(path)
        version = content.get("version", 0)
        if version > VERSION:
            raise UserError(
                f"{path} is of version {version}, and this cmav knows versions up to {VERSION}: use the cmav that made "
                "the run, or a newer one."
            )
        for upgrade in UPGRADES[version:]:
            content = upgrade(content)
        content = {**_sections_that_came_later(content), **content}
        _check_form(content)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is damaged, or not what cmav writes ({error!r}): bring back a copy of it. Or move it away; then "
            "what the weights in its folder mean is taken from the config that is given."
        ) from error
    return {**content, "version": VERSION}


def _sections_that_came_later(content: Mapping[str, Any]) -> dict[str, Any]:
    """The defaults of other tasks' own sections, which mean nothing to this run: a task may be newer than it."""
    default, own = json.loads(get_default().to_json_best_effort()), _own_section(content["task"])
    return {one.name: default[one.name] for one in list_sections() if one.name in default and one.name != own}


def _check_form(content: Mapping[str, Any]) -> None:
    """Checks that what others read of the config is there.

    Raises:
      ValueError, KeyError, TypeError, AttributeError: where it is not.
    """
    if not isinstance(content["task"], str):
        raise TypeError(f"the task is {content['task']!r}")
    default = get_default(content["task"]) if content["task"] in TASKS else get_default()
    own = _own_section(content["task"])
    for section in ("data", "model", "loss", *([own] if own else [])):
        if missing := [key for key in default[section] if key not in content[section]]:
            raise ValueError(f"{section} has no {', '.join(missing)}")
    try:
        list_phases(ConfigDict({"phases": content["phases"]}))
    except UserError as error:
        raise ValueError(str(error)) from error


def _plain(config: ConfigDict) -> dict[str, Any]:
    """The config as JSON has it."""
    return json.loads(config.to_json_best_effort())


def _tuples(value: Any) -> Any:
    """JSON has lists where a config has tuples."""
    if isinstance(value, dict):
        return {key: _tuples(child) for key, child in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values by the path that the command line has for them: "model.depth", "phases[0].steps"."""
    flat = {}
    for key, value in content.items():
        if key == "phases":
            value = {f"[{number}]": phase for number, phase in enumerate(value)}
        path = f"{prefix}{key}" if key.startswith("[") or not prefix else f"{prefix}.{key}"
        flat |= _flat(value, path) if isinstance(value, dict) else {path: value}
    return flat


def _differing(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    nothing = object()
    keys = dict.fromkeys((*before, *after))
    return [key for key in keys if before.get(key, nothing) != after.get(key, nothing)]


def _own_section(task: str) -> str:
    """The name of a task's own section; empty: it has none, or is not known here."""
    section = TASKS[task].section if task in TASKS else None
    return section.name if section else ""


def _may_change(key: str, task: str) -> bool:
    if key.startswith("phases["):
        return True
    of_tasks = {one.name: one for one in list_sections()}
    section, _, rest = key.partition(".")
    if section in of_tasks:
        return section != _own_section(task) or rest in of_tasks[section].may_change
    return key not in _MAY_NOT and any(key == name or key.startswith(f"{name}.") for name in _MAY_CHANGE)


def _phase_differences(stored: ConfigDict, config: ConfigDict, step: int) -> list[str]:
    """What of the phases would have made other steps of those that are done."""
    ours, theirs = list_phases(config), list_phases(stored)
    lines = []
    for number, phase in enumerate(theirs):
        if phase.first_step >= step:
            break
        now = ours[number] if number < len(ours) else None
        settings = {} if now is None else now.settings
        for key in dict.fromkeys((*phase.settings, *settings)):
            then, new = phase.settings.get(key, "not there"), settings.get(key, "not there")
            # Of a phase under way, or at its end, all that counts is that it did so many.
            did_as_many = key == "steps" and now and min(phase.last_step, step) == min(now.last_step, step)
            if _tuples(then) != _tuples(new) and not did_as_many:
                lines.append(f"phases[{number}].{key}: {then} in the run, {new} now")
    return lines


def _shown(flat: Mapping[str, Any], key: str) -> str:
    return json.dumps(flat[key]) if key in flat else "not there"
