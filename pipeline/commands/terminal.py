"""What commands share: the consoles they print on, and how a run is named on it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from pipeline.show.console import plain_console
from storage.errors import UserError
from storage.files import is_url

console = plain_console()
errors = plain_console(stderr=True)

RunPath = Annotated[str, typer.Argument(metavar="RUN", help="Directory or URL of a run.")]


def local_folder(text: str) -> Path:
    """The parser of an argument that names a folder to write; raises UserError for a URL."""
    if is_url(text):
        raise UserError(f"{text} is a URL; this is written to a local disk, so give a path")
    return Path(text)


def local_file(text: str) -> Path:
    """The parser of an option that names a file to write; raises UserError for a URL and for a folder."""
    path = local_folder(text)
    if path.is_dir():
        raise UserError(f"{text} is a folder; name a file in it")
    return path


def shown_path(url: str) -> str:
    """A run's path as the user would type it: relative to the working directory where that is shorter."""
    if "://" in url:
        return url
    relative = os.path.relpath(url)
    return url if relative.startswith("..") else relative
