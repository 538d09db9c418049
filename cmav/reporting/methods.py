"""What the methods of localization are, in a sentence each; `cmav.models.maps` has them in full."""

from collections.abc import Iterable

METHODS = {
    "alignment": "how much each place speaks for the sound of its own moment, and against those of the clip's other "
    "moments. What stays as it is while the sound changes speaks for nothing.",
    "similarity": "how alike the network finds what is at a place and what is heard at the time.",
    "cam": "what each place in the picture adds to the network's answer “in sync”.",
    "attention": "how much each place draws the attention of the sound to its moment. The network has several "
    "attention heads, each with a map of its own; this is their combination.",
}


def legend(names: Iterable[str]) -> str:
    """A description list of the methods that are among the names ("cam", "cam, untrained"); empty where none is."""
    wanted = {name.partition(",")[0] for name in names}
    lines = [f"<dt>{name}</dt><dd>{meaning}</dd>" for name, meaning in METHODS.items() if name in wanted]
    return '<dl class="legend">\n' + "\n".join(lines) + "\n</dl>" if lines else ""
