"""Tasks: what one trains for. The trainer knows them through `cmav.tasks.base.Task`, never by name."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from cmav.errors import UserError
from cmav.tasks.action import Action
from cmav.tasks.avs import Avs
from cmav.tasks.base import Batch, ClipTask, Metrics, Section, Task
from cmav.tasks.cmac import Cmac

__all__ = ["TASKS", "Batch", "Metrics", "Task", "class_of", "list_sections", "make_task"]

TASKS: dict[str, type[ClipTask]] = {"avs": Avs, "cmac": Cmac, "action": Action}


def class_of(name: str) -> type[ClipTask]:
    """The task of a name, `config.task`.

    Raises:
      UserError: for a name that is not in `TASKS`.
    """
    if name not in TASKS:
        raise UserError(f"config.task={name!r} is not known: choose one of {', '.join(TASKS)}.")
    return TASKS[name]


def make_task(config: ConfigDict, phase: Mapping[str, Any]) -> Task:
    """Makes `config.task` for one of `config.phases`.

    Raises:
      UserError: for a name that is not in `TASKS`, or settings with which there is no such task.
    """
    return class_of(config.task).from_config(config, phase)


def list_sections() -> list[Section]:
    """The sections of a config that are of one task each."""
    return [task.section for task in TASKS.values() if task.section]
