"""A sanity check of a method as a person reads it."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from stages.explain.sanity import Check, SanityReport
from stages.explain.similarity import METRICS

_SECTIONS = {
    "weights": "random weights, from the output down",
    "noise": "input noise",
    "class": "same network",
    "reference": "the stored maps against",
}


def print_sanity(report: SanityReport, console: Console) -> None:
    """Print the similarities of a check, and in words whether the maps pass."""
    unread = f"; {report.unreadable} could not be read" if report.unreadable else ""
    console.print(
        f"[bold]Sanity[/] of {report.method}, target {report.target}, layer {escape(report.layer)}: "
        f"{report.samples} images (seed {report.settings.seed}){unread}",
        highlight=False,
    )
    console.print("Similarity to the stored maps: median over images [95% interval]", highlight=False)
    table = Table(box=None, pad_edge=False)
    table.add_column("maps made")
    for metric in (*METRICS, "n"):
        table.add_column(metric, justify="right")
    section = None
    for check in report.checks:
        if check.check != section and check.check in _SECTIONS:
            table.add_row(f"[dim]{_SECTIONS[check.check]}[/]")
        section = check.check
        first, *others = (check.metrics[metric] for metric in METRICS)
        medians = ("-" if other.median is None else f"{other.median:.2f}" for other in others)
        table.add_row(escape(_name(check)), "-" if first.median is None else str(first), *medians, str(first.n))
    console.print(table)
    if report.fault:
        console.print(f"[red]FAULT[/]  {escape(report.fault)}", highlight=False)
    else:
        console.print(f"[green]passes[/]  {_left(report)}", highlight=False)


def _left(report: SanityReport) -> str:
    """What random weights leave of the maps, beside what would be a fault."""
    levels = [check.metrics["spearman"] for check in report.checks if check.check == "weights"]
    said = f"with all weights random {levels[-1]} is left (a fault from {report.settings.survives:g} on)"
    if report.after_layer:
        after, limit = levels[report.after_layer - 1], report.settings.survives_head
        said += f", with those after the target layer {after} (from {limit:g} on)"
    return said


def _name(check: Check) -> str:
    if check.check == "again":
        return "again, as in the run"
    return f"  {check.level} {'' if check.level == 1 else '+ '}{check.layer}" if check.level else f"  {check.layer}"
