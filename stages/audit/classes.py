"""The class table: how right, how far off and how reliant on context each class is, with intervals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import groupby
from operator import itemgetter
from statistics import mean
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from stages.audit.prevalence import prevalence
from stages.audit.ranking import Ranking
from stages.audit.settings import AuditSettings
from stages.statistics import benjamini_hochberg, bootstrap, fisher_greater, wilson
from storage.tables import CLASSES

COLUMNS = (
    "sample_id", "target", "label", "samples_class_index", "pred_index", "correct", "evaluable",
    "pointing_hit", "box_area_frac", "energy_lift", "context_reliance", "outside_effect",
)  # fmt: skip
"""Columns of ``audit`` that the class table is made of, beside ``relies``."""


def class_table(
    rows: Iterable[Mapping[str, Any]],
    flags: Mapping[str, int],
    settings: AuditSettings,
    rankings: Mapping[int, Ranking] | None = None,
) -> pa.Table:
    """The table ``classes`` from rows of ``audit`` of one method: :data:`COLUMNS`, and ``relies``, which says whether
    the rule ``relies_on_outside`` holds (null where its numbers are, and where it could not have held).

    Accuracy counts the samples that were explained; everything else the evaluable rows of the target ``label``.
    ``reliance_rate`` is the share of those that could be tested, ``corrected_rate`` the same with the flag's own
    errors counted. ``reliance_p`` is a one-sided Fisher test of the flags in the class against those in all others,
    in which samples that could not be tested are not flagged; ``reliance_q`` the same after Benjamini-Hochberg over
    the classes with at least ``min_class_size`` such rows; below, both are null, and so are the intervals of
    medians; where no sample could be tested, both are null too. ``flags`` counts them by label, ``rankings`` are by
    class index. Most reliant classes first, those without a claim last. Rows of a label must follow each other:
    those of one label at a time are held.
    """
    table, flagged = [], {}
    for label, own in groupby(rows, key=itemgetter("label")):
        explained = [row for row in own if label is not None and row["pred_index"] is not None]
        if explained:
            entry, flagged[label] = _entry(explained, settings)
            ranking = (rankings or {}).get(entry["class_index"])
            ranked = {name: getattr(ranking, name, None) for name in ("auroc", "average_precision")}
            table.append({"label": label, **entry, **ranked, "n_findings": flags.get(label, 0)})
    n_all, flagged_all = sum(n for n, _ in flagged.values()), sum(k for _, k in flagged.values())
    for entry in table:
        n, k = flagged[entry["label"]]
        enough = n >= max(settings.min_class_size, 1) and n_all > n
        testable = enough and entry["reliance_rate"] is not None
        entry["reliance_p"] = fisher_greater(k, n, flagged_all - k, n_all - n) if testable else None
    for entry, q in zip(table, benjamini_hochberg([entry["reliance_p"] for entry in table]), strict=True):
        entry["reliance_q"] = q
    table.sort(key=_rank)
    return pa.Table.from_pylist(table, schema=CLASSES)


def _entry(rows: list[Mapping[str, Any]], settings: AuditSettings) -> tuple[dict[str, Any], tuple[int, int]]:
    """What the table says of one class by its own rows, and of these: how many have an outside_effect, how many of them
    are flagged."""
    samples = {row["sample_id"]: row for row in rows}
    evaluable = [row for row in rows if row["target"] == "label" and row["evaluable"]]
    tested = _present(evaluable, "relies")
    flagged = [row["relies"] is True for row in evaluable if row["outside_effect"] is not None]
    entry = {
        "class_index": rows[0]["samples_class_index"],
        "n": len(samples),
        "n_evaluable": len(evaluable),
        "n_untestable": len(evaluable) - len(tested),
        **_share("accuracy", [row["correct"] for row in samples.values() if row["correct"] is not None]),
        **_misses(evaluable),
        **_share("reliance", tested, rate="reliance_rate"),
        **_corrected(tested, settings),
        **_median(evaluable, "energy_lift", settings, "lift_median", "lift"),
        **_median(evaluable, "context_reliance", settings, "context_reliance_median", "context"),
    }
    return entry, (len(flagged), sum(flagged))


def count_flags(connection: duckdb.DuckDBPyConnection, findings: pa.Table) -> dict[str, int]:
    """Flags by label, of the table ``findings`` of the run that the connection is to."""
    connection.register("found", findings.select(["sample_id", "kind"]))
    counted = connection.execute(
        """
        SELECT label, count(*) FROM found JOIN samples USING (sample_id)
        WHERE kind = 'flag' AND label IS NOT NULL GROUP BY label
        """
    )
    return dict(counted.fetchall())


def _present(rows: list[Mapping[str, Any]], name: str) -> list[Any]:
    return [row[name] for row in rows if row[name] is not None]


def _median(
    rows: list[Mapping[str, Any]], column: str, settings: AuditSettings, name: str, interval: str
) -> dict[str, float | None]:
    values = np.array(_present(rows, column))
    claimed = len(values) >= max(settings.min_class_size, 1)
    low, high = (bootstrap(values) if claimed else None) or (None, None)
    median = float(np.median(values)) if len(values) else None
    return {name: median, f"{interval}_low": low, f"{interval}_high": high}


def _share(name: str, hits: list[bool], rate: str = "") -> dict[str, float | None]:
    low, high = wilson(sum(hits), len(hits)) or (None, None)
    return {rate or name: mean(hits) if hits else None, f"{name}_low": low, f"{name}_high": high}


def _corrected(flags: list[bool], settings: AuditSettings) -> dict[str, float | None]:
    found = prevalence(sum(flags), len(flags), settings)
    return {f"corrected_{name}": getattr(found, name, None) for name in ("rate", "low", "high")}


def _misses(rows: list[Mapping[str, Any]]) -> dict[str, float | None]:
    # The null averages over the very rows that the rate counts.
    pointed = [row for row in rows if row["pointing_hit"] is not None]
    null = mean(1 - row["box_area_frac"] for row in pointed) if pointed else None
    return {**_share("miss_rate", [not row["pointing_hit"] for row in pointed]), "miss_rate_null": null}


def _rank(entry: Mapping[str, Any]) -> tuple[bool, float, float, str]:
    q, rate = entry["reliance_q"], entry["reliance_rate"]
    return q is None, q if q is not None else 1.0, -(rate or 0.0), entry["label"]
