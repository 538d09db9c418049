"""The model card of an exported network: Markdown, with the head that the Hugging Face hub reads."""

import os
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from cmav import tables
from cmav.localization.methods import list_methods
from cmav.sharing.functions import Function
from cmav.tasks import make_task
from cmav.tasks.base import Classes, Embeddings, Offsets, Task
from cmav.training.phases import list_phases

_WHAT_IT_DOES = {
    Offsets: "It was trained to tell whether a sound belongs to the moment of the pictures, or to another one of the "
    "same video. So it can be asked by how much a video's sound is off, and where in the picture it comes from.",
    Embeddings: "It was trained to embed pictures and sounds in one space, those of one clip close to each other.",
    Classes: "It was fine-tuned to tell what is done in a video.",
}


def write(
    name: str,
    config: ConfigDict,
    step: int,
    summary: Mapping[str, Any],
    functions: Mapping[str, Function],
    *,
    has_programs: bool,
) -> str:
    """The card.

    Args:
      name: of the network.
      config: of its run.
      step: of its weights.
      summary: the run's `summary.json`; empty: it was not evaluated, or not to its end.
      functions: of the network.
      has_programs: whether they were exported as programs.
    """
    task = make_task(config, config.phases[-1])
    sections = [
        _HEAD.format(name=name, task=config.task),
        " ".join(said for ability, said in _WHAT_IT_DOES.items() if ability in task.abilities),
        f"## Use\n\n{_use(name, task, functions, has_programs)}",
        f"## Training\n\n{_training(config, step)}",
        f"## Evaluation\n\n{_evaluation(config, step, summary)}",
        f"## Limits\n\n{_limits(config, task, is_evaluated=summary.get('steps') == step)}",
    ]
    return "\n\n".join(filter(None, sections)) + "\n"


_HEAD = """\
---
library_name: cmav
tags:
- jax
- audio-visual
- self-supervised
- {task}
---

# {name}

A network for pictures and their sound, trained with cmav (task `{task}`)."""


def _use(name: str, task: Task, functions: Mapping[str, Function], has_programs: bool) -> str:
    lines = ["import cmav", "", f'network = cmav.load("{name}")']
    if "encode_video" in functions:
        lines.append(f'{"tokens" if "compare" in functions else "embeddings"} = network.encode_video("video.mp4")')
    if Offsets in task.abilities:
        lines.append('print(network.sync("video.mp4").verdict)')
    commands = {
        "sync": Offsets in task.abilities and f"cmav sync VIDEO.mp4 --checkpoint {name} --out sync.csv",
        "localize": bool(list_methods(task)) and f"cmav localize VIDEO.mp4 --checkpoint {name} --out localized",
        "embed": f"cmav embed --videos DIR --checkpoint {name} --out features.npz",
    }
    said = f"```python\n{chr(10).join(lines)}\n```\n\n```sh\n{chr(10).join(filter(None, commands.values()))}\n```"
    if has_programs:
        inputs = [
            (
                f"`stablehlo/{one}.bin`",
                ", ".join(f"{x.dtype} {['batch', *x.shape]}".replace("'", "") for x in function.inputs.values()),
            )
            for one, function in functions.items()
        ]
        said += (
            "\n\nWithout cmav: `model.safetensors` has the weights, and these programs run with JAX alone "
            '(`jax.export.deserialize(open(FILE, "rb").read()).call(...)`), for any number of clips:\n\n'
            + tables.markdown(("program", "inputs"), inputs)
        )
    return said


def _training(config: ConfigDict, step: int) -> str:
    task = make_task(config, config.phases[-1])
    # The whole path of another machine is nobody's business.
    folder = os.path.basename(config.data.dir) if os.path.isabs(config.data.dir) else config.data.dir
    rows = [
        ("data", f"`{folder}`, split `{config.data.train_split}`"),
        ("steps", f"{step:,}"),
        *(
            (
                f"steps {phase.first_step:,} to {min(phase.last_step, step):,}",
                f"{phase.settings['batch_size']} clips a step, {phase.settings['frame_rate']:g} frames a second",
            )
            for phase in list_phases(config)
            if phase.first_step < step
        ),
        ("clip", f"{task.clip.seconds:g} s, {config.data.crop_size} pixels, {config.data.sample_rate:,} Hz"),
        ("optimizer", f"{config.optim.name}, learning rate {config.optim.learning_rate:g}"),
        ("all settings", "`config.json`"),
    ]
    return tables.markdown(("", ""), rows)


def _evaluation(config: ConfigDict, step: int, summary: Mapping[str, Any]) -> str:
    """Numbers that have an interval first."""
    if summary.get("steps") != step:
        return "Not evaluated at this step."
    beside = ("steps", "seconds", "parameters")
    numbers = {
        key: value
        for key, value in summary.items()
        if isinstance(value, int | float) and key not in beside and not key.endswith("clips")
    }
    intervals = {key: summary.get(f"{key}_interval") for key in numbers}
    rows = [
        (f"`{key}`", f"{numbers[key]:.4g}", "" if interval is None else "{:.3g} to {:.3g}".format(*interval))
        for key, interval in sorted(intervals.items(), key=lambda item: item[1] is None)
    ]
    counts = {key.rpartition("/")[0]: value for key, value in summary.items() if key.endswith("clips")}
    of = ", ".join(f"{count} clips" + (f" ({name})" if name else "") for name, count in counts.items())
    said = f"On the split `{config.data.eval_split}` of the same data" + (f": {of}." if of else ".")
    return f"{said}\n\n{tables.markdown(('number', 'value', '95% interval'), rows)}"


def _limits(config: ConfigDict, task: Task, *, is_evaluated: bool) -> str:
    said = ["Of videos of another kind than those that it was trained on nothing is known."]
    if is_evaluated:
        said.append("The numbers above are of one run; another seed gives others.")
    if task.cover:
        said.append(f"It is a control: a part of its pictures was covered ({task.cover}).")
    if config.data.get("shift_both"):
        said.append("It is a control: all sounds were shifted in training, so that there was nothing to learn.")
    if Offsets in task.abilities:
        said.append("How sure it is of an offset is calibrated on the same videos, where `offset_calibration.json` is.")
    return "\n".join(f"- {one}" for one in said)
