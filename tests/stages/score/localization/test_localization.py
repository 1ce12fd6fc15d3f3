from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from stages.explain.opticam.opticam import upsample
from stages.geometry import ViewTransform, largest_component_box
from stages.score.localization import (
    box_area_frac,
    centroid_distance,
    energy_in,
    intersection_over_union,
    iou_best,
    localization_error,
    official_metric,
    pad_boxes,
    pixel_f1,
    pointing_distance,
    pointing_hit,
)

VIEW = ViewTransform(8, 8, 8, 8, 1.0, 1.0, 0.0, 0.0)
BOX = [2.0, 2.0, 6.0, 4.0]  # 4 x 2: rows 2 and 3, columns 2 to 5


def covering(*boxes: list[float]) -> np.ndarray:
    return VIEW.coverage(list(boxes))[None]


def blank() -> np.ndarray:
    return np.zeros((1, 8, 8), dtype=np.float32)


@pytest.fixture
def spots() -> np.ndarray:
    """Mass 1 at (3, 2) in the box, .5 at (3, 3) in it, .5 at (7, 7) outside."""
    maps = blank()
    maps[0, 2, 3], maps[0, 3, 3], maps[0, 7, 7] = 1, 0.5, 0.5
    return maps


class TestEnergy:
    def test_it_is_the_share_of_the_mass_inside(self, spots: np.ndarray) -> None:
        assert energy_in(spots, covering(BOX)).tolist() == [0.75]

    def test_a_pixel_that_is_half_inside_counts_half(self) -> None:
        maps = blank()
        maps[0, 0, 0] = maps[0, 7, 7] = 1
        assert energy_in(maps, covering([0, 0, 0.5, 8])).tolist() == [0.25]

    def test_overlapping_boxes_count_once(self, spots: np.ndarray) -> None:
        assert energy_in(spots, covering(BOX, BOX)).tolist() == [0.75]

    def test_the_area_is_a_share_of_the_view(self) -> None:
        assert box_area_frac(covering(BOX)).tolist() == [8 / 64]

    def test_without_a_box_or_without_mass_they_are_undefined(self, spots: np.ndarray) -> None:
        assert np.isnan(energy_in(spots, covering()))
        assert np.isnan(energy_in(blank(), covering(BOX)))
        assert np.isnan(energy_in(blank() * np.nan, covering(BOX)))
        assert np.isnan(box_area_frac(covering()))

    def test_a_map_outside_the_box_scores_zero_not_null(self) -> None:
        maps = blank()
        maps[0, 7, 7] = 1
        assert energy_in(maps, covering(BOX)).tolist() == [0]
        assert pixel_f1(maps, covering(BOX)).tolist() == [0]


class TestPixelF1:
    def test_by_hand(self, spots: np.ndarray) -> None:
        # P = 1.5 / 2, R = 1.5 / 8; 2 P R / (P + R) = .28125 / .9375 = .3.
        assert pixel_f1(spots, covering(BOX)).tolist() == pytest.approx([0.3])

    def test_the_box_itself_is_perfect(self) -> None:
        assert pixel_f1(covering(BOX), covering(BOX)).tolist() == [1]

    def test_without_a_box_or_without_mass_it_is_undefined(self, spots: np.ndarray) -> None:
        assert np.isnan(pixel_f1(spots, covering()))
        assert np.isnan(pixel_f1(blank(), covering(BOX)))


# Corners on 64ths of a pixel: a box of width 1e-40 has an area or not, depending on which side it is measured from.
boxes_in_view = st.lists(
    st.tuples(*[st.integers(0, 8 * 64).map(lambda n: n / 64)] * 4).map(
        lambda c: [min(c[0], c[2]), min(c[1], c[3]), max(c[0], c[2]), max(c[1], c[3])]
    ),
    min_size=1,
    max_size=3,
)
maps_in_view = hnp.arrays(np.float32, (1, 8, 8), elements=st.floats(0, 1, width=16))


