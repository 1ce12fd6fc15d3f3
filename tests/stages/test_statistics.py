from __future__ import annotations

from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from stages import statistics
from stages.statistics import (
    benjamini_hochberg,
    bootstrap,
    corrected_share,
    fisher_greater,
    mcnemar,
    rank_correlation,
    wilson,
)


def test_wilson_of_eight_in_ten_is_the_textbook_interval() -> None:
    assert wilson(8, 10) == pytest.approx((0.490, 0.943), abs=5e-4)


def test_wilson_reaches_the_ends_exactly_and_never_beyond() -> None:
    # z^2 / (n + z^2) = 3.8415 / 13.8415
    assert wilson(0, 10) == (0.0, pytest.approx(0.2775, abs=1e-4))
    assert wilson(10, 10) == (pytest.approx(0.7225, abs=1e-4), 1.0)


def test_wilson_of_nothing_is_undefined_and_of_nonsense_an_error() -> None:
    assert wilson(0, 0) is None
    with pytest.raises(ValueError, match="3 successes of 2"):
        wilson(3, 2)


@given(st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_where_the_score_test_of_the_share_just_passes(share: tuple[int, int]) -> None:
    hits, n = share
    for end in wilson(hits, n):  # type: ignore[union-attr]
        # (p - hits / n)^2 = z^2 p (1 - p) / n, at z = 1.959964
        assert (end - hits / n) ** 2 == pytest.approx(1.959964**2 * end * (1 - end) / n, abs=1e-6)


def test_fisher_of_three_in_three_against_none_in_three_is_one_arrangement_of_twenty() -> None:
    assert fisher_greater(3, 3, 0, 3) == pytest.approx(1 / 20)


def test_fisher_is_one_sided() -> None:
    assert fisher_greater(0, 3, 3, 3) == pytest.approx(1.0)


@given(*[st.integers(0, 12)] * 4)
def test_fisher_counts_the_arrangements_that_are_as_lopsided(hits: int, misses: int, other: int, rest: int) -> None:
    n, successes, whole = hits + misses, hits + other, hits + misses + other + rest
    ways = sum(comb(successes, k) * comb(whole - successes, n - k) for k in range(hits, min(n, successes) + 1))
    assert fisher_greater(hits, n, other, other + rest) == pytest.approx(ways / comb(whole, n))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.floats(0.001, 0.5))
def test_benjamini_hochberg_rejects_what_the_step_up_procedure_does(p: list[float], level: float) -> None:
    # Benjamini and Hochberg 1995: with p(1) <= ... <= p(m), reject all up to the last p(k) <= k / m * level.
    ordered, m = sorted(p), len(p)
    last = max((k for k in range(1, m + 1) if ordered[k - 1] <= k / m * level), default=0)
    cut = ordered[last - 1] if last else -1.0
    adjusted = benjamini_hochberg(p)
    for own, q in zip(p, adjusted, strict=True):
        assert q is not None
        if abs(q - level) > 1e-12:  # else rounding decides
            assert (q <= level) == (own <= cut)


def test_benjamini_hochberg_scales_by_rank_and_never_overtakes_a_larger_p() -> None:
    # Sorted .01 .03 .04 .20, times 4 / rank: .04 .06 .0533 .20; the second takes the smaller value above it.
    adjusted = benjamini_hochberg([0.01, 0.04, 0.03, 0.20])
    assert adjusted == pytest.approx([0.04, 4 * 0.04 / 3, 4 * 0.04 / 3, 0.20])


def test_benjamini_hochberg_counts_only_what_was_tested() -> None:
    assert benjamini_hochberg([None, 0.01, None, 0.04]) == [None, pytest.approx(0.02), None, pytest.approx(0.04)]
    assert benjamini_hochberg([None]) == [None]
    assert benjamini_hochberg([]) == []


def test_bootstrap_of_equal_values_is_a_point_and_repeats_itself() -> None:
    assert bootstrap(np.full(5, 1.5)) == (1.5, 1.5)
    values = np.arange(20.0)
    assert bootstrap(values, seed=3) == bootstrap(values, seed=3)
    assert bootstrap(np.array([])) is None
    assert bootstrap(np.array([3.5])) is None, "one value says nothing of how much others differ"


def test_bootstrap_of_a_mean_agrees_with_the_normal_interval() -> None:
    values = np.random.default_rng(1).normal(size=400)
    low, high = bootstrap(values, np.mean, resamples=2000) or (0, 0)
    half = 1.96 * values.std() / np.sqrt(400)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.02)


def test_bootstrap_of_a_median_agrees_with_the_order_statistics_that_bound_it() -> None:
    # The exact 95% interval of a median of 400 lies between the order statistics 180 and 221 (binomial, p = 1/2).
    values = np.sort(np.random.default_rng(2).random(400))
    low, high = bootstrap(values) or (0, 0)
    assert (low, high) == pytest.approx((values[179], values[220]), abs=0.01)


def test_bootstrap_takes_as_many_resamples_of_few_values_as_of_many() -> None:
    for n in (3, 150_000):
        seen: list[int] = []

        def count(values: np.ndarray, axis: int, seen: list[int] = seen) -> np.ndarray:
            seen.append(len(values))
            return values[:, 0]

        bootstrap(np.zeros(n), count, resamples=20)
        assert sum(seen) == 20


