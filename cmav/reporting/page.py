"""The page around what is reported: title, contents, sections, footer. HTML5 with its style inside, and no script."""

import dataclasses
from collections.abc import Sequence
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
