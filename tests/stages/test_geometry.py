from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torchvision.transforms import functional as vision

from stages.geometry import ViewTransform, clip_boxes, largest_component_box, union_area

GEOMETRIES = ["squash", "resize_crop"]


@st.composite
def transforms(draw: st.DrawFn, largest: int = 700) -> ViewTransform:
    side = st.integers(1, largest)
    size = draw(st.integers(4, 64))
    resize = draw(st.integers(2, 80))
    return ViewTransform.make(draw(st.sampled_from(GEOMETRIES)), draw(side), draw(side), size, resize)


@st.composite
def box_lists(draw: st.DrawFn, reach: float = 900) -> np.ndarray:
    number = st.floats(-reach / 4, reach, allow_nan=False, width=32)
    corners = draw(st.lists(st.tuples(number, number, number, number), max_size=4))
    boxes = [(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in corners]
    return np.array(boxes, dtype=np.float64).reshape(-1, 4)


class TestBoxes:
    def test_a_squash_scales_each_axis_by_itself(self) -> None:
        view = ViewTransform.make("squash", width=400, height=100, size=200)
        assert view.boxes_to_view([[40, 10, 80, 50]]).tolist() == [[20, 20, 40, 100]]
        assert view.view_box == (0, 0, 400, 100)

    def test_a_centre_crop_shows_the_middle(self) -> None:
        # 400 x 200 becomes 512 x 256, of which 224 x 224 from (144, 16).
        view = ViewTransform.make("resize_crop", width=400, height=200)
        assert (view.scale_x, view.scale_y, view.offset_x, view.offset_y) == (1.28, 1.28, -144, -16)
        assert view.view_box == pytest.approx((112.5, 12.5, 287.5, 187.5))

    def test_the_long_side_is_rounded_down_as_torchvision_does(self) -> None:
        # 256 * 500 / 375 = 341.33; (341 - 224) / 2 = 58.5 goes to the even 58.
        view = ViewTransform.make("resize_crop", width=500, height=375)
        assert view.scale_x == 341 / 500
        assert view.scale_y == 256 / 375
        assert view.offset_x == -58

    @given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 40), st.integers(1, 40))
    def test_a_resized_crop_has_torchvisions_corners(self, width: int, height: int, size: int, resize: int) -> None:
        view = ViewTransform.make("resize_crop", width, height, size, resize)
        new_height, new_width = vision._compute_resized_output_size((height, width), [resize])
        assert view.scale_x * width == pytest.approx(new_width)
        assert view.scale_y * height == pytest.approx(new_height)
        # Mark every resized pixel with its own coordinates, from 1, and see which one torchvision leaves.
        assume(new_width * new_height <= 100_000)
        coordinates = np.stack(np.mgrid[1 : new_height + 1, 1 : new_width + 1]).astype(np.float32)
        cropped = vision.center_crop(torch.from_numpy(coordinates), [size, size]).numpy()
        y, x = np.argwhere(cropped[0] > 0)[0]
        assert cropped[1, y, x] - 1 + view.offset_x == x
        assert cropped[0, y, x] - 1 + view.offset_y == y

    @given(transforms(), box_lists())
    def test_boxes_come_back_from_the_view(self, view: ViewTransform, boxes: np.ndarray) -> None:
        back = view.boxes_to_image(view.boxes_to_view(boxes))
        np.testing.assert_allclose(back, boxes, atol=1e-6 * max(1, *np.abs(boxes).ravel(), 900))

    @given(transforms())
    def test_the_view_box_fills_the_view_or_the_image(self, view: ViewTransform) -> None:
        x0, y0, x1, y1 = view.boxes_to_view([view.view_box])[0]
        image = view.boxes_to_view([[0, 0, view.width, view.height]])[0]
        expected = clip_boxes([image], view.view_width, view.view_height)[0]
        np.testing.assert_allclose([x0, y0, x1, y1], expected, atol=1e-6)

    def test_boxes_out_of_view_are_left_out(self) -> None:
        view = ViewTransform.make("resize_crop", width=400, height=200)
        visible = view.visible_boxes([[0, 0, 100, 100], [100, 0, 200, 100], [300, 0, 390, 50]])
        np.testing.assert_allclose(visible, [[0, 0, 112, 112]])

    @pytest.mark.parametrize("bad", [math.nan, math.inf])
    def test_numbers_that_are_not_finite_are_refused(self, bad: float) -> None:
        view = ViewTransform.make("squash", 10, 10, 5)
        boxes = [[0, 0, 1, 1], [0, 0, bad, 1]]
        for call in (view.boxes_to_view, view.boxes_to_image, view.coverage, view.kept_fraction, union_area):
            with pytest.raises(ValueError, match="box 1 is not finite"):
                call(boxes)

    def test_other_mistakes_are_named(self) -> None:
        with pytest.raises(ValueError, match="'squash' or 'resize_crop', not 'pad'"):
            ViewTransform.make("pad", 10, 10)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="at least 1 px"):
            ViewTransform.make("squash", 0, 10)
        with pytest.raises(ValueError, match="rows of"):
            union_area([[1, 2, 3]])


