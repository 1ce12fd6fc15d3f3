"""Numbers and names as people read them: the same in the summary, the report, the App and the reasons of findings."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

NOTHING = "–"
"""Stands for null."""

CONTROL = re.compile(
    "[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069\\ud800-\\udfff]"
)
"""Control characters but tab and line feed, those that turn the direction of what follows, and halves of characters."""

Ends = Sequence[float | None]


def in_words(value: Any, *, percent: bool = False, unknown: str = "unknown") -> str:
    """A value as a sentence has it: .93, 42%, a name; ``unknown`` for null.

    A number next to 0 or 1 is not rounded onto it: ``<.01`` and ``>.99`` say that it is not quite there.
    """
    if value is None:
        return unknown
    if isinstance(value, bool) or not isinstance(value, float):
        return str(value)
    if percent:
        return f"{100 * value:.0f}%"
    if 0 < value < 0.005:
        return "<.01"
    if 0.995 <= value < 1:
        return ">.99"
    text = f"{value:.2f}"
    return text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text


def counted(n: int, one: str, several: str | None = None) -> str:
    """A number and what it counts: 1 image, 2 images; ``several`` where that is not ``one`` and an s.

    Both may go on to the verb: ``counted(n, "row has no image", "rows have no image")``.
    """
    return f"{n} {one if n == 1 else several or (f'{one}es' if one.endswith('s') else f'{one}s')}"


def p(value: float | None) -> str:
    """A probability: .93; a dash for null."""
    return in_words(None if value is None else float(value), unknown=NOTHING)


def q(value: float | None) -> str:
    """A q-value with three digits; one that is not zero is not shown as zero."""
    return "<0.001" if value is not None and value < 0.001 else number(value, 3)


def number(value: float | None, digits: int = 2) -> str:
    """A number; a dash for null."""
    return NOTHING if value is None else f"{value:.{digits}f}"


def percent(value: float | None, digits: int = 1) -> str:
    """A fraction in percent; a dash for null."""
    return NOTHING if value is None else f"{100 * value:.{digits}f}%"


def interval(ends: Ends | None, scale: float = 1, digits: int = 2) -> str:
    """The ends of an interval in brackets, times ``scale``; empty where it is not defined."""
    if ends is None or ends[0] is None or ends[1] is None:
        return ""
    return f"[{scale * ends[0]:.{digits}f}, {scale * ends[1]:.{digits}f}]"


def with_interval(value: float | None, ends: Ends | None, digits: int = 2) -> str:
    """A number and its interval, if it has one; a dash where the number is null."""
    return f"{number(value, digits)} {interval(ends, digits=digits)}".rstrip() if value is not None else NOTHING


def visible(text: str) -> str:
    """``text`` with its control characters written out, as Python does (``\\x1b``): a terminal or a page would obey
    them. Joiners stay, which words of Persian and Hindi and many an emoji need.
    """
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
