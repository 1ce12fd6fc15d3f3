"""The project's own errors, and how they quote what they are about."""

from __future__ import annotations

import reprlib
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

QUOTED = 60
"""Characters of a user's data that a message quotes, at most."""

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = QUOTED
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxdict = 8


LONGEST = 300
"""Characters of a reason or a name within a message, at most."""


class SightlineError(Exception):
    """A fault of Sightline or of the machine, not of the user's input; the message names the place.

    Each argument is one line of the message, whatever names of files, labels or foreign errors stand in it: their line
    breaks and control characters are written out, by :func:`on_one_line`.
    """

    def __str__(self) -> str:
        return "\n".join(on_one_line(str(line)) for line in self.args)


class UserError(SightlineError):
    """A mistake of the user's; the message names the place (file, row, key) and the remedy."""


class DamagedFile(SightlineError):
    """A file of a run that is there and cannot be read; the message names it, the reason and the remedy."""


class NoAnswer(SightlineError):
    """An object store that does not give a file of a run; the message names it, the reason and the remedy."""


def quoted(value: object) -> str:
    """``value`` as a message quotes it: its repr on one line, cut after ``QUOTED`` characters."""
    if isinstance(value, str):
        return repr(value) if len(value) <= QUOTED else f"{value[: QUOTED - 3]!r}..."
    text = _SHORT.repr(value)
    return text if len(text) <= QUOTED else f"{text[: QUOTED - 3]}..."


def said(error: Exception) -> str:
    """What an error of a library says, on one line, cut after ``LONGEST`` characters."""
    text = " ".join(str(error).split()).removeprefix("Could not open Parquet input source '<Buffer>': ")
    return shortened(text or type(error).__name__)


def first_problem(problems: Sequence[Mapping[str, Any]]) -> str:
    """The first of pydantic's problems on one line: the key, and what is wrong with its value."""
    first = problems[0]
    what = shortened(" ".join(str(first["msg"]).split()).removeprefix("Value error, "))
    return ": ".join(filter(None, (dotted(first["loc"]), what)))


def dotted(location: Iterable[object]) -> str:
    """A key below others as a message names it, ``explain.steps``; what is no word, or too long, is quoted."""
    return ".".join(
        part if isinstance(part, str) and part.isidentifier() and len(part) <= QUOTED else quoted(part)
        for part in location
    )


def on_one_line(text: str) -> str:
    """``text`` with line breaks and other characters that no terminal shows escaped, as in ``a\\nb``: it would obey
    them, or turn the direction of what follows. Spaces of every width stay."""
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() or unicodedata.category(letter) == "Zs" else repr(letter)[1:-1]
        for letter in text
    )


def shortened(text: str) -> str:
    """``text`` cut after ``LONGEST`` characters: for names and reasons that are a user's data in part."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
