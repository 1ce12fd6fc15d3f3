"""What a run prints at its end: the numbers a person acts on."""

from __future__ import annotations

import shlex
import shutil
from pathlib import PurePosixPath

from rich.console import Console
from rich.table import Table

from pipeline.runner import STAGES
from pipeline.show.console import styled
from stages.audit.summary.summary import Share, Summary, corrected, headline, mispredicted, summarise, untested
from stages.audit.summary.terms import CUES, FAITHFULNESS, FINDINGS, LOCALISATION, Terms
from stages.audit.truth import TruthReport, against_truth, read_truth
from stages.review.dataset.contents import TARGETS
from stages.score.suggestion import suggested_by
from stages.words import counted, interval, number, percent, with_interval
from storage import Run
from storage.columns import columns_of
from storage.info import Explained, RunInfo

SHOWN_CUES = 10
"""Cues that the summary prints; `sightline query RUN --name cues` shows all."""
_SPENT = {"network": "network and probes", "images": "waiting for images", "storing": "storing", "scoring": "scoring"}
_NOTABLE = 0.1
"""Share of the workers' time from which on the summary says what to do about it."""


def print_summary(run: Run, console: Console, shown_path: str) -> None:
    """Print the summary of an audited run; ``shown_path`` is how the user would name the run."""
    summary, info = summarise(run), run.info
    console.print()
    for doubt in summary.doubts:
        console.print(styled("[yellow]doubt[/]       {}", doubt))
    _print_headline(summary, console)
    _print_overview(summary, console)
    _print_faithfulness(summary, info, console)
    _print_sanity(summary, console)
    _print_localisation(summary, console)
    _print_rules(summary, console)
    _print_cues(summary, console)
    if truth := info.section("dataset").get("truth"):
        _print_truth(against_truth(run, read_truth(truth)), console)
    explained = info.explained
    if explained.images:
        rate = explained.images / explained.seconds
        workers = f", {counted(explained.workers, 'worker')}" if explained.workers else ""
        console.print(f"\nspeed       {rate:.2f} images/s in explain ({explained.device}{workers})")
        for line in where_time_went(explained):
            console.print(f"            {line}")
    timings = ", ".join(f"{stage} {info.timings[stage]:.1f} s" for stage in STAGES if stage in info.timings)
    console.print(f"this run    {timings}")
    console.print(f"outputs     {shown_path}/  (maps.zarr, *.parquet, run.json)")
    console.print("\nnext")
    named = shlex.quote(shown_path)
    installed = shutil.which("sightline") is not None
    if installed:
        commands = {
            f"sightline app {named}": "look at the findings",
            f"sightline report {named}": "the same as one HTML page",
            f"sightline query {named} --name worst_classes": "ask; --list shows more",
        }
    else:  # make runs it from the virtual environment, which is not on the PATH
        commands = {
            f"make app RUN={named}": "look at the findings",
            f"make report RUN={named}": "the same as one HTML page",
            f"make query RUN={named} NAME=worst_classes": "ask; ARGS=--list shows more",
        }
    if not any(target in TARGETS for target in run.targets(summary.method)):
        del commands[next(iter(commands))]  # the App has nothing to show
    if not summary.sanity:
        command = f"sightline sanity {named}" if installed else f"make sanity RUN={named}"
        commands[command] = "check that the maps depend on the network"
    for command, purpose in commands.items():
        console.print(f"  {command:{max(map(len, commands))}}   {purpose}")
    console.print("what each line means: docs/reading-a-run.md")


def where_time_went(explained: Explained) -> list[str]:
    """Shares of the workers' time in explain, and what to do where the device stood still for more than a tenth."""
    spent = explained.spent
    whole = sum(spent.get(name, 0.0) for name in _SPENT)
    if not whole:
        return []
    shares = {name: spent[name] / whole for name in _SPENT}
    lines = ["of the workers' time: " + ", ".join(f"{_SPENT[name]} {percent(shares[name], 0)}" for name in _SPENT)]
    if shares["images"] > _NOTABLE:
        each = 1000 * spent["decoding"] / max(explained.images, 1)
        lines.append(
            f"images came too slowly ({each:.0f} ms of a core to read and decode one): smaller files, a nearer disk or "
            "more cores a worker make it faster"
        )
    if shares["storing"] > _NOTABLE:
        lines.append("the store is slow: a larger explain.shard_size writes fewer objects")
    return lines


