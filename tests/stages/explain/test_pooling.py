import pytest
import torch

from stages.explain.pooling import pool

# Two channels on a grid of 2 x 2.
FEATURES = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]], [[10.0, 0.0], [0.0, -6.0]]]])


def test_a_place_counts_by_the_share_of_its_cell_in_the_region():
    region = torch.zeros(1, 4, 4)
    region[0, 0, :2] = 1  # half of the top left cell
    region[0, 3, 3] = 1  # a quarter of the bottom right one
    # Weights 2/3 and 1/3.
    assert pool(FEATURES, region)[0].tolist() == pytest.approx([(2 * 1 + 4) / 3, (2 * 10 - 6) / 3])


def test_weights_below_one_count_as_such_and_their_scale_does_not():
    region = torch.zeros(1, 2, 2)
    region[0, 0] = torch.tensor([0.25, 0.75])
    assert pool(FEATURES, region)[0].tolist() == pytest.approx([1.75, 2.5])
    assert pool(FEATURES, region * 8)[0].tolist() == pytest.approx([1.75, 2.5])


def test_the_whole_view_gives_the_mean_and_nothing_gives_nan():
    region = torch.stack([torch.ones(6, 6), torch.zeros(6, 6)])
    mean, nothing = pool(FEATURES.expand(2, 2, 2, 2), region)
    assert mean.tolist() == pytest.approx([2.5, 1.0])
    assert nothing.isnan().all()


def test_a_region_may_be_of_booleans():
    region = torch.tensor([[[True, False], [False, True]]])
    assert pool(FEATURES, region)[0].tolist() == pytest.approx([2.5, 2.0])
