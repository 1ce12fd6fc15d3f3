from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from stages.geometry import largest_component_box
from stages.score.boxacc import NOTHING_FOUND, best_thresholds, count_found, threshold_ious
from stages.score.localization import iou_best, pad_boxes


def test_each_threshold_has_the_iou_of_its_own_component() -> None:
    # A 2 x 2 core at 1 within a 4 x 4 block at .5; the box is the core.
    maps = np.zeros((1, 8, 8), dtype=np.float32)
    maps[0, 1:5, 1:5] = 0.5
    maps[0, 2:4, 2:4] = 1
    boxes = pad_boxes([np.array([[2.0, 2, 4, 4]])])
    ious = threshold_ious(maps, boxes, [0.2, 0.7, 1.0])
    assert ious.largest.tolist() == ious.every.tolist() == [[4 / 16, 1, 0]]


def test_all_contours_find_a_box_that_the_largest_misses() -> None:
    maps = np.zeros((1, 8, 8), dtype=np.float32)
    maps[0, 0:3, 0:3] = 1
    maps[0, 6:8, 6:8] = 1
    ious = threshold_ious(maps, pad_boxes([np.array([[6.0, 6, 8, 8]])]), [0.5])
    assert (ious.largest.tolist(), ious.every.tolist()) == ([[0]], [[1]])


def test_the_best_of_several_boxes_counts() -> None:
    maps = np.zeros((1, 8, 8), dtype=np.float32)
    maps[0, 0:2, 0:4] = 1
    boxes = pad_boxes([np.array([[4.0, 4, 8, 8], [0, 0, 4, 4]])])
    assert threshold_ious(maps, boxes, [0.5]).largest.tolist() == [[0.5]]


def test_a_constant_map_and_a_sample_without_box_are_undefined() -> None:
    maps = np.zeros((2, 8, 8), dtype=np.float32)
    maps[1, 0, 0] = 1
    boxes = pad_boxes([np.array([[0.0, 0, 2, 2]]), np.empty((0, 4))])
    ious = threshold_ious(maps, boxes, [0.0, 0.5])
    assert np.isnan(ious.largest).all()
    assert np.isnan(ious.every).all()


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(np.float32, (2, 8, 8), elements=st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.7, 1.0])))
def test_the_largest_component_is_that_of_a_search_over_the_whole_map(maps: np.ndarray) -> None:
    boxes = pad_boxes([np.array([[1.0, 1, 5, 4]]), np.array([[0.0, 5, 8, 8], [6, 0, 8, 2]])])
    cuts = [0.0, 0.2, 0.3, 0.6, 0.9]
    largest = threshold_ious(maps, boxes, cuts).largest
    for place, cut in enumerate(cuts):
        wanted = iou_best(largest_component_box(maps, cut), boxes)
        defined = ~np.isnan(largest[:, place])
        np.testing.assert_array_equal(largest[defined, place], np.nan_to_num(wanted[defined]))


def test_thresholds_that_do_not_rise_are_refused() -> None:
    with pytest.raises(ValueError, match="must rise"):
        threshold_ious(np.zeros((1, 8, 8), dtype=np.float32), pad_boxes([np.empty((0, 4))]), [0.5, 0.2])


def test_the_threshold_is_chosen_for_the_dataset_not_for_the_image() -> None:
    # Each sample has a threshold that finds its box, but no threshold finds more than two of the three.
    ious = np.array([[0.9, 0.1, 0.6], [0.2, 0.8, 0.6], [0.9, 0.2, 0.2]])
    result = best_thresholds(count_found(ious), [0.1, 0.2, 0.3])
    # delta .3: 2, 1, 2 of 3; .5: 2, 1, 2; .7: 2, 1, 0. Ties go to the lowest threshold.
    assert result.accuracy == pytest.approx((2 / 3, 2 / 3, 2 / 3))
    assert result.thresholds == (0.1, 0.1, 0.1)
    assert result.mean == pytest.approx(2 / 3)
    assert result.samples == 3


def test_batches_that_are_counted_apart_are_judged_together() -> None:
    ious = np.array([[0.9, 0.1, 0.6], [0.2, 0.8, 0.6], [0.9, 0.2, 0.2]])
    cuts = [0.1, 0.2, 0.3]
    apart = count_found(ious[:1]) + count_found(ious[1:])
    assert best_thresholds(apart, cuts) == best_thresholds(count_found(ious), cuts)


def test_each_iou_level_has_its_own_threshold() -> None:
    ious = np.array([[0.4, 0.0], [0.4, 0.8]])
    result = best_thresholds(count_found(ious), [0.2, 0.6])
    assert result.accuracy == (1, 0.5, 0.5)
    assert result.thresholds == (0.2, 0.6, 0.6)


def test_undefined_samples_are_left_out() -> None:
    result = best_thresholds(count_found(np.array([[np.nan, np.nan], [0.8, 0.0]])), [0.2, 0.6])
    assert (result.accuracy, result.samples) == ((1, 1, 1), 1)
    assert math.isnan(best_thresholds(NOTHING_FOUND).mean)
