"""What a network was asked in training, how often it was right on held-out clips, and the pictures of the run."""

import dataclasses
from collections.abc import Iterable
from html import escape
from typing import Any

from etils import epath
from ml_collections import ConfigDict

from cmav.data.cover import Cover
from cmav.reporting import retrieval
from cmav.reporting.files import how_often, percent, read
from cmav.reporting.media import Media
from cmav.reporting.page import Section
from cmav.training import run_config


@dataclasses.dataclass(frozen=True)
class Settings:
    """What of a run's `config.json` a reader needs."""

    task: str
    data_dir: str
    eval_split: str
    clip_seconds: float
    shift_seconds: tuple[float, float]
    shift_both: bool  # a control experiment, in which nothing can be learned
    cover: Cover  # another one: what of the pictures it was not to see

    @classmethod
    def of(cls, config: ConfigDict) -> "Settings":
        data = config.data
        seen = data.clip_seconds, data.shift_seconds, data.shift_both, Cover.of(data)
        return cls(config.task, data.dir, data.eval_split, *seen)


@dataclasses.dataclass(frozen=True)
class Accuracy:
    """How often the network was right; numbers from 0 to 1."""

    value: float
    low: float  # the ends of its 95% interval
    high: float
    count: int  # of held-out clips or videos
    parts: dict[str, float]  # more numbers, by what they are

    @classmethod
    def parse(cls, summary: Any, key: str, counted: str, parts: dict[str, str]) -> "Accuracy | None":
        """Of `summary.json`; None where the run was not evaluated, or on something else."""
        if key not in summary:
            return None
        low, high = map(float, summary[f"{key}_interval"])
        found = {title: float(summary[name]) for name, title in parts.items() if name in summary}
        return cls(float(summary[key]), low, high, int(summary[counted]), found)


@dataclasses.dataclass(frozen=True)
class Summary:
    """A run's `summary.json`."""

    steps: int
    seconds: float
    sync: Accuracy | None
    correspondence: Accuracy | None
    action: Accuracy | None

    @classmethod
    def parse(cls, summary: Any) -> "Summary":
        sync = {"avs_accuracy_aligned": "right when in sync", "avs_accuracy_shifted": "right when shifted"}
        correspondence = {
            "avc_accuracy_aligned": "right when its own",
            "avc_accuracy_other": "right when another video's",
        }
        action = {"top5": "the true one among its first five", "mean_class_accuracy": "right, each class counting once"}
        return cls(
            steps=int(summary["steps"]),
            seconds=float(summary["seconds"]),
            sync=Accuracy.parse(summary, "avs_accuracy", "clips", sync),
            correspondence=Accuracy.parse(summary, "avc_accuracy", "avc_clips", correspondence),
            action=Accuracy.parse(summary, "top1", "videos", action),
        )


# By pattern of the name: what is in the picture, and how to read it.
_PICTURES = {
    "curves.png": (
        "Curves of loss and accuracy over the steps of training",
        "The course of training. The loss should fall, the accuracy rise. Orange counts: clips that were kept out of "
        "training. Dotted, where it is the same for both, is what guessing gives.",
    ),
    "pretext_*_per_label.png": (
        "Bars of accuracy, one for each class",
        "In sync or shifted? Clips that were kept out of training, by their class, and in brackets how many. Grey "
        "lines are 95% intervals; where they are long, the order of the classes is mostly chance.",
    ),
    "correspondence_*_per_label.png": (
        "Bars of accuracy, one for each class",
        "Its own sound or another video's? Clips that were kept out of training, by their class, and in brackets how "
        "many. Grey lines are 95% intervals.",
    ),
    "*confusion*.png": (
        "Matrix of true and predicted classes",
        "Which action was taken for which. Rows are what is right, columns what the network said; one that is always "
        "right fills the diagonal only.",
    ),
}


def read_settings(folder: epath.Path) -> Settings | None:
    config = run_config.read(folder)
    return None if config is None else Settings.of(config)


