"""Insertion and deletion against curves written by hand and against a plain loop."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage

from stages.explain.opticam.blur import rise_blur
from stages.explain.probes.curves import insertion_deletion, saliency_ranks


def rise_kernel():
    """The kernel of RISE's evaluation: an impulse in 11 x 11 px, smoothed with sigma 5 within that window."""
    impulse = np.zeros((11, 11))
    impulse[5, 5] = 1
    return torch.from_numpy(ndimage.gaussian_filter(impulse, 5))


def weighted(weights):
    """A linear network: the weighted sum of the red channel."""
    return lambda pictures: (pictures[:, 0] * weights).sum((1, 2))


def test_deletion_of_a_linear_network_by_hand():
    # Red is 1 everywhere; the pixels weigh .4 .3 .2 .1 and go in the order of the map: .1, .3, .4, .2.
    images = torch.ones(1, 3, 2, 2)
    weights = torch.tensor([[0.4, 0.3], [0.2, 0.1]])
    maps = torch.tensor([[[0.5, 0.7], [0.0, 1.0]]])
    _, deletion = insertion_deletion(weighted(weights), images, maps, step=1)
    # p: 1, .9, .6, .2, 0. Trapezoids: (.95 + .75 + .4 + .1) / 4.
    assert deletion.tolist() == pytest.approx([0.55])


def test_a_last_step_may_be_short():
    images = torch.ones(1, 3, 2, 2)
    weights = torch.tensor([[0.4, 0.3], [0.2, 0.1]])
    maps = torch.tensor([[[0.5, 0.7], [0.0, 1.0]]])
    _, deletion = insertion_deletion(weighted(weights), images, maps, step=3)
    assert deletion.tolist() == pytest.approx([(1 / 2 + 0.2 + 0) / 2])  # p: 1, .2, 0


def test_insertion_of_a_linear_network_by_hand():
    # A blurred constant is itself, so the red plane starts as it ends: p = 1 throughout.
    images = torch.ones(2, 3, 2, 2)
    weights = torch.full((2, 2), 0.25)
    insertion, _ = insertion_deletion(weighted(weights), images, torch.rand(2, 2, 2), step=1)
    assert insertion.tolist() == pytest.approx([1, 1])


def test_a_map_that_knows_the_weights_beats_its_reverse():
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(1, 3, 16, 16, generator=generator)
    sharp = images - rise_blur(images)
    weights = torch.rand(16, 16, generator=generator) / 256
    gain = weights * sharp[:, 0]  # what a pixel adds when its sharp self comes back
    up, _ = insertion_deletion(weighted(weights), images, gain, step=8)
    down, _ = insertion_deletion(weighted(weights), images, -gain, step=8)
    assert up.item() > down.item()
    share = weights * images[:, 0]
    _, quick = insertion_deletion(weighted(weights), images, share, step=8)
    _, slow = insertion_deletion(weighted(weights), images, -share, step=8)
    assert quick.item() < slow.item()


def plain_area(probability, start, finish, saliency, step):
    """One curve as RISE's authors describe it: pixel by pixel in a sorted list, areas by numpy's trapezoids."""
    picture = start.clone()
    order = sorted(range(saliency.numel()), key=lambda pixel: (-saliency.flatten()[pixel].item(), pixel))
    curve = [probability(picture[None]).item()]
    while order:
        for pixel in order[:step]:
            y, x = divmod(pixel, saliency.shape[1])
            picture[:, y, x] = finish[:, y, x]
        order = order[step:]
        curve.append(probability(picture[None]).item())
    return np.trapezoid(curve, np.linspace(0, 1, len(curve)))


@pytest.mark.parametrize("step", [7, 16])
def test_a_batch_agrees_with_a_plain_loop(step):
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(3, 3, 12, 10, generator=generator)
    maps = torch.rand(3, 12, 10, generator=generator).round(decimals=1)  # with ties
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(320, 5)
    )
    targets = torch.tensor([0, 4, 2])

    def probabilities(pictures):
        return network(pictures).softmax(1).gather(1, targets[:, None])[:, 0]

    insertion, deletion = insertion_deletion(probabilities, images, maps, step)
    mirrored = F.pad(images.double(), (5, 5, 5, 5), mode="reflect")
    kernel = rise_kernel().expand(3, 1, 11, 11)
    blurred = F.conv2d(mirrored, kernel, groups=3).float()
    for place in range(3):

        def probability(picture, target=targets[place]):
            with torch.no_grad():
                return network(picture).softmax(1)[0, target]

        black = torch.zeros_like(images[place])
        wanted = plain_area(probability, blurred[place], images[place], maps[place], step)
        assert insertion[place].item() == pytest.approx(wanted, abs=1e-6)
        wanted = plain_area(probability, images[place], black, maps[place], step)
        assert deletion[place].item() == pytest.approx(wanted, abs=1e-6)


def test_the_whole_of_a_view_of_224_takes_450_passes():
    passes = []

    def probabilities(pictures):
        passes.append(len(pictures))
        return torch.zeros(len(pictures))

    insertion_deletion(probabilities, torch.zeros(2, 3, 224, 224), torch.rand(2, 224, 224))
    assert passes == [2] * 450


def test_ranks_are_places_in_the_order_with_ties_by_index():
    maps = torch.tensor([[[0.2, 0.9], [0.2, 0.5]]])
    assert saliency_ranks(maps).tolist() == [[[2, 0], [3, 1]]]


def bright_whites(images):
    """A network that counts pixels as bright as the image's white ones, as a share of those: blurred ones are not."""
    white = images[0, 0].sum()
    return lambda pictures: (pictures[:, 0] > 0.9).sum((1, 2)) / white


@pytest.mark.parametrize(
    ("first", "insertion", "deletion"),
    [
        # 16 of 64 pixels a step. White squares first: p rises 0, .5, 1, 1, 1 and falls 1, .5, 0, 0, 0.
        ("white", (0.25 + 0.75 + 1 + 1) / 4, (0.75 + 0.25 + 0 + 0) / 4),
        # Black squares first: 0, 0, 0, .5, 1 and 1, 1, 1, .5, 0.
        ("black", (0 + 0 + 0.25 + 0.75) / 4, (1 + 1 + 0.75 + 0.25) / 4),
        # Row by row, 8 white squares a step: 0, .25, .5, .75, 1 and back.
        ("rows", 0.5, 0.5),
    ],
)
def test_both_curves_of_a_chessboard_by_hand(first, insertion, deletion):
    y, x = torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij")
    board = ((x + y) % 2).float()
    maps = {"white": board, "black": 1 - board, "rows": -y.float()}[first]
    images = board.expand(1, 3, 8, 8)
    found = insertion_deletion(bright_whites(images), images, maps[None], step=16)
    assert [area.item() for area in found] == pytest.approx([insertion, deletion])
