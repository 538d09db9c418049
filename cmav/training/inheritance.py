"""The settings that a run takes over: of the one that it starts from, or of itself where it goes on.

Weights mean something only with the settings that they were trained with, and not all of these show in the arrays'
shapes: the number of heads, the companding, the strides. So the run's own config gives the network, and the frame rate
of the checkpoint's step, unless `config.init.inherit` is off.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from absl import logging
from ml_collections import ConfigDict
from ml_collections.config_flags import config_path

from cmav.tasks import list_sections
from cmav.training import pretrained, run_config
from cmav.training.phases import phase_of
from cmav.trees import flatten

_COVERS = ("covered", "shown")  # of `data`: what a control experiment hides, so no one should take it over unawares
# What is taken over beside all of `model`, and what tasks say of their own sections.
_INHERITED = {
    "data": ("stored_frame_rate", "sample_rate", "crop_size", *_COVERS),
    "loss": ("alignment_weight", "alignment_temperature"),  # which maps of the network mean something
}
_KEPT = {"data": ("clip_seconds",)}  # by the run itself, beside these


def resolve_config(
    config: ConfigDict, workdir: str, overrides: Mapping[str, Any], *, to_train: bool = True
) -> ConfigDict:
    """The config of a run in `workdir`, with the network that it has or is to start from.

    A run that has begun keeps its own network, wherever the one that it started from may be by now. Of one that is to
    start, `init.checkpoint` then names a single checkpoint.

    Args:
      config: what everything else comes from.
      workdir: the run's folder.
      overrides: what the command line sets, by path ("model.dropout"): it counts for more than what the run had.
      to_train: the run is to go on, with the phases of `config` at the rates of its own; otherwise its checkpoints are
        to be looked at, and the phases are its own, from the first to the last.

    Raises:
      UserError: where the checkpoint to start from is not there, or a run's `config.json` is damaged.
    """
    if not config.init.inherit:
        return config
    if pretrained.has_checkpoints(workdir):
        return _inherit_own(config, workdir, overrides, to_train=to_train)
    if not pretrained.is_wanted(config):
        return config
    run, step = pretrained.resolve(config.init.checkpoint)
    config = inherit(config, run, step, overrides)
    config.init.checkpoint = pretrained.name_of(run, step)
    return config


def inherit(config: ConfigDict, run: str, step: int, overrides: Mapping[str, Any]) -> ConfigDict:
    """A copy of a config with the network of another run's checkpoint: its `model`, its rates, and its crop.

    Args:
      config: what everything else comes from. All of its phases get the rate of the phase that the checkpoint is of.
      run: folder of the other run; where it has lost its `config.json` nothing is changed, and that is said.
      step: of the checkpoint.
      overrides: as in `resolve_config`.

    Raises:
      UserError: where the run's `config.json` is damaged.
    """
    theirs = _config_of(run)
    if theirs is None:
        return config.copy_and_resolve_references()
    rate = phase_of(theirs, step).settings["frame_rate"]
    phases = [{**phase, "frame_rate": rate} for phase in config.phases]
    config = _take_over(config, run, theirs, _inherited(), phases, overrides)
    if config.model.audio.get("masks") and "model.audio.masks" not in overrides:
        config.model.audio.masks = 0  # Of the other run's training: what its weights mean does not depend on it.
    return config


def _inherit_own(config: ConfigDict, run: str, overrides: Mapping[str, Any], *, to_train: bool) -> ConfigDict:
    """As `inherit`, of the run of this very config: its clips and its head count as well. See `resolve_config`."""
    theirs = _config_of(run)
    if theirs is None:
        return config.copy_and_resolve_references()
    phases = [dict(phase) for phase in theirs.phases]
    if to_train:  # Phases that are new go on at the last one's rate.
        rates = [phase["frame_rate"] for phase in phases]
        rates += rates[-1:] * (len(config.phases) - len(rates))
        phases = [{**phase, "frame_rate": rate} for phase, rate in zip(config.phases, rates, strict=False)]
    else:  # The command line may set the rate of one, but not move the steps at which they end.
        overrides = {
            key: value
            for key, value in overrides.items()
            if not key.startswith("phases") or key in {f"phases[{n}].frame_rate" for n in range(len(phases))}
        }
    return _take_over(config, run, theirs, [*_inherited(), *_kept()], phases, overrides)


def _config_of(run: str) -> ConfigDict | None:
    theirs = run_config.read(run)
    if theirs is None:
        path = run_config.path_of(run)
        logging.warning("%s is not there: taking the network and the rates from this run's own config", path)
    return theirs


def _inherited() -> list[tuple[str, str]]:
    """Section and key of what any run takes over of the one that it starts from."""
    of_tasks = {section.name: section.inherited for section in list_sections()}
    return [(section, key) for section, keys in {**_INHERITED, **of_tasks}.items() for key in keys]


def _kept() -> list[tuple[str, str]]:
    """Section and key of what a run that goes on takes over of itself beside that."""
    of_tasks = {section.name: section.kept for section in list_sections()}
    return [(section, key) for section, keys in {**_KEPT, **of_tasks}.items() for key in keys]


def _take_over(
    config: ConfigDict,
    run: str,
    theirs: ConfigDict,
    keys: Iterable[tuple[str, str]],
    phases: Sequence[Mapping[str, Any]],
    overrides: Mapping[str, Any],
) -> ConfigDict:
    """A copy of a config with the `model` of another, these keys of its sections, these phases, and the overrides."""
    config = config.copy_and_resolve_references()
    before, asked = _flat(config), {key: config.data[key] for key in _COVERS}
    # A task's own section may be of its configs alone.
    inherited = [("model", key) for key in config.model]
    inherited += [(section, key) for section, key in keys if section in config and section in theirs]
    for section, key in inherited:
        config[section][key] = theirs[section][key]
    config.phases = tuple(phases)
    # Only what is inherited is set again: the config may have been changed since the command line was read.
    touched = ("phases", *(f"{section}.{key}" for section, key in inherited))
    for key, value in overrides.items():
        if key.startswith(touched):
            config_path.set_value(key, config, value)
    for key in _COVERS:
        if config.data[key] != asked[key]:
            logging.warning(
                "config.data.%s is %s, as in %s, not %s, as in this config: to have that, give --config.data.%s",
                *(key, config.data[key], run_config.path_of(run), asked[key], key),
            )
    changed = [key for key, value in _flat(config).items() if before.get(key) != value]
    if changed:
        logging.info("from %s: %s", run_config.path_of(run), ", ".join(sorted(changed)))
    return config


def _flat(config: ConfigDict) -> dict[str, Any]:
    """Values of the sections by path: "model/depth"."""
    return flatten({name: section.to_dict() for name, section in config.items() if isinstance(section, ConfigDict)})
