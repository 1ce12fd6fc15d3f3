"""Paired statistics: what changed between two measurements of the same samples, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.statistics import bootstrap, mcnemar

Interval = tuple[float, float]


@dataclass(frozen=True)
class ScoreChange:
    """Paired change of one score, B - A, over the ``n`` samples on which it is defined in both.

    ``mean_a`` and ``mean_b`` are over those same samples. ``interval`` is the 95% percentile bootstrap interval of
    the mean change over samples; None below two of them. ``left_out`` counts the other samples.
    """

    score: str
    n: int
    left_out: int
    mean_a: float | None
    mean_b: float | None
    change: float | None
    interval: Interval | None


@dataclass(frozen=True)
class AccuracyChange:
    """Accuracy on the ``n`` samples with a class and a prediction in both, and McNemar's exact two-sided p.

    The test looks at the samples that one of the two alone has right; p is None where there is none.
    """

    n: int
    a: float | None
    b: float | None
    only_a: int
    only_b: int
    p: float | None


@dataclass(frozen=True)
class RuleChange:
    """Samples that a rule finds in one of two runs or in both, by name.

    ``unjudged`` were found in one and could not be evaluated in the other: neither fixed nor broken.
    """

    rule: str
    kind: str
    fixed: tuple[str, ...]
    broken: tuple[str, ...]
    unchanged: tuple[str, ...]
    unjudged: tuple[str, ...]


@dataclass(frozen=True)
class Agreement:
    """Spearman correlation of two maps of one sample, in [-1, 1]."""

    sample_id: str
    correlation: float


@dataclass(frozen=True)
class MapAgreement:
    """Spearman rank correlation of two maps over the pixels of the view, sample by sample.

    Over the ``n`` samples whose maps explain the same class and of which neither is constant. ``interval`` is the 95%
    percentile bootstrap interval of the median; ``least`` are the samples with the lowest correlation, lowest first.
    ``chance`` is the median correlation of A's map with B's map of another of these samples: what two maps share that
    have nothing but the two models in common. None for fewer than two samples. ``left_out`` counts samples whose maps
    were not looked at.
    """

    n: int
    other_class: int
    undefined: int
    left_out: int
    median: float | None
    interval: Interval | None
    least: tuple[Agreement, ...]
    chance: float | None


def score_change(score: str, values: NDArray[np.float64], left_out: int) -> ScoreChange:
    """The change over pairs (A, B) of one score, ``values`` (n, 2)."""
    if not len(values):
        return ScoreChange(score, 0, left_out, None, None, None, None)
    change = values[:, 1] - values[:, 0]
    return ScoreChange(
        score=score,
        n=len(values),
        left_out=left_out,
        mean_a=float(values[:, 0].mean()),
        mean_b=float(values[:, 1].mean()),
        change=float(change.mean()),
        interval=bootstrap(change, np.mean),
    )


def accuracy_change(right: Sequence[tuple[bool, bool]]) -> AccuracyChange:
    """The change over pairs (A is right, B is right)."""
    n = len(right)
    only_a, only_b = right.count((True, False)), right.count((False, True))
    return AccuracyChange(
        n=n,
        a=sum(a for a, _ in right) / n if n else None,
        b=sum(b for _, b in right) / n if n else None,
        only_a=only_a,
        only_b=only_b,
        p=mcnemar(only_a, only_b),
    )


def map_agreement(
    found: Sequence[Agreement],
    by_chance: Sequence[float],
    other_class: int,
    undefined: int,
    left_out: int,
    top: int,
) -> MapAgreement:
    """The correlations in short, with the ``top`` lowest; ``by_chance`` are those of maps of different samples."""
    values = np.array([agreement.correlation for agreement in found])
    return MapAgreement(
        n=len(found),
        other_class=other_class,
        undefined=undefined,
        left_out=left_out,
        median=float(np.median(values)) if len(values) else None,
        interval=bootstrap(values),
        least=tuple(sorted(found, key=lambda agreement: (agreement.correlation, agreement.sample_id))[:top]),
        chance=float(np.median(by_chance)) if by_chance else None,
    )