def _print_headline(summary: Summary, console: Console) -> None:
    sentence, ends = headline(summary.reliance, summary.unit), summary.reliance.interval
    more = f"; 95% interval {100 * ends[0]:.0f} to {100 * ends[1]:.0f}%" if ends else ""
    console.print(styled("result      [bold]{}[/]{}", sentence, more))
    if summary.prevalence is not None:
        console.print(f"            {corrected(summary.prevalence)}")
    if text := mispredicted(summary):
        console.print(styled("            {}", text))
    if text := untested(summary):
        console.print(f"            {text}")
    if summary.standing_out:
        classes = ", ".join(
            f"{label} {percent(found.rate, 0)} {interval(found.interval, 100, 0)}" if found else label
            for label, found in summary.standing_out.items()
        )
        console.print(f"            more often than in the other classes, errors counted too: {classes}")


def _print_overview(summary: Summary, console: Console) -> None:
    samples = ", ".join(f"{count} {status}" for status, count in summary.samples.items())
    measured = f"; {summary.evaluable} can be measured against their boxes" if summary.labelled else ""
    console.print(f"samples     {samples}{measured}")
    if summary.unscored:
        statuses = ", ".join(f"{count} {status}" for status, count in summary.unscored.items())
        console.print(f"            not measured, counted in maps: {statuses}")
    if summary.boxes is not None:
        given = "`sightline export --suggest-boxes` gives those without a box one:"
        console.print(f"            {given} {suggested_by(summary.boxes)}")
    console.print(f"accuracy    {share(summary.accuracy)}")
    if (ranked := summary.ranked) is not None:
        means = f"means over {ranked.classes} class{'es' if ranked.classes > 1 else ''}"
        console.print(
            f"ranking     AUROC {number(ranked.auroc, 3)}, average precision {number(ranked.average_precision, 3)}: "
            f"{means}; each in the table classes"
        )
    null = f"; a random point does in {percent(summary.miss_null)}" if summary.miss_null is not None else ""
    if summary.misses.n:
        console.print(f"misses      the map's maximum lies outside the boxes in {share(summary.misses)}{null}")
    elif summary.labelled:
        console.print("misses      no map of the label has both a box in view and one maximum, which can miss it")
    if summary.lift_median is not None:
        lift = with_interval(summary.lift_median, summary.lift_interval)
        console.print(f"in boxes    {lift} times the share of the map that chance puts there (median)")


def _print_faithfulness(summary: Summary, info: RunInfo, console: Console) -> None:
    view = info.section("view")
    methods = {row.method for row in summary.faithfulness}
    made = f"{view.get('geometry')} {view.get('size')} px"
    if "opti_cam" in methods:
        made = f"{'opti_cam: ' if len(methods) > 1 else ''}{info.optimizer}, {made}"
    curves = {(row.method, row.target): row.values for row in summary.metrics if "insertion" in row.values}
    names = ("insertion (higher)", "deletion (lower)") if curves else ()
    table = _table("method", "target", "n", "AD (lower)", "AI (higher)", "AG (higher)", *names)
    for row in summary.faithfulness:
        areas = [_percent(curves.get((row.method, row.target), {}).get(name)) for name in ("insertion", "deletion")]
        cells = [row.method, row.target, str(row.n), f"{row.ad:.2f}", f"{row.ai:.1f}", f"{row.ag:.1f}"]
        table.add_row(*cells, *(areas if curves else ()))
    console.print(styled("\n[bold]Faithfulness[/]: does what the map shows keep the class? Percent ({})", made))
    console.print(table)
    _explain(FAITHFULNESS, console)


def _print_sanity(summary: Summary, console: Console) -> None:
    """The lines of the last sanity check; none where `sightline sanity` was not run."""
    styles = {"passes": "green", "FAULT": "red", "outdated": "yellow"}
    for checked in summary.sanity:
        style = styles[checked.word]
        console.print(styled(f"sanity      [{style}]{{}}[/]  {{}}", checked.word, checked))


