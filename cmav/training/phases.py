"""The phases of training: a frame rate, a batch size and a number of steps each, one after the other.

A phase may also have `shift_seconds` and `other_share`, in training instead of those of `config.data`: from negatives
that are easy to tell to hard ones (Korbar, Tran, Torresani, 2018).
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from cmav.errors import UserError

_KEYS = ("frame_rate", "batch_size", "steps")
_MAY_HAVE = ("shift_seconds", "other_share")


@dataclasses.dataclass(frozen=True)
class Phase:
    """One of `config.phases`, and where it lies in the whole of training."""

    settings: Mapping[str, Any]
    first_step: int
    first_example: int  # examples that the phases before it used up

    @property
    def last_step(self) -> int:
        return self.first_step + self.settings["steps"]

    def example_at(self, step: int) -> int:
        return self.first_example + (step - self.first_step) * self.settings["batch_size"]


def list_phases(config: ConfigDict) -> list[Phase]:
    """The phases in order. Which examples step s sees is a function of the config and s alone.

    Raises:
      UserError: where there are none, or one has not a rate, a batch size and a number of steps.
    """
    if not config.phases:
        raise UserError("config.phases is empty: there must be at least one phase.")
    phases, step, example = [], 0, 0
    for number, settings in enumerate(config.phases):
        _check(number, settings)
        phases.append(Phase(settings, step, example))
        step += settings["steps"]
        example += settings["steps"] * settings["batch_size"]
    return phases


def phase_of(config: ConfigDict, step: int) -> Phase:
    """The phase that a network of `step` steps was last trained in.

    Args:
      config: of the run whose checkpoint it is, as `cmav.training.run_config.read` gives it. No other config knows.
      step: of the checkpoint. Steps beyond the last phase belong to it.
    """
    phases = list_phases(config)
    return next((phase for phase in phases if step <= phase.last_step), phases[-1])


def _check(number: int, settings: Any) -> None:
    form = f"config.phases[{number}]={settings!r}: give {', '.join(_KEYS)}"
    if not isinstance(settings, Mapping) or set(settings) - set(_MAY_HAVE) != set(_KEYS):
        raise UserError(f"{form}, and nothing else but {', '.join(_MAY_HAVE)}.")
    shifts = settings.get("shift_seconds", (0, 0))
    if not isinstance(shifts, list | tuple) or len(shifts) != 2 or not all(map(_is_number, shifts)):
        raise UserError(f"config.phases[{number}].shift_seconds={shifts!r}: give the least and the greatest.")
    if not all(_is_number(settings[key]) and settings[key] > 0 for key in _KEYS):
        raise UserError(f"{form}, each greater than 0.")
    if not all(isinstance(settings[key], int) for key in ("batch_size", "steps")):
        raise UserError(f"{form}, the last two as whole numbers.")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
