"""What commands share: the consoles they print on, and how a run is named on it."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from pipeline.show.console import plain_console

console = plain_console()
errors = plain_console(stderr=True)

RunPath = Annotated[str, typer.Argument(metavar="RUN", help="Directory or URL of a run.")]


def shown_path(url: str) -> str:
    """A run's path as the user would type it: relative to the working directory where that is shorter."""
    if "://" in url:
        return url
    relative = os.path.relpath(url)
    return url if relative.startswith("..") else relative
