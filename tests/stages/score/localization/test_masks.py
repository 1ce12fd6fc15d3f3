"""Scores against a mask, by hand: an L in a picture of 16 x 16 px, whose view has 8 x 8."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from stages.score.localization import pixel_runs
from stages.score.score import score
from stages.score.settings import ScoreSettings
from storage.media.object_masks import encode_mask
from storage.samples import truth_of
from storage.tables import SAMPLES
from tests.stages.score.runs import box, explained, make_run, peak, sample

# In the view: columns 2 and 3 of rows 2 to 4 and half of row 5, columns 4 and 5 of row 4 and half of row 5.
MASK = np.zeros((16, 16), dtype=bool)
MASK[4:11, 4:8] = True
MASK[8:11, 4:12] = True
BOX = [box(4, 4, 12, 11)]
AREA = 2 * 3 + 2 + 4 / 2


def scored(path: Path, grid: np.ndarray, mask: np.ndarray | None, boxes: Any = BOX, **more: Any) -> dict[str, Any]:
    own = {} if mask is None else {"mask": encode_mask(mask), "width": mask.shape[1], "height": mask.shape[0]}
    geometry = more.pop("geometry", "squash")
    run = make_run(path, [sample(0, boxes, **own | more)], [explained(0)], {"label": [grid]}, geometry)
    score(run, ScoreSettings())
    row: dict[str, Any] = run.table("scores").to_pylist()[0]
    return row


def test_energy_is_the_share_of_the_map_in_the_mask(tmp_path: Path) -> None:
    grid = np.zeros((8, 8), dtype=np.float32)
    grid[2, 2], grid[2, 5], grid[5, 5], grid[7, 7] = 1, 1, 1, 0.5
    row = scored(tmp_path, grid, MASK)
    # Of the mass of 3.5 the L holds one pixel and half of another; the corner of its box is not the L's.
    assert row["energy_in"] == pytest.approx(1.5 / 3.5)
    assert row["box_area_frac"] == pytest.approx(AREA / 64)
    assert row["energy_lift"] == pytest.approx(1.5 / 3.5 / (AREA / 64))
    assert row["pixel_f1"] == pytest.approx(2 * 1.5 / (3.5 + AREA))
    in_box = scored(tmp_path / "box", grid, None)
    assert in_box["energy_in"] == pytest.approx(2.5 / 3.5)
    assert row["status"] == in_box["status"] == "ok"


def test_a_maximum_in_the_corner_that_the_mask_leaves_out_is_no_hit(tmp_path: Path) -> None:
    assert scored(tmp_path / "box", peak(5, 2), None)["pointing_hit"]
    row = scored(tmp_path / "mask", peak(5, 2), MASK)
    assert (row["pointing_hit"], row["pointing_hit_tol"]) == (False, True)
    assert scored(tmp_path / "foot", peak(5, 5), MASK)["pointing_hit"]  # half of the pixel is the L's


def test_the_box_of_the_map_is_compared_with_boxes_still(tmp_path: Path) -> None:
    grid = np.zeros((8, 8), dtype=np.float32)
    grid[2:5, 2:6] = 1
    row, in_box = scored(tmp_path, grid, MASK), scored(tmp_path / "box", grid, None)
    for name in ("iou_best", "localization_error", "official_metric", "box_kept_frac", "n_boxes"):
        assert row[name] == in_box[name], name
    assert row["iou_best"] == pytest.approx(12 / 14)


def test_a_crop_shows_the_part_of_the_mask_that_it_keeps(tmp_path: Path) -> None:
    # 24 x 16 px become 12 x 8, of which the view is columns 2 to 9: the L's left column is the view's first.
    mask = np.pad(MASK, ((0, 0), (0, 8)))
    row = scored(tmp_path, peak(1, 4), mask, geometry="resize_crop")
    assert row["box_area_frac"] == pytest.approx(AREA / 64)
    assert row["energy_in"] == 1
    beside = np.zeros_like(mask)
    beside[:, :4] = True
    row = scored(tmp_path / "beside", peak(1, 4), beside, [box(0, 0, 6, 16)], geometry="resize_crop")
    assert (row["status"], row["reason"]) == ("box_outside_view", "the view shows nothing of the mask")
    assert row["energy_in"] is None


def test_a_changed_mask_is_scored_again_and_no_mask_as_ever(tmp_path: Path) -> None:
    run = make_run(tmp_path, [sample(0, BOX)], [explained(0)], {"label": [peak(5, 2)]})

    def parts(mask: np.ndarray | None) -> int:
        counts = None if mask is None else encode_mask(mask)
        run.write_table("samples", pa.Table.from_pylist([sample(0, BOX, mask=counts)], schema=SAMPLES))
        return score(run, ScoreSettings()).parts

    assert [parts(None), parts(None), parts(MASK), parts(MASK), parts(~MASK), parts(None)] == [1, 0, 1, 0, 1, 1]


def test_a_sample_without_a_mask_has_the_digest_that_it_had_before_there_were_masks() -> None:
    rows = pa.Table.from_pylist([sample(0, BOX), sample(1, BOX, mask=encode_mask(MASK))], schema=SAMPLES)
    before = rows.select(["label", "boxes"]).to_pylist()
    assert truth_of(rows, ["label", "boxes"]) == [before[0], before[1] | {"mask": encode_mask(MASK)}]


class TestPixelRuns:
    def test_pixels_of_which_half_is_inside_are_runs_of_their_rows(self) -> None:
        inside = np.array([[0.5, 1, 0.4, 1], [0, 0, 0, 0], [0, 1, 1, 0]], dtype=np.float32)
        assert pixel_runs(inside).tolist() == [[0, 0, 2, 1], [3, 0, 4, 1], [1, 2, 3, 3]]

    def test_of_a_thin_object_they_are_those_of_which_most_is(self) -> None:
        assert pixel_runs(np.array([[0, 0.2, 0.1, 0.2]], dtype=np.float32)).tolist() == [[1, 0, 2, 1], [3, 0, 4, 1]]

    def test_nothing_has_none(self) -> None:
        assert pixel_runs(np.zeros((3, 3), dtype=np.float32)).shape == (0, 4)
