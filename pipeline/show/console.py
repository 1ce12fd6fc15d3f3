"""The one kind of console that is printed on: what comes from users, files and errors is printed as it is."""

from __future__ import annotations

import re
from typing import IO, Any

from rich.console import Console
from rich.markup import escape
from rich.text import Text

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Control characters but tab and line feed, and those that turn the direction of what follows."""


def plain_console(file: IO[Any] | None = None, *, stderr: bool = False, width: int | None = None) -> Console:
    """A console that takes no string for markup: brackets and ``:words:`` of paths and messages stay what they are.

    Lines are never broken by us: a terminal wraps them itself, and in a file they stay whole. What has a style is
    given as :func:`styled` text.
    """
    return Console(file=file, stderr=stderr, width=width, soft_wrap=True, highlight=False, markup=False, emoji=False)


def styled(template: str, *values: object) -> Text:
    """Text of a ``template`` of ours in rich's markup; each ``{}`` is one of ``values``, printed as it is but for
    its control characters."""
    return Text.from_markup(template.format(*(escape(visible(str(value))) for value in values)), emoji=False)


def visible(text: str) -> str:
    """``text`` with its control characters written out, as Python does (``\\x1b``): a terminal would obey them."""
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
