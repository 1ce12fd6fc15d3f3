"""The command line: ``sightline``, the same as ``python -m pipeline``."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, get_args

import typer

from pipeline.show.console import plain_console, styled
from storage.errors import SightlineError, UserError

app = typer.Typer(
    help="Audit where an image classifier looks: Opti-CAM maps of a whole dataset, measured against its boxes.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
console = plain_console()
errors = plain_console(stderr=True)

RunPath = Annotated[str, typer.Argument(metavar="RUN", help="Directory or URL of a run.")]


def main() -> None:
    """Run the command line. Exit status: 0 done, 1 a fault, 2 a mistake of the user's, 130 interrupted."""
    try:
        app()
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


@app.command()
def run(
    config: Annotated[
        Path | None, typer.Argument(help="The pipeline's YAML file; by default pipeline.yaml, or that of --data.")
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
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try failed samples again.")] = False,
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


@app.command()
def init(
    data: Annotated[str, typer.Argument(help="A dataset's folder, file or URL.")],
    model: Annotated[
        str, typer.Option(metavar="SOURCE", help="torchvision:NAME, timm:NAME, huggingface:NAME, python:FILE:FACTORY.")
    ] = "torchvision:mobilenet_v2",
    name: Annotated[str | None, typer.Option("--run", metavar="NAME", help="Name of the run.")] = None,
) -> None:
    """Write a commented config for a dataset, runs/NAME.yaml, and compute nothing. A file that is there stays."""
    path = _config_of(None, data, model, name)
    console.print(f"next     sightline check {path}, then sightline run {path}")


@app.command()
def check(
    config: Annotated[Path, typer.Argument(help="The pipeline's YAML file.")] = Path("pipeline.yaml"),
    sets: Annotated[
        list[str] | None, typer.Option("--set", metavar="a.b=c", help="Override a key of the config; repeatable.")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write the same as HTML, with pictures, to this file.")] = None,
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


@app.command()
def query(
    run: RunPath,
    sql: Annotated[
        str | None, typer.Argument(help="DuckDB SQL over the run's tables; `audit` has a row a sample.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Run a canned query.")] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the canned queries.")] = False,
    rules: Annotated[
        bool, typer.Option("--rules", help="List the rules of the run, its own included, with its thresholds.")
    ] = False,
    format: Annotated[str, typer.Option(help="table, csv, json, markdown or parquet.")] = "table",
) -> None:
    """Ask a run in SQL, or with one of the canned questions."""
    from pipeline.show.rows import render
    from stages.audit.canned import list_queries, load_query
    from stages.audit.rules import every_rule
    from stages.audit.settings import audit_settings
    from storage import Run
    from storage.sql import run_query

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
            console.print(styled("    [dim]{}[/]", rule.condition(settings.thresholds())))
        return
    if (sql is None) == (name is None):
        raise UserError('give SQL or --name: sightline query RUN "SELECT ..."; --list shows the canned queries')
    opened = Run.open(run)
    table = run_query(opened, load_query(name).of(opened) if name is not None else str(sql))
    render(table, format, sys.stdout.buffer if format == "parquet" else sys.stdout)


@app.command()
def compare(
    run_a: Annotated[str, typer.Argument(metavar="RUN_A", help="Directory or URL of a run.")],
    run_b: Annotated[str, typer.Argument(metavar="RUN_B", help="Another run, or the same one with --method-b.")],
    method: Annotated[
        str, typer.Option(help="Saliency method of A, and of B without --method-b; by default the audited one of A.")
    ] = "",
    method_b: Annotated[str, typer.Option("--method-b", help="Saliency method of B.")] = "",
    target: Annotated[str, typer.Option(help="Which class's maps and scores: label, predicted ...")] = "label",
    top: Annotated[int, typer.Option(min=0, help="Samples shown a list.")] = 10,
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
            Run.open(run_a), Run.open(run_b), method, method_b, target, top=top, progress=progress.update
        )
    if format == "json":
        sys.stdout.write(comparison_json(found) + "\n")
    else:
        print_comparison(found, console, top)


@app.command()
def sanity(
    run: RunPath,
    method: Annotated[str, typer.Option(help="Saliency method; by default the one the run was last made with.")] = "",
    target: Annotated[str, typer.Option(help="Which class's maps: label, predicted ...")] = "label",
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
    from storage.lock import only_writer

    settings = SanitySettings(samples, levels, noise, survives, survives_head, seed)
    if device not in get_args(Device):
        raise UserError(f"no device {device!r}; devices are {', '.join(get_args(Device))}")
    opened = Run.open(run)
    config = stored_config(opened)
    explain = replace(config.explain, method=method or config.explain.method)  # type: ignore[arg-type]
    with only_writer(opened.directory, console.print), Progress(console, "sanity", "maps") as progress:
        report = check_sanity(
            opened,
            config.model,
            config.view,
            explain,
            settings,
            target=target,
            device=device,  # type: ignore[arg-type]
            progress=progress.update,
        )
    print_sanity(report, console)


@app.command()
def verify(run: RunPath) -> None:
    """Read every file of a run, and name those that are not what was written; exit status 1 if there are any.

    Parts are compared with the digest of their rows, maps with the checksum in their part. Damaged files that a run
    makes again are removed, so that the next `sightline run` does; `samples` and `reviews` stay.
    """
    from pipeline.progress import Progress
    from storage import Run
    from storage.damage import find_damage
    from storage.lock import only_writer

    opened = Run.open(run)
    with only_writer(opened.directory, console.print), Progress(console, "verify", "files") as progress:
        found = list(find_damage(opened, progress.update))
        for damage in found:
            if damage.remade:
                opened.directory.remove(damage.path)
    for damage in found:
        console.print(f"{damage.path}: {damage.what}; {'removed' if damage.remade else 'kept'}")
    if found:
        raise SightlineError(f"{len(found)} damaged files in {run}; run the pipeline again to make what was removed")
    console.print(f"{run}: every file is what was written")


@app.command()
def report(
    run: RunPath,
    out: Annotated[Path | None, typer.Option(help="HTML file to write; by default report.html in the run.")] = None,
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


@app.command("app")
def app_(
    run: RunPath,
    port: Annotated[int | None, typer.Option(help="Port of the App; by default a free one.")] = None,
    select: Annotated[
        str | None,
        typer.Option(
            help="Load only these samples: those that a rule found, that SQL returns as sample_id, or of a saved view; "
            "'' loads all. By default review.select of the config."
        ),
    ] = None,
) -> None:
    """Load a run into FiftyOne and open the App on 127.0.0.1. New verdicts are stored in the run when it closes."""
    from pipeline.selection import select_samples
    from stages.audit.rules import every_rule
    from stages.audit.settings import audit_settings
    from stages.review.app.serve import serve
    from stages.review.settings import RuleText, review_settings
    from storage import Run

    opened = Run.open(run)
    settings = review_settings(opened.info)
    rules = {rule.id: RuleText(rule.title, rule.meaning) for rule in every_rule(audit_settings(opened.info))}
    selection = select_samples(opened, settings.select if select is None else select, rules)
    serve(opened, settings, port=port, rules=rules, selection=selection)


@app.command()
def reviews(
    run: RunPath,
    import_: Annotated[
        Path | None,
        typer.Option("--import", metavar="FILE.csv", help="Add the verdicts of a CSV: sample_id,rule,verdict,reviewer"),
    ] = None,
    format: Annotated[str, typer.Option(help="table or json.")] = "table",
) -> None:
    """Store what reviewers said in FiftyOne in the run, and print the precision of each rule.

    Also prints how far reviewers agree where two judged the same finding. Verdicts that were replaced stay in
    reviews.parquet. Without a database, what is stored is printed.
    """
    from pipeline.show.tally import print_tally, tally_json
    from stages.review.app.collect import collect
    from stages.review.settings import review_settings
    from stages.review.verdicts.table import append_reviews, read_csv, read_reviews
    from stages.review.verdicts.tally import tally
    from storage import Run

    if format not in ("table", "json"):
        raise UserError(f"no format {format!r}; formats are table, json")
    opened = Run.open(run)
    if import_ is not None:
        samples = opened.table("samples", ["sample_id", "width", "height"]).to_pylist()
        given = read_csv(import_, {row["sample_id"]: (row["width"], row["height"]) for row in samples})
        new = append_reviews(opened, given)
        errors.print(f"{new} new from {import_}, {len(given) - new} known already")
    collected = collect(opened, review_settings(opened.info))
    stored = read_reviews(opened)
    if collected.not_asked and not stored:
        raise UserError(f"{run} has no verdicts, and FiftyOne could not be asked for any: {collected.not_asked}")
    errors.print(str(collected))
    keys = ("sample_id", "target", "rule")
    findings = opened.table("findings", list(keys)).to_pylist() if opened.has_table("findings") else []
    found = tally(stored, [tuple(row[key] for key in keys) for row in findings])
    if format == "json":
        sys.stdout.write(tally_json(found) + "\n")
    else:
        print_tally(found, console)


@app.command()
def export(
    run: RunPath,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="An empty or new folder, or an export's.")],
    format: Annotated[str, typer.Option(help="coco, voc, yolo or fiftyone.")],
    copy_images: Annotated[
        bool, typer.Option("--copy-images", help="Copy the images; else they are named (coco, fiftyone) or linked.")
    ] = False,
    suggestions: Annotated[
        bool, typer.Option(help="Add the box that the map suggests where a fix_box came without a drawn one.")
    ] = True,
) -> None:
    """Write the dataset's annotations as reviewers corrected them, each with its provenance."""
    from stages.review.app.collect import collect
    from stages.review.export.export import FORMATS, export_annotations
    from stages.review.settings import review_settings
    from storage import Run

    opened = Run.open(run)
    settings = review_settings(opened.info)
    if format in FORMATS:
        errors.print(str(collect(opened, settings)))
    report = export_annotations(opened, settings, directory, format, copy_images=copy_images, suggestions=suggestions)
    for line in report.lines:
        console.print(line)


@app.command()
def annotate(
    run: RunPath,
    backend: Annotated[str, typer.Option(help="cvat or labelstudio.")],
    rule: Annotated[str, typer.Option(help="Rule whose findings shall get new boxes.")],
) -> None:
    """Prepare handing a rule's findings to an annotation tool: a script and a label schema; no server is contacted."""
    from stages.review.export.annotate import prepare_handover
    from stages.review.settings import review_settings
    from storage import Run

    opened = Run.open(run)
    done = prepare_handover(opened, review_settings(opened.info), backend, rule)
    console.print(f"{done.findings} findings of {rule} on {done.samples} samples")
    console.print(f"script  {shown_path(str(done.script))}")
    console.print(f"schema  {shown_path(str(done.schema))}")
    console.print(f"next    python {shown_path(str(done.script))} upload; nothing was sent yet")


@app.command()
def demo(
    directory: Annotated[Path, typer.Argument(help="Where to write the dataset.")],
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


@app.command()
def doctor() -> None:
    """Say what this machine has: packages, devices, database, browser, weights."""
    from pipeline.doctor import examine

    for line in examine():
        console.print(line)


def shown_path(url: str) -> str:
    """A run's path as the user would type it: relative to the working directory where that is shorter."""
    if "://" in url:
        return url
    relative = os.path.relpath(url)
    return url if relative.startswith("..") else relative
