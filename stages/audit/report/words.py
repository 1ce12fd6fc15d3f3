"""Numbers as the page writes them; a dash stands for null."""

from __future__ import annotations

from collections.abc import Sequence

from stages.audit.summary import Interval


def percent(value: float | None, digits: int = 1) -> str:
    """A fraction in percent; a dash for null."""
    return "–" if value is None else f"{100 * value:.{digits}f}%"


def number(value: float | None, digits: int = 2) -> str:
    """A number; a dash for null."""
    return "–" if value is None else f"{value:.{digits}f}"


def in_q(value: float | None) -> str:
    """A q with three digits; one that is not zero is not shown as zero."""
    return "<0.001" if value is not None and value < 0.001 else number(value, 3)


def interval(ends: Interval | Sequence[float | None] | None, scale: float = 100, digits: int = 1) -> str:
    """The ends of an interval in brackets, times ``scale``; empty where it is not defined."""
    if ends is None or ends[0] is None or ends[1] is None:
        return ""
    return f"[{scale * ends[0]:.{digits}f},\N{NO-BREAK SPACE}{scale * ends[1]:.{digits}f}]"