def sections(folder: epath.Path, media: Media) -> list[Section]:
    """The answers of the network, and the pictures of its training; none where the run's folder has neither."""
    settings = read_settings(folder)
    summary = read(folder / "summary.json", Summary.parse)
    answers, parts = retrieval.answers(folder), []
    if summary:
        answers += _accuracies(folder, summary, settings)
        answers = [
            *(answers or ["<p>It was not evaluated: there were no held-out clips.</p>"]),
            _made(summary, settings),
        ]
    if answers and settings and settings.cover:
        answers.insert(
            0, f"<p>This run is a control: parts of its pictures were covered ({escape(f'{settings.cover}')}).</p>"
        )
    if answers:
        parts.append(Section("What it was asked, and how often it was right", "\n".join(answers)))
    if pictures := list(_pictures(folder, media)):
        parts.append(Section("How it learned", "\n".join(pictures)))
    return parts


def _accuracies(folder: epath.Path, summary: Summary, settings: Settings | None) -> list[str]:
    """The questions that have one answer for each clip."""
    blocks = []
    if summary.sync:
        blocks.append(_sync(summary.sync, settings))
    if summary.correspondence:
        blocks.append(_correspondence(summary.correspondence))
    if summary.action:
        blocks.append(_action(summary.action, _num_classes(folder, settings)))
    return blocks


def _made(summary: Summary, settings: Settings | None) -> str:
    made = f"Training took {summary.steps:,} steps and {_duration(summary.seconds)}"
    if settings:
        made += f", on the data in {settings.data_dir}; judged was the split “{settings.eval_split}”"
    return f'<p class="note">{escape(made)}.</p>'


def _sync(accuracy: Accuracy, settings: Settings | None) -> str:
    shift = f"by {settings.shift_seconds[0]}–{settings.shift_seconds[1]} s" if settings else "by some seconds"
    seen = f"It saw and heard {settings.clip_seconds:g} s at a time. " if settings else ""
    answer = how_often(accuracy.value, accuracy.low, accuracy.high, 0.5)
    text = (
        f'<p class="lead">The network was asked about {accuracy.count} clips that were kept out of its training: <q>is '
        f"the sound in sync with the picture, or shifted {shift}?</q> {answer}</p>\n"
        f"<p>{seen}The question needs no labels: any video can be asked "
        "about, once with its sound as it is and once with it moved. But to answer it, a network has to learn which "
        "sights and sounds belong together.</p>"
    )
    if settings and settings.shift_both:
        text += (
            "\n<p>This run is a control: <em>both</em> sounds were shifted, so nothing above chance is to be had.</p>"
        )
    return f"{text}\n{_tiles(accuracy, 0.5)}"


def _correspondence(accuracy: Accuracy) -> str:
    answer = how_often(accuracy.value, accuracy.low, accuracy.high, 0.5)
    return (
        f'<p class="lead">The network was asked about {accuracy.count} clips that were kept out of its training: <q>is '
        f"this the sound of this video, or of another one?</q> {answer}</p>\n{_tiles(accuracy, 0.5)}"
    )


def _action(accuracy: Accuracy, num_classes: int | None) -> str:
    chance = 1 / num_classes if num_classes else None
    classes = f" of {num_classes}" if num_classes else ""
    answer = how_often(accuracy.value, accuracy.low, accuracy.high, chance)
    return (
        f'<p class="lead">The network was asked about {accuracy.count} videos that were kept out of its training: '
        f"<q>which action{classes} is this?</q> {answer}</p>\n{_tiles(accuracy, chance)}"
    )


def _tiles(accuracy: Accuracy, chance: float | None) -> str:
    tiles = {"right in all": accuracy.value, **accuracy.parts}
    if chance is not None:
        tiles["right by guessing"] = chance
    return (
        '<dl class="tiles">\n'
        + "\n".join(f"<div><dt>{title}</dt><dd>{percent(value)}%</dd></div>" for title, value in tiles.items())
        + "\n</dl>"
    )


def _num_classes(folder: epath.Path, settings: Settings | None) -> int | None:
    """How many classes the judged videos have, as the table of accuracy by class says; None where there is none."""
    return read(folder / f"action_{settings.eval_split}_per_class.json", len) if settings else None


def _pictures(folder: epath.Path, media: Media) -> Iterable[str]:
    for pattern, (description, caption) in _PICTURES.items():
        for path in sorted(folder.glob(pattern)):
            yield f"<figure>{media.image(path, description)}<figcaption>{caption}</figcaption></figure>"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} minutes" if seconds < 90 * 60 else f"{seconds / 3600:.1f} hours"
