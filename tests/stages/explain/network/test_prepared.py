"""What a library does to an image, found by having it done: by hand, on ways that are known."""

import numpy as np
import pytest
import torch

from stages.explain.network.sources.prepared import (
    Normalization,
    agreeing_view,
    measure_normalization,
    reverse_channels,
)
from stages.explain.network.view import ViewSettings, render_view

MEAN, STD = (0.1, 0.2, 0.3), (0.5, 0.4, 0.25)


def way(view=None, turned=False, curve=1.0):
    view = view or ViewSettings(size=32)

    def prepare(image):
        shares = (torch.from_numpy(render_view(image, view)) / 255) ** curve
        normalized = (shares - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
        return normalized.flip(0) if turned else normalized

    return prepare


@pytest.mark.parametrize("turned", [False, True])
def test_mean_and_std_and_the_order_of_channels_are_measured(turned):
    found = measure_normalization(way(turned=turned))
    assert (found.mean, found.std, found.reversed) == (pytest.approx(MEAN), pytest.approx(STD), turned)
    assert found.agrees(MEAN, STD)
    assert not found.agrees(MEAN[::-1], STD)
    assert not found.agrees((0.1,), (0.5,))


@pytest.mark.parametrize(
    ("prepare", "said"),
    [
        (way(curve=2.2), r"the colour \(230, 120, 20\) becomes \(0.797, 0.19, 0.004\) of white"),
        (lambda image: torch.zeros(3, 8, 8), "black and white become the same"),
        (lambda image: torch.zeros(64, 768), r"a picture becomes \(64, 768\), not \(3, height, width\)"),
    ],
)
def test_what_no_mean_and_std_do_is_told(prepare, said):
    with pytest.raises(ValueError, match=said):
        measure_normalization(prepare)


@pytest.mark.parametrize("turned", [False, True])
def test_the_view_that_agrees_is_found_among_its_neighbours(turned):
    views = [
        ViewSettings("squash", 224),
        *(ViewSettings("resize_crop", 224, short) for short in (224, 250, 254, 255, 256, 257, 258)),
    ]
    normalization = Normalization(MEAN, STD, turned)
    for view in (views[0], views[3], views[5]):
        assert agreeing_view(way(view, turned), views, normalization) == view
    assert agreeing_view(way(ViewSettings("resize_crop", 224, 288), turned), views, normalization) is None
    assert agreeing_view(way(ViewSettings("squash", 192), turned), views, normalization) is None


def test_channels_are_reversed_for_the_network_alone():
    images = torch.arange(12.0).reshape(1, 3, 2, 2)
    (given, rest) = reverse_channels(torch.nn.Identity(), (images, "more"))
    np.testing.assert_array_equal(given[0, :, 0, 0], [8, 4, 0])
    assert (rest, images[0, 0, 0, 0]) == ("more", 0)
