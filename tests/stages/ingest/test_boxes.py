from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.ingest.boxes import place_boxes
from stages.ingest.record import Box

numbers = st.floats(width=64) | st.integers(-50, 50).map(float)
boxes = st.builds(Box, numbers, numbers, numbers, numbers, st.none() | st.just("dog"), st.none())
sides = st.integers(1, 40)


@pytest.mark.parametrize(
    ("box", "cut"),
    [
        (Box(5, 6, 25, 26), (5, 6, 25, 26)),
        (Box(-3, -4, 10, 12), (0, 0, 10, 12)),
        (Box(30.5, 20, 60, 31), (30.5, 20, 40, 30)),
        (Box(-1, -1, 1000, 1000), (0, 0, 40, 30)),
        (Box(39, 29, 40, 30), (39, 29, 40, 30)),
    ],
)
def test_a_box_is_cut_to_the_image(box: Box, cut: tuple[float, ...]) -> None:
    kept, dropped = place_boxes([box], 40, 30)
    assert [entry[:4] for entry in kept] == [cut]
    assert dropped == []


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        (Box(5, 5, 5, 20), "box 1 (5, 5, 5, 20) has no area"),
        (Box(20, 5, 10, 20), "box 1 (20, 5, 10, 20) has no area"),
        (Box(40, 0, 50, 10), "box 1 (40, 0, 50, 10) lies outside the image of 40 x 30"),
        (Box(-9, 0, 0, 10), "box 1 (-9, 0, 0, 10) lies outside the image of 40 x 30"),
        (Box(0, 30, 5, 31), "box 1 (0, 30, 5, 31) lies outside the image of 40 x 30"),
        (Box(math.nan, 0, 5, 5), "box 1 (nan, 0, 5, 5) is not finite"),
        (Box(0, 0, math.inf, 5), "box 1 (0, 0, inf, 5) is not finite"),
    ],
)
def test_a_box_of_no_use_is_dropped_with_its_numbers(box: Box, reason: str) -> None:
    assert place_boxes([box], 40, 30) == ([], [reason])


def test_boxes_are_counted_from_one_in_the_datasets_order() -> None:
    kept, dropped = place_boxes([Box(0, 0, 1, 1), Box(3, 3, 3, 3), Box(2, 2, 4, 4, "dog")], 10, 10)
    assert kept == [Box(0, 0, 1, 1), Box(2, 2, 4, 4, "dog")]
    assert dropped == ["box 2 (3, 3, 3, 3) has no area"]


@given(st.lists(boxes, max_size=4), sides, sides)
def test_every_box_is_kept_inside_with_an_area_or_dropped_with_a_reason(
    given_boxes: list[Box], width: int, height: int
) -> None:
    kept, dropped = place_boxes(given_boxes, width, height)
    assert len(kept) + len(dropped) == len(given_boxes)
    for box in kept:
        assert 0 <= np.float32(box.x0) < np.float32(box.x1) <= width
        assert 0 <= np.float32(box.y0) < np.float32(box.y1) <= height


@given(st.lists(boxes, max_size=4), sides, sides)
def test_cutting_twice_changes_nothing(given_boxes: list[Box], width: int, height: int) -> None:
    kept, _ = place_boxes(given_boxes, width, height)
    assert place_boxes(kept, width, height) == (kept, [])


@given(*[st.integers(-20, 60)] * 4, sides, sides)
def test_a_cut_box_holds_the_pixels_of_the_image_that_the_box_holds(
    x0: int, y0: int, x1: int, y1: int, width: int, height: int
) -> None:
    held = {(x, y) for x in range(x0, x1) for y in range(y0, y1) if 0 <= x < width and 0 <= y < height}
    kept, _ = place_boxes([Box(x0, y0, x1, y1)], width, height)
    found = {(x, y) for b in kept for x in range(int(b.x0), int(b.x1)) for y in range(int(b.y0), int(b.y1))}
    assert found == held
