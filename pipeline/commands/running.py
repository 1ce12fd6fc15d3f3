"""Commands that make a run, and those before it: ``run``, ``init``, ``check``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.commands.terminal import console, local_file, shown_path
from pipeline.show.console import styled
from storage.errors import SightlineError, UserError


def run(
    config: Annotated[
        Path | None,
        typer.Argument(metavar="CONFIG", help="The pipeline's YAML file; by default pipeline.yaml, or that of --data."),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="A dataset's folder, file or URL: runs it with the config runs/RUN.yaml.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="SOURCE", help="The model of --data, such as timm:resnet50.")
    ] = None,
    name: Annotated[str | None, typer.Option("--run", metavar="NAME", help="Name of the run of --data.")] = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", metavar="a.b=c", help="Override a key of the config; repeatable.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Run on a seeded sample of N images.")] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try failed samples again, and shards that lack donors.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 if any sample failed.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Run a classifier that would be right if it were fed another way.")
    ] = False,
) -> None:
    """Run the pipeline: ingest, explain, score, audit. What is already done is not done again.

    With --data and --model no config is needed: a commented one is written beside the run, and used from then on.
    """
    from pipeline.config import load_config
    from pipeline.runner import run_pipeline
    from pipeline.show.run import print_summary

    overrides = [*(sets or []), *([f"dataset.limit={limit}"] if limit is not None else [])]
    settings = load_config(_config_of(config, data, model, name), overrides)
    done = run_pipeline(settings, console, retry_failed=retry_failed, force=force)
    print_summary(done, console, shown_path(done.url))
    if strict:
        statuses = done.table("explain", ["status"])["status"].to_pylist()
        failed = sum(status not in ("ok", "degenerate_map") for status in statuses)
        if failed:
            raise SightlineError(f"{failed} of {len(statuses)} rows failed, and --strict was given")


def _config_of(config: Path | None, data: str | None, model: str | None, name: str | None) -> Path:
    """The config that a command line asks for: a file's, or that of a dataset and a model."""
    from pipeline.first_config import first_config

    if data is None:
        if model or name:
            raise UserError("--model and --run go with --data; in a config they are model.source and run")
        return config or Path("pipeline.yaml")
    if config is not None:
        raise UserError(f"{config} names a dataset already; give a config or --data, not both")
    if not model:
        raise UserError("--data needs --model, such as --model timm:resnet50; `sightline init` writes a config to edit")
    path, new = first_config(data, model, name)
    said = "new; edit it for a checkpoint, classes, a split" if new else "as it is there"
    console.print(styled("[green]config[/]   {} ({})", path, said))
    return path


def init(
    data: Annotated[str, typer.Argument(metavar="DATA", help="A dataset's folder, file or URL.")],
    model: Annotated[
        str, typer.Option(metavar="SOURCE", help="torchvision:NAME, timm:NAME, huggingface:NAME, python:FILE:FACTORY.")
    ] = "torchvision:mobilenet_v2",
    name: Annotated[str | None, typer.Option("--run", metavar="NAME", help="Name of the run.")] = None,
) -> None:
    """Write a commented config for a dataset, runs/NAME.yaml, and compute nothing. A file that is there stays."""
    path = _config_of(None, data, model, name)
    console.print(f"next     sightline check {path}, then sightline run {path}")


def check(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="The pipeline's YAML file.")] = Path("pipeline.yaml"),
    sets: Annotated[
        list[str] | None, typer.Option("--set", metavar="a.b=c", help="Override a key of the config; repeatable.")
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(parser=local_file, metavar="FILE", help="Write the same as HTML, with pictures, to this file."),
    ] = None,
) -> None:
    """Look before a run: what a config makes of its dataset and model, on a seeded sample of 200 images.

    Runs the model forward as configured, then with other normalisations, views and class orders, and says where one
    of these is clearly better, with the key to set. Then boxes, classes, and what the run will take. Writes no run.
    """
    from pipeline.check import check as look
    from pipeline.config import load_config
    from pipeline.show.check import check_page, print_sections, sections
    from storage.files import Directory

    settings = load_config(config, sets or [])
    checked = look(settings, console)
    found = list(sections(checked, settings.cluster))
    print_sections(found, console)
    if html is not None:
        Directory(str(html.parent)).write(html.name, check_page(str(config), found, checked).encode())
        console.print(styled("\n[green]check[/]    {}", html))