def _print_localisation(summary: Summary, console: Console) -> None:
    measured = [row for row in summary.metrics if row.n]
    if not measured:
        return
    shown = [
        column
        for column in columns_of("scores", "metrics")
        if column.short and any(column.name in row.values for row in measured)
    ]
    table = _table("method", "target", *(column.short for column in shown))
    for row in measured:
        table.add_row(row.method, row.target, *(_percent(row.values.get(column.name)) for column in shown))
    most = max(row.n for row in measured)
    title = "\n[bold]Localisation[/]: does the map lie on the boxes? Percent, means over {} maps with a box in view"
    console.print(styled(title, most))
    console.print(table)
    _explain(LOCALISATION, console)


def _print_rules(summary: Summary, console: Console) -> None:
    console.print(styled("\n[bold]Findings[/]: {}", FINDINGS))
    found = [rule for rule in summary.rules if rule.count or rule.by_prediction]
    if not found:
        console.print("  none")
    for rule in found:
        kind = "[red]flag[/]       " if rule.kind == "flag" else "[dim]description[/]"
        more = f", and {rule.by_prediction} by their wrong prediction" if rule.by_prediction else ""
        images = counted(rule.count, summary.unit) + more
        console.print(styled(f"  {kind} [bold]{{}}[/] {{}}: {{}}", rule.rule, images, rule.title))
        for finding in rule.top if rule.kind == "flag" else rule.top[:1]:
            console.print(f"      {finding.sample_id}: {finding.reason}")


def _print_cues(summary: Summary, console: Console) -> None:
    if not summary.cues:
        return
    strong, weak = ([cue for cue in summary.cues if bool(cue.weak) is folded] for folded in (False, True))
    shown = strong[:SHOWN_CUES]
    rest = f", {len(shown)} of {len(strong)}" if len(shown) < len(strong) else ""
    console.print(styled("\n[bold]Cues[/] ({}{})", CUES, rest))
    for cue in shown:
        null = (
            f"; an equal random area costs {number(cue.mean_drop_random)}" if cue.mean_drop_random is not None else ""
        )
        classes = ", ".join(cue.classes) or "no class in particular"
        cost = f"hiding it costs {with_interval(cue.mean_drop, cue.interval)}{null}"
        name = f" {cue.name}," if cue.name else ""
        console.print(styled("  [bold]{}[/]{} {}, {}: {}", cue.cue_id, name, counted(cue.size, "image"), classes, cost))
        names = ", ".join(PurePosixPath(sample).name for sample in cue.exemplars)
        console.print(f"      {names}")
    if weak:
        ids = ", ".join(cue.cue_id for cue in weak[:SHOWN_CUES]) + (" ..." if len(weak) > SHOWN_CUES else "")
        console.print(styled("  [dim]{} weak, perhaps none: {}; --name cues says why[/]", len(weak), ids))


def _print_truth(report: TruthReport, console: Console) -> None:
    table = _table("rule", "flagged", "right", "precision", "recall")
    for rule in report.rules:
        table.add_row(
            rule.rule,
            str(rule.flagged),
            str(rule.true_positives),
            with_interval(rule.precision, rule.precision_interval),
            with_interval(rule.recall, rule.recall_interval),
        )
    on = f"{report.positives} of {report.n} samples rely on a cue; 95% Wilson intervals"
    console.print(styled("\n[bold]Against the planted truth[/] ({})", on))
    console.print(table)


def _explain(terms: Terms, console: Console) -> None:
    width = max(len(term) for term, _ in terms)
    for term, meaning in terms:
        console.print(styled("[dim]  {}  {}[/]", f"{term:{width}}", meaning))


def _table(*names: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in names:
        table.add_column(name, overflow="fold", justify="left" if name in ("method", "target", "rule") else "right")
    return table


def _percent(value: float | None) -> str:
    return number(None if value is None else 100 * value, 1)


def share(value: Share) -> str:
    """A share in words: percent, 95% interval and counts."""
    if not value.n:
        return "not defined (no samples)"
    return f"{percent(value.rate)} {interval(value.interval, 100, 1)} ({value.hits} of {value.n})"
