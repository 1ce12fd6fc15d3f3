"""What the probes of a map say of one sample, in words that a reviewer can check by looking."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from stages.words import p

FAINT = 0.1
"""Below this p of the class on the whole view there is little that any part of the image could carry."""
ENOUGH = 0.5
"""A part is enough for the class if it alone gives this share of p on the whole view; a random area costs as much as a
place if it costs this share of what the place does."""


class Meaning(NamedTuple):
    """What the probes say, in words."""

    conclusion: str
    seen: str
    """The numbers that it is drawn from; empty where nothing can be concluded."""

    def __str__(self) -> str:
        return f"{self.conclusion} {self.seen}".strip()


def meaning(
    probes: Mapping[str, float | None], name: str, found: Collection[str] | None, *, predicted: str | None = None
) -> Meaning:
    """What the probes say of the class ``name``.

    ``probes`` are columns of the table ``explain``; what is undefined is None or left out. ``found`` are the ids of the
    audit's rules that found this map: they decide, the words follow. None: the run was not audited. ``predicted`` is
    the class that the network takes the image for.
    """
    full, box = probes.get("p_full"), probes.get("p_box")
    if full is None:
        return Meaning("The network was not asked about this sample.", "")
    if full < FAINT:
        other = "" if predicted in (None, name) else f"It sees {predicted}: look at the map of the prediction."
        return Meaning(
            f"The network gives {name} only {p(full)}, so there is little that any part of the image could carry.",
            other,
        )
    if box is None:
        return Meaning(
            "Nothing was measured against boxes: none is in view, or they changed since this map was made.",
            f"On the whole view p({name}) is {p(full)}, on what lights up alone {p(probes.get('p_saliency'))}.",
        )
    return Meaning(_conclusion(probes, full, box, found), _seen(probes, name, full))


def _seen(probes: Mapping[str, float | None], name: str, full: float) -> str:
    hidden, random = probes.get("p_hide_outside"), probes.get("p_hide_random")
    if hidden is None:
        return f"The boxes leave too little of the view to hide a tenth of it outside; p({name}) is {p(full)}."
    change = (
        f"leaves p({name}) at {p(full)}" if p(hidden) == p(full) else f"takes p({name}) from {p(full)} to {p(hidden)}"
    )
    compared = "" if random is None else f"; a random area as large leaves it at {p(random)}"
    return f"Hiding what matters most outside {change}{compared}."


def _conclusion(probes: Mapping[str, float | None], full: float, box: float, found: Collection[str] | None) -> str:
    blurred = probes.get("p_hide_context")
    if found is None:
        return "The run was not audited yet, so no rule says what the class rests on."
    if "relies_on_outside" in found:
        return f"The class rests on its surroundings: {_worth(probes)}."
    if "may_rely_on_outside" in found:
        return f"The class leans on its surroundings: {_worth(probes)}."
    if "needs_context" in found:
        return (
            f"The class needs its surroundings: with everything outside blurred p falls to {p(blurred)}. They do not "
            "give it to objects of other classes."
        )
    return _inside(probes, full, box, blurred)


def _inside(probes: Mapping[str, float | None], full: float, box: float, blurred: float | None) -> str:
    """Where nothing outside is needed."""
    context = probes.get("p_context")
    if box >= ENOUGH * full:
        text = f"The class rests on what is in the boxes: they alone give {p(box)}."
    elif blurred is not None and blurred >= ENOUGH * full:
        text = f"The class rests on what is in the boxes: with all the rest blurred p is {p(blurred)}."
    else:
        return f"No single part decides: the boxes alone give {p(box)}, all but the boxes {p(context)}."
    if context is not None and context >= ENOUGH * full:
        text += f" All but the boxes gives {p(context)} too, so either is enough."
    return text


def _worth(probes: Mapping[str, float | None]) -> str:
    """What the class is without its surroundings, and what they are without its object."""
    neutral, far, given, null = (
        probes.get(name) for name in ("p_hide_context_neutral", "p_hide_far", "p_transplant", "p_transplant_null")
    )
    return (
        f"without them p is {p(neutral)} (one colour) or {p(far)} (blurred), and objects of other classes have "
        f"{p(given)} of it in them, {p(null)} alone"
    )
