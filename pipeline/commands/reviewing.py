"""Commands of a review: ``app``, ``reviews``, ``export``, ``annotate``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from pipeline.commands.terminal import RunPath, console, errors, local_folder, shown_path
from storage.errors import UserError


def app(
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
    serve(opened, settings, port=port, rules=rules, selection=selection, tell=console.print)


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
    from stages.review.verdicts.imported import Judged, read_csv
    from stages.review.verdicts.table import append_reviews, read_reviews
    from stages.review.verdicts.tally import tally
    from storage import Run

    if format not in ("table", "json"):
        raise UserError(f"no format {format!r}; formats are table, json")
    opened = Run.open(run)
    if import_ is not None:
        given = read_csv(import_, Judged.of(opened))
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


def export(
    run: RunPath,
    directory: Annotated[
        Path, typer.Argument(parser=local_folder, metavar="DIR", help="An empty or new folder, or an export's.")
    ],
    format: Annotated[str, typer.Option(help="coco, voc, yolo or fiftyone.")],
    copy_images: Annotated[
        bool, typer.Option("--copy-images", help="Copy the images; else they are named (coco, fiftyone) or linked.")
    ] = False,
    suggestions: Annotated[
        bool, typer.Option(help="Add the box that the map suggests where a fix_box came without a drawn one.")
    ] = True,
    suggest_boxes: Annotated[
        bool,
        typer.Option(
            "--suggest-boxes",
            help="Give each sample without a box the one that the best of the run's maps suggests, with a score.",
        ),
    ] = False,
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
    report = export_annotations(
        opened,
        settings,
        directory,
        format,
        copy_images=copy_images,
        suggestions=suggestions,
        box_unboxed=suggest_boxes,
    )
    for line in report.lines:
        console.print(line)


def annotate(
    run: RunPath,
    backend: Annotated[str, typer.Option(help="cvat or labelstudio.")],
    rule: Annotated[str, typer.Option(help="Rule whose findings shall get new boxes.")],
    worst: Annotated[int | None, typer.Option(help="Hand over this many samples at most, the worst.")] = None,
) -> None:
    """Prepare handing a rule's findings, worst first, to an annotation tool: a script, a label schema and a list of
    samples with suggested boxes; no server is contacted."""
    from stages.review.export.annotate import prepare_handover
    from stages.review.settings import review_settings
    from storage import Run

    opened = Run.open(run)
    done = prepare_handover(opened, review_settings(opened.info), backend, rule, worst=worst)
    suggested = f", {done.suggested} with a suggested box" if done.suggested else ""
    console.print(f"{done.samples} samples, worst first{suggested}, of {done.findings} findings of {rule}")
    console.print(f"script  {shown_path(str(done.script))}")
    console.print(f"schema  {shown_path(str(done.schema))}")
    console.print(f"next    python {shown_path(str(done.script))} upload; nothing was sent yet")
