"""Commands about a finished run: ``query``, ``compare``, ``sanity``, ``verify``, ``reproduce``, ``report``."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, get_args

import typer

from pipeline.commands.terminal import RunPath, console, errors, local_file, shown_path
from pipeline.show.console import styled
from stages.words import counted
from storage.errors import SightlineError, UserError


def query(
    run: RunPath,
    sql: Annotated[
        str | None, typer.Argument(metavar="SQL", help="DuckDB SQL over the run's tables; `audit` has a row a sample.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Run a canned query.")] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the canned queries.")] = False,
    rules: Annotated[
        bool, typer.Option("--rules", help="List the rules of the run, its own included, with its thresholds.")
    ] = False,
    format: Annotated[str, typer.Option(help="table, csv, json, markdown or parquet.")] = "table",
    memory: Annotated[
        float | None,
        typer.Option(metavar="GB", help="Memory it may take before it spills to a temporary folder; half by default."),
    ] = None,
    timeout: Annotated[float, typer.Option(metavar="SECONDS", help="Time after which it is stopped.")] = 600,
) -> None:
    """Ask a run in SQL, or with one of the canned questions.

    On a local disk the files of the tables that the query names are compared with their checksums first, all but the
    vectors, which SQL does not have; elsewhere what is read is compared page by page. A damaged file ends it in a line.
    """
    from pipeline.show.rows import render
    from stages.audit.canned import list_queries, load_query
    from stages.audit.rules import every_rule
    from stages.audit.settings import audit_settings
    from storage import Run
    from storage.sql import Limits, run_query

    if list_:
        for canned in list_queries():
            console.print(styled("[bold]{}[/]  {}", canned.name, canned.title))
            console.print(f"    {canned.answers}")
        return
    if rules:
        settings = audit_settings(Run.open(run).info)
        for rule in every_rule(settings):
            console.print(styled("[bold]{}[/] ({})  {}", rule.id, rule.kind, rule.title))
            console.print(f"    {rule.meaning}")
            for line in rule.condition(settings.thresholds()).splitlines():
                console.print(styled("    [dim]{}[/]", line))
        return
    if (sql is None) == (name is None):
        raise UserError('give SQL or --name: sightline query RUN "SELECT ..."; --list shows the canned queries')
    opened = Run.open(run)
    limits = Limits(seconds=timeout) if memory is None else Limits(memory, timeout)
    table = run_query(opened, load_query(name).of(opened) if name is not None else str(sql), limits)
    render(table, format, sys.stdout.buffer if format == "parquet" else sys.stdout)


def compare(
    run_a: Annotated[str, typer.Argument(metavar="RUN_A", help="Directory or URL of a run.")],
    run_b: Annotated[str, typer.Argument(metavar="RUN_B", help="Another run, or the same one with --method-b.")],
    method: Annotated[
        str, typer.Option(help="Saliency method of A, and of B without --method-b; by default the audited one of A.")
    ] = "",
    method_b: Annotated[str, typer.Option("--method-b", help="Saliency method of B.")] = "",
    target: Annotated[str, typer.Option(help="Which class's maps and scores: label, predicted ...")] = "label",
    top: Annotated[int, typer.Option(min=0, help="Samples shown a list.")] = 10,
    maps: Annotated[
        int, typer.Option(min=0, help="Samples whose maps are compared, at most: a seeded choice.")
    ] = 10_000,
    format: Annotated[str, typer.Option(help="table or json.")] = "table",
) -> None:
    """Compare two runs on the samples that both have: models, weights, settings or methods.

    Prints the paired change of each score with its 95% interval, the change of accuracy, which findings are fixed or
    broken, and how far the maps agree. Refuses runs whose views or masking differ.
    """
    from pipeline.progress import Progress
    from pipeline.show.comparison import comparison_json, print_comparison
    from stages.audit.compare.compare import compare as compare_runs
    from storage import Run

    if format not in ("table", "json"):
        raise UserError(f"no format {format!r}; formats are table, json")
    with Progress(errors, "compare", "maps") as progress:
        found = compare_runs(
            *(Run.open(run_a), Run.open(run_b), method, method_b, target),
            top=top,
            most_maps=maps,
            progress=progress.update,
        )
    if format == "json":
        sys.stdout.write(comparison_json(found) + "\n")
    else:
        print_comparison(found, console, top)


def sanity(
    run: RunPath,
    method: Annotated[str, typer.Option(help="Saliency method; by default the one the run was last made with.")] = "",
    target: Annotated[
        str, typer.Option(help="Which class's maps; by default label, or the first that the run has.")
    ] = "",
    samples: Annotated[int, typer.Option(help="Images, a seeded choice.")] = 16,
    levels: Annotated[int, typer.Option(help="Blocks, at most, that are randomised one after the other.")] = 6,
    noise: Annotated[float, typer.Option(help="Standard deviation of the input noise; pixels are in [0, 1].")] = 4
    / 255,
    survives: Annotated[
        float, typer.Option(help="A fault from this median correlation on, with all weights random.")
    ] = 0.5,
    survives_head: Annotated[
        float, typer.Option(help="The same with the weights after the target layer random.")
    ] = 0.9,
    seed: Annotated[int, typer.Option(help="Seed of the images, the weights and the noise.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Check that a run's maps depend on the network: make some again with random weights, and compare.

    Weights are randomised from the output down, block by block (Adebayo et al., 2018). Maps that survive it show the
    image, not the network, and the last line says so. Makes about nine maps an image. Writes the table `sanity`.
    """
    from pipeline.config import stored_config
    from pipeline.progress import Progress
    from pipeline.show.sanity import print_sanity
    from stages.explain.network.device import Device
    from stages.explain.sanity.check import SanitySettings, check_sanity
    from storage import Run
    from storage.integrity.lock import only_writer

    settings = SanitySettings(samples, levels, noise, survives, survives_head, seed)
    if device not in get_args(Device):
        raise UserError(f"no device {device!r}; devices are {', '.join(get_args(Device))}")
    opened = Run.open(run)
    config = stored_config(opened)
    explain = replace(config.explain, method=method or config.explain.method)  # type: ignore[arg-type]
    targets = opened.targets(explain.method)
    first = "label" if "label" in targets or not targets else targets[0]
    with only_writer(opened.directory, console.print), Progress(console, "sanity", "maps") as progress:
        report = check_sanity(
            opened,
            config.model,
            config.view,
            explain,
            settings,
            target=target or first,
            device=device,  # type: ignore[arg-type]
            progress=progress.update,
        )
    print_sanity(report, console)


