"""Whose sound is it? How often a network finds a clip's sound by its pictures among those of others, and back."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

from etils import epath

from cmav.reporting.files import how_often, interval, percent, read
from cmav.reporting.page import table

KS = (1, 5, 10)


@dataclasses.dataclass(frozen=True)
class Direction:
    """What was measured in one direction; shares from 0 to 1.

    Attributes:
      recall: by k, the share of clips whose partner is among the first k.
      low, high: ends of the 95% interval of the first of these.
      median_rank: of the partner, from 1.
    """

    recall: Mapping[int, float]
    low: float
    high: float
    median_rank: float

    @classmethod
    def parse(cls, metrics: Any, name: str) -> "Direction":
        recall = {k: float(metrics[f"{name}_r{k}"]) for k in KS}
        return cls(recall, *(float(metrics[f"{name}_{key}"]) for key in ("r1_low", "r1_high", "median_rank")))


@dataclasses.dataclass(frozen=True)
class Retrieval:
    """A `retrieval_<split>.json`."""

    split: str
    clips: int
    sound: Direction  # by the pictures
    pictures: Direction  # by the sound

    @classmethod
    def parse(cls, metrics: Any, split: str) -> "Retrieval":
        directions = (Direction.parse(metrics, name) for name in ("video_to_audio", "audio_to_video"))
        return cls(split, int(metrics["clips"]), *directions)


def answers(folder: epath.Path) -> list[str]:
    """HTML for each split on which it was asked: the question, the answers, and a table of them."""
    return [
        _answer(read(path, functools.partial(Retrieval.parse, split=path.stem.removeprefix("retrieval_"))))
        for path in sorted(folder.glob("retrieval_*.json"))
    ]


def _answer(found: Retrieval) -> str:
    chance = 1 / found.clips
    by_pictures, by_sound = (
        how_often(one.recall[1], one.low, one.high, chance) for one in (found.sound, found.pictures)
    )
    return (
        f'<p class="lead">The network was given {found.clips} clips that were kept out of its training, their pictures '
        f"and their sounds apart: <q>which of the {found.clips} sounds belongs to these pictures?</q> {by_pictures} "
        f"And the other way round, <q>which pictures belong to this sound?</q> {by_sound}</p>\n"
        "<p>The question needs no labels: every video has pictures and a sound. But to answer it, a network has to "
        "learn what is alike in them. Half of the clips have their own at the median rank or before it, where 1 is "
        "best. In curves of training, the choice is among the clips of one batch only, and so an easier one.</p>\n"
        f"{_table(found)}"
    )


def _table(found: Retrieval) -> str:
    rows = []
    for title, one in (("the sound, by the pictures", found.sound), ("the pictures, by the sound", found.pictures)):
        first, *more = (percent(one.recall[k]) for k in KS)
        rows.append((title, (f"{first}<small>{interval(one.low, one.high)}</small>", *more, f"{one.median_rank:g}")))
    guessed = (percent(min(k / found.clips, 1)) for k in KS)
    rows.append(("by guessing", (*guessed, f"{(found.clips + 1) / 2:g}")))
    return table(
        (
            "what was looked for",
            "R@1: it comes first",
            *(f"R@{k}: it is among the first {k}" for k in KS[1:]),
            "median rank",
        ),
        rows,
        f"Percent, and below it the 95% interval; rank of {found.clips}. Clips of the split “{found.split}”.",
    )
