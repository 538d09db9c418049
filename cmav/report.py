"""Gathers what a run left in one page, `report.html`, which opens without a network.

python -m cmav.report --workdir=runs/demo

The page has whatever of these is in the run's folder, and leaves out the rest:

| file                                        | what it becomes                                                |
| ------------------------------------------- | -------------------------------------------------------------- |
| `summary.json`, `config.json`               | a sentence: what was asked, and how often the answer was right |
| `curves.png`, `pretext_<split>_per_label.png`, `action_<split>_confusion.png` | pictures                     |
| `retrieval_<split>.json`                    | the same of pictures and sounds that belong together, a table  |
| `localization_<split>.json` and `.png`      | a table with trivial baselines, and a picture                  |
| `frequencies_<split>.json` and `.png`       | a table of attention beside the sound's energy, and a picture  |
| `localized/NAME.METHOD.mp4` and `.png`      | overlays and contact sheets of `python -m cmav.localize`       |

Pictures and videos are within the page, so that it can be sent to somebody as it is. Beyond 60 MB of them the page
links the rest, and says so.
"""

import importlib.metadata
import shlex
from collections.abc import Sequence
from datetime import date
from html import escape

from absl import flags
from etils import epath

from cmav import cli, presets
from cmav.config import trained_by
from cmav.errors import UserError, to_paste
from cmav.localization.methods import list_methods
from cmav.reporting import frequencies, localization, overlays, page, training
from cmav.reporting.media import BUDGET, Media
from cmav.tasks import Task, class_of
from cmav.tasks.base import Bands
from cmav.training import run_config

_INTRODUCTION = (
    "cmav trains networks on videos, by their sound and their pictures together. This page gathers what one run left: "
    "what its network was asked, how often it was right and, where it was looked at, in which place of the picture, "
    "or at which frequencies, it finds a sound."
)


def write(workdir: str, *, budget: int = BUDGET) -> epath.Path:
    """Writes `report.html` into a run's folder and returns its path.

    Args:
      workdir: the run's folder; local or gs://.
      budget: bytes of pictures and videos that the page holds itself; those beyond it are linked.

    Raises:
      UserError: where the folder has nothing to show, or a file in it is damaged.
    """
    folder = epath.Path(workdir)
    media = Media(folder, budget)
    task = _trained_task(folder)
    methods = list_methods(task) if task else {}
    sections = [
        *training.sections(folder, media),
        *overlays.sections(folder, media, methods),
        *localization.sections(folder, media, methods),
        *frequencies.sections(folder, media, task.audio_attention_meanings if task and Bands in task.abilities else {}),
    ]
    if not sections:
        raise UserError(
            f"{folder} has nothing to report on: no summary.json, tables, pictures or localized/. "
            "Name the --workdir of a run, or train first:" + to_paste("cmav", "train", "demo")
        )
    name = folder.resolve().name if "://" not in workdir else folder.name
    introduction = _INTRODUCTION
    if media.linked:
        introduction += (
            f" Its pictures and videos are within the page, but for {len(media.linked)} that would have made it too "
            "large: they are shown only while the page lies in the folder of its run."
        )
    path = folder / "report.html"
    path.write_text(page.render(f"What the run “{name}” learned", introduction, sections, _footer(folder, name)))
    return path


def _trained_task(folder: epath.Path) -> Task | None:
    """The task of a run, which knows what its network's maps and attentions show; None where there is no run."""
    config = run_config.read(folder)
    if config is None:
        return None
    task = class_of(config.task)
    return task.from_config(task.as_frozen(config), config.phases[-1])


def _footer(folder: epath.Path, name: str) -> str:
    """How to make all this again, and with what it was made."""
    settings = training.read_settings(folder)
    command = "cmav.main" if settings is None else trained_by(settings.task)
    config = f"configs/{name}.py" if name in presets.names() else "CONFIG.py"
    run = shlex.quote(str(folder))
    commands = [
        f"python -m {command} --config={config} --workdir={run}",
        f"python -m cmav.evaluate --config={config} --workdir={run}",
        *(
            []
            if command != "cmav.main"
            else [f"python -m cmav.localize VIDEO.mp4 --checkpoint={run} --out={run}/localized"]
        ),
        f"python -m cmav.report --workdir={run}",
    ]
    made_with = ["cmav" + _version(), *_newest_checkpoint(folder), "all settings: config.json in the run's folder"]
    return (
        "<h2>Make it again</h2>\n"
        "<p>The commands, from training to this page:</p>\n"
        f"<pre><code>{escape(chr(10).join(commands))}</code></pre>\n"
        f"<p>{escape(' · '.join(made_with))}</p>"
    )


def _version() -> str:
    try:
        return f" {importlib.metadata.version('cmav')}"
    except importlib.metadata.PackageNotFoundError:  # It runs from its folder and is not installed.
        return ""


def _newest_checkpoint(folder: epath.Path) -> Sequence[str]:
    """Step and day of the newest checkpoint; nothing where there is none."""
    checkpoints = folder / "checkpoints"
    if not checkpoints.is_dir():
        return ()
    steps = [path for path in checkpoints.iterdir() if path.name.isdecimal()]  # A save that was cut off is no number.
    if not steps:
        return ()
    newest = max(steps, key=lambda path: int(path.name))
    return (f"newest checkpoint: step {newest.name}, saved {date.fromtimestamp(newest.stat().mtime)}",)


def main(workdir: str | None) -> None:
    if not workdir:
        raise UserError("no --workdir given:" + to_paste("cmav", "report", "--workdir=runs/demo"))
    print(f"wrote {write(workdir)}")


if __name__ == "__main__":
    _WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; report.html is written there.")
    cli.run(lambda: main(_WORKDIR.value))
