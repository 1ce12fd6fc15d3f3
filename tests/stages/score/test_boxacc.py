from __future__ import annotations

import math

import numpy as np
import pytest

from stages.score.boxacc import max_box_acc, threshold_ious
from stages.score.localization import pad_boxes


def test_each_threshold_has_the_iou_of_its_own_component() -> None:
    # A 2 x 2 core at 1 within a 4 x 4 block at .5; the box is the core.
    maps = np.zeros((1, 8, 8), dtype=np.float32)
    maps[0, 1:5, 1:5] = 0.5
    maps[0, 2:4, 2:4] = 1
    boxes = pad_boxes([np.array([[2.0, 2, 4, 4]])])
    assert threshold_ious(maps, boxes, [0.2, 0.7, 1.0]).tolist() == [[4 / 16, 1, 0]]


def test_all_contours_find_a_box_that_the_largest_misses() -> None:
    maps = np.zeros((1, 8, 8), dtype=np.float32)
    maps[0, 0:3, 0:3] = 1
    maps[0, 6:8, 6:8] = 1
    boxes = pad_boxes([np.array([[6.0, 6, 8, 8]])])
    assert threshold_ious(maps, boxes, [0.5], "largest").tolist() == [[0]]
    assert threshold_ious(maps, boxes, [0.5], "all").tolist() == [[1]]


def test_a_constant_map_and_a_sample_without_box_are_undefined() -> None:
    maps = np.zeros((2, 8, 8), dtype=np.float32)
    maps[1, 0, 0] = 1
    boxes = pad_boxes([np.array([[0.0, 0, 2, 2]]), np.empty((0, 4))])
    for contours in ("largest", "all"):
        assert np.isnan(threshold_ious(maps, boxes, [0.0, 0.5], contours)).all()


def test_the_threshold_is_chosen_for_the_dataset_not_for_the_image() -> None:
    # Each sample has a threshold that finds its box, but no threshold finds more than two of the three.
    ious = np.array([[0.9, 0.1, 0.6], [0.2, 0.8, 0.6], [0.9, 0.2, 0.2]])
    result = max_box_acc(ious, [0.1, 0.2, 0.3])
    # delta .3: 2, 1, 2 of 3; .5: 2, 1, 2; .7: 2, 1, 0. Ties go to the lowest threshold.
    assert result.accuracy == pytest.approx((2 / 3, 2 / 3, 2 / 3))
    assert result.thresholds == (0.1, 0.1, 0.1)
    assert result.mean == pytest.approx(2 / 3)
    assert result.samples == 3


def test_each_iou_level_has_its_own_threshold() -> None:
    ious = np.array([[0.4, 0.0], [0.4, 0.8]])
    result = max_box_acc(ious, [0.2, 0.6])
    assert result.accuracy == (1, 0.5, 0.5)
    assert result.thresholds == (0.2, 0.6, 0.6)


def test_undefined_samples_are_left_out() -> None:
    result = max_box_acc(np.array([[np.nan, np.nan], [0.8, 0.0]]), [0.2, 0.6])
    assert (result.accuracy, result.samples) == ((1, 1, 1), 1)
    assert math.isnan(max_box_acc(np.full((1, 2), np.nan), [0.2, 0.6]).mean)
