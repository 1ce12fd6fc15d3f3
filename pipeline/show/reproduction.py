"""What came of making shards of a run again, as a person reads it."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from pipeline.reproduce import Reproduction
from pipeline.show.console import styled
from stages.words import counted


def print_reproduction(found: Reproduction, console: Console) -> None:
    """Print how each array and table compares, and what is not as it was when the run was made."""
    shards = ", ".join(map(str, found.shards))
    console.print(styled("[bold]Made again[/]: shards {} of {}, {}", shards, found.of, found.method))
    table = Table(box=None, pad_edge=False)
    for heading in ("stored", "rows", "made again"):
        table.add_column(heading, justify="right" if heading == "rows" else "left")
    for one in found.compared:
        said = "same bytes"
        if one.different:
            by = "" if one.largest is None else f", by at most {one.largest:.2g}"
            said = f"{counted(one.different, 'row differs', 'rows differ')}{by}"
        table.add_row(one.name, str(one.rows), said)
    console.print(table)
    console.print(styled("commit   of the run: {}; now: {}", *found.commits))
    for name, (then, now) in found.changed.items():
        console.print(styled("[yellow]changed[/]  {}: {}, now {}", name, then, now))
    if not found.changed:
        console.print("nothing that the run records has changed")


def said_in_short(found: Reproduction) -> str:
    """The fault of a run that was not reproduced, in a line."""
    causes = ", ".join(found.changed) or "nothing that it records has changed, so the machine or the driver differs"
    names = ", ".join(one.name for one in found.differing[:5]) + (", ..." if len(found.differing) > 5 else "")
    return f"not reproduced: {names} differ; what changed since: {causes}"