def verify(run: RunPath) -> None:
    """Read every file of a run, and name those that are not what was written; exit status 1 if there are any.

    Parts are compared with the digest of their rows, maps with the checksum in their part. Damaged files that a run
    makes again are removed, so that the next `sightline run` does; `reviews` stays. Of a run that cannot be written, as
    on a read-only disk, nothing is removed.
    """
    from pipeline.progress import Progress
    from storage import Run
    from storage.integrity.damage import discard, find_damage
    from storage.integrity.lock import writer_if_writable

    opened = Run.open(run)
    with (
        writer_if_writable(opened.directory, console.print) as writable,
        Progress(console, "verify", "files") as progress,
    ):
        found = list(find_damage(opened, progress.update))
        for damage in found if writable else ():
            discard(opened, damage)
    for damage in found:
        console.print(f"{damage.path}: {damage.what}" + (f"; {damage.remedy}" if writable else ""))
    damaged = counted(len(found), "damaged file")
    if found and not writable:
        raise SightlineError(f"{damaged} in {run}, which cannot be written: nothing was removed")
    if found:
        raise SightlineError(f"{damaged} in {run}; run the pipeline again to make what was removed")
    console.print(f"{run}: every file is what was written")


def reproduce(
    run: RunPath,
    shards: Annotated[int, typer.Option(help="Shards to make again, a seeded choice.")] = 2,
    seed: Annotated[int, typer.Option(help="Seed of that choice.")] = 0,
) -> None:
    """Make some shards of a run again, and say whether maps and tables agree to the byte; exit status 1 if not.

    Images, model, settings, device and threads are those that the run records. Where bytes differ it says how much,
    and what of the recorded circumstances (code, versions, device, threads, weights, images) changed since. Writes
    nothing to the run.
    """
    from pipeline.progress import Progress
    from pipeline.reproduce import reproduce as make_again
    from pipeline.show.reproduction import print_reproduction, said_in_short
    from storage import Run

    with Progress(console, "reproduce", "shards") as progress:
        found = make_again(Run.open(run), shards, seed, progress.update)
    print_reproduction(found, console)
    if found.differing:
        raise SightlineError(said_in_short(found))


def report(
    run: RunPath,
    out: Annotated[
        Path | None,
        typer.Option(parser=local_file, metavar="FILE", help="HTML file to write; by default report.html in the run."),
    ] = None,
    per_rule: Annotated[int, typer.Option("--per-rule", min=0, help="Pictures a rule and a cue, at most.")] = 6,
) -> None:
    """Write a run as one HTML page: what was run, numbers with intervals, charts, pictures of what was found.

    The page needs no network, no scripts and no other file, and prints well. It holds thumbnails of the images, so it
    is as confidential as they are.
    """
    from pipeline.progress import Progress
    from stages.audit.report import gather, render
    from storage import Run
    from storage.files import Directory

    opened = Run.open(run)
    with Progress(console, "report", "pictures") as progress:
        contents = gather(opened, per_rule=per_rule, progress=progress.update)
    page = render(contents).encode()
    folder, name = (opened.directory, "report.html") if out is None else (Directory(str(out.parent)), out.name)
    folder.write(name, page)
    console.print(styled("[green]report[/]   {}, {} MB", shown_path(folder.url_of(name)), f"{len(page) / 1e6:.1f}"))
    for problem, count in contents.problems.items():
        console.print(f"         {count} of {contents.pictures} pictures could not be shown: {problem}")
