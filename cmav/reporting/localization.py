"""The table of localization: a network's maps against the truth, beside trivial baselines, and a legend."""

import dataclasses
from collections.abc import Mapping, Sequence
from html import escape

from etils import epath

from cmav.models.maps import MapMethod
from cmav.reporting.files import interval, percent, read
from cmav.reporting.localization_results import KINDS, Heads, Results, Row
from cmav.reporting.media import Media
from cmav.reporting.page import Section, legend, table


@dataclasses.dataclass(frozen=True)
class Column:
    """One number of each row.

    Attributes:
      key: its name in `Row.numbers`.
      title: over the column.
      is_good: whether more of it is better.
      meaning: for somebody who has never seen it.
      interval: its interval's name there, where that is another.
    """

    key: str
    title: str
    is_good: bool
    meaning: str
    interval: str = ""

    def ends(self, row: Row) -> tuple[float, float] | None:
        """Of its 95% interval; None where it has none."""
        low, high = (row.numbers.get(f"{self.interval or self.key}_{end}") for end in ("low", "high"))
        return None if low is None or high is None else (low, high)


COLUMNS = (
    Column(
        "ciou50",
        "cIoU@.5",
        True,
        "share of clips in which the brighter half of the map and the true boxes overlap well: the area they share, "
        "divided by all that either covers, is at least a half.",
    ),
    Column(
        "auc",
        "AUC",
        True,
        "the same share, averaged over all overlaps from 0 to 1 that one could ask for instead of a half.",
    ),
    Column(
        "pixel_ap",
        "pixel AP",
        True,
        "average precision of pixels: 100 where every pixel in a true box is brighter than every one outside. It asks "
        "for no half of the picture, so it is the column to compare by.",
    ),
    Column(
        "source_recall",
        "sources found",
        True,
        "share of all sounding objects that are found: at least half of an object is among the brightest pixels, of "
        "which as many are taken as all sounding objects of the clip cover.",
    ),
    Column(
        "source_recall_of_several",
        "… of several",
        True,
        "the same in clips in which two or more objects sound: who lights one of two finds half.",
    ),
    Column(
        "distractor_recall",
        "silent objects lit",
        False,
        "share of objects that move without a sound and are “found” all the same: it tells hearing from following "
        "whatever moves.",
    ),
    Column(
        "sounding_above_silent",
        "sounding above silent",
        True,
        "of a sounding object and a silent one in the same clip, how often the sounding one is the brighter. By chance "
        "it is half.",
    ),
    Column(
        "false_alarm_rate",
        "false alarms",
        False,
        "share of the clips in which nothing that is seen sounds, but whose map is as bright at its brightest as those "
        "of 95% of the other clips.",
        "false_alarm",
    ),
    Column(
        "mass_in_boxes",
        "mass in boxes",
        True,
        "the share of all that the maps have, at the times that sound, which lies in the true boxes; a mean over the "
        "clips whose map is not dark. By chance it is the share of the picture that the boxes cover: the row of the "
        "whole image, which is over all clips.",
    ),
)


_INTRODUCTION = (
    "<p>The network was never told where a sound comes from. But one can ask what it learned, of each place in the "
    "picture, how much it has to do with what is heard. The answer is a map, bright where the sound should be. There "
    "are several ways to ask.</p>"
)
_SHOWN = (
    "Some clips, always the same ones, and the map of each method around the middle of the clip: a mean over the times "
    "that sound, while all numbers but the mass in boxes are of the mean over all times. In white, where it is known, "
    "what really sounds."
)
_TRIVIAL = (
    "<p>The <em>trivial baselines</em> know nothing of the video. They belong here because the field's rule takes "
    "the brighter half of a map for its answer, always half of the picture: even a disc in the middle covers many true "
    "boxes, and whoever does no better has shown nothing. The <em>upper bound</em> is the truth itself under this "
    "rule, and nobody can pass it. It is low where objects are small, because half of the picture is far more than "
    "they cover; pixel AP has no such bound. In bold is the network's method with the best pixel AP.</p>"
)


def sections(folder: epath.Path, media: Media, methods: Mapping[str, MapMethod]) -> list[Section]:
    """A section for each split on which a run's maps were judged or drawn.

    `methods` are those that are known of the run's network.
    """
    made = []
    for stem in sorted({path.stem for path in folder.glob("localization_*.*")}):
        split, blocks = stem.removeprefix("localization_"), [_INTRODUCTION]
        table, picture = (folder / f"{stem}.{kind}" for kind in ("json", "png"))
        if picture.exists():
            blocks.append(f"<figure>{media.image(picture, _SHOWN)}<figcaption>{_SHOWN}</figcaption></figure>")
        if table.exists():
            results = read(table, Results.parse)
            split = results.split
            blocks.append(_numbers(results, methods))
        if len(blocks) > 1:
            made.append(Section(f"Where the sound is: clips of the split “{split}”", "\n".join(blocks)))
    return made


