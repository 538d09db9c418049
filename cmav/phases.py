"""The phases of training: a frame rate, a batch size and a number of steps each, one after the other."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict


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
    """The phases in order. Which examples step s sees is a function of the config and s alone."""
    phases, step, example = [], 0, 0
    for settings in config.phases:
        phases.append(Phase(settings, step, example))
        step += settings["steps"]
        example += settings["steps"] * settings["batch_size"]
    return phases


def phase_of(config: ConfigDict, step: int) -> Phase:
    """The phase that a network of `step` steps was last trained in."""
    phases = list_phases(config)
    return next((phase for phase in phases if step <= phase.last_step), phases[-1])