class TestUnion:
    def test_an_overlap_counts_once(self) -> None:
        # 4 x 4 and 4 x 4 share 2 x 2.
        assert union_area([[0, 0, 4, 4], [2, 2, 6, 6]]) == 28

    def test_nothing_has_no_area(self) -> None:
        assert union_area([]) == 0
        assert union_area([[3, 0, 3, 5], [5, 5, 1, 9]]) == 0

    @given(st.lists(st.tuples(*[st.integers(0, 12)] * 4), max_size=5))
    def test_it_is_the_number_of_unit_squares_inside(self, corners: list[tuple[int, ...]]) -> None:
        mask = np.zeros((12, 12), dtype=bool)
        for x0, y0, x1, y1 in corners:
            mask[y0:y1, x0:x1] = True
        assert union_area(corners) == mask.sum()


class TestCoverage:
    def test_a_pixel_counts_with_the_part_inside(self) -> None:
        view = ViewTransform.make("squash", width=4, height=4, size=4)
        expected = [[0, 0, 0, 0], [0, 0.25, 0.5, 0], [0, 0.5, 1, 0], [0, 0, 0, 0]]
        assert view.coverage([[1.5, 1.5, 3, 3]]).tolist() == expected

    def test_boxes_that_meet_in_a_pixel_add_up_to_their_union(self) -> None:
        view = ViewTransform.make("squash", width=1, height=1, size=1)
        # Two vertical halves of .3 and .4, disjoint; then two that overlap by .1.
        np.testing.assert_allclose(view.coverage([[0, 0, 0.3, 1], [0.6, 0, 1, 1]]), [[0.7]], rtol=1e-6)
        np.testing.assert_allclose(view.coverage([[0, 0, 0.4, 1], [0.3, 0, 1, 1]]), [[1.0]], rtol=1e-6)

    def test_no_box_covers_nothing(self) -> None:
        view = ViewTransform.make("squash", 5, 7, 3)
        assert not view.coverage([]).any()

    @given(transforms(), box_lists())
    def test_it_sums_to_the_area_of_the_clipped_union_times_the_scale(
        self, view: ViewTransform, boxes: np.ndarray
    ) -> None:
        coverage = view.coverage(boxes)
        x0, y0, x1, y1 = view.view_box
        in_view = np.clip(boxes, [x0, y0, x0, y0], [x1, y1, x1, y1])
        area = union_area(in_view) * view.scale_x * view.scale_y
        assert coverage.shape == (view.view_height, view.view_width)
        assert coverage.min() >= 0
        assert coverage.max() <= 1
        assert coverage.sum(dtype=np.float64) == pytest.approx(area, abs=1e-3, rel=1e-5)


class TestKeptFraction:
    def test_half_a_box_stays(self) -> None:
        # The view shows x from 112.5 to 287.5 and y from 12.5 to 187.5.
        view = ViewTransform.make("resize_crop", width=400, height=200)
        assert view.kept_fraction([[92.5, 20, 132.5, 60]]) == pytest.approx(0.5)
        assert view.kept_fraction([[0, 0, 100, 200]]) == 0

    def test_without_area_it_is_undefined(self) -> None:
        assert math.isnan(ViewTransform.make("squash", 9, 9).kept_fraction([]))

    @given(st.integers(1, 900), st.integers(1, 900), box_lists())
    def test_a_squash_keeps_every_box(self, width: int, height: int, boxes: np.ndarray) -> None:
        inside = clip_boxes(boxes, width, height)
        assume(union_area(inside) > 0)
        assert ViewTransform.make("squash", width, height).kept_fraction(inside) == pytest.approx(1)


