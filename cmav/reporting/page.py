"""The page around what is reported: title, contents, sections, footer. HTML5 with its style inside, and no script."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from cmav.reporting.style import STYLE


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of the page: its title, as text, and what stands below it, as HTML."""

    title: str
    body: str


def render(title: str, introduction: str, sections: Sequence[Section], footer: str) -> str:
    """A whole page.

    Args:
      title: as text.
      introduction: a paragraph, as text.
      sections: in order.
      footer: as HTML.
    """
    contents = "\n".join(f'<li><a href="#part-{n}">{escape(part.title)}</a></li>' for n, part in enumerate(sections))
    parts = "\n".join(
        f'<section id="part-{n}">\n<h2>{escape(part.title)}</h2>\n{part.body}\n</section>'
        for n, part in enumerate(sections)
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<header>
<h1>{escape(title)}</h1>
<p>{escape(introduction)}</p>
<nav aria-label="Contents"><ul>
{contents}
</ul></nav>
</header>
<main>
{parts}
</main>
<footer>
{footer}
</footer>
</body>
</html>
"""


def table(columns: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]], caption: str = "") -> str:
    """A table whose first column names the rows.

    Args:
      columns: titles, as HTML; the first is of the names.
      rows: name and cells of each, as HTML.
      caption: as text.
    """
    titles = "".join(f'<th scope="col">{title}</th>' for title in columns)
    lines = "\n".join(
        f'<tr><th scope="row">{name}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>' for name, cells in rows
    )
    above = f"<caption>{escape(caption)}</caption>\n" if caption else ""
    return (
        f'<div class="scroll"><table>\n{above}<thead><tr>{titles}</tr></thead>\n'
        f"<tbody>\n{lines}\n</tbody>\n</table></div>"
    )


def legend(names: Iterable[str], meanings: Mapping[str, str]) -> str:
    """A description list of what is meant by those of the names ("cam", "cam, untrained") that have a meaning."""
    wanted = {name.partition(",")[0] for name in names}
    lines = [f"<dt>{name}</dt><dd>{meaning}</dd>" for name, meaning in meanings.items() if name in wanted]
    return '<dl class="legend">\n' + "\n".join(lines) + "\n</dl>" if lines else ""
