"""A comparison of two runs as a person reads it, and as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict

from rich.console import Console
from rich.table import Table

from pipeline.show.console import styled
from stages.audit.compare.compare import Comparison, compared_scores
from stages.audit.compare.paired import RuleChange, ScoreChange
from stages.words import interval, number, percent

_WIDEST = 200
"""Columns that the table of scores may take."""


def comparison_json(comparison: Comparison) -> str:
    """The whole comparison as JSON, lists of samples included; an undefined number is null."""
    return json.dumps(asdict(comparison), indent=2, ensure_ascii=False, allow_nan=False)


def print_comparison(comparison: Comparison, console: Console, top: int) -> None:
    """Print a comparison with at most ``top`` samples a list."""
    _print_what(comparison, console)
    _print_accuracy(comparison, console)
    _print_scores(comparison, console)
    _print_rules(comparison, console, top)
    _print_maps(comparison, console)


def _print_what(comparison: Comparison, console: Console) -> None:
    console.print(f"A           {comparison.run_a}, {comparison.method_a}")
    console.print(f"B           {comparison.run_b}, {comparison.method_b}; the target is {comparison.target}")
    notes = {
        "only in A": comparison.only_a,
        "only in B": comparison.only_b,
        "of one name with other files": comparison.changed,
    }
    rest = "".join(f", {count} {what}" for what, count in notes.items() if count)
    console.print(f"samples     {comparison.shared} shared{rest}")
    if comparison.relabelled or comparison.reboxed:
        differ = f"{comparison.relabelled} have another label and {comparison.reboxed} other boxes"
        console.print(f"            of the shared ones {differ}")
    for index, difference in enumerate(comparison.differences):
        values = f"{_value(difference.a)} -> {_value(difference.b)}"
        console.print(f"{'' if index else 'settings':12}{difference.key}: {values}")
    for note in comparison.notes:
        console.print(f"note        {note}")


def _print_accuracy(comparison: Comparison, console: Console) -> None:
    accuracy = comparison.accuracy
    if accuracy.a is None or accuracy.b is None:
        console.print("accuracy    not defined (no shared sample has a class and a prediction in both)")
        return
    test = f", McNemar p {accuracy.p:.2g}" if accuracy.p is not None else ""
    console.print(
        f"accuracy    {percent(accuracy.a)} -> {percent(accuracy.b)} of {accuracy.n}; "
        f"{accuracy.only_a} right in A alone, {accuracy.only_b} in B alone{test}"
    )


def _print_scores(comparison: Comparison, console: Console) -> None:
    table = Table(box=None, pad_edge=False)
    for name in ("score", "better", "n", "left out", "A", "B", "B - A", "95% interval", ""):
        table.add_column(name, justify="left" if name in ("score", "better", "") else "right")
    for score in comparison.scores:
        if score.n:
            table.add_row(*_score_cells(score))
    console.print(
        styled("\n[bold]Scores[/], means over the n samples where both are defined (against boxes: evaluable in both)")
    )
    # As wide as its rows are: where the terminal is narrower, that one wraps them, and in a file they stay whole.
    table.width = console.measure(table, options=console.options.update(width=_WIDEST)).maximum
    console.print(table, crop=False)
    undefined = [score.score for score in comparison.scores if not score.n]
    if undefined:
        console.print(f"defined on no sample in both: {', '.join(undefined)}")
    console.print("* the interval leaves out 0; about one in 20 does so where nothing has changed")


def _score_cells(score: ScoreChange) -> tuple[str, ...]:
    ends = number(None) if score.interval is None else f"[{score.interval[0]:+.3f}, {score.interval[1]:+.3f}]"
    apart = score.interval is not None and not score.interval[0] <= 0 <= score.interval[1]
    mean_a, mean_b = number(score.mean_a, 3), number(score.mean_b, 3)
    change = number(None) if score.change is None else f"{score.change:+.3f}"
    return (
        score.score,
        compared_scores()[score.score].better,
        str(score.n),
        str(score.left_out),
        mean_a,
        mean_b,
        change,
        ends,
        "*" if apart else "",
    )


def _print_rules(comparison: Comparison, console: Console, top: int) -> None:
    meaning = "fixed are in A alone, broken in B alone, unjudged cannot be evaluated in the other"
    console.print(styled("\n[bold]Findings[/] by the audit settings of A: {}", meaning))
    if not comparison.rules:
        console.print("  none")
        return
    lists = ("fixed", "broken", "unchanged", "unjudged")
    table = Table(box=None, pad_edge=False)
    for name in ("rule", "kind", *lists):
        table.add_column(name, justify="right" if name in lists else "left")
    for rule in comparison.rules:
        table.add_row(rule.rule, rule.kind, *(str(len(getattr(rule, name))) for name in lists))
    console.print(table)
    # Samples of descriptions are many and no reason to act; the JSON has them.
    for rule in comparison.rules:
        for name in ("fixed", "broken") if rule.kind == "flag" else ():
            _print_samples(rule, name, console, top)
    if any(rule.kind != "flag" for rule in comparison.rules):
        console.print("  --format json lists the samples of every rule")


def _print_samples(rule: RuleChange, name: str, console: Console, top: int) -> None:
    samples = getattr(rule, name)
    if samples:
        more = f" and {len(samples) - top} more" if len(samples) > top else ""
        listed = ", ".join(samples[:top]) + more
        console.print(f"  {rule.rule} {name}: {listed}")


def _print_maps(comparison: Comparison, console: Console) -> None:
    maps = comparison.maps
    console.print(styled("\n[bold]Maps[/], rank correlation (Spearman) over the pixels of the view"))
    left_out = f"{maps.other_class} explain another class, {maps.undefined} have no two maps or a constant one"
    if maps.median is None:
        console.print(f"  not defined: {left_out}")
        return
    chosen = f", chosen by seed of {maps.n + maps.left_out}" if maps.left_out else ""
    chance = "" if maps.chance is None else f"; maps of two different samples have {number(maps.chance)}"
    console.print(f"  median {number(maps.median)} {interval(maps.interval)} over {maps.n} samples{chosen}{chance}")
    if maps.other_class or maps.undefined:
        console.print(f"  left out: {left_out}")
    if maps.least:
        console.print("  least agreement:")
    for agreement in maps.least:
        console.print(f"    {agreement.correlation:+.2f}  {agreement.sample_id}")


def _value(value: object) -> str:
    """A setting in a line: a digest by its beginning, what is not set as a dash."""
    text = "-" if value in (None, "") else str(value)
    return f"{text[:12]}..." if len(text) == 64 and text.isalnum() else text