class TestMapToImage:
    def test_a_crop_leaves_zeros_around_the_view(self) -> None:
        # 8 x 4 stays 8 x 4; the view is its middle 4 x 4.
        view = ViewTransform.make("resize_crop", width=8, height=4, size=4, resize=4)
        laid = view.map_to_image(np.arange(1, 17, dtype=np.float32).reshape(4, 4))
        expected = np.zeros((4, 8), dtype=np.float32)
        expected[:, 2:6] = np.arange(1, 17).reshape(4, 4)
        np.testing.assert_allclose(laid, expected)

    def test_between_centres_it_is_linear_and_flat_at_the_edge(self) -> None:
        view = ViewTransform.make("squash", width=4, height=4, size=2)
        laid = view.map_to_image(np.array([[0, 1], [0, 1]], dtype=np.float32))
        np.testing.assert_allclose(laid, [[0, 0.25, 0.75, 1]] * 4)

    @given(transforms(largest=60))
    def test_a_constant_map_is_constant_in_view_and_zero_outside(self, view: ViewTransform) -> None:
        laid = view.map_to_image(np.ones((view.view_height, view.view_width), dtype=np.float32))
        assert laid.shape == (view.height, view.width)
        x0, y0, x1, y1 = view.view_box
        y, x = np.mgrid[: view.height, : view.width] + 0.5
        # A centre that lies on the view's edge may round to either side.
        inside = (x > x0 + 1e-9) & (x < x1 - 1e-9) & (y > y0 + 1e-9) & (y < y1 - 1e-9)
        outside = (x < x0 - 1e-9) | (x > x1 + 1e-9) | (y < y0 - 1e-9) | (y > y1 + 1e-9)
        np.testing.assert_allclose(laid[inside], 1, rtol=1e-6)
        assert not laid[outside].any()

    @given(st.data())
    def test_the_brightest_point_lands_in_the_image_where_the_view_saw_it(self, data: st.DataObject) -> None:
        # The image is finer than the view, so every view pixel shows in it.
        size, resize = sorted(data.draw(st.tuples(st.integers(4, 20), st.integers(4, 30))))
        width, height = data.draw(st.integers(30, 60)), data.draw(st.integers(30, 60))
        view = ViewTransform.make(data.draw(st.sampled_from(GEOMETRIES)), width, height, size, resize)
        row, column = data.draw(st.integers(0, size - 1)), data.draw(st.integers(0, size - 1))
        spot = np.zeros((view.view_height, view.view_width), dtype=np.float32)
        spot[row, column] = 1
        laid = view.map_to_image(spot)
        y, x = np.unravel_index(laid.argmax(), laid.shape)
        in_view = view.boxes_to_view([[x + 0.5, y + 0.5, x + 0.5, y + 0.5]])[0]
        assert abs(in_view[0] - (column + 0.5)) <= 1
        assert abs(in_view[1] - (row + 0.5)) <= 1

    def test_a_canvas_of_another_size_shows_the_whole_image(self) -> None:
        view = ViewTransform.make("squash", width=640, height=480, size=8)
        assert view.map_to_image(np.ones((8, 8), dtype=np.float32), size=(30, 40)).tolist() == [[1] * 40] * 30

    def test_a_map_of_another_shape_is_refused(self) -> None:
        with pytest.raises(ValueError, match="the view is"):
            ViewTransform.make("squash", 9, 9, 8).map_to_image(np.ones((7, 7), dtype=np.float32))


