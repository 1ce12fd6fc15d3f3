import numpy as np
import pytest

from stages.explain.sanity.similarity import METRICS, hog_correlation, ssim

RIGHTWARDS = np.tile(np.linspace(0, 1, 28), (28, 1))
CONSTANT = np.full((28, 28), 0.5)


def test_ssim_of_one_window_is_its_formula() -> None:
    # Wang et al., 2004, equation 13, with the sample covariance; a map of 7 x 7 px is one window.
    a, b = np.random.default_rng(0).random((2, 7, 7))
    (va, cov), (_, vb) = np.cov(a.ravel(), b.ravel())
    c1, c2 = 0.01**2, 0.03**2
    expected = (2 * a.mean() * b.mean() + c1) * (2 * cov + c2)
    expected /= (a.mean() ** 2 + b.mean() ** 2 + c1) * (va + vb + c2)
    assert ssim(a, b) == pytest.approx(expected)


def test_ssim_is_defined_for_constant_maps() -> None:
    # Luminance alone differs: 2 * .5 * .25 over .5^2 + .25^2, each with the constant of the range.
    assert ssim(CONSTANT, CONSTANT / 2) == pytest.approx((0.25 + 1e-4) / (0.3125 + 1e-4))


def test_hog_sees_directions_and_not_signs_or_contrast() -> None:
    # Every cell of a ramp has one orientation of nine, so two directions agree in 7 bins of 9 that are both empty:
    # the covariance is -1/81 and the variance 8/81.
    assert hog_correlation(RIGHTWARDS, RIGHTWARDS.T) == pytest.approx(-1 / 8, abs=1e-3)
    assert hog_correlation(RIGHTWARDS, RIGHTWARDS[:, ::-1]) == pytest.approx(1, abs=1e-3)
    assert hog_correlation(RIGHTWARDS, RIGHTWARDS / 2) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("metric", METRICS)
def test_a_map_is_like_itself_and_nothing_is_like_a_map_that_is_not_there(metric) -> None:
    assert METRICS[metric](RIGHTWARDS, RIGHTWARDS) == pytest.approx(1)
    assert np.isnan(METRICS[metric](RIGHTWARDS, np.full((28, 28), np.nan)))


@pytest.mark.parametrize("metric", [METRICS["spearman"], hog_correlation])
def test_a_constant_map_has_no_order_and_no_direction(metric) -> None:
    assert np.isnan(metric(RIGHTWARDS, CONSTANT))
    assert np.isnan(metric(CONSTANT, RIGHTWARDS))