def test_bootstrap_of_a_mean_is_scipys_percentile_bootstrap_but_for_the_draws() -> None:
    values = np.random.default_rng(5).gamma(2.0, size=120)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=6).confidence_interval
    ours = bootstrap(values, np.mean, resamples=20_000)
    # With 20,000 draws an end of the interval is known to about a hundredth of its width.
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.03 * (theirs.high - theirs.low))


def test_bootstrap_of_a_median_ends_where_the_exact_distribution_does() -> None:
    # Of 101 draws from 101 values the 51st is at most the k-th value if 51 or more of them are: Bin(101, k / 101).
    values = np.sort(np.random.default_rng(5).gamma(2.0, size=101))
    at_most = stats.binom.sf(50, 101, np.arange(1, 102) / 101)
    low, high = (int(np.searchsorted(at_most, share)) for share in (0.025, 0.975))
    for level in (at_most[low - 1], at_most[low], at_most[high - 1], at_most[high]):
        assert min(abs(level - 0.025), abs(level - 0.975)) > 0.0025  # 20,000 draws know a level to .0011
    assert bootstrap(values, resamples=20_000) == (values[low], values[high])


@pytest.mark.parametrize(
    ("only_a", "only_b", "p"),
    [
        (1, 5, 2 * (1 + 6) / 64),  # two tails of six coin tosses with at most one head
        (5, 1, 2 * (1 + 6) / 64),
        (0, 5, 2 / 32),
        (3, 3, 1.0),
        (0, 0, None),
    ],
)
def test_mcnemar_is_the_sign_test_of_the_discordant_pairs(only_a: int, only_b: int, p: float | None) -> None:
    assert mcnemar(only_a, only_b) == (p if p is None else pytest.approx(p))


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        # 1 - 6 * sum of squared rank differences / (n (n^2 - 1)), here 1 - 12 / 60
        ([[1, 2], [3, 4]], [[1, 3], [2, 4]], 0.8),
        ([[1, 2], [3, 4]], [[10, 20], [30, 1000]], 1.0),
        ([[1, 2], [3, 4]], [[4, 3], [2, 1]], -1.0),
        # Ranks 1.5, 1.5, 3, 4 against 1, 2, 3, 4: 4.5 / sqrt(4.5 * 5)
        ([[1, 1], [2, 3]], [[1, 2], [3, 4]], 4.5 / np.sqrt(22.5)),
        ([[1, 1], [1, 1]], [[1, 2], [3, 4]], np.nan),
        ([[1, np.nan], [1, 2]], [[1, 2], [3, 4]], np.nan),
    ],
)
def test_rank_correlation_by_hand(a: list[list[float]], b: list[list[float]], expected: float) -> None:
    found = rank_correlation(np.array(a, dtype=float), np.array(b, dtype=float))
    assert found == pytest.approx(expected, nan_ok=True)


def test_a_share_is_corrected_by_the_errors_of_the_test() -> None:
    # By hand: sensitivity .9, specificity .95: (.2 - .05) / (.9 + .95 - 1) = .15 / .85.
    rate, low, high = corrected_share(32, 160, 90, 100, 5, 100)
    assert rate == pytest.approx(0.15 / 0.85)
    assert low < rate < high


def test_fewer_positives_than_the_errors_make_are_a_share_of_none() -> None:
    assert corrected_share(0, 50, 90, 100, 5, 100)[:2] == (0.0, 0.0)
    assert corrected_share(50, 50, 90, 100, 5, 100)[::2] == (1.0, 1.0)


@pytest.mark.parametrize("truth", [0.0, 0.05, 0.3, 0.8, 1.0])
def test_the_interval_of_the_corrected_share_holds_the_truth_in_about_95_of_100_trials(truth: float) -> None:
    draw = np.random.default_rng(1).binomial
    sensitivity, specificity, trials = 0.9, 0.96, 2000
    positive = truth * sensitivity + (1 - truth) * (1 - specificity)
    held = 0
    for _ in range(trials):
        drawn = draw(160, positive), 160, draw(300, sensitivity), 300, draw(1000, 1 - specificity), 1000
        _, low, high = corrected_share(*map(int, drawn))
        held += low <= truth <= high
    # Three standard errors of a coverage of .95 in 2,000 trials; at the ends of [0, 1] it may hold more often.
    assert held / trials >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / trials)
    assert held / trials <= 0.975 or truth in (0.0, 1.0)


def test_no_images_have_no_share_and_a_test_that_tells_nothing_is_an_error() -> None:
    assert corrected_share(0, 0, 90, 100, 5, 100) is None
    with pytest.raises(ValueError, match="tells nothing"):
        corrected_share(3, 10, 5, 10, 5, 10)


@pytest.mark.parametrize("drawn", [1, 999, 50_000])
def test_an_interval_does_not_depend_on_how_many_draws_are_in_memory(
    monkeypatch: pytest.MonkeyPatch, drawn: int
) -> None:
    values = np.random.default_rng(3).normal(size=(41, 3))
    values[::5, 1] = np.nan
    whole = statistics.mean_intervals(values)
    monkeypatch.setattr(statistics, "_DRAWN", drawn)
    np.testing.assert_allclose(statistics.mean_intervals(values), whole, rtol=1e-12)
