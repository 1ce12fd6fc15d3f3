"""The command line: ``sightline``, the same as ``python -m pipeline``."""

from __future__ import annotations

import sys
from importlib.metadata import version
from io import TextIOWrapper
from typing import Annotated

import typer

from pipeline.commands.asking import compare, query, report, reproduce, sanity, verify
from pipeline.commands.machine import demo, doctor
from pipeline.commands.reviewing import annotate, app, export, reviews
from pipeline.commands.running import check, init, run
from pipeline.commands.terminal import errors
from pipeline.show.console import styled
from storage.errors import SightlineError, UserError

sightline = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in (
    *(run, init, check),
    *(query, compare, sanity, verify, reproduce, report),
    *(app, reviews, export, annotate),
    *(demo, doctor),
):
    sightline.command()(command)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"sightline {version('sightline')}")
        raise typer.Exit


@sightline.callback()
def every_command(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and exit.")
    ] = False,
) -> None:
    """Audit where an image classifier looks: Opti-CAM maps of a whole dataset, measured against its boxes."""


def main() -> None:
    """Run the command line. Exit status: 0 done, 1 a fault, 2 a mistake of the user's, 130 interrupted."""
    if sys.stdout is None:  # closed: the next file that is opened would be taken for it
        errors.print(styled("[red]fault:[/] standard output is closed; send it to a file or to /dev/null"))
        sys.exit(1)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name that the terminal's encoding lacks ends nothing
    try:
        sightline()
    except UserError as error:
        errors.print(styled("[red]error:[/] {}", error))
        sys.exit(2)
    except SightlineError as error:
        errors.print(styled("[red]fault:[/] {}", error))
        sys.exit(1)
    except OSError as error:
        if error.strerror is None:
            raise
        place = f": {error.filename}" if error.filename else ""
        errors.print(styled("[red]fault:[/] {}", error.strerror + place))
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
