"""The verdicts of a run as a person reads them, and as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict

from rich.console import Console
from rich.table import Table

from pipeline.show.console import styled
from stages.review.verdicts.table import VERDICTS
from stages.review.verdicts.tally import Tally
from stages.words import number, percent, with_interval


def tally_json(tally: Tally) -> str:
    """The whole tally as JSON; an undefined number is null."""
    return json.dumps(asdict(tally), indent=2, ensure_ascii=False, allow_nan=False)


def print_tally(tally: Tally, console: Console) -> None:
    """Print counts, precision by rule and agreement by pair of reviewers."""
    if not tally.stored:
        console.print("no verdicts yet: give some in `sightline app`, or with --import FILE.csv")
        return
    replaced = tally.stored - tally.standing
    line = f"verdicts    {tally.standing}"
    line += f", {replaced} earlier ones replaced" if replaced else ""
    line += f"; {tally.gone} of them on findings that the run does not have" if tally.gone else ""
    console.print(line)
    counts = ", ".join(f"{tally.verdicts[name]} {name}" for name in VERDICTS if tally.verdicts.get(name))
    console.print(f"            {counts}")
    if tally.rules:
        _print_rules(tally, console)
    if tally.agreements:
        _print_agreements(tally, console)


def _print_rules(tally: Tally, console: Console) -> None:
    # Eight columns in 80 characters: headings of two words take two lines, and only the longest rules are folded.
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("rule", overflow="fold")
    table.add_column("judged", justify="right", no_wrap=True)
    for name in VERDICTS:
        words = name.split("_")
        table.add_column(" ".join(words), justify="right", min_width=max(map(len, words)), width=max(map(len, words)))
    table.add_column("precision [95%]", justify="right", no_wrap=True)
    for rule in tally.rules:
        verdicts = (str(rule.verdicts.get(name, 0)) for name in VERDICTS)
        table.add_row(
            rule.rule,
            f"{rule.judged}/{rule.findings}",
            *verdicts,
            with_interval(rule.precision, rule.interval),
        )
    console.print(styled("\n[bold]Precision by rule[/]"))
    console.print(table)
    console.print("a finding is right if its reviewers say confirmed, fix_box or fix_label more often than false_alarm")


def _print_agreements(tally: Tally, console: Console) -> None:
    table = Table(box=None, pad_edge=False)
    for name in ("reviewers", "findings", "agree", "kappa"):
        table.add_column(name, justify="left" if name == "reviewers" else "right")
    for pair in tally.agreements:
        table.add_row(" and ".join(pair.reviewers), str(pair.n), percent(pair.agreement, 0), number(pair.kappa))
    console.print(styled("\n[bold]Agreement[/] on the findings that both judged; Cohen's kappa"))
    console.print(table)
