"""Contents to one HTML page: no scripts, no requests, every string of the run escaped."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from itertools import pairwise
from statistics import median
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from stages.audit.report.charts import class_chart, effect_chart, energy_chart, is_tested
from stages.audit.report.contents import Contents, MetricsTable, Point, Record
from stages.audit.report.headline import explanation, next_steps
from stages.audit.summary import terms
from stages.audit.summary.summary import headline, mispredicted
from stages.words import Ends, in_words, interval, number, percent, q, visible
from storage.columns import columns_of

LISTED_CLASSES = 50
"""Classes in the table; a query has the rest."""


def _finalize(value: object) -> object:
    """Text as :func:`visible` has it; what is HTML already stays."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def environment_of_pages() -> Environment:
    """What the templates of this package are rendered with."""
    return Environment(
        loader=PackageLoader("stages.audit.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(contents: Contents) -> str:
    """The page; the same contents give the same bytes."""
    environment = environment_of_pages()
    environment.filters |= {
        "percent": percent,
        "interval": _unbroken_interval,
        "number": number,
        "q": q,
        "p": in_words,
        "meaning": _meanings().get,
    }
    tested = [row for row in contents.classes if is_tested(row)]
    return environment.get_template("page.html").render(
        run=contents,
        terms=terms,
        url=shlex.quote(contents.url),
        methods=contents.metrics[0].methods if contents.metrics else (contents.method,),
        headline=headline(contents.summary.reliance, contents.summary.unit),
        mispredicted=mispredicted(contents.summary),
        explanation=explanation(contents),
        steps=next_steps(contents),
        standing_out=[row for row in tested if row["label"] in contents.summary.standing_out],
        n_tested=len(tested),
        compared=_compared(contents.metrics),
        sanity=_sanity(contents.sanity),
        sanity_metrics=tuple(dict.fromkeys(row["metric"] for row in contents.sanity)),
        listed=tested[:LISTED_CLASSES],
        untested=[row for row in contents.classes if not is_tested(row) and row["n_findings"]],
        class_chart=class_chart(contents.classes, contents.summary.reliance.rate),
        energy_chart=energy_chart(contents.points),
        effect_chart=effect_chart(contents.points, contents.thresholds["outside_effect"]),
        energy_bins=_energy_bins(contents.points),
        effect_bins=_effect_bins(contents.points),
    )


def _unbroken_interval(ends: Ends | None, scale: float = 1, digits: int = 2) -> str:
    """An interval that no line break parts."""
    return interval(ends, scale, digits).replace(" ", "\N{NO-BREAK SPACE}")


def _compared(tables: Sequence[MetricsTable]) -> dict[str, Any]:
    """The metrics with a name in words of the first target, which is ``label`` where the run has it."""
    if not tables:
        return {"target": "", "methods": (), "rows": []}
    found = dict(tables[0].rows)
    columns = columns_of("scores", "explain", "metrics")
    rows = [(column, found[column.name]) for column in columns if column.words and column.name in found]
    return {"target": tables[0].target, "methods": tables[0].methods, "rows": rows}


def _sanity(rows: Sequence[Record]) -> dict[tuple[str, str, str], dict[str, Record]]:
    """The table ``sanity`` by (method, target, what was changed) and metric."""
    found: dict[tuple[str, str, str], dict[str, Record]] = {}
    for row in rows:
        found.setdefault((row["method"], row["target"], _change(row)), {})[row["metric"]] = row
    return found


def _change(row: Record) -> str:
    """What a row of the table ``sanity`` compared the stored maps with."""
    layer = row["layer"] or ""
    return {
        "again": "nothing: made again",
        "weights": f"{row['level']}: random weights as far as {layer}",
        "noise": "noise on the image",
        "class": "another class explained",
        "reference": f"no method: {layer}",
    }.get(row["check"], str(row["check"]))


def _meanings() -> dict[str, str]:
    """What a metric is, in the words of the tables that it is the mean of."""
    return {column.name: column.description for column in columns_of("explain", "scores", "metrics")}


def _bins(
    points: Sequence[Point], edges: Sequence[float], place: Callable[[Point], float | None]
) -> list[tuple[str, list[Point]]]:
    """Points by where ``place`` puts them, [low, high) but for the last, with the bin in words."""
    found = []
    for low, high in pairwise(edges):
        inside = [p for p in points if (x := place(p)) is not None and low <= x and (x < high or high == edges[-1])]
        found.append((f"{percent(low, 0)} to {percent(high, 0)}", inside))
    return found


def _energy_bins(points: Sequence[Point]) -> list[dict[str, Any]]:
    """The chart of energies as a table."""
    known = [point for point in points if point.energy_in is not None]
    return [
        {
            "bin": words,
            "n": len(inside),
            "median": median(p.energy_in or 0 for p in inside) if inside else None,
            "above": sum((p.energy_in or 0) > (p.box_area_frac or 0) for p in inside),
            "flagged": sum(p.flagged for p in inside),
        }
        for words, inside in _bins(known, (0, 0.1, 0.2, 0.4, 0.6, 0.8), lambda point: point.box_area_frac)
    ]


def _effect_bins(points: Sequence[Point]) -> list[dict[str, Any]]:
    """The chart of what the surroundings are worth as a table."""
    known = [point for point in points if point.outside_effect is not None]
    return [
        {
            "bin": words,
            "n": len(inside),
            "median": median(p.outside_effect or 0 for p in inside) if inside else None,
            "flagged": sum(p.flagged for p in inside),
        }
        for words, inside in _bins(known, (0, 0.2, 0.4, 0.6, 0.8, 1), lambda point: point.p_full)
    ]
