"""Probes on a transparent stand-in for a network, so that every probability is known by hand."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from stages.explain.opticam.blur import blur
from stages.explain.probes.probes import (
    crop_outside,
    crops,
    most_salient,
    outside_of,
    probe,
    random_blobs,
    salient_part,
)
from stages.masks import hidden_pixels

PROBES = (
    *("p_saliency", "p_box", "p_context", "p_saliency_in_box", "p_saliency_in_context"),
    *("p_hide_map", "p_hide_second", "p_hide_inside", "p_hide_random", "p_hide_context", "p_crop"),
)
SIDE = 10
GRID = (2, 2)


def mean_red(pictures):
    """The probability is the mean of the red channel."""
    return pictures[:, 0].mean((1, 2))


class Watched:
    """Counts a picture's pixels that are as in the original image, and keeps what it was shown."""

    def __init__(self, images):
        self.images, self.shown = images, []

    def __call__(self, pictures):
        self.shown.append(pictures.clone())
        return (pictures == self.images).all(1).float().mean((1, 2))


def box(x0, y0, x1, y1, side=SIDE):
    coverage = torch.zeros(1, side, side)
    coverage[:, y0:y1, x0:x1] = 1
    return coverage


def noise(count=1, side=SIDE, seed=0):
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def slope(side=SIDE):
    """A map that rises along the rows: pixel k in reading order has value k / last."""
    return torch.linspace(0, 1, side * side).view(1, side, side)


def run(probabilities, images, maps, coverage, has_box=True, seeds=(0,), second=None):
    flags = torch.full((len(images),), has_box)
    second = maps.flip(2) if second is None else second
    found = probe(probabilities, images, blur(images), maps, second, coverage, flags, seeds, GRID)
    assert tuple(found) == PROBES
    return found


def test_masked_probes_of_a_red_image_by_hand():
    images = torch.zeros(1, 3, SIDE, SIDE)
    images[:, 0] = 1
    maps = torch.zeros(1, SIDE, SIDE)
    maps[..., 0:2], maps[..., 2:6] = 1.0, 0.5  # 20 pixels at 1, 40 at a half
    probes = run(mean_red, images, maps, box(0, 0, 4, 10))
    assert probes["p_saliency"].item() == pytest.approx(0.4)  # 20 + 40 / 2 of 100
    assert probes["p_box"].item() == pytest.approx(0.4)
    assert probes["p_context"].item() == pytest.approx(0.6)
    assert probes["p_saliency_in_box"].item() == pytest.approx(0.3)  # 20 + 20 / 2
    assert probes["p_saliency_in_context"].item() == pytest.approx(0.1)  # 20 / 2
    # A blurred red image is the same red image: hiding changes nothing.
    for name in ("p_hide_map", "p_hide_second", "p_hide_inside", "p_hide_random", "p_hide_context"):
        assert probes[name].item() == pytest.approx(1.0), name


def test_masked_is_black_before_the_normalisation_not_the_mean_colour_after_it():
    def normalised(pictures):
        return (pictures[:, 0] - 0.5) / 0.25

    maps = torch.zeros(1, SIDE, SIDE)
    maps[..., :5] = 1
    images = torch.ones(1, 3, SIDE, SIDE)
    probes = run(lambda pictures: normalised(pictures).mean((1, 2)), images, maps, box(0, 0, 4, 10))
    assert probes["p_saliency"].item() == pytest.approx(0)  # half the pixels are 2, the black half -2
    # torchcam's ClassificationMetric multiplies the normalised tensor, so that what is masked is 0.
    assert (maps * normalised(images)).mean().item() == pytest.approx(1)


def test_a_pixel_half_inside_the_box_counts_half():
    images = torch.ones(1, 3, SIDE, SIDE)
    coverage = box(0, 0, 4, 10)
    coverage[..., 4] = 0.5
    probes = run(mean_red, images, torch.ones(1, SIDE, SIDE), coverage)
    assert probes["p_box"].item() == pytest.approx(0.45)
    assert probes["p_context"].item() == pytest.approx(0.55)


