from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.geometry import ViewTransform
from stages.score.nulls import energy_lift, energy_logodds, energy_null_pct

VIEW = ViewTransform(8, 8, 8, 8, 1.0, 1.0, 0.0, 0.0)


def percentile_by_moving(one: np.ndarray, coverage: np.ndarray) -> float:
    """The definition, a move at a time: the mass under the boxes at every other place in the view."""
    height, width = one.shape
    rows, columns = np.flatnonzero(coverage.any(axis=1)), np.flatnonzero(coverage.any(axis=0))
    patch = coverage[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    here = float((one * coverage).sum(dtype=np.float64))
    verdicts = []
    for y in range(height - patch.shape[0] + 1):
        for x in range(width - patch.shape[1] + 1):
            if (y, x) != (rows[0], columns[0]):
                there = float((one[y : y + patch.shape[0], x : x + patch.shape[1]] * patch).sum(dtype=np.float64))
                tie = abs(there - here) <= 1e-6 * one.sum(dtype=np.float64)
                verdicts.append(0.5 if tie else float(there < here))
    return float(np.mean(verdicts)) if verdicts else math.nan


class TestLift:
    def test_it_is_energy_over_area(self) -> None:
        assert energy_lift([0.75, 0.125, 0.0], [0.125, 0.125, 0.125]).tolist() == [6, 1, 0]

    def test_log_odds_by_hand(self) -> None:
        # logit .75 = log 3, logit .5 = 0.
        assert energy_logodds([0.75], [0.5]).tolist() == pytest.approx([math.log(3)])

    def test_log_odds_stay_bounded(self) -> None:
        # Both ends are clamped to .01 and .99: 2 log 99.
        assert energy_logodds([1.0, 0.0], [1e-5, 1.0]).tolist() == pytest.approx([2 * math.log(99), -2 * math.log(99)])

    def test_undefined_stays_undefined(self) -> None:
        assert np.isnan(energy_lift([np.nan, 0.5], [0.5, np.nan])).all()
        assert np.isnan(energy_logodds([np.nan, 0.5], [0.5, np.nan])).all()


class TestPercentile:
    def test_by_hand_on_a_row(self) -> None:
        # A box of one pixel on the 3: of the other three pixels one holds more, one the same, one less.
        maps = np.array([[[1, 3, 3, 4]]], dtype=np.float32) / 4
        coverage = np.array([[[0, 1, 0, 0]]], dtype=np.float32)
        assert energy_null_pct(maps, coverage).tolist() == pytest.approx([1.5 / 3])

    def test_the_brightest_place_is_the_top(self) -> None:
        maps = np.zeros((2, 8, 8), dtype=np.float32)
        maps[0, 2:4, 2:6] = 1
        maps[1, 7, 7] = 1
        coverage = VIEW.coverage([[2, 2, 6, 4]])[None].repeat(2, axis=0)
        # The second map lies under the last of the 5 * 7 places, which beats the box; the other 33 are ties.
        assert energy_null_pct(maps, coverage).tolist() == pytest.approx([1, 33 * 0.5 / 34])

    def test_the_uniform_map_scores_one_half(self) -> None:
        uniform = np.ones((1, 224, 224), dtype=np.float32)
        coverage = ViewTransform.make("squash", 500, 375).coverage([[30, 40, 200, 180], [300, 200, 420, 300]])[None]
        assert energy_null_pct(uniform, coverage).tolist() == [0.5]

    @settings(deadline=None)
    @given(st.integers(0, 10_000), st.integers(1, 12), st.integers(1, 12), st.data())
    def test_on_a_small_view_it_is_the_definition(
        self, seed: int, height: int, width: int, data: st.DataObject
    ) -> None:
        generator = np.random.default_rng(seed)
        maps = generator.integers(0, 5, (1, height, width)).astype(np.float32) / 4
        x0, x1 = sorted(data.draw(st.tuples(st.integers(0, width), st.integers(0, width))))
        y0, y1 = sorted(data.draw(st.tuples(st.integers(0, height), st.integers(0, height))))
        coverage = np.zeros_like(maps)
        coverage[0, y0:y1, x0:x1] = 1
        coverage[0, y0 : y0 + 1, x0:x1] *= 0.5
        if not coverage.any() or not maps.any():
            assert np.isnan(energy_null_pct(maps, coverage))
        else:
            np.testing.assert_allclose(
                energy_null_pct(maps, coverage)[0], percentile_by_moving(maps[0], coverage[0]), atol=1e-12
            )

    @pytest.mark.parametrize("side", [224, 230])
    def test_on_a_large_view_the_grid_is_close_to_all_moves(self, side: int) -> None:
        generator = np.random.default_rng(1)
        coarse = generator.random((6, 7, 7))
        y, x = np.clip((np.mgrid[:side, :side] + 0.5) * 7 / side - 0.5, 0, 5.999)
        top, left = y.astype(int), x.astype(int)
        dy, dx = y - top, x - left
        maps = sum(
            weight * coarse[:, top + i, left + j]
            for i, j, weight in (
                (0, 0, (1 - dy) * (1 - dx)),
                (0, 1, (1 - dy) * dx),
                (1, 0, dy * (1 - dx)),
                (1, 1, dy * dx),
            )
        ).astype(np.float32)
        coverage = ViewTransform.make("squash", 500, 400, side).coverage([[120, 90, 300, 310]])
        ours = energy_null_pct(maps, np.broadcast_to(coverage, maps.shape))
        # Every whole-pixel move, through an integral image of the patch's bounding box.
        exact = [_percentile_by_integral(one, coverage) for one in maps.astype(np.float64)]
        np.testing.assert_allclose(ours, exact, atol=0.02)

    def test_boxes_that_fill_the_view_have_no_other_place(self) -> None:
        maps = np.random.default_rng(0).random((1, 8, 8)).astype(np.float32)
        assert np.isnan(energy_null_pct(maps, np.ones_like(maps)))

    def test_without_box_or_mass_it_is_undefined(self) -> None:
        maps, nothing = np.ones((1, 8, 8), dtype=np.float32), np.zeros((1, 8, 8), dtype=np.float32)
        box = VIEW.coverage([[0, 0, 2, 2]])[None]
        assert np.isnan(energy_null_pct(maps, nothing))
        assert np.isnan(energy_null_pct(nothing, box))
        assert np.isnan(energy_null_pct(maps * np.nan, box))


def _percentile_by_integral(one: np.ndarray, coverage: np.ndarray) -> float:
    inside = coverage > 0.5
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    height, width = rows[-1] + 1 - rows[0], columns[-1] + 1 - columns[0]
    total = np.pad(one.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    energy = (
        total[height:, width:] - total[:-height, width:] - total[height:, :-width] + total[:-height, :-width]
    ).ravel()
    here = energy[rows[0] * (one.shape[1] - width + 1) + columns[0]]
    return float((energy < here).sum() / (energy.size - 1))
