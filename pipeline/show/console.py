"""The one kind of console that is printed on: what comes from users, files and errors is printed as it is."""

from __future__ import annotations

from typing import IO, Any

from rich.console import Console
from rich.markup import escape
from rich.text import Text


def plain_console(file: IO[Any] | None = None, *, stderr: bool = False, width: int | None = None) -> Console:
    """A console that takes no string for markup: brackets and ``:words:`` of paths and messages stay what they are.

    Lines are never broken by us: a terminal wraps them itself, and in a file they stay whole. What has a style is
    given as :func:`styled` text.
    """
    return Console(file=file, stderr=stderr, width=width, soft_wrap=True, highlight=False, markup=False, emoji=False)


def styled(template: str, *values: object) -> Text:
    """Text of a ``template`` of ours in rich's markup; each ``{}`` is one of ``values``, printed as it is."""
    return Text.from_markup(template.format(*(escape(str(value)) for value in values)), emoji=False)
