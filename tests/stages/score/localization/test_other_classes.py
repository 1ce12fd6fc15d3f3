"""Pixels of other classes' objects are neither the sample's object nor background: by hand, and beside plain loops."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.geometry import ViewTransform
from stages.score.localization import counted, energy_in, pad_boxes, pointing_distance
from stages.score.measures import measure_maps
from stages.score.nulls import MOST, energy_null_pct
from stages.score.score import score
from stages.score.settings import ScoreSettings
from storage.media.object_masks import encode_mask
from tests.stages.score.runs import box, explained, make_run, peak, sample

VIEW = ViewTransform(8, 8, 8, 8, 1.0, 1.0, 0.0, 0.0)
OWN = box(0, 0, 8, 8)  # of 16 px, which the view shows as 8: columns and rows 0 to 3
DOG = box(8, 0, 16, 8, "dog")  # columns 4 to 7 of rows 0 to 3


def scored(path: Path, grid: np.ndarray, boxes: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    run = make_run(path, [sample(0, boxes, **more)], [explained(0)], {"label": [grid]}, normalization="max")
    score(run, ScoreSettings())
    row: dict[str, Any] = run.table("scores").to_pylist()[0]
    return row


def test_energy_and_its_null_leave_out_the_other_classs_box(tmp_path: Path) -> None:
    grid = np.zeros((8, 8), dtype=np.float32)
    grid[1, 1], grid[1, 5], grid[6, 1], grid[6, 6] = 1, 1, 0.5, 0.5
    alone, beside = scored(tmp_path / "a", grid, [OWN]), scored(tmp_path / "b", grid, [OWN, DOG])
    assert (alone["energy_in"], alone["box_area_frac"]) == (pytest.approx(1 / 3), pytest.approx(16 / 64))
    # Of the mass of 3 the dog's box has 1, and of the 64 pixels 16.
    assert (beside["energy_in"], beside["box_area_frac"]) == (pytest.approx(1 / 2), pytest.approx(16 / 48))
    assert beside["energy_lift"] == pytest.approx((1 / 2) / (16 / 48))
    assert beside["energy_logodds"] == pytest.approx(math.log(1) - math.log((1 / 3) / (2 / 3)))
    assert beside["pixel_f1"] == pytest.approx(2 * 1 / (2 + 16))
    # The mass that counts is 1 at (1.5, 1.5), .5 at (1.5, 6.5) and .5 at (6.5, 6.5), x first: its centre is (2.75, 4).
    assert beside["centroid_distance"] == pytest.approx(math.hypot(2.75 - 2, 4 - 2) / math.hypot(8, 8))
    assert (beside["status"], beside["n_boxes"]) == ("ok", 1)


def test_what_compares_boxes_and_what_reads_the_map_alone_stays(tmp_path: Path) -> None:
    grid = np.zeros((8, 8), dtype=np.float32)
    grid[0:3, 1:6] = 1
    alone, beside = scored(tmp_path / "a", grid, [OWN]), scored(tmp_path / "b", grid, [OWN, DOG])
    for name in ("iou_best", "localization_error", "official_metric", "box_kept_frac", "border_energy", "entropy"):
        assert alone[name] == beside[name], name


def test_a_pixel_of_both_is_the_samples_own(tmp_path: Path) -> None:
    # The dog's box covers the own one too: 16 of its 48 pixels are the sample's.
    row = scored(tmp_path, peak(1, 1) + peak(6, 1), [OWN, box(0, 0, 16, 12, "dog")])
    assert row["box_area_frac"] == pytest.approx(16 / (64 - 32))
    assert row["energy_in"] == 1
    assert row["pointing_hit"] is None or row["pointing_hit"]


def test_a_maximum_on_another_classs_object_is_neither_a_hit_nor_a_miss(tmp_path: Path) -> None:
    assert scored(tmp_path / "a", peak(5, 1), [OWN])["pointing_hit"] is False
    beside = scored(tmp_path / "b", peak(5, 1), [OWN, DOG])
    assert (beside["pointing_hit"], beside["pointing_hit_tol"]) == (None, None)
    assert scored(tmp_path / "c", peak(5, 6), [OWN, DOG])["pointing_hit"] is False
    assert scored(tmp_path / "d", peak(2, 2), [OWN, DOG])["pointing_hit"] is True


def test_half_of_the_maximum_on_it_is_enough() -> None:
    maps, others = np.zeros((1, 8, 8), dtype=np.float32), VIEW.coverage([[4, 0, 8, 8]])[None]
    places = pad_boxes([np.array([[0.0, 0, 2, 2]])])
    maps[0, 6, 3:5] = 1
    assert np.isnan(pointing_distance(maps, places, others)).all()
    maps[0, 6, 2] = 1
    assert pointing_distance(maps, places, others).tolist() == [math.hypot(1.5, 4.5)]


def test_boxes_that_leave_little_beside_other_objects_say_nothing(tmp_path: Path) -> None:
    row = scored(tmp_path, peak(1, 1), [OWN, DOG, box(0, 8, 16, 15.5, "bird")])
    assert (row["status"], row["evaluable"]) == ("box_uninformative", False)
    assert row["reason"] == "the boxes cover 89% of what of the view no other class's object covers"
    assert row["box_area_frac"] == pytest.approx(16 / 18)


def test_a_map_on_other_classes_objects_alone_has_no_energy(tmp_path: Path) -> None:
    row = scored(tmp_path, peak(5, 1), [OWN, DOG])
    assert [row[name] for name in ("energy_in", "energy_lift", "energy_null_pct", "pixel_f1")] == [None] * 4


def test_a_mask_takes_its_pixels_out_of_another_classs_box(tmp_path: Path) -> None:
    mask = np.zeros((16, 16), dtype=bool)
    mask[0:8, 4:12] = True  # columns 2 to 5 of the view, of which 4 and 5 lie in the dog's box
    row = scored(tmp_path, peak(4, 1) + peak(7, 1) + peak(0, 7), [OWN, DOG], mask=encode_mask(mask))
    assert row["box_area_frac"] == pytest.approx(16 / (64 - 8))
    assert row["energy_in"] == pytest.approx(1 / 2)


def test_the_percentile_by_hand_on_a_row() -> None:
    # A box of two pixels on [2, 2]. The other object has the third: moved by 1 the box holds 2 there and nothing that
    # counts beside it, 2 for one pixel; by 2 it holds 9 on one pixel; by 3 it holds 9 + 1 on two.
    maps = np.array([[[2, 2, 7, 9, 1]]], dtype=np.float32) / 9
    coverage = np.array([[[1, 1, 0, 0, 0]]], dtype=np.float32)
    others = np.array([[[0, 0, 1, 0, 0]]], dtype=np.float32)
    # Per pixel: 2 here, then 2 (a tie), 9 and 5.
    assert energy_null_pct(maps, coverage, others=others).tolist() == pytest.approx([0.5 / 3])
    # Where two of the three others have less than half of the area left, they are no places.
    others = np.array([[[0, 0, 1, 1, 0.5]]], dtype=np.float32)
    assert energy_null_pct(maps, coverage, others=others).tolist() == pytest.approx([0.5])


def test_without_an_own_box_in_view_nothing_is_defined_beside_other_objects() -> None:
    maps, none = np.ones((1, 8, 8), dtype=np.float32), np.zeros((1, 8, 8), dtype=np.float32)
    others = VIEW.coverage_of_others([[1, 1, 5, 5]], np.empty((0, 4)))[None]
    nothing, boxes = np.array([np.nan]), pad_boxes([np.empty((0, 4))])
    got = measure_maps(maps, none, boxes, nothing, nothing, None, others)
    assert all(np.isnan(got[name]).all() for name in ("energy_in", "box_area_frac", "energy_null_pct", "pixel_f1"))


numbers = st.integers(0, 8 * 8).map(lambda n: n / 8)
boxes_in_view = st.lists(
    st.tuples(numbers, numbers, numbers, numbers).map(
        lambda c: [min(c[0], c[2]), min(c[1], c[3]), max(c[0], c[2]), max(c[1], c[3])]
    ),
    min_size=1,
    max_size=3,
)
FINE = 8
"""Boxes end at eighths of a pixel, so a raster of eighths is exact."""


def raster(boxes: list[list[float]]) -> np.ndarray:
    fine = np.zeros((8 * FINE, 8 * FINE), dtype=bool)
    for x0, y0, x1, y1 in boxes:
        fine[round(y0 * FINE) : round(y1 * FINE), round(x0 * FINE) : round(x1 * FINE)] = True
    return fine


def pooled(fine: np.ndarray) -> np.ndarray:
    return fine.reshape(8, FINE, 8, FINE).mean(axis=(1, 3))


@given(boxes_in_view, boxes_in_view, st.integers(0, 2**32 - 1))
def test_energy_area_and_f1_are_those_of_a_fine_raster(own: list, other: list, seed: int) -> None:
    maps = np.random.default_rng(seed).random((1, 8, 8)).astype(np.float32)
    mine, theirs = raster(own), raster(other) & ~raster(own)
    coverage, others = VIEW.coverage(own)[None], VIEW.coverage_of_others(other, own)[None]
    np.testing.assert_allclose(others[0], pooled(theirs), atol=1e-6)
    if not mine.any():
        return
    inside, free = float((maps[0] * pooled(mine)).sum()), float((maps[0] * (1 - pooled(theirs))).sum())
    nothing = np.array([np.nan])
    got = measure_maps(maps, coverage, pad_boxes([np.array(own)]), nothing, nothing, None, others)
    assert got["energy_in"][0] == pytest.approx(inside / free, rel=1e-4)
    assert got["box_area_frac"][0] == pytest.approx(mine.sum() / (~theirs).sum(), rel=1e-5)
    assert got["pixel_f1"][0] == pytest.approx(2 * inside / (free + pooled(mine).sum()), rel=1e-4)
    # A uniform map scores its null.
    ones = np.ones_like(maps)
    np.testing.assert_allclose(energy_in(ones, coverage, others), got["box_area_frac"], rtol=1e-4)


@given(boxes_in_view, boxes_in_view, st.integers(0, 2**32 - 1))
def test_a_masks_pixels_are_the_samples_own_whatever_box_covers_them(own: list, other: list, seed: int) -> None:
    mask = np.random.default_rng(seed).random((8, 8)) < 0.5
    squeezed = ViewTransform(8, 8, 4, 4, 0.5, 0.5, 0.0, 0.0)
    theirs = raster(other) & ~np.kron(mask, np.ones((FINE, FINE), dtype=bool))
    got = squeezed.coverage_of_others(other, own, mask)
    np.testing.assert_allclose(got, pooled(theirs).reshape(4, 2, 4, 2).mean(axis=(1, 3)), atol=1e-6)


def percentile_by_moving(one: np.ndarray, coverage: np.ndarray, others: np.ndarray) -> float:
    rows, columns = np.flatnonzero(coverage.any(axis=1)), np.flatnonzero(coverage.any(axis=0))
    patch = coverage[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(np.float64)
    visible, free = one.astype(np.float64) * (1 - others), 1 - others.astype(np.float64)
    verdicts, own, here = [], None, None
    places = [(y, x) for y in range(9 - patch.shape[0]) for x in range(9 - patch.shape[1])]
    start = (int(rows[0]), int(columns[0]))
    for y, x in [start, *(place for place in places if place != start)]:
        window = np.s_[y : y + patch.shape[0], x : x + patch.shape[1]]
        held, area = float((visible[window] * patch).sum()), float((free[window] * patch).sum())
        if own is None or here is None:
            own, here = area, held
        elif area >= MOST * own:
            there = held * own / area
            tie = abs(there - here) <= 1e-6 * visible.sum()
            verdicts.append(0.5 if tie else float(there < here))
    return float(np.mean(verdicts)) if verdicts else math.nan


@given(st.integers(0, 2**32 - 1))
def test_the_percentile_is_that_of_moving_the_boxes_place_by_place(seed: int) -> None:
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, 9, size=(2, 2, 2))
    corners.sort(axis=1)
    own, other = ([*one[0].tolist(), *one[1].tolist()] for one in corners)
    coverage, others = VIEW.coverage([own]), VIEW.coverage_of_others([other], [own])
    maps = rng.random((8, 8)).astype(np.float32)
    if coverage.any() and (maps * (1 - others)).any():
        wanted = percentile_by_moving(maps, coverage, others)
        got = energy_null_pct(maps[None], coverage[None], others=others[None])
        np.testing.assert_allclose(got, [wanted], atol=1e-9)


def test_where_there_are_no_others_every_number_is_the_same_bit_by_bit_whatever_shares_the_batch() -> None:
    rng = np.random.default_rng(0)
    maps = rng.random((2, 56, 56)).astype(np.float32)
    view = ViewTransform(56, 56, 56, 56, 1.0, 1.0, 0.0, 0.0)
    own = [[3.3, 4.1, 20.7, 30.2]]
    coverage, boxes = np.stack([view.coverage(own)] * 2), pad_boxes([np.array(own)] * 2)
    others = np.stack([np.zeros_like(coverage[0]), view.coverage_of_others([[10, 10, 50, 50]], own)])
    correct, p_crop = np.ones(2), np.full(2, 0.5)
    before = measure_maps(maps, coverage, boxes, correct, p_crop)
    after = measure_maps(maps, coverage, boxes, correct, p_crop, None, others)
    for name in before:
        assert before[name][0].tobytes() == after[name][0].tobytes(), name
    changed = {name for name in before if before[name][1] != after[name][1]}
    assert {"energy_in", "box_area_frac", "energy_lift", "energy_null_pct", "pixel_f1", "centroid_distance"} <= changed
    assert counted(maps, None) is maps
