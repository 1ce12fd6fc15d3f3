"""The table ``metrics``: what the scores of a whole dataset come to, by method and target."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from stages.score.boxacc import IOU_LEVELS, NOTHING_FOUND, THRESHOLDS, FoundCounts, best_thresholds
from stages.statistics import mean_intervals, wilson
from storage import Run
from storage.columns import Column, columns_of
from storage.tables import METRICS

LARGEST = "box_acc"
BOX_METRICS = (LARGEST, "max_box_acc_v2")
"""Metrics with one threshold for the dataset: of the largest component, and of every one."""

BOX_COUNTS = "box_counts"
"""Key of the metadata of a part of ``scores`` under which :func:`encode_counts` is stored."""

TOGETHER = ("ad", "ai", "ag")
"""Columns whose means are over the same rows: one without the others says little."""

Counts = Mapping[str, Mapping[str, FoundCounts]]
"""Target to metric to counts."""


def metrics_table(run: Run) -> pa.Table:
    """The table ``metrics`` of a scored run.

    Means are over every row where the score is defined, evaluable or not, as in the paper; those of AD, AI and AG over
    the rows where all three are. Intervals are 95%: Wilson for shares, else percentile bootstrap over samples.
    The metrics of one threshold for the dataset have none: their threshold was chosen on the same samples.
    """
    averaged = {name: tuple(one for one in columns_of(name) if one.averaged) for name in ("scores", "explain")}
    rows = []
    for method in sorted({part.method for part in run.parts("scores")}):
        counts = _counts_of(run, method)
        its = pc.field("method") == method
        for target in sorted(pc.unique(run.table("scores", ["target"], its)["target"]).to_pylist()):
            # One method and target at a time, so that no more rows than theirs are in memory.
            own = its & (pc.field("target") == target)
            for name, columns in averaged.items():
                table = run.table(name, [column.name for column in columns], own)
                rows += [{"method": method, "target": target} | row for row in _means(table, columns)]
            boxes = _box_accuracies(counts.get(target, {}))
            rows += [{"method": method, "target": target} | row for row in boxes]
    return pa.Table.from_pylist(rows, schema=METRICS)


def encode_counts(counts: Counts) -> str:
    """Counts of a part as JSON, for its metadata."""
    plain = {
        target: {metric: {"samples": own.samples, "found": own.found.tolist()} for metric, own in metrics.items()}
        for target, metrics in counts.items()
    }
    return json.dumps(plain, separators=(",", ":"))


def _means(table: pa.Table, columns: tuple[Column, ...]) -> list[dict[str, Any]]:
    values = np.stack([_numbers(table[column.name]) for column in columns], axis=1)
    together = np.isin([column.name for column in columns], TOGETHER)
    incomplete = np.asarray(np.isnan(values[:, together]).any(axis=1))
    values[incomplete[:, None] & together] = np.nan
    counts = (~np.isnan(values)).sum(axis=0)
    if not counts.any():
        return []
    present = np.flatnonzero(counts)
    rows = []
    for place, low, high in zip(present, *mean_intervals(values[:, present]), strict=True):
        column, n, mean = columns[place], int(counts[place]), float(np.nanmean(values[:, place]))
        interval = (float(low), float(high))
        if column.is_share:
            interval = wilson(round(mean * n), n) or interval
        rows.append(_row(column.name, mean, n, interval=interval))
    return rows


def _box_accuracies(counts: Mapping[str, FoundCounts]) -> Iterator[dict[str, Any]]:
    for metric in BOX_METRICS:
        accuracy = best_thresholds(counts.get(metric, NOTHING_FOUND))
        if not accuracy.samples:
            continue
        yield _row(metric, accuracy.mean, accuracy.samples)
        for level, share, threshold in zip(accuracy.levels, accuracy.accuracy, accuracy.thresholds, strict=True):
            yield _row(f"{metric}_{100 * level:.0f}", share, accuracy.samples, threshold=threshold)


def _row(
    metric: str, value: float, n: int, *, interval: tuple[float, float] | None = None, threshold: float | None = None
) -> dict[str, Any]:
    low, high = interval or (None, None)
    return {"metric": metric, "value": value, "low": low, "high": high, "threshold": threshold, "n": n}


def counts_of_parts(run: Run, method: str, target: str = "label", metric: str = LARGEST) -> list[FoundCounts]:
    """What each part of a method found at each threshold; parts without a count are left out."""
    counts = (_decoded(vouched).get(target, {}).get(metric) for vouched in run.footers("scores", method).values())
    return [own for own in counts if own is not None and own.samples]


def _counts_of(run: Run, method: str) -> dict[str, dict[str, FoundCounts]]:
    """The counts of all parts of a method, added up."""
    whole: dict[str, dict[str, FoundCounts]] = defaultdict(lambda: defaultdict(lambda: NOTHING_FOUND))
    for vouched in run.footers("scores", method).values():
        for target, metrics in _decoded(vouched).items():
            for metric, own in metrics.items():
                whole[target][metric] += own
    return whole


def _decoded(vouched: Mapping[str, str]) -> Counts:
    """The counts of a part from its metadata: what :func:`encode_counts` made."""
    shape = len(IOU_LEVELS), len(THRESHOLDS)
    return {
        target: {
            metric: FoundCounts(own["samples"], np.array(own["found"], dtype=np.int64).reshape(shape))
            for metric, own in metrics.items()
        }
        for target, metrics in json.loads(vouched.get(BOX_COUNTS, "{}")).items()
    }


def _numbers(column: pa.ChunkedArray) -> NDArray[np.float64]:
    return np.asarray(column.cast(pa.float64()).to_numpy(), dtype=np.float64)
