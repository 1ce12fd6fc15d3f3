from __future__ import annotations

import math

import numpy as np
import pytest

from stages.score.faithfulness import (
    average_drop,
    average_gain,
    average_increase,
    context_reliance,
    drop,
    drop_logit,
    outside_effect,
    outside_room,
    saliency_metric,
)

UNDEFINED = math.nan


def test_average_drop_by_hand() -> None:
    np.testing.assert_allclose(average_drop([0.8, 0.8, 0.5], [0.6, 0.9, 0.0]), [0.25, 0, 1])


def test_average_increase_is_strict() -> None:
    assert average_increase([0.5, 0.5, 0.5], [0.6, 0.5, 0.4]).tolist() == [1, 0, 0]


def test_average_gain_by_hand() -> None:
    np.testing.assert_allclose(average_gain([0.5, 0.6, 0.5], [0.75, 0.4, 1.0]), [0.5, 0, 1])


def test_the_outside_effect_is_the_shapley_value_of_the_surroundings() -> None:
    # A game of two players: object and surroundings .9, object alone .3, surroundings alone .6, neither .1. Over both
    # orders the surroundings add .9 - .3 and .6 - .1.
    orders = [[0.9 - 0.3, 0.6 - 0.1], [1.0 - 1.0, 0.05 - 0.05], [0.8 - 0.9, 0.0 - 0.2]]
    effect = outside_effect([0.9, 1.0, 0.8], [0.3, 1.0, 0.9], [0.6, 0.05, 0.0], [0.1, 0.05, 0.2])
    np.testing.assert_allclose(effect, np.mean(orders, axis=1))


def test_a_class_that_an_empty_view_is_taken_for_leaves_little_room_for_an_effect() -> None:
    # .1 to lose where p is .9 on an empty view, and .2 to give where other objects have .8 of the class alone.
    np.testing.assert_allclose(outside_room([0.9, 1.0, 0.0], [0.8, 1.0, 0.0]), [0.15, 0.0, 1.0])


def test_a_drop_from_nothing_and_a_gain_on_certainty_are_undefined() -> None:
    assert np.isnan(average_drop([0.0], [0.2]))
    assert np.isnan(average_gain([1.0], [1.0]))
    assert average_increase([1.0], [1.0]).tolist() == [0]


@pytest.mark.parametrize("score", [average_drop, average_increase, average_gain, drop, drop_logit, context_reliance])
def test_an_undefined_probe_gives_an_undefined_score(score: object) -> None:
    assert np.isnan(score([UNDEFINED, 0.5], [0.5, UNDEFINED])).all()  # type: ignore[operator]


def test_drops_by_hand() -> None:
    assert drop([0.9], [0.4]).tolist() == pytest.approx([0.5])
    # logit .9 = log 9, logit .25 = -log 3.
    assert drop_logit([0.9], [0.25]).tolist() == pytest.approx([math.log(27)])


def test_the_log_odds_of_certainty_are_clamped() -> None:
    assert drop_logit([1.0], [0.0]).tolist() == pytest.approx([2 * math.log((1 - 1e-6) / 1e-6)])
    assert drop_logit([1.0], [1.0]).tolist() == [0]


def test_context_reliance_by_hand() -> None:
    assert context_reliance([0.6, 0.0], [0.2, 0.3]).tolist() == pytest.approx([0.25, 1])
    assert np.isnan(context_reliance([0.0], [0.0]))


def test_the_saliency_metric_by_hand() -> None:
    # A box of a quarter of the view whose crop has p .5: log(.25) - log(.5) = -log 2. A tiny box counts .05.
    np.testing.assert_allclose(saliency_metric([0.25, 0.001], [0.5, 1.0]), [-math.log(2), math.log(0.05)])
    assert saliency_metric([1.0], [0.0]).tolist() == pytest.approx([-math.log(1e-12)])
    assert np.isnan(saliency_metric([np.nan, 0.5], [0.5, np.nan])).all()