def _numbers(results: Results, methods: Mapping[str, MapMethod]) -> str:
    blocks = [
        f"<p>The maps were compared with the truth in {results.clips} clips in which something that is seen sounds"
        f"{_without(results)}.</p>",
        _verdict(results),
        _table(results),
        _legend(results, methods),
    ]
    if results.doubt:
        blocks.insert(1, f"<p><strong>{escape(results.doubt)}.</strong></p>")
    if results.heads:
        blocks.append(_heads_table(results.heads))
    return "\n".join(filter(None, blocks))


def _without(results: Results) -> str:
    return f", and {results.clips_without} in which nothing that is seen does" if results.clips_without else ""


def _verdict(results: Results) -> str:
    """The best method, in a sentence, against the best of those that know less. Empty where no method was judged."""
    best = results.best("network")
    if best is None:
        return ""
    text = f"By pixel AP the best of its methods is “{best.name}”, with {percent(best.numbers['pixel_ap'])}."
    for kind, whose in (("trivial", "of the trivial baselines"), ("untrained", "of the network before training")):
        if other := results.best(kind):
            text += f" The best {whose} is “{other.name}”, with {percent(other.numbers['pixel_ap'])}: "
            text += _compare(best, other)
    return f'<p class="lead">{escape(text)}</p>'


def _compare(best: Row, other: Row) -> str:
    """Whether one pixel AP is above another, by their 95% intervals."""
    lowest, highest = best.numbers.get("pixel_ap_low"), other.numbers.get("pixel_ap_high")
    if best.numbers["pixel_ap"] <= other.numbers["pixel_ap"]:
        return "the trained network is no better."
    if lowest is None or highest is None or lowest <= highest:
        return "that is less, but the intervals overlap."
    return "that is clearly less."


def _table(results: Results) -> str:
    columns = [column for column in COLUMNS if any(row.numbers.get(column.key) is not None for row in results.rows)]
    heads = "".join(f'<th scope="col">{one.title}&nbsp;{"↑" if one.is_good else "↓"}</th>' for one in columns)
    bodies = []
    for kind, title in KINDS.items():
        rows = [row for row in results.rows if row.kind == kind]
        if rows:
            group = f'<tr class="group"><th scope="rowgroup" colspan="{len(columns) + 1}">{title}</th></tr>'
            lines = [_line(row, columns, results, is_best=row is results.best("network")) for row in rows]
            bodies.append("\n".join(["<tbody>", group, *lines, "</tbody>"]))
    caption = f"Percent, and below it the 95% interval. Network of step {results.step:,}. ↑ more is better, ↓ less is."
    return (
        f'<div class="scroll"><table>\n<caption>{caption}</caption>\n'
        f'<thead><tr><th scope="col">map</th>{heads}</tr></thead>\n' + "\n".join(bodies) + "\n</table></div>"
    )


def _line(row: Row, columns: Sequence[Column], results: Results, *, is_best: bool) -> str:
    name = escape(row.name)
    name = f"<b>{name}</b>" if is_best else name
    if row.undecided and row.kind != "trivial":
        name += f"<small>{row.undecided} of {results.clips} undecided</small>"
    cells = "".join(_cell(row, column, is_best) for column in columns)
    marked = ' class="best"' if is_best else ""
    return f'<tr{marked}><th scope="row">{name}</th>{cells}</tr>'


def _cell(row: Row, column: Column, is_best: bool) -> str:
    value = row.numbers.get(column.key)
    dark = int(row.numbers.get("dark") or 0) if column.key == "mass_in_boxes" else 0
    without = f"<small>without {dark} dark</small>" if dark else ""
    if value is None:
        return f"<td>–{without}</td>"
    text = f"<b>{percent(value)}</b>" if is_best else percent(value)
    ends = column.ends(row)
    text += f"<small>{interval(*ends)}</small>" if ends else ""
    return f"<td>{text}{without}</td>"


def _legend(results: Results, methods: Mapping[str, MapMethod]) -> str:
    terms = [
        f"<dt>{column.title}</dt><dd>{column.meaning}</dd>"
        for column in COLUMNS
        if any(row.numbers.get(column.key) is not None for row in results.rows)
    ]
    if any(row.undecided and row.kind != "trivial" for row in results.rows):
        terms.append(
            "<dt>undecided</dt><dd>maps that are alike all over much of the picture, so that lots decide which of it "
            "is the brighter half.</dd>"
        )
    return "\n".join(
        [
            "<h3>What the columns are</h3>",
            '<dl class="legend">',
            *terms,
            "</dl>",
            "<h3>What the rows are</h3>",
            legend((row.name for row in results.rows), {name: method.meaning for name, method in methods.items()}),
            _TRIVIAL,
        ]
    )


def _heads_table(heads: Sequence[Heads]) -> str:
    columns = ("clips", "found by the combined map", "found by any head", "told apart by the heads")
    rows = [
        (
            f"{row.sources}",
            (f"{row.clips}", *(f"{mean:.2f}" for mean in (row.combined, row.by_any_head, row.told_apart))),
        )
        for row in heads
    ]
    return (
        "<h3>Do the attention heads find different sources?</h3>\n"
        "<p>Numbers of sources per clip, on average. Where heads tell sources apart, each source has a head of its own "
        "that finds it.</p>\n" + table(("sources in the clip", *columns), rows)
    )