def test_hiding_replaces_exactly_the_ten_most_salient_pixels_outside_or_inside_by_the_blur():
    images = noise()
    watched = Watched(images)
    probes = run(watched, images, slope(), box(0, 8, 10, 10))
    assert hidden_pixels(SIDE, SIDE) == 10
    assert probes["p_hide_map"].item() == pytest.approx(0.9)
    assert probes["p_hide_inside"].item() == pytest.approx(0.9)
    blurred = ndimage.gaussian_filter(images[0].numpy(), (0, 1, 1), mode="mirror")  # sigma = 10% of 10 px
    outside, inside = (watched.shown[PROBES.index(name)][0] for name in ("p_hide_map", "p_hide_inside"))
    for picture, row in ((outside, 7), (inside, 9)):  # the map rises downwards: the last row outside, the last inside
        expected = images[0].numpy().copy()
        expected[:, row] = blurred[:, row]
        np.testing.assert_allclose(picture.numpy(), expected, rtol=0, atol=1e-6)


def test_hiding_the_context_leaves_the_boxes_and_blurs_the_rest_in_the_share_that_lies_outside():
    images, coverage = noise(), box(0, 0, 10, 4)
    coverage[:, 4] = 0.25
    watched = Watched(images)
    run(watched, images, slope(), coverage)
    sharp, blurred = images[0].numpy(), ndimage.gaussian_filter(images[0].numpy(), (0, 1, 1), mode="mirror")
    expected = np.concatenate([sharp[:, :4], 0.25 * sharp[:, 4:5] + 0.75 * blurred[:, 4:5], blurred[:, 5:]], axis=1)
    np.testing.assert_allclose(watched.shown[PROBES.index("p_hide_context")][0].numpy(), expected, rtol=0, atol=1e-6)


def test_a_pixel_that_the_box_cuts_is_neither_outside_nor_inside():
    images = noise()
    coverage = box(0, 8, 10, 10)
    coverage[:, 7] = 0.25  # the most salient row outside is cut, so the one above it is hidden
    watched = Watched(images)
    run(watched, images, slope(), coverage)
    changed = (watched.shown[PROBES.index("p_hide_map")][0] != images[0]).any(0)
    assert torch.equal(changed.nonzero()[:, 0].unique(), torch.tensor([6]))
    assert changed.sum() == 10


def test_the_second_map_proposes_pixels_of_its_own_and_a_constant_one_none():
    images = noise()
    watched = Watched(images)
    run(watched, images, slope(), box(0, 8, 10, 10), second=100 * slope().flip(1))
    changed = (watched.shown[PROBES.index("p_hide_second")][0] != images[0]).any(0)
    assert torch.equal(changed.nonzero()[:, 0].unique(), torch.tensor([0]))  # rises upwards: the first row
    assert changed.sum() == 10
    probes = run(watched, images, slope(), box(0, 8, 10, 10), second=torch.full((1, SIDE, SIDE), 0.3))
    assert defined(probes) == set(PROBES) - {"p_hide_second"}


def test_random_hiding_takes_as_many_pixels_all_of_them_outside():
    images = noise()
    watched = Watched(images)
    coverage = box(2, 2, 8, 8)
    probes = run(watched, images, slope(), coverage, seeds=(7,))
    changed = (watched.shown[PROBES.index("p_hide_random")][0] != images[0]).any(0)
    assert changed.sum() == 10
    assert not (changed & (coverage[0] > 0)).any()
    assert probes["p_hide_random"].item() == pytest.approx(0.9)


def defined(probes):
    return {name for name in PROBES if not torch.isnan(probes[name]).any()}


def test_hiding_outside_is_undefined_where_fewer_pixels_lie_outside():
    probes = run(mean_red, noise(), slope(), box(0, 0, 10, 9))
    assert defined(probes) == set(PROBES)  # ten lie outside: just enough
    coverage = box(0, 0, 10, 9)
    coverage[0, 9, 0] = 0.01
    probes = run(mean_red, noise(), slope(), coverage)
    assert defined(probes) == set(PROBES) - {"p_hide_map", "p_hide_second", "p_hide_random"}


