from __future__ import annotations

import math

import numpy as np
import pytest

from stages.score.spread import border_energy, entropy


def one_map(side: int) -> np.ndarray:
    return np.zeros((1, side, side), dtype=np.float32)


class TestBorderEnergy:
    def test_the_frame_is_counted_by_area(self) -> None:
        maps = one_map(8)
        maps[0, 0, 3] = 1  # in the frame of one pixel
        maps[0, 4, 4] = 3
        assert border_energy(maps, width=1 / 8).tolist() == [0.25]
        # Half a pixel wide, the frame holds half of the first pixel.
        assert border_energy(maps, width=1 / 16).tolist() == [0.125]

    def test_the_uniform_map_scores_the_frames_area(self) -> None:
        assert border_energy(np.ones((1, 224, 224), dtype=np.float32)).tolist() == pytest.approx([0.19], rel=1e-6)

    def test_without_mass_it_is_undefined(self) -> None:
        assert np.isnan(border_energy(one_map(8)))


class TestEntropy:
    def test_one_pixel_has_none_and_the_uniform_map_all(self) -> None:
        point = one_map(8)
        point[0, 1, 1] = 0.5
        assert entropy(point).tolist() == pytest.approx([0], abs=1e-6)
        assert entropy(one_map(8) + 0.3).tolist() == pytest.approx([1])

    def test_four_equal_pixels_of_sixtyfour_have_a_third(self) -> None:
        four = one_map(8)
        four[0, :2, :2] = 1
        assert entropy(four).tolist() == pytest.approx([math.log(4) / math.log(64)])

    def test_two_unequal_pixels(self) -> None:
        # p = 1/4, 3/4: .5623 nats of log 16.
        two = one_map(4)
        two[0, 0, 0], two[0, 3, 3] = 0.25, 0.75
        expected = (0.25 * math.log(4) + 0.75 * math.log(4 / 3)) / math.log(16)
        assert entropy(two).tolist() == pytest.approx([expected])

    def test_without_mass_it_is_undefined(self) -> None:
        assert np.isnan(entropy(one_map(8)))
        assert np.isnan(entropy(one_map(8) * np.nan))
