"""Numbers of several methods in one Markdown table: means over the images that can be compared, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.score.boxacc import best_thresholds, count_found
from stages.statistics import bootstrap

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Measure:
    """A column of the report."""

    name: str
    title: str
    scale: float = 100.0
    median: bool = False

    def of(self, values: Values) -> float:
        """The number over images: of rows of IoUs, MaxBoxAccV2."""
        if self.name == "max_box_acc_v2":
            return best_thresholds(count_found(values)).mean
        return float(np.median(values) if self.median else np.mean(values))

    def cell(self, values: Values) -> str:
        """The number with its interval."""

        def resampled(index: NDArray[np.int64], axis: int) -> Values:
            return np.array([self.of(values[rows]) for rows in index])

        if not len(values):
            return "-"
        low, high = (self.scale * end for end in bootstrap(np.arange(len(values)), resampled) or (np.nan, np.nan))
        digits = 1 if self.scale > 1 else 2
        return f"{self.scale * self.of(values):.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


FAITHFULNESS = (
    Measure("ad", "AD, lower"),
    Measure("ag", "AG, higher"),
    Measure("ai", "AI, higher"),
    Measure("insertion", "insertion, higher"),
    Measure("deletion", "deletion, lower"),
)
CURVES = ("insertion", "deletion")
LOCALISATION = (
    Measure("energy_in", "energy, higher"),
    Measure("energy_lift", "lift (median), higher", scale=1, median=True),
    Measure("pointing_hit", "pointing, higher"),
    Measure("pixel_f1", "F1, higher"),
    Measure("official_metric", "OM, lower"),
    Measure("localization_error", "LE, lower"),
    Measure("max_box_acc_v2", "MaxBoxAccV2, higher"),
)


def comparable(columns: Mapping[str, Values]) -> tuple[dict[str, Values], int]:
    """The values of each method, (n, ...), on the images where all are defined that are defined anywhere, and n."""
    known = {method: ~np.isnan(values.reshape(len(values), -1)).any(axis=1) for method, values in columns.items()}
    defining = [own for own in known.values() if own.any()]
    shared = np.logical_and.reduce(defining) if defining else np.zeros(0, dtype=bool)
    kept = {method: values[shared] if known[method].any() else values[:0] for method, values in columns.items()}
    return kept, int(shared.sum())


def table(found: Mapping[str, Mapping[str, Values]], measures: Sequence[Measure]) -> str:
    """A Markdown table, a row a method; ``found`` is method to measure to values by row."""
    counts, cells = [], []
    for measure in measures:
        kept, count = comparable({method: values[measure.name] for method, values in found.items()})
        counts.append(str(count))
        cells.append({method: measure.cell(values) for method, values in kept.items()})
    lines = [
        ["method", *(measure.title for measure in measures)],
        ["---", *("---:" for _ in measures)],
        *([method, *(column[method] for column in cells)] for method in found),
        ["*images*", *counts],
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