def test_hiding_inside_is_undefined_where_fewer_pixels_lie_inside():
    assert defined(run(mean_red, noise(), slope(), box(0, 0, 5, 2))) == set(PROBES)
    assert defined(run(mean_red, noise(), slope(), box(0, 0, 3, 3))) == set(PROBES) - {"p_hide_inside"}


def test_without_a_box_only_the_map_and_its_crop_are_probed():
    probes = run(mean_red, noise(), slope(), torch.zeros(1, SIDE, SIDE), has_box=False)
    assert defined(probes) == {"p_saliency", "p_crop"}


def test_the_images_of_a_batch_do_not_mix():
    images, maps = noise(3), torch.cat([slope(), slope().flip(1), slope().flip(2)])
    coverage = torch.cat([box(0, 0, 5, 5), box(2, 2, 9, 9), box(5, 5, 10, 10)])
    together = run(mean_red, images, maps, coverage, seeds=(1, 2, 3))
    for place in range(3):
        one = slice(place, place + 1)
        alone = run(mean_red, images[one], maps[one], coverage[one], seeds=(place + 1,))
        for name in PROBES:
            torch.testing.assert_close(together[name][one], alone[name], rtol=0, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_the_most_salient_pixels_are_those_of_a_plain_sort_with_ties_by_index(data):
    values = data.draw(st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=12, max_size=12))
    allowed = data.draw(st.lists(st.booleans(), min_size=12, max_size=12))
    count = data.draw(st.integers(1, 6))
    candidates = sorted((index for index in range(12) if allowed[index]), key=lambda index: (-values[index], index))
    wanted = np.zeros(12, bool)
    if len(candidates) >= count:
        wanted[candidates[:count]] = True
    hidden, is_defined = most_salient(torch.tensor(values).view(1, 3, 4), torch.tensor(allowed).view(1, 3, 4), count)
    np.testing.assert_array_equal(hidden.numpy().ravel(), wanted)
    assert is_defined.item() == (len(candidates) >= count)


def test_ten_percent_of_the_view_is_rounded():
    assert hidden_pixels(224, 224) == 5018  # of 50176
    assert hidden_pixels(32, 32) == 102


@pytest.mark.parametrize("side", [32, 33, 224, 260])
def test_the_blur_is_a_gaussian_of_a_tenth_of_the_side(side):
    images = noise(2, side).double()
    sigma = side / 10
    wanted = ndimage.gaussian_filter(
        images.numpy(), (0, 0, sigma, sigma), mode="mirror", radius=[0, 0] + 2 * [_reach(sigma)]
    )
    np.testing.assert_allclose(blur(images).numpy(), wanted, rtol=0, atol=1e-12)


def _reach(sigma):
    return int(np.ceil(4 * sigma))


def test_the_blur_at_224_is_scipy_s_default_to_single_precision():
    images = noise(1, 224)
    wanted = ndimage.gaussian_filter(images.double().numpy(), (0, 0, 22.4, 22.4), mode="mirror")
    np.testing.assert_allclose(blur(images).numpy(), wanted, rtol=0, atol=1e-6)


def test_random_blobs_are_the_seed_s_whatever_the_batch_and_as_smooth_as_a_map():
    like = torch.zeros(3, 28, 28)
    blobs = random_blobs((5, 6, 5), (7, 7), like)
    assert torch.equal(blobs[0], blobs[2])
    assert not torch.equal(blobs[0], blobs[1])
    assert torch.equal(random_blobs((6,), (7, 7), like[:1])[0], blobs[1])
    grid = torch.from_numpy(np.random.default_rng(5).random((7, 7))).float()
    wanted = F.interpolate(grid[None, None], size=(28, 28), mode="bilinear", align_corners=False)[0, 0]
    torch.testing.assert_close(blobs[0], wanted, rtol=0, atol=1e-6)


def test_a_crop_is_resized_to_the_view_and_without_a_box_it_is_the_view():
    images = noise(2, 8)
    boxes = np.array([[2.0, 1, 6, 4], [np.nan] * 4])
    wanted = F.interpolate(images[:1, :, 1:4, 2:6], size=(8, 8), mode="bilinear", align_corners=False)
    torch.testing.assert_close(crops(images, boxes), torch.cat([wanted, images[1:]]), rtol=0, atol=0)


