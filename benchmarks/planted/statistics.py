"""How well a score ranks and a threshold decides, with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn import config_context
from sklearn.metrics import average_precision_score, roc_auc_score

RESAMPLES = 200

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95% interval; None where it is undefined."""

    value: float | None
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        if self.value is None:
            return "-"
        if self.low is None or self.high is None:
            return f"{self.value:.2f}"
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


def auroc(truth: Bools, score: Floats) -> float | None:
    """Area under the ROC curve; None without both positives and negatives."""
    if truth.all() or not truth.any():
        return None
    return float(roc_auc_score(truth, _ranked(score)))


def average_precision(truth: Bools, score: Floats) -> float | None:
    """Average precision; None without positives."""
    return float(average_precision_score(truth, _ranked(score))) if truth.any() else None


def precision(truth: Bools, flagged: Bools) -> float | None:
    """Share of the flagged that are positive; None where nothing is flagged."""
    return float(truth[flagged].mean()) if flagged.any() else None


def recall(truth: Bools, flagged: Bools) -> float | None:
    """Share of the positives that are flagged; None without positives."""
    return float(flagged[truth].mean()) if truth.any() else None


def estimate(
    statistic: Callable[[Bools, NDArray], float | None],
    truth: Bools,
    values: NDArray,
    strata: NDArray,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """``statistic(truth, values)`` with its 95% percentile bootstrap interval.

    Images are drawn with replacement within each stratum (an experiment), so every experiment keeps its weight.
    Resamples in which the statistic is undefined are left out; there is no interval if more than half of them are.
    """
    value = statistic(truth, values)
    if value is None:
        return Estimate(None)
    with config_context(assume_finite=True, skip_parameter_validation=True):  # half the time
        drawn = [statistic(truth[places], values[places]) for places in stratified(strata, resamples, seed)]
    defined = [draw for draw in drawn if draw is not None]
    if len(defined) <= resamples / 2:
        return Estimate(value)
    low, high = np.quantile(defined, [0.025, 0.975])
    return Estimate(value, float(low), float(high))


def stratified(strata: NDArray, resamples: int, seed: int) -> Iterator[NDArray[np.intp]]:
    """Places drawn with replacement, in each stratum as many as it has."""
    generator = np.random.default_rng(seed)
    groups = [np.flatnonzero(strata == stratum) for stratum in dict.fromkeys(strata.tolist())]
    for _ in range(resamples):
        yield np.concatenate([generator.choice(group, len(group)) for group in groups])


def _ranked(score: Floats) -> Floats:
    """A score that is undefined says nothing, so it ranks last."""
    defined = score[~np.isnan(score)]
    lowest = float(defined.min()) - 1.0 if len(defined) else 0.0
    return np.where(np.isnan(score), lowest, score)
