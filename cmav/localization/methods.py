"""The methods of localization by name, in a sentence each; which a network has is its own to say (`map_methods`)."""

from collections.abc import Collection, Iterable

from cmav.errors import UserError

METHODS = {
    "alignment": "how much each place speaks for the sound of its own moment, and against those of the clip's other "
    "moments. What stays as it is while the sound changes speaks for nothing.",
    "similarity": "how alike the network finds what is at a place and what is heard at the time.",
    "cam": "what each place in the picture adds to the network's answer “in sync”.",
    "guided": "how much of its attention the picture gives each place, guided by what is heard: the cosine of the "
    "place's embedding with the sound's.",
    "pure": "how much of its attention the picture gives each place by itself, having learned where the sound would "
    "guide it.",
    "attention": "how much each place draws the attention of the sound to its moment. The network has several "
    "attention heads, each with a map of its own; this is their combination.",
}

# How the sound's attention is spread over its frequencies, and what it is compared with.
ATTENTIONS = {
    "guided": "how much of its attention the sound gives each frequency, guided by what is seen: the cosine of the "
    "frequency's embedding with the pictures'.",
    "pure": "how much of its attention the sound gives each frequency by itself, having learned where the pictures "
    "would guide it.",
    "energy": "how loud the sound is at each frequency: what one hears without looking.",
}

# What a network must be for the methods.
NEEDS = {
    "cam": "it asks the head of a pretraining run of synchronization",
    "attention": "it is of attention that audio guides (config.model.attention 'cma' or 'aga', config.model.depth 1)",
    "guided": "it is of a network that was trained by the task 'cmac'",
    "pure": "it is of a network that was trained by the task 'cmac'",
    "similarity": "it is of tokens of both streams",
    "alignment": "it is of tokens of both streams",
}


def check(methods: Iterable[str], known: Collection[str]) -> None:
    """Checks that a network has maps by all of these methods.

    Args:
      methods: names.
      known: those that it has.

    Raises:
      UserError: names the one that it does not have, and those that it has; or it has none at all.
    """
    if not known:
        raise UserError("this network does not see and hear, so it has no maps of where the sound is.")
    for method in methods:
        if method not in METHODS:
            raise UserError(f"there is no method {method!r} of localization: choose of {', '.join(known)}.")
        if method not in known:
            raise UserError(
                f"this network has no maps by the method {method!r}: {NEEDS[method]}. It has {', '.join(known)}."
            )


def choose(method: str | None, known: Collection[str]) -> str:
    """The method that is asked for, checked as by `check`; None asks for the first that the network has."""
    wanted = next(iter(known), None) if method is None else method
    check((wanted,), known)
    return wanted
