"""Intervals of shares, means and medians, corrections for families of tests, and rank correlation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Columns = NDArray[np.float64]

_RESAMPLES = 1000
_BLOCK = 100_000
_ROWS = 64
_DRAWN = 10_000_000
"""Draws of a bootstrap in memory at a time, at most 80 MB, however many rows there are."""


def wilson(successes: int, n: int) -> tuple[float, float] | None:
    """95% Wilson score interval of a share, in [0, 1]; None for n = 0.

    Raises ``ValueError`` unless 0 <= successes <= n.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n}")
    if n == 0:
        return None
    ends = stats.binomtest(successes, n).proportion_ci(0.95, method="wilson")
    return float(ends.low), float(ends.high)


def corrected_share(
    positives: int, n: int, found: int, diseased: int, wrong: int, healthy: int
) -> tuple[float, float, float] | None:
    """The true share behind ``positives`` of ``n`` by a test that errs, and the ends of its 95% interval, in [0, 1].

    The test was positive on ``found`` of ``diseased`` and on ``wrong`` of ``healthy`` when its truth was known. The
    share is that of Rogan and Gladen (1978), the interval that of Lang and Reiczigel (2014), which counts how uncertain
    all three shares are. None for n = 0. Raises ``ValueError`` where the test is positive on the healthy as often.
    """
    sensitivity, specificity = found / diseased, 1 - wrong / healthy
    if sensitivity + specificity <= 1:
        raise ValueError(f"a test that finds {found} of {diseased} and {wrong} of {healthy} others tells nothing")
    if n == 0:
        return None
    z2 = stats.norm.ppf(0.975) ** 2
    # Means of slightly more trials keep the interval from closing where a share is 0 or 1.
    apparent = (positives + z2 / 2) / (n + z2)
    se, sp = (found + 1) / (diseased + 2), (healthy - wrong + 1) / (healthy + 2)
    of_se, of_sp = se * (1 - se) / (diseased + 2), sp * (1 - sp) / (healthy + 2)
    youden = se + sp - 1
    share = (apparent + sp - 1) / youden
    centre = share + 2 * z2 * (share * of_se - (1 - share) * of_sp)
    half = np.sqrt(z2 * (apparent * (1 - apparent) / (n + z2) + share**2 * of_se + (1 - share) ** 2 * of_sp)) / youden
    plain = (positives / n + specificity - 1) / (sensitivity + specificity - 1)
    ends = (plain, centre - half, centre + half)
    rate, low, high = (float(min(1.0, max(0.0, value))) for value in ends)
    return rate, low, high


def fisher_greater(successes: int, n: int, other_successes: int, other_n: int) -> float:
    """One-sided Fisher exact p: a share this high or higher if both groups had the same."""
    table = [[successes, n - successes], [other_successes, other_n - other_successes]]
    return float(stats.fisher_exact(table, alternative="greater").pvalue)


def mcnemar(only_a: int, only_b: int) -> float | None:
    """Exact two-sided McNemar p of the discordant pairs: a binomial test of 1/2; None without any."""
    return float(stats.binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else None


def benjamini_hochberg(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjusted p-values (false-discovery rate) in the order given; a None was not tested and stays None."""
    tested = [p for p in p_values if p is not None]
    adjusted = iter(stats.false_discovery_control(tested, method="bh").tolist() if tested else [])
    return [None if p is None else float(next(adjusted)) for p in p_values]


def bootstrap(
    values: NDArray[np.floating],
    statistic: Callable[..., NDArray[np.floating]] = np.median,
    *,
    resamples: int = _RESAMPLES,
    seed: int = 0,
) -> tuple[float, float] | None:
    """95% percentile bootstrap interval of ``statistic(values, axis)`` over values (n,); None for n < 2.

    Resamples come from ``seed``, so equal values give an equal interval.
    """
    n = len(values)
    if n < 2:  # every resample of one value is that value: an interval of width 0 would be certainty from one sample
        return None
    generator = np.random.default_rng(seed)
    # Many resamples of a few values at once, few of many: at 50,000 values all of them would be 400 MB.
    block = max(1, _BLOCK // n)
    draws = [
        statistic(values[generator.integers(0, n, (min(block, resamples - done), n))], axis=1)
        for done in range(0, resamples, block)
    ]
    low, high = np.quantile(np.concatenate(draws), [0.025, 0.975])
    return float(low), float(high)


def mean_intervals(values: Columns) -> tuple[Columns, Columns]:
    """95% percentile bootstrap intervals of the means of columns (n, m), NaN left out: low (m,) and high (m,).

    Rows are drawn, the same ones for every column, from a fixed seed. Every column must have a value.
    """
    known = ~np.isnan(values)
    return ratio_intervals(np.where(known, values, 0.0), known.astype(np.float64))


def ratio_intervals(sums: Columns, counts: Columns) -> tuple[Columns, Columns]:
    """The same for the quotients of the columns' totals: ``sums`` and ``counts`` (n, m)."""
    n = len(sums)
    generator = np.random.default_rng(0)
    drawn = []
    rows = max(1, min(_ROWS, _DRAWN // n)) if n else _ROWS
    for start in range(0, _RESAMPLES, rows):
        draws = generator.integers(0, n, (min(rows, _RESAMPLES - start), n))
        # How often each row was drawn, so that a resample is a product and not a copy of the rows.
        times = np.stack([np.bincount(draw, minlength=n) for draw in draws]).astype(np.float64)
        drawn.append(_ratio(times @ sums, times @ counts))
    low, high = np.nanquantile(np.concatenate(drawn), [0.025, 0.975], axis=0)
    return low, high


def rank_correlation(a: NDArray[np.floating[Any]], b: NDArray[np.floating[Any]]) -> float:
    """Spearman correlation of two arrays of one shape, ties at their mean rank, in [-1, 1].

    NaN where one of them is constant or not finite.
    """
    varied = all(bool(np.isfinite(one).all()) and np.ptp(one) > 0 for one in (a, b))
    return float(stats.spearmanr(a, b, axis=None).statistic) if varied else np.nan


def _ratio(sums: Columns, counts: Columns) -> Columns:
    ratios: Columns = np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)
    return ratios
