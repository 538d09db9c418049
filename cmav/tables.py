"""Tables of text: for a terminal, and as Markdown."""

from collections.abc import Iterable, Sequence


def plain(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns side by side, the first aligned left and the others right, under their headings."""
    lines = [list(headings), *map(list, rows)]
    widths = _widths(lines)
    aligned = ([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])] for line in lines)
    return "\n".join("  ".join(cells).rstrip() for cells in aligned)


def markdown(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """As Markdown has it, with columns that are aligned in plain text too."""
    lines = [list(headings), *map(list, rows)]
    widths = _widths(lines)
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(f"| {' | '.join(map(str.ljust, line, widths))} |" for line in lines)


def _widths(lines: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(*lines, strict=True)]
