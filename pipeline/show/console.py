"""The one kind of console that is printed on: what comes from users, files and errors is printed as it is, but for
characters that a terminal obeys, which are written out."""

from __future__ import annotations

from typing import IO, Any

from rich.console import Console
from rich.markup import escape
from rich.text import Text

from storage.errors import SightlineError, on_one_line


class _OneLine(Console):
    """A console on which a string, also a cell of a table, is one line, after the empty lines that it begins with."""

    def render_str(self, text: str, **options: Any) -> Text:
        """``text`` as it is printed."""
        words = text.lstrip("\n")
        return super().render_str(text[: len(text) - len(words)] + on_one_line(words), **options)


def plain_console(file: IO[Any] | None = None, *, stderr: bool = False, width: int | None = None) -> Console:
    """A console that takes no string for markup: brackets and ``:words:`` of paths and messages stay what they are, and
    a line break or another control character within a string is written out.

    Lines are never broken by us: a terminal wraps them itself, and in a file they stay whole. What has a style is
    given as :func:`styled` text.
    """
    return _OneLine(file=file, stderr=stderr, width=width, soft_wrap=True, highlight=False, markup=False, emoji=False)


def styled(template: str, *values: object) -> Text:
    """Text of a ``template`` of ours in rich's markup; each ``{}`` is one of ``values``, printed as it is but for its
    line breaks and control characters. An error of ours has its own lines."""
    return Text.from_markup(template.format(*(escape(_shown(value)) for value in values)), emoji=False)


def _shown(value: object) -> str:
    return str(value) if isinstance(value, SightlineError) else on_one_line(str(value))
