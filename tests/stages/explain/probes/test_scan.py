"""The occlusion scan on a stand-in for a network whose evidence sits where the test puts it."""

import pytest
import torch

from stages.explain.probes.scan import scan, windows


def everywhere(count, side):
    return torch.ones(count, side, side, dtype=torch.bool)


def one_pixel(x, y):
    """The probability of the one class is the red of one pixel."""
    return lambda pictures: pictures[:, 0, y, x, None]


def first_class(images):
    return torch.zeros(len(images), dtype=torch.long)


def test_25_windows_of_at_most_a_tenth_of_the_view_cover_it_all():
    lattice = windows(224, 224)
    assert len(lattice) == 25
    assert lattice[0] == (0, 0, 70, 70)
    assert lattice[1] == (38, 0, 108, 70)  # 154 / 4 = 38.5, rounded to even
    assert lattice[-1] == (154, 154, 224, 224)
    covered = torch.zeros(224, 224, dtype=torch.bool)
    for x0, y0, x1, y1 in lattice:
        assert (x1 - x0) * (y1 - y0) <= 0.1 * 224 * 224
        covered[y0:y1, x0:x1] = True
    assert covered.all()


def test_the_window_over_the_evidence_costs_most_and_is_named():
    images, blurred = torch.ones(1, 3, 20, 20), torch.zeros(1, 3, 20, 20)
    lowest, found = scan(one_pixel(19, 0), images, first_class(images), blurred, everywhere(1, 20))
    assert lowest.tolist() == [0]
    assert found == [(14, 0, 20, 6)]  # sides of 6 = floor(sqrt(.1) 20), the last of its row


def test_only_allowed_pixels_are_hidden():
    images, blurred = torch.ones(1, 3, 20, 20), torch.zeros(1, 3, 20, 20)
    allowed = everywhere(1, 20)
    allowed[0, 0, 19] = False
    lowest, _ = scan(one_pixel(19, 0), images, first_class(images), blurred, allowed)
    assert lowest.tolist() == [1]


def test_the_lowest_of_all_windows_counts_and_the_first_of_equals():
    images, blurred = torch.ones(1, 3, 20, 20), torch.zeros(1, 3, 20, 20)
    weights = torch.zeros(20, 20)
    weights[0, 0], weights[19, 19], weights[19, 0] = 0.2, 0.4, 0.4

    def probabilities(pictures):
        return (pictures[:, 0] * weights).sum((1, 2))[:, None]

    lowest, found = scan(probabilities, images, first_class(images), blurred, everywhere(1, 20))
    assert lowest.tolist() == pytest.approx([0.6])
    assert found == [(0, 14, 6, 20)]


def test_images_do_not_mix_and_one_without_allowed_pixels_is_undefined():
    images, blurred = torch.ones(2, 3, 20, 20), torch.zeros(2, 3, 20, 20)
    allowed = everywhere(2, 20)
    allowed[1] = False
    lowest, found = scan(one_pixel(0, 0), images, first_class(images), blurred, allowed)
    assert lowest[0].item() == 0
    assert torch.isnan(lowest[1])
    assert found == [(0, 0, 6, 6), None]


def test_a_window_that_hides_nothing_is_not_among_those_tried():
    # Only the last pixel may be hidden, where it raises p; the image as it is must not pass for a proposal.
    images, blurred = torch.zeros(1, 3, 20, 20), torch.ones(1, 3, 20, 20)
    allowed = torch.zeros(1, 20, 20, dtype=torch.bool)
    allowed[0, 19, 19] = True
    lowest, found = scan(one_pixel(19, 19), images, first_class(images), blurred, allowed)
    assert lowest.tolist() == [1]
    assert found == [(14, 14, 20, 20)]


def test_passes_are_of_the_batchs_size_and_no_more_than_the_windows_need():
    images, blurred = torch.ones(4, 3, 20, 20), torch.zeros(4, 3, 20, 20)
    allowed = everywhere(4, 20)
    allowed[1:] = False  # 25 windows of one image: 7 passes of 4 pictures
    sizes = []

    def probabilities(pictures):
        sizes.append(len(pictures))
        return pictures[:, 0, 0, 0, None]

    scan(probabilities, images, first_class(images), blurred, allowed)
    assert sizes == [4] * 7
