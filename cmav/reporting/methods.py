"""What the methods of localization are, in a sentence each; `cmav.models.maps` has them in full."""

from collections.abc import Iterable

METHODS = {
    "cam": "what each place in the picture adds to the network's answer “in sync”.",
    "attention": "how much each place draws the attention of the sound to its moment. The network has several "
    "attention heads, each with a map of its own; this is their combination.",
    "similarity": "how alike the network finds what is at a place and what is heard at the time.",
}


def legend(names: Iterable[str]) -> str:
    """A description list of the methods that are among the names ("cam", "cam, untrained"); empty where none is."""
    wanted = {name.partition(",")[0] for name in names}
    lines = [f"<dt>{name}</dt><dd>{meaning}</dd>" for name, meaning in METHODS.items() if name in wanted]
    return '<dl class="legend">\n' + "\n".join(lines) + "\n</dl>" if lines else ""
