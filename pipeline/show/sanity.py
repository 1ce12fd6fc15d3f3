"""A sanity check of a method as a person reads it."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

from pipeline.show.console import styled
from stages.explain.sanity.check import Check, SanityReport, Similarity
from stages.explain.sanity.similarity import METRICS
from stages.words import NOTHING, counted, number

_SECTIONS = {
    "weights": "random weights, from the output down",
    "noise": "input noise",
    "class": "same network",
    "reference": "the stored maps against",
}


def print_sanity(report: SanityReport, console: Console) -> None:
    """Print the similarities of a check, and in words whether the maps pass."""
    unread = f"; {report.unreadable} could not be read" if report.unreadable else ""
    what = f"{report.method}, target {report.target}, layer {report.layer}"
    images = f"{counted(report.samples, 'image')} (seed {report.settings.seed}){unread}"
    console.print(styled("[bold]Sanity[/] of {}: {}", what, images))
    console.print("Similarity to the stored maps: median over images [95% interval]")
    table = Table(box=None, pad_edge=False)
    table.add_column("maps made")
    for metric in (*METRICS, "n"):
        table.add_column(metric, justify="right")
    section = None
    for check in report.checks:
        if check.check != section and check.check in _SECTIONS:
            table.add_row(styled("[dim]{}[/]", _SECTIONS[check.check]))
        section = check.check
        first, *others = (check.metrics[metric] for metric in METRICS)
        medians = (number(other.median) for other in others)
        table.add_row(_name(check), NOTHING if first.median is None else str(first), *medians, str(first.n))
    console.print(table)
    console.print("n counts the images on which the rank correlation is defined; 1 is the same map")
    for line in _what_it_means(report):
        console.print(line)
    if report.fault:
        console.print(styled("[red]FAULT[/]  {}", report.fault))
    else:
        console.print(styled("[green]passes[/]  {}", _left(report)))


def _what_it_means(report: SanityReport) -> Iterator[str]:
    """The rows to read the result by, in words."""
    noise, other = (_spearman(report, name) for name in ("noise", "class"))
    if noise is not None:
        yield f"stability   noise on the input (standard deviation {report.settings.noise:.3g}) leaves {noise}"
    if other is not None:
        yield f"class       another class of the same image has {other}: at 1 the maps would not tell classes apart"
    knowing_nothing = [
        f"{check.layer} {number(check.metrics['spearman'].median)}"
        for check in report.checks
        if check.layer in ("another image", "center") and check.metrics["spearman"].median is not None
    ]
    if knowing_nothing:
        yield f"by chance   {', '.join(knowing_nothing)}: maps that know nothing of this image have that much"


def _spearman(report: SanityReport, name: str) -> Similarity | None:
    """The rank correlation of a check; None where it was not made or is not defined."""
    found = [check.metrics["spearman"] for check in report.checks if check.check == name]
    return found[0] if found and found[0].median is not None else None


def _left(report: SanityReport) -> str:
    """The similarity that maps of random weights keep, beside the threshold of a fault."""
    levels = [check.metrics["spearman"] for check in report.checks if check.check == "weights"]
    said = "the maps depend on the network: with all weights random "
    if levels[-1].median is None:
        said += "no map is left"
    else:
        said += f"a rank correlation of {levels[-1]} is left (a fault from {report.settings.survives:g} on)"
    if report.after_layer:
        after, limit = levels[report.after_layer - 1], report.settings.survives_head
        said += f", with only those after the target layer random {after} (a fault from {limit:g} on)"
    return said


def _name(check: Check) -> str:
    if check.check == "again":
        return "again, as in the run"
    return f"  {check.level} {'' if check.level == 1 else '+ '}{check.layer}" if check.level else f"  {check.layer}"
