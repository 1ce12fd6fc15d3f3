from __future__ import annotations

import numpy as np
import pytest

from stages.audit.compare.paired import (
    Agreement,
    accuracy_change,
    map_agreement,
    score_change,
)


def test_accuracy_is_of_the_same_samples_on_both_sides() -> None:
    right = [(True, True)] * 4 + [(True, False)] + [(False, True)] * 5
    change = accuracy_change(right)
    assert (change.n, change.a, change.b) == (10, 0.5, 0.9)
    assert (change.only_a, change.only_b, change.p) == (1, 5, pytest.approx(14 / 64))
    assert accuracy_change([]).a is None


def test_a_change_that_is_the_same_everywhere_has_an_interval_of_no_width() -> None:
    change = score_change("ad", np.array([(0.5, 0.25), (1.0, 0.75), (0.25, 0.0)]), left_out=2)
    assert (change.n, change.left_out, change.change) == (3, 2, -0.25)
    assert (change.mean_a, change.mean_b) == (pytest.approx(1.75 / 3), pytest.approx(1 / 3))
    assert change.interval == (-0.25, -0.25)


def test_the_interval_of_two_changes_spans_both() -> None:
    # A resample's mean is 0, .5 or 1 with probability 1/4, 1/2, 1/4: both ends hold far more than 2.5%.
    change = score_change("ad", np.array([(0.0, 0.0), (0.0, 1.0)]), left_out=0)
    assert change.change == 0.5
    assert change.interval == (0.0, 1.0)


def test_one_sample_has_no_interval_and_none_has_no_change() -> None:
    assert score_change("ad", np.array([(0.1, 0.2)]), left_out=0).interval is None
    nothing = score_change("ad", np.empty((0, 2)), left_out=4)
    assert (nothing.n, nothing.left_out, nothing.mean_a, nothing.change, nothing.interval) == (0, 4, None, None, None)


def test_map_agreement_lists_the_lowest_first_and_no_more_than_asked() -> None:
    found = [Agreement("a", 0.5), Agreement("b", -0.5), Agreement("c", 1.0), Agreement("d", -0.5)]
    agreement = map_agreement(found, [0.25, 0.0, 0.5], other_class=2, undefined=1, left_out=5, top=3)
    assert [entry.sample_id for entry in agreement.least] == ["b", "d", "a"]
    assert (agreement.n, agreement.other_class, agreement.undefined, agreement.left_out) == (4, 2, 1, 5)
    assert agreement.median == 0.0
    assert agreement.interval == (-0.5, 1.0)  # a median of four at an end has probability above 2.5%
    assert agreement.chance == 0.25
    nothing = map_agreement([], [], 0, 3, 0, 3)
    assert (nothing.median, nothing.chance) == (None, None)
