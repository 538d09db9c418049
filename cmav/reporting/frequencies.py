"""Which frequencies a network attends to, against those of what is seen, beside the sound's own energy."""

import dataclasses
from collections.abc import Mapping
from html import escape
from typing import Any

from etils import epath

from cmav.reporting.files import how_often, interval, percent, read
from cmav.reporting.media import Media
from cmav.reporting.page import Section, legend, table

# No attention, but what these are compared with.
_ENERGY = "energy"
_ENERGY_MEANING = "how loud the sound is at each frequency: what one hears without looking."

_INTRODUCTION = (
    "<p>As the pictures have places, the sound has frequencies, and at each moment the network spreads its attention "
    "over them. Nobody told it at which frequencies a thing sounds.</p>"
)
_SHOWN = (
    "Some clips, always the same ones: the sound, brighter where it is louder, and each attention over the same times "
    "and frequencies. Between the dashed lines, where they are known, are the frequencies of what is seen."
)
_COLUMNS = {
    "AUC": "how often a frequency at which something sounds that is seen gets more than one at which nothing does. By "
    "chance it is half.",
    "told apart": "of the clips in which something else sounds off-screen, how often the frequencies of what is seen "
    "get more than those of the other. By chance it is half.",
}


@dataclasses.dataclass(frozen=True)
class Row:
    """What was measured of an attention, or of the energy; numbers from 0 to 1.

    Attributes:
      auc: see `_COLUMNS`.
      told_apart: with the ends of its 95% interval; None where nothing sounded off-screen.
    """

    auc: float
    told_apart: tuple[float, float, float] | None

    @classmethod
    def parse(cls, numbers: Any) -> "Row":
        told = (
            [float(numbers[f"told_apart{end}"]) for end in ("", "_low", "_high")] if "told_apart" in numbers else None
        )
        return cls(float(numbers["band_auc"]), None if told is None else tuple(told))


@dataclasses.dataclass(frozen=True)
class Results:
    """A `frequencies_<split>.json`; rows by name, the energy last."""

    clips: int
    clips_with_offscreen: int
    rows: Mapping[str, Row]

    @classmethod
    def parse(cls, results: Any) -> "Results":
        counts = {key: int(results[key]) for key in ("clips", "clips_with_offscreen")}
        names = [*(name for name in results if name not in (*counts, _ENERGY)), _ENERGY]
        rows = {name: Row.parse(results[name]) for name in names}
        return cls(**counts, rows=rows)

    def best(self) -> tuple[str, Row] | None:
        """The attention with the best AUC, by its name."""
        attentions = [item for item in self.rows.items() if item[0] != _ENERGY]
        return max(attentions, key=lambda item: item[1].auc, default=None)


def sections(folder: epath.Path, media: Media, meanings: Mapping[str, str]) -> list[Section]:
    """A section for each split on which a run's attention over frequencies was judged or drawn.

    `meanings` are of the attentions that are known of the run's network.
    """
    made = []
    for stem in sorted({path.stem for path in folder.glob("frequencies_*.*")}):
        blocks = [_INTRODUCTION]
        numbers, picture = (folder / f"{stem}.{kind}" for kind in ("json", "png"))
        if picture.exists():
            blocks.append(f"<figure>{media.image(picture, _SHOWN)}<figcaption>{_SHOWN}</figcaption></figure>")
        if numbers.exists():
            blocks += _numbers(read(numbers, Results.parse), meanings)
        if len(blocks) > 1:
            split = stem.removeprefix("frequencies_")
            made.append(Section(f"At which frequencies the sound is: clips of the split “{split}”", "\n".join(blocks)))
    return made


def _numbers(results: Results, meanings: Mapping[str, str]) -> list[str]:
    rows = []
    for name, row in results.rows.items():
        told = "–"
        if row.told_apart:
            share, *ends = row.told_apart
            told = f"{percent(share)}<small>{interval(*ends)}</small>"
        rows.append((escape(name), (percent(row.auc), told)))
    return [
        f"<p>The attention was compared with the truth in {results.clips} clips in which something that is seen "
        f"sounds; in {results.clips_with_offscreen} of them something else, of other frequencies, sounds "
        "off-screen.</p>",
        _verdict(results),
        table(
            ("attention", *(f"{title}&nbsp;↑" for title in _COLUMNS)),
            rows,
            "Percent, and below it the 95% interval. ↑ more is better.",
        ),
        legend([*_COLUMNS, *results.rows], {**_COLUMNS, **meanings, _ENERGY: _ENERGY_MEANING}),
    ]


def _verdict(results: Results) -> str:
    """The best attention, in a sentence or two, against the energy. Empty where there is none."""
    if not (best := results.best()):
        return ""
    name, row = best
    energy = results.rows[_ENERGY].auc
    text = f"By AUC the best attention is “{escape(name)}”, with {percent(row.auc)}. The sound's energy has "
    text += percent(energy) + (": the attention is no better." if row.auc <= energy else ".")
    if row.told_apart:
        text += (
            f" Where something sounds off-screen as well, <q>which of the two is seen?</q> "
            f"{how_often(*row.told_apart, 0.5)}"
        )
    return f'<p class="lead">{text}</p>'
