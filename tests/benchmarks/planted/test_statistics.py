from __future__ import annotations

import numpy as np
import pytest

from benchmarks.planted.statistics import (
    Estimate,
    auroc,
    average_precision,
    estimate,
    precision,
    recall,
    stratified,
)

TRUTH = np.array([True, True, True, False, False, False, False, False])
FLAGGED = np.array([True, True, False, True, False, False, False, False])


def test_precision_and_recall_count() -> None:
    assert precision(TRUTH, FLAGGED) == pytest.approx(2 / 3)
    assert recall(TRUTH, FLAGGED) == pytest.approx(2 / 3)
    assert precision(TRUTH, ~TRUTH) == 0
    assert recall(TRUTH, ~TRUTH) == 0


def test_what_cannot_be_counted_is_undefined() -> None:
    nothing = np.zeros(8, dtype=bool)
    assert precision(TRUTH, nothing) is None
    assert recall(nothing, FLAGGED) is None
    assert auroc(nothing, np.arange(8.0)) is None
    assert auroc(~nothing, np.arange(8.0)) is None
    assert average_precision(nothing, np.arange(8.0)) is None
    assert estimate(precision, TRUTH, nothing, np.zeros(8)) == Estimate(None)


def test_auroc_is_the_share_of_pairs_in_order_and_ties_count_half() -> None:
    truth = np.array([True, True, False, False])
    # Pairs (positive, negative): .9 over .5 and .1; .5 ties with .5 and beats .1: 3.5 of 4.
    assert auroc(truth, np.array([0.9, 0.5, 0.5, 0.1])) == pytest.approx(3.5 / 4)


def test_an_undefined_score_ranks_last() -> None:
    truth = np.array([True, True, False, False])
    # The undefined positive is beaten by both negatives; the other beats both: 2 of 4.
    assert auroc(truth, np.array([0.9, np.nan, -5.0, 0.1])) == pytest.approx(2 / 4)
    # Ranked 1st and 4th of 4: (1 / 1 + 2 / 4) / 2.
    assert average_precision(truth, np.array([0.9, np.nan, -5.0, 0.1])) == pytest.approx(0.75)


def test_resamples_keep_the_size_of_every_stratum() -> None:
    strata = np.array(["a", "b", "a", "b", "b"])
    drawn = list(stratified(strata, 50, seed=1))
    assert len(drawn) == 50
    for places in drawn:
        assert sorted(strata[places]) == ["a", "a", "b", "b", "b"]
    assert len({tuple(places) for places in drawn}) > 10


def test_the_interval_of_a_share_is_that_of_the_binomial() -> None:
    truth = np.ones(400, dtype=bool)
    flagged = np.arange(400) < 100
    found = estimate(recall, truth, flagged, np.zeros(400), resamples=2000)
    assert found.value == 0.25
    deviation = (0.25 * 0.75 / 400) ** 0.5  # of a binomial share
    assert found.low == pytest.approx(0.25 - 1.96 * deviation, abs=0.006)
    assert found.high == pytest.approx(0.25 + 1.96 * deviation, abs=0.006)


def test_strata_take_the_spread_between_experiments_out_of_the_interval() -> None:
    # All flagged in one experiment, none in the other: within each there is nothing to vary.
    truth = np.ones(40, dtype=bool)
    flagged = np.arange(40) < 20
    within = estimate(recall, truth, flagged, flagged.astype(int))
    assert (within.low, within.value, within.high) == (0.5, 0.5, 0.5)
    across = estimate(recall, truth, flagged, np.zeros(40))
    assert across.low is not None
    assert across.low < 0.4


def test_undefined_resamples_are_left_out() -> None:
    only = np.arange(40) < 1
    # One flag among 40, and it is right: 36% of the resamples hold none, in the others the precision is 1.
    assert estimate(precision, only, only, np.zeros(40)) == Estimate(1.0, 1.0, 1.0)


def test_no_interval_where_the_figure_is_mostly_undefined(monkeypatch: pytest.MonkeyPatch) -> None:
    # Six of these ten resamples lack a negative.
    lacking = [np.array([0, 0])] * 6 + [np.array([0, 1])] * 4
    monkeypatch.setattr("benchmarks.planted.statistics.stratified", lambda *args: lacking)
    found = estimate(auroc, np.array([True, False]), np.array([1.0, 0.0]), np.zeros(2), resamples=10)
    assert found == Estimate(1.0)


def test_an_estimate_says_what_it_knows() -> None:
    assert str(Estimate(0.914, 0.8, 1.0)) == "0.91 [0.80, 1.00]"
    assert str(Estimate(0.914)) == "0.91"
    assert str(Estimate(None)) == "-"