class TestLargestComponentBox:
    def test_the_larger_of_two_components_is_boxed(self) -> None:
        bright = np.zeros((1, 8, 8), dtype=np.float32)
        bright[0, 0:2, 0:2] = 1  # 4 pixels
        bright[0, 4:7, 3:6] = 0.8  # 9 pixels, dimmer
        assert largest_component_box(bright).tolist() == [[3, 4, 6, 7]]

    def test_corners_connect(self) -> None:
        diagonal = np.eye(8, dtype=np.float32)[None]
        assert largest_component_box(diagonal).tolist() == [[0, 0, 8, 8]]

    def test_of_equal_components_the_first_in_reading_order_counts(self) -> None:
        pair = np.zeros((1, 8, 8), dtype=np.float32)
        pair[0, 6, 0:2] = 1
        pair[0, 1, 5:7] = 1
        assert largest_component_box(pair).tolist() == [[5, 1, 7, 2]]

    def test_the_threshold_is_strict(self) -> None:
        # Mean 1: pixels equal to the mean stay out.
        level = np.full((1, 2, 2), 1, dtype=np.float32)
        level[0, 0] = [0, 2]
        assert largest_component_box(level).tolist() == [[1, 0, 2, 1]]

    def test_maps_do_not_touch_their_neighbours_in_the_batch(self) -> None:
        generator = np.random.default_rng(0)
        maps = generator.random((9, 12, 10)).astype(np.float32)
        each = np.concatenate([largest_component_box(one[None]) for one in maps])
        np.testing.assert_array_equal(largest_component_box(maps), each)

    @pytest.mark.parametrize("value", [0.0, 0.1, 1.0, math.nan])
    def test_a_constant_map_has_no_box(self, value: float) -> None:
        maps = np.full((2, 8, 8), value, dtype=np.float32)
        maps[1, 2, 3] = 2
        boxes = largest_component_box(maps)
        assert np.isnan(boxes[0]).all()
        assert math.isnan(value) or boxes[1].tolist() == [3, 2, 4, 3]

    def test_a_threshold_may_be_given(self) -> None:
        ramp = np.arange(8, dtype=np.float32)[None, None, :].repeat(2, axis=0) / 8
        assert largest_component_box(ramp, 0.7).tolist() == [[6, 0, 8, 1]] * 2
        boxes = largest_component_box(ramp, [0.2, 2.0])
        assert boxes[0].tolist() == [2, 0, 8, 1]
        assert np.isnan(boxes[1]).all()


@st.composite
def masked_views(draw: st.DrawFn) -> tuple[ViewTransform, np.ndarray]:
    view = draw(transforms(largest=60))
    return view, draw(arrays(bool, (view.height, view.width)))


class TestCoverageOfMasks:
    def test_the_share_of_each_pixel_is_that_of_the_mask_in_it(self) -> None:
        # Two pixels of the image a pixel of the view: of the L, 4, 2, 2, and 1 of each four.
        mask = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [0, 0, 1, 0]], dtype=bool)
        view = ViewTransform.make("squash", 4, 4, size=2)
        assert view.coverage([[0, 0, 4, 4]], mask).tolist() == [[1, 0], [0.5, 0.5]]

    def test_a_squash_shares_a_pixel_of_the_image_between_pixels_of_the_view(self) -> None:
        view = ViewTransform.make("squash", 3, 1, size=2)
        assert view.coverage([], np.array([[False, True, False]])) == pytest.approx(0.5 / 1.5)

    def test_a_crop_leaves_out_what_lies_beside_it(self) -> None:
        # 6 x 2 px become 6 x 2 and are cut to columns 2 and 3.
        view = ViewTransform.make("resize_crop", 6, 2, size=2, resize=2)
        mask = np.array([[1, 1, 1, 0, 0, 0], [0, 0, 0, 0, 1, 1]], dtype=bool)
        assert view.coverage([], mask).tolist() == [[1, 0], [0, 0]]
        assert not view.coverage([], mask & (np.arange(6) < 2)).any()

    @given(masked_views())
    def test_a_mask_covers_what_the_boxes_of_its_pixels_cover(self, drawn: tuple[ViewTransform, np.ndarray]) -> None:
        view, mask = drawn
        pixels = [[x, y, x + 1, y + 1] for y, x in np.argwhere(mask).tolist()]
        np.testing.assert_allclose(view.coverage([], mask), view.coverage(pixels), atol=1e-6)

    def test_a_mask_of_another_size_is_refused(self) -> None:
        with pytest.raises(ValueError, match=r"a mask of shape \(2, 3\); the image is \(3, 2\)"):
            ViewTransform.make("squash", 2, 3).coverage([], np.ones((2, 3), dtype=bool))