def test_the_crop_probe_takes_the_largest_component_above_the_mean():
    images = noise(1, 8)
    maps = torch.zeros(1, 8, 8)
    maps[0, 1:4, 2:6] = 1.0  # 12 pixels
    maps[0, 6:8, 0:2] = 1.0  # 4 pixels
    watched = Watched(images)
    run(watched, images, maps, box(0, 0, 1, 1, side=8))
    wanted = F.interpolate(images[:, :, 1:4, 2:6], size=(8, 8), mode="bilinear", align_corners=False)
    torch.testing.assert_close(watched.shown[PROBES.index("p_crop")], wanted, rtol=0, atol=0)


def two_parts():
    """Above the mean: 4 pixels of mass 4 at the top left, 6 of mass 3 at the bottom right, one of mass 1 in the box."""
    maps = torch.zeros(1, 8, 8)
    maps[0, 0:2, 0:2] = 1.0
    maps[0, 6:8, 5:8] = 0.5
    maps[0, 3, 3] = 1.0
    return maps


def test_the_salient_part_is_the_heaviest_not_the_largest_and_lies_outside():
    maps = two_parts()
    everywhere = torch.ones(1, 8, 8, dtype=torch.bool)
    assert salient_part(maps, everywhere).tolist() == [[0, 0, 2, 2]]
    outside = everywhere.clone()
    outside[:, :, 0] = False  # what is left of the first part has mass 2
    assert salient_part(maps, outside).tolist() == [[5, 6, 8, 8]]
    assert np.isnan(salient_part(maps, maps == 0)).all()


def test_parts_that_touch_at_a_corner_are_one_and_the_mean_is_the_whole_map_s():
    maps = torch.zeros(1, 8, 8)
    maps[0, 0, 0] = maps[0, 1, 1] = 1.0
    maps[0, 7] = 0.25  # the mean is 4 / 64: above it, with a mass of 2; the first of equals counts
    assert salient_part(maps, torch.ones(1, 8, 8, dtype=torch.bool)).tolist() == [[0, 0, 2, 2]]
    maps[0, 0:2, 2:] = 0.05  # below the mean
    assert salient_part(maps, torch.ones(1, 8, 8, dtype=torch.bool)).tolist() == [[0, 0, 2, 2]]


def test_the_part_outside_is_shown_alone_with_what_lies_in_a_box_black():
    images = noise(1, 8)
    maps = torch.zeros(1, 8, 8)
    maps[0, 2:6, 0], maps[0, 2, 0:4] = 1.0, 1.0  # an angle around the box: its crop holds a part of that
    coverage = box(2, 4, 6, 8, side=8)
    shown = []

    def softmax(pictures):
        shown.append(pictures)
        return torch.tensor([[0.2, 0.7, 0.1]])

    outside = outside_of(coverage, torch.tensor([True]))
    p, predicted, boxes = crop_outside(softmax, images, maps, coverage, torch.tensor([2]), outside)
    assert (p.item(), predicted.item()) == (pytest.approx(0.1), 1)
    assert boxes.tolist() == [[0, 2, 4, 6]]
    alone = images[:, :, 2:6, 0:4].clone()
    alone[:, :, 2:4, 2:4] = 0
    wanted = F.interpolate(alone, size=(8, 8), mode="bilinear", align_corners=False)
    torch.testing.assert_close(shown[0], wanted, rtol=0, atol=0)


def test_nothing_is_shown_alone_where_the_map_is_dark_outside():
    images, maps = noise(1, 8), torch.zeros(1, 8, 8)
    maps[0, 3, 3] = 1.0
    coverage = box(2, 2, 6, 6, side=8)
    outside = outside_of(coverage, torch.tensor([True]))
    p, _, boxes = crop_outside(lambda x: torch.ones(1, 3) / 3, images, maps, coverage, torch.tensor([0]), outside)
    assert torch.isnan(p).all()
    assert np.isnan(boxes).all()
