"""What the probabilities of the probes say: does the network need what the map shows?

Every argument is (N,): a softmax probability in [0, 1], NaN where the probe is undefined. So are the results.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from stages.score.nulls import log_odds
from stages.score.ratio import Values, ratio

PROBABILITY_CLAMP = 1e-6
"""Probabilities are kept this far from 0 and 1 before their log-odds are taken: float32 ends near there."""

CROP_FLOOR = 1e-12
"""The saliency metric takes the log of no smaller probability."""

SMALLEST_BOX = 0.05
"""The saliency metric counts a box at least this share of the view."""


def average_drop(p_full: ArrayLike, p_saliency: ArrayLike) -> Values:
    """AD = max(0, p - o) / p, in [0, 1]; undefined where p is 0. Lower is better."""
    full, masked = _values(p_full), _values(p_saliency)
    return ratio(np.maximum(0, full - masked), full)


def average_increase(p_full: ArrayLike, p_saliency: ArrayLike) -> Values:
    """AI = 1 where p < o, else 0. Higher is better."""
    full, masked = _values(p_full), _values(p_saliency)
    return np.where(np.isnan(full) | np.isnan(masked), np.nan, full < masked)


def average_gain(p_full: ArrayLike, p_saliency: ArrayLike) -> Values:
    """AG = max(0, o - p) / (1 - p), in [0, 1]; higher is better.

    Undefined where p is 1: nothing could be gained there, which is no failure to gain.
    """
    full, masked = _values(p_full), _values(p_saliency)
    return ratio(np.maximum(0, masked - full), 1 - full)


def drop(p_full: ArrayLike, p_hidden: ArrayLike) -> Values:
    """What hiding a part costs: p_full - p_hidden, in [-1, 1]."""
    return _values(p_full) - _values(p_hidden)


def drop_logit(p_full: ArrayLike, p_hidden: ArrayLike) -> Values:
    """The same as a difference of log-odds, each p clamped to [1e-6, 1 - 1e-6]: a small p_full cannot drop far."""
    return log_odds(p_full, PROBABILITY_CLAMP) - log_odds(p_hidden, PROBABILITY_CLAMP)


def outside_effect(
    p_full: ArrayLike, p_without: ArrayLike, p_transplant: ArrayLike, p_transplant_null: ArrayLike
) -> Values:
    """What the surroundings of the boxes are worth to the class, in [-1, 1]: their Shapley value (Shapley 1953).

    1/2 (p_full - p_without) + 1/2 (p_transplant - p_transplant_null): what they add to the object, and what they add to
    objects of other classes.
    """
    lost, given = drop(p_full, p_without), drop(p_transplant, p_transplant_null)
    return (lost + given) / 2


def outside_room(p_blank: ArrayLike, p_transplant_null: ArrayLike) -> Values:
    """The most that ``outside_effect`` can be, in [0, 1], for an image on which p of the class is 1.

    1/2 (1 - p_blank) + 1/2 (1 - p_transplant_null), if p falls to ``p_blank`` without the surroundings: a classifier
    that takes an empty view for the class leaves little to be lost.
    """
    return (drop(1, p_blank) + drop(1, p_transplant_null)) / 2


def context_reliance(p_saliency_in_box: ArrayLike, p_saliency_in_context: ArrayLike) -> Values:
    """p(S outside the boxes) / (p(S inside) + p(S outside)), in [0, 1]; undefined where both are 0."""
    inside, outside = _values(p_saliency_in_box), _values(p_saliency_in_context)
    return ratio(outside, inside + outside)


def saliency_metric(map_box_area: ArrayLike, p_crop: ArrayLike) -> Values:
    """SM = log max(.05, |B_p| / hw) - log p_crop, nats; lower is better.

    ``map_box_area`` is the area of the map's box B_p as a share of the view; p_crop counts as at least 1e-12.
    """
    area = np.maximum(SMALLEST_BOX, _values(map_box_area))
    return np.asarray(np.log(area) - np.log(np.maximum(CROP_FLOOR, _values(p_crop))))


def _values(probabilities: ArrayLike) -> Values:
    return np.asarray(probabilities, dtype=np.float64)
