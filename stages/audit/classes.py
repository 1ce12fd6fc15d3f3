"""The class table: how right, how far off and how reliant on context each class is, with intervals."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from statistics import mean
from typing import Any

import numpy as np
import pyarrow as pa

from stages.audit.settings import AuditSettings
from stages.statistics import benjamini_hochberg, bootstrap, fisher_greater, wilson
from storage.tables import CLASSES

COLUMNS = (
    "sample_id", "target", "label", "samples_class_index", "pred_index", "correct", "evaluable",
    "pointing_hit", "box_area_frac", "energy_lift", "context_reliance", "outside_effect",
)  # fmt: skip
"""Columns of ``audit`` that the class table is made of, beside ``relies``."""


def class_table(rows: Iterable[Mapping[str, Any]], flags: Mapping[str, int], settings: AuditSettings) -> pa.Table:
    """The table ``classes`` from rows of ``audit`` of one method: :data:`COLUMNS`, and ``relies``, which says whether
    the rule ``relies_on_outside`` holds (null where its numbers are, and where it could not have held).

    Accuracy counts the samples that were explained; everything else the evaluable rows of the target
    ``label``. ``reliance_rate`` is the share of those that could be tested. ``reliance_p`` is a one-sided Fisher test
    of the flags in the class against those in all others, in which samples that could not be tested are not flagged;
    ``reliance_q`` the same after Benjamini-Hochberg over the classes with at least ``min_class_size`` such rows; below,
    both are null, and so are the intervals of medians. ``flags`` counts them by label. Most reliant
    classes first, those without a claim last.
    """
    explained: dict[str, dict[str, Mapping[str, Any]]] = defaultdict(dict)
    evaluable: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        if row["label"] is None or row["pred_index"] is None:
            continue
        explained[row["label"]][row["sample_id"]] = row
        if row["target"] == "label" and row["evaluable"]:
            evaluable[row["label"]].append(row)
    tested = {label: _present(evaluable[label], "relies") for label in explained}
    flagged = {
        label: [row["relies"] is True for row in evaluable[label] if row["outside_effect"] is not None]
        for label in explained
    }
    n_all, flagged_all = sum(map(len, flagged.values())), sum(map(sum, flagged.values()))

    table = []
    for label, samples in explained.items():
        n, k = len(flagged[label]), sum(flagged[label])
        testable = n >= max(settings.min_class_size, 1) and n_all > n
        table.append(
            {
                "label": label,
                "class_index": next(iter(samples.values()))["samples_class_index"],
                "n": len(samples),
                "n_evaluable": len(evaluable[label]),
                "n_untestable": len(evaluable[label]) - len(tested[label]),
                **_share("accuracy", [row["correct"] for row in samples.values() if row["correct"] is not None]),
                **_misses(evaluable[label]),
                **_share("reliance", tested[label], rate="reliance_rate"),
                "reliance_p": fisher_greater(k, n, flagged_all - k, n_all - n) if testable else None,
                **_median(evaluable[label], "energy_lift", settings, "lift_median", "lift"),
                **_median(evaluable[label], "context_reliance", settings, "context_reliance_median", "context"),
                "n_findings": flags.get(label, 0),
            }
        )
    for entry, q in zip(table, benjamini_hochberg([entry["reliance_p"] for entry in table]), strict=True):
        entry["reliance_q"] = q
    table.sort(key=_rank)
    return pa.Table.from_pylist(table, schema=CLASSES)


def count_flags(findings: pa.Table, labels: Mapping[str, str | None]) -> Counter[str]:
    """Evidence findings by label; ``labels`` maps sample_id to label."""
    pairs = zip(findings["sample_id"].to_pylist(), findings["kind"].to_pylist(), strict=True)
    found = (labels[sample_id] for sample_id, kind in pairs if kind == "flag")
    return Counter(label for label in found if label is not None)


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


def _misses(rows: list[Mapping[str, Any]]) -> dict[str, float | None]:
    # The null averages over the very rows that the rate counts.
    pointed = [row for row in rows if row["pointing_hit"] is not None]
    null = mean(1 - row["box_area_frac"] for row in pointed) if pointed else None
    return {**_share("miss_rate", [not row["pointing_hit"] for row in pointed]), "miss_rate_null": null}


def _rank(entry: Mapping[str, Any]) -> tuple[bool, float, float, str]:
    q, rate = entry["reliance_q"], entry["reliance_rate"]
    return q is None, q if q is not None else 1.0, -(rate or 0.0), entry["label"]