class TestProperties:
    @given(boxes_in_view, st.floats(0.01, 1))
    def test_the_uniform_map_scores_the_area_and_2a_over_1_plus_a(self, boxes: list, level: float) -> None:
        coverage = covering(*boxes)
        if coverage.sum() < 1e-4:
            return
        area = box_area_frac(coverage)
        # At level 1, as after range normalisation by the maximum: recall is then 1 and precision the area.
        np.testing.assert_allclose(energy_in(np.full_like(coverage, level), coverage), area, rtol=1e-5)
        np.testing.assert_allclose(pixel_f1(np.ones_like(coverage), coverage), 2 * area / (1 + area), rtol=1e-5)

    @given(maps_in_view, boxes_in_view, st.floats(0.25, 4, width=16))
    def test_energy_does_not_change_with_the_maps_scale(self, maps: np.ndarray, boxes: list, factor: float) -> None:
        coverage = covering(*boxes)
        np.testing.assert_allclose(
            energy_in(maps * np.float32(factor), coverage), energy_in(maps, coverage), rtol=1e-4, atol=1e-6
        )

    @given(maps_in_view, boxes_in_view)
    def test_nothing_changes_when_map_and_boxes_are_mirrored(self, maps: np.ndarray, boxes: list) -> None:
        mirrored_boxes = [[8 - x1, y0, 8 - x0, y1] for x0, y0, x1, y1 in boxes]
        mirrored = np.ascontiguousarray(maps[:, :, ::-1])
        one, other = covering(*boxes), covering(*mirrored_boxes)
        np.testing.assert_allclose(energy_in(mirrored, other), energy_in(maps, one), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(pixel_f1(mirrored, other), pixel_f1(maps, one), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(
            pointing_distance(mirrored, pad_boxes([VIEW.visible_boxes(mirrored_boxes)])),
            pointing_distance(maps, pad_boxes([VIEW.visible_boxes(boxes)])),
            atol=1e-5,
        )

    @given(maps_in_view, boxes_in_view)
    def test_a_map_scores_the_same_alone_and_in_a_batch(self, maps: np.ndarray, boxes: list) -> None:
        coverage, padded = covering(*boxes), pad_boxes([np.array(boxes)])
        pair, covers = np.concatenate([maps, 1 - maps]), np.concatenate([coverage, coverage])
        both = np.concatenate([padded, padded])
        for alone, batch in (
            (energy_in(maps, coverage), energy_in(pair, covers)),
            (pixel_f1(maps, coverage), pixel_f1(pair, covers)),
            (pointing_distance(maps, padded), pointing_distance(pair, both)),
        ):
            np.testing.assert_array_equal(alone[0], batch[0])

    @given(maps_in_view, boxes_in_view)
    def test_the_centroid_distance_is_that_of_a_weighted_average(self, maps: np.ndarray, boxes: list) -> None:
        coverage = covering(*boxes)
        whole = VIEW.visible_boxes(boxes)
        if maps.sum() < 1e-3 or not len(whole):
            return
        y, x = np.indices((8, 8)) + 0.5
        at = [np.average(axis, weights=maps[0]) for axis in (x, y)]
        targets = [(box[:2] + box[2:]) / 2 for box in whole]
        if coverage.sum() > 0:
            targets.append(np.array([np.average(axis, weights=coverage[0]) for axis in (x, y)]))
        wanted = min(math.dist(at, target) for target in targets) / math.hypot(8, 8)
        got = centroid_distance(maps, coverage, pad_boxes([whole]))
        assert got.tolist() == pytest.approx([wanted], abs=1e-5)


class TestPointing:
    def test_the_distance_is_from_the_pixels_centre_to_the_nearest_box(self) -> None:
        maps = blank()
        maps[0, 7, 7] = 1  # centre (7.5, 7.5); the box ends at (6, 4): 1.5 and 3.5 away
        boxes = pad_boxes([np.array([BOX])])
        distance = pointing_distance(maps, boxes)
        assert distance.tolist() == [math.hypot(1.5, 3.5)]
        assert pointing_hit(distance).tolist() == [0]
        assert pointing_hit(distance, tolerance=4).tolist() == [1]
        near = pad_boxes([np.array([BOX, [7, 7, 8, 8]])])
        assert pointing_hit(pointing_distance(maps, near)).tolist() == [1]

    def test_a_maximum_inside_is_a_hit(self, spots: np.ndarray) -> None:
        assert pointing_hit(pointing_distance(spots, pad_boxes([np.array([BOX])]))).tolist() == [1]

    def test_a_plateau_of_tied_maxima_hits_if_at_least_half_of_it_lies_inside(self) -> None:
        boxes = pad_boxes([np.array([BOX])])
        maps = blank()
        maps[0, 1:3, 2] = 1  # a pixel above the box, .5 px from it, and one in it
        assert pointing_hit(pointing_distance(maps, boxes)).tolist() == [1]
        maps[0, 0, 2] = 1  # one more above: 1.5, .5 and 0 px; the second of the three
        assert pointing_distance(maps, boxes).tolist() == [0.5]

    def test_the_largest_plateau_is_the_maximum(self) -> None:
        maps = blank()
        maps[0, 0, 0] = maps[0, 7, 7] = 1
        maps[0, 2, 3] = maps[0, 3, 4] = 1  # pixels that touch by a corner are one place
        assert pointing_hit(pointing_distance(maps, pad_boxes([np.array([BOX])]))).tolist() == [1]

    def test_a_plateau_of_more_than_a_twentieth_of_the_view_is_no_place(self) -> None:
        boxes = pad_boxes([np.array([BOX])])
        maps = blank()
        maps[0, 2, 2:5] = 1  # 3 of 64 pixels
        assert pointing_hit(pointing_distance(maps, boxes)).tolist() == [1]
        maps[0, 2, 5] = 1
        assert np.isnan(pointing_distance(maps, boxes)).all()

    def test_a_map_that_is_all_ones_but_one_pixel_points_nowhere(self) -> None:
        fake = np.ones((1, 8, 8), dtype=np.float32)
        fake[0, 0, 0] = 0
        assert np.isnan(pointing_distance(fake, pad_boxes([np.array([BOX])]))).all()

    def test_a_border_cell_of_a_grid_is_a_place_of_which_the_box_may_miss_a_pixel(self) -> None:
        # Cell (3, 6) of a 7 x 7 grid in a view of 224 px: columns 208 to 223 repeat its centre, and rows 111 and 112
        # are as near to it. The box ends between the last two columns of pixel centres: 15 of 16 columns lie inside.
        grid = torch.zeros(1, 7, 7)
        grid[0, 3, 6] = 1
        maps = upsample(grid, (224, 224)).numpy()
        assert np.argwhere(maps[0] == maps.max()).tolist() == [[y, x] for y in (111, 112) for x in range(208, 224)]
        squash = ViewTransform.make("squash", 448, 224, size=224, resize=224)
        in_view = squash.boxes_to_view([[300, 50, 445.6, 200]])
        assert in_view.tolist() == [[150, 50, 222.8, 200]]
        assert pointing_hit(pointing_distance(maps, pad_boxes([in_view]))).tolist() == [1]

    def test_of_a_corner_cell_half_must_lie_in_what_a_crop_leaves_of_the_box(self) -> None:
        # The corner cell's plateau is 16 x 16 px. The crop cuts 16 px off each side of an image of 256 px, so a box
        # from x = 223 begins at 207 of the view and holds all of it, one from 232 holds the right half, and one from
        # 233 holds 7 of 16 columns, whose eighth-nearest column ends half a pixel before it.
        grid = torch.zeros(1, 7, 7)
        grid[0, 6, 6] = 1
        maps = upsample(grid, (224, 224)).numpy()
        crop = ViewTransform.make("resize_crop", 256, 256, size=224, resize=256)
        for left, wanted in ((223, 0.0), (232, 0.0), (233, 0.5)):
            boxes = crop.visible_boxes([[left, 100, 256, 256]])
            assert boxes.tolist() == [[left - 16, 84, 224, 224]]
            assert pointing_distance(maps, pad_boxes([boxes])).tolist() == [wanted]

    def test_a_constant_map_or_no_box_is_undefined_not_a_miss(self, spots: np.ndarray) -> None:
        none = pad_boxes([np.empty((0, 4))])
        assert np.isnan(pointing_hit(pointing_distance(spots, none)))
        for constant in (blank(), blank() + 1, blank() * np.nan):
            assert np.isnan(pointing_hit(pointing_distance(constant, pad_boxes([np.array([BOX])]))))

    def test_one_of_several_tied_maxima_in_the_box_is_no_hit_by_luck(self) -> None:
        # Quantus' PointingGame asks whether any of them is inside, which lets a uniform map hit every box.
        maps = blank()
        maps[0, 2, 2] = maps[0, 7, 7] = 1
        assert covering(BOX)[maps == maps.max()].any()
        assert pointing_hit(pointing_distance(maps, pad_boxes([np.array([BOX])]))).tolist() == [0]

    def test_no_box_is_no_hit_either(self, spots: np.ndarray) -> None:
        # NaN written into an array of booleans reads True: the verdict on an empty mask must stay a number.
        hits = np.zeros(1, dtype=bool)
        hits[:] = np.nan
        assert hits.all()
        verdict = pointing_hit(pointing_distance(spots, pad_boxes([np.empty((0, 4))])))
        assert np.isnan(verdict).all()


class TestCentroid:
    DIAGONAL = 8 * math.sqrt(2)

    def test_it_is_the_distance_to_the_boxes_centre_over_the_diagonal(self) -> None:
        maps = blank()
        maps[0, 6, 0] = 3
        maps[0, 6, 2] = 1  # centre of mass (1, 6.5); the box's is (4, 3)
        boxes = pad_boxes([np.array([BOX])])
        distance = centroid_distance(maps, covering(BOX), boxes)
        assert distance.tolist() == pytest.approx([math.hypot(3, 3.5) / self.DIAGONAL])

    def test_the_nearest_of_several_boxes_counts_and_so_does_the_middle_of_them_all(self) -> None:
        left, right = [0.0, 0, 2, 8], [6.0, 0, 8, 8]
        boxes, coverage = pad_boxes([np.array([left, right])]), covering(left, right)
        on_one, on_both = blank(), blank()
        on_one[0, :, 6:] = 1
        on_both[0, :, :2] = on_both[0, :, 6:] = 1
        assert centroid_distance(on_one, coverage, boxes).tolist() == [0]
        assert centroid_distance(on_both, coverage, boxes).tolist() == [0]

    def test_the_uniform_map_is_as_far_as_the_views_centre(self) -> None:
        distance = centroid_distance(np.ones((1, 8, 8), np.float32), covering(BOX), pad_boxes([np.array([BOX])]))
        assert distance.tolist() == pytest.approx([1 / self.DIAGONAL])  # (4, 4) to (4, 3)

    def test_without_a_box_or_without_mass_it_is_undefined(self, spots: np.ndarray) -> None:
        none = pad_boxes([np.empty((0, 4))])
        assert np.isnan(centroid_distance(spots, covering(), none)).all()
        for empty in (blank(), blank() * np.nan):
            assert np.isnan(centroid_distance(empty, covering(BOX), pad_boxes([np.array([BOX])]))).all()


class TestMapBox:
    def test_iou_by_hand(self) -> None:
        # 4 x 2 and 4 x 4 share 2 x 2: 4 / (8 + 16 - 4).
        first, second = np.array([2.0, 2, 6, 4]), np.array([4.0, 2, 8, 6])
        assert intersection_over_union(first, second) == pytest.approx(0.2)
        assert intersection_over_union(first, np.array([6.0, 2, 8, 4])) == 0
        assert np.isnan(intersection_over_union(first, np.full(4, np.nan)))

    def test_the_best_of_several_boxes_counts(self) -> None:
        maps = blank()
        maps[0, 2:4, 2:6] = 1
        maps[0, 0, 7] = 1  # a smaller component
        map_boxes = largest_component_box(maps)
        boxes = pad_boxes([np.array([[4.0, 2, 8, 6], [2.0, 2, 6, 8]])])
        best = iou_best(map_boxes, boxes)
        assert best.tolist() == pytest.approx([8 / 24])
        assert localization_error(best).tolist() == pytest.approx([16 / 24])

    def test_the_official_metric_counts_a_wrong_prediction_as_one(self) -> None:
        best = np.array([0.25, 0.25, 0.25, np.nan, np.nan])
        correct = np.array([1, 0, np.nan, 1, 0])
        np.testing.assert_array_equal(official_metric(best, correct), [0.75, 1, np.nan, np.nan, np.nan])

    def test_without_a_map_box_or_a_box_it_is_undefined(self) -> None:
        boxes = pad_boxes([np.array([BOX]), np.empty((0, 4))])
        map_boxes = np.array([[np.nan] * 4, [0.0, 0, 2, 2]])
        assert np.isnan(iou_best(map_boxes, boxes)).all()
