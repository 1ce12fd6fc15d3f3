import pytest
import torch

from stages.explain.probes.pooling import pool

# Two channels on a grid of 2 x 2.
FEATURES = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]], [[10.0, 0.0], [0.0, -6.0]]]])


def test_a_place_counts_by_the_mean_of_the_map_over_its_cell():
    maps = torch.zeros(1, 4, 4)
    maps[0, 0, :2] = 1  # half of the top left cell
    maps[0, 3, 3] = 0.5  # an eighth of the bottom right one
    # Weights 4/5 and 1/5.
    assert pool(FEATURES, maps)[0].tolist() == pytest.approx([(4 * 1 + 4) / 5, (4 * 10 - 6) / 5])
    assert pool(FEATURES, maps * 8)[0].tolist() == pytest.approx([8 / 5, 34 / 5])


def test_a_map_of_ones_gives_the_mean_and_one_of_zeros_nothing():
    maps = torch.stack([torch.ones(6, 6), torch.zeros(6, 6)])
    mean, nothing = pool(FEATURES.expand(2, 2, 2, 2), maps)
    assert mean.tolist() == pytest.approx([2.5, 1.0])
    assert nothing.isnan().all()
