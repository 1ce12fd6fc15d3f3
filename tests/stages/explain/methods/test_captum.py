"""Drops of probability beside captum's perturbation attributions, which are the same experiment by another's hand."""

import numpy as np
import pytest
import torch

from stages.explain.opticam.blur import blur
from stages.explain.probes.probes import probe
from stages.explain.probes.scan import scan, windows

attr = pytest.importorskip("captum.attr", reason="needs the package captum (the extra `baselines`)")

SIDE, GRID, TARGET = 20, (4, 4), 2


@pytest.fixture
def network():
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(3, 6, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(6 * 18 * 18, 4)]
    return torch.nn.Sequential(*layers, torch.nn.Softmax(1)).eval()


@pytest.fixture
def image():
    return torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def saliency():
    return torch.rand(1, SIDE, SIDE, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def coverage():
    covered = torch.zeros(1, SIDE, SIDE)
    covered[:, 5:14, 3:12] = 1
    return covered


def p_of(network):
    return lambda pictures: network(pictures)[:, TARGET]


def ablated(network, image, hidden, baseline):
    """captum's FeatureAblation of one feature: what p loses when the pixels ``hidden`` (H, W) take the baseline's."""
    features = torch.as_tensor(hidden).long().expand(1, 3, SIDE, SIDE)
    both = attr.FeatureAblation(network).attribute(image, baselines=baseline, target=TARGET, feature_mask=features)
    return both[0, 0][torch.as_tensor(hidden)].unique().item()


def test_drops_of_the_probes_are_feature_ablations(network, image, saliency, coverage):
    blurred, p = blur(image), p_of(network)
    has_box = torch.tensor([True])
    probes = probe(p, image, blurred, saliency, saliency.flip(2), coverage, has_box, [0], GRID)
    full = p(image).item()
    inside = coverage[0].bool().numpy()

    def first_tenth(where):
        """The 40 pixels of highest saliency among ``where``, by numpy."""
        order = np.argsort(np.where(where, saliency[0].numpy(), -1).ravel())[::-1][:40]
        return np.isin(np.arange(SIDE * SIDE), order).reshape(SIDE, SIDE)

    black = torch.zeros_like(image)
    for name, hidden, baseline in (
        ("p_context", inside, black),
        ("p_box", ~inside, black),
        ("p_hide_context", ~inside, blurred),
        ("p_hide_map", first_tenth(~inside), blurred),
        ("p_hide_inside", first_tenth(inside), blurred),
    ):
        drop = full - probes[name].item()
        assert drop == pytest.approx(ablated(network, image, hidden, baseline), abs=1e-6), name
        assert abs(drop) > 1e-4, name  # the network does see it


def test_the_scan_is_an_occlusion_by_windows_of_the_blurred_image(network, image):
    # captum's Occlusion cannot leave the windows apart: it averages those that share a pixel.
    blurred = blur(image)
    everywhere = torch.ones(1, SIDE, SIDE, dtype=torch.bool)
    lowest, found = scan(network, image, torch.tensor([TARGET]), blurred, everywhere)
    drops = []
    for x0, y0, x1, y1 in windows(SIDE, SIDE):
        hidden = np.zeros((SIDE, SIDE), dtype=bool)
        hidden[y0:y1, x0:x1] = True
        drops.append(ablated(network, image, hidden, blurred))
    assert p_of(network)(image).item() - lowest.item() == pytest.approx(max(drops), abs=1e-6)
    assert found == [windows(SIDE, SIDE)[int(np.argmax(drops))]]
