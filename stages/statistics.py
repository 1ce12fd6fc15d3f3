"""Intervals and corrections for shares, medians and families of tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Z95 = 1.959963984540054
"""97.5% quantile of the standard normal distribution."""

_BLOCK = 100_000


def wilson(successes: int, n: int, z: float = Z95) -> tuple[float, float] | None:
    """Wilson score interval of a share, in [0, 1]; None for n = 0.

    Raises ``ValueError`` unless 0 <= successes <= n.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n}")
    if n == 0:
        return None
    share = successes / n
    centre = share + z * z / (2 * n)
    half = z * float(np.sqrt(share * (1 - share) / n + z * z / (4 * n * n)))
    scale = 1 + z * z / n
    # The ends are exact at 0 and n; rounding may leave them a hair outside.
    low = 0.0 if successes == 0 else (centre - half) / scale
    high = 1.0 if successes == n else (centre + half) / scale
    return low, high


def fisher_greater(successes: int, n: int, other_successes: int, other_n: int) -> float:
    """One-sided Fisher exact p: a share this high or higher if both groups had the same."""
    table = [[successes, n - successes], [other_successes, other_n - other_successes]]
    return float(stats.fisher_exact(table, alternative="greater").pvalue)


def benjamini_hochberg(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjusted p-values (false-discovery rate) in the order given; a None was not tested and stays None."""
    tested = [p for p in p_values if p is not None]
    adjusted = iter(stats.false_discovery_control(tested, method="bh").tolist() if tested else [])
    return [None if p is None else float(next(adjusted)) for p in p_values]


def bootstrap(
    values: NDArray[np.floating],
    statistic: Callable[..., NDArray[np.floating]] = np.median,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float] | None:
    """95% percentile bootstrap interval of ``statistic(values, axis)`` over values (n,); None for n = 0.

    Resamples come from ``seed``, so equal values give an equal interval.
    """
    n = len(values)
    if n == 0:
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
