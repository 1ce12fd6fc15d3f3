"""Commands that need no run: ``demo``, ``doctor``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from pipeline.commands.terminal import console, local_folder


def demo(
    directory: Annotated[Path, typer.Argument(parser=local_folder, metavar="DIR", help="Where to write the dataset.")],
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    weights: Annotated[
        Path | None, typer.Option(help="torchvision's IMAGENET1K_V1 weights of mobilenet_v2; by default looked for.")
    ] = None,
    small: Annotated[bool, typer.Option("--small", help="The small variant that the tests use.")] = False,
) -> None:
    """Make the demo: images with a planted shortcut, the classifier that fell for it, and the truth about it."""
    from stages.demo.demo import make_demo
    from stages.demo.plan import DemoSettings

    settings = DemoSettings.small(seed=seed) if small else DemoSettings(seed=seed)
    if weights is not None:
        settings = replace(settings, weights=str(weights))
    report = make_demo(directory, settings=settings, progress=lambda line: console.print(line))
    console.print(str(report))


def doctor() -> None:
    """Say what this machine has: packages, devices, database, browser, weights."""
    from pipeline.doctor import examine

    for line in examine():
        console.print(line)
