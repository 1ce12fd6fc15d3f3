"""What the surroundings are worth, on networks whose p is the mean red of a picture."""

import math

import numpy as np
import pytest
import torch

from stages.explain.probes.surroundings import (
    Donors,
    implanted,
    transplants,
    whole_parts,
    without_surroundings,
)

SIDE = 64
BOX = np.array([[24.0, 24, 40, 40]])  # 16 x 16 px: a sixteenth of the view


def mean_red(pictures):
    return pictures[:, 0].mean((1, 2))


def softmax(pictures):
    p = mean_red(pictures)
    return torch.stack([p, 1 - p, torch.zeros_like(p)], 1)


def red(level, height=SIDE, width=SIDE):
    picture = torch.zeros(3, height, width)
    picture[0] = level
    return picture


def covered(box=BOX):
    coverage = torch.zeros(1, SIDE, SIDE)
    for x0, y0, x1, y1 in box.astype(int):
        coverage[0, y0:y1, x0:x1] = 1
    return coverage


def donors(*levels, classes=(1, 1, 1, 1), images=(10, 11, 12, 13), alone=(0.2, 0.4, 0.2, 0.2)):
    """Objects of constant red, of 5 x 7 px; ``alone`` is p of class 0 on each."""
    count = len(levels)
    table = torch.tensor([[p, 1 - p, 0] for p in alone[:count]]).reshape(count, 3)
    objects = [red(level, 5, 7) for level in levels]
    return Donors(objects, classes[:count], images[:count], table, torch.tensor([0.7, 0.2, 0.1]))


class TestWithoutSurroundings:
    def test_one_view_keeps_the_box_in_the_neutral_colour_the_other_also_16_px_around_it(self):
        images, blurred = red(1)[None], red(0)[None]
        found = without_surroundings(mean_red, images, blurred, red(0.5, 1, 1), covered(), torch.tensor([True]))
        assert found["p_hide_context_neutral"].tolist() == pytest.approx([1 / 16 + 15 / 16 * 0.5])
        assert found["p_hide_far"].tolist() == pytest.approx([(48 / 64) ** 2])

    def test_another_classs_object_stays_in_both(self):
        others = torch.zeros(1, SIDE, SIDE)
        others[0, :, :4] = 1  # 4 of the 16 columns that lie far to the left
        images, blurred = red(1)[None], red(0)[None]
        arguments = (mean_red, images, blurred, red(0.5, 1, 1), covered(), torch.tensor([True]))
        found = without_surroundings(*arguments, others)
        assert found["p_hide_context_neutral"].tolist() == pytest.approx([2 / 16 + 14 / 16 * 0.5])
        assert found["p_hide_far"].tolist() == pytest.approx([(48 / 64) ** 2 + 4 / 64])
        nowhere = without_surroundings(*arguments, others * 0)
        assert nowhere == without_surroundings(*arguments)

    def test_without_a_box_both_are_undefined(self):
        nothing = without_surroundings(
            mean_red, red(1)[None], red(0)[None], red(0.5, 1, 1), covered() * 0, torch.tensor([False])
        )
        assert all(values.isnan().all() for values in nothing.values())


class TestTransplants:
    def test_p_is_the_mean_over_objects_in_the_boxs_place(self):
        found = transplants(softmax, red(1)[None], [BOX], torch.tensor([0]), [0], donors(0.5, 0.0))
        # The surroundings are red but for the box, which holds an object of .5 and then one of 0.
        assert found["p_transplant"].tolist() == pytest.approx([(15 / 16 + 0.5 / 16 + 15 / 16) / 2])
        assert found["p_transplant_null"].tolist() == pytest.approx([0.3])
        assert found["p_blank"].tolist() == pytest.approx([0.7])

    def test_every_box_of_an_image_holds_the_object(self):
        two = np.array([[0.0, 0, 16, 16], [24, 24, 40, 40]])
        found = transplants(softmax, red(1)[None], [two], torch.tensor([0]), [0], donors(0.0))
        assert found["p_transplant"].tolist() == pytest.approx([14 / 16])

    def test_an_image_has_its_own_donors_whatever_shares_its_batch(self):
        images = torch.stack([red(1), red(1), red(1)])
        boxes = [BOX, np.empty((0, 4)), BOX]
        # Of class 1 there is no donor but class 1's own: it has no transplant.
        found = transplants(softmax, images, boxes, torch.tensor([0, 0, 1]), [0, 1, 2], donors(0.0))
        assert found["p_transplant"][0] == pytest.approx(15 / 16)
        assert found["p_transplant"][1:].isnan().all()
        assert found["p_transplant_null"][1:].isnan().all()

    def test_an_image_that_has_a_sample_for_each_of_its_classes_gets_none_of_its_own_objects(self):
        found = transplants(softmax, red(1)[None], [BOX], torch.tensor([0]), [10], donors(0.5, 0.0))
        assert found["p_transplant"].tolist() == pytest.approx([15 / 16])  # the object of .5 is from image 10

    def test_other_classes_objects_stay_and_their_null_has_them_too(self):
        # Red is 1 all over; the right half of the first view is another class's object.
        others = torch.zeros(2, SIDE, SIDE)
        others[0, :, SIDE // 2 :] = 1
        others[0] *= 1 - covered()[0]
        images, targets = torch.stack([red(1), red(1)]), torch.tensor([0, 0])
        own = donors(0.5, 0.0)
        found = transplants(softmax, images, [BOX, BOX], targets, [0, 0], own, red(0.25, 1, 1), others)
        plain = transplants(softmax, images, [BOX, BOX], targets, [0, 0], own)
        assert found["p_transplant"].tolist() == plain["p_transplant"].tolist()
        # A half of ones without the box's right half, the donor in the box of 1 / 16, and .25 elsewhere.
        ground = (1 / 2 - 1 / 32) + 0.25 * (1 / 2 - 1 / 32)
        assert found["p_transplant_null"][0].item() == pytest.approx((ground + 0.5 / 16 + ground) / 2)
        assert found["p_transplant_null"][1] == plain["p_transplant_null"][1]
        assert found["p_blank"].tolist() == plain["p_blank"].tolist()

    def test_without_donors_they_are_undefined(self):
        found = transplants(softmax, red(1)[None], [BOX], torch.tensor([0]), [0], donors())
        assert found["p_transplant"].isnan().all()


class TestLookAlikes:
    ALONE = (0.1, 0.4, 0.3, 0.3, 0.9)  # mean log p: ln .2 for class 1, ln .3 for class 2, ln .9 for class 0 itself

    def of(self, class_index, image, alone=ALONE):
        table = torch.tensor([[p, 0.0, 0.0] for p in alone])
        objects = [red(0, 5, 7)] * 5
        pool = Donors(objects, (1, 1, 2, 2, 0), (10, 11, 12, 13, 14), table, torch.zeros(3))
        return pool.look_alikes(class_index, image)

    def test_they_are_of_the_class_that_is_most_taken_for_it_then_of_the_next(self):
        assert math.sqrt(0.1 * 0.4) < 0.3
        assert self.of(0, image=0) == [2, 3, 0, 1]

    def test_an_object_is_not_set_into_its_own_image(self):
        assert self.of(0, image=12) == [3, 0, 1]

    def test_objects_that_alone_are_taken_for_the_class_count_where_there_are_no_others(self):
        assert self.of(0, image=0, alone=(0.1, 0.4, 0.3, 0.5, 0.9)) == [2, 0, 1]
        assert self.of(0, image=0, alone=(0.6, 0.9, 0.5, 0.5, 0.9)) == [0, 1, 2, 3]


class TestPictures:
    def test_a_box_is_grown_to_whole_pixels_and_cut_to_the_view(self):
        assert whole_parts(np.array([[1.2, 2.8, 5.1, 6.0], [60, 61.5, 64.0, 64.2]]), SIDE, SIDE) == [
            (1, 2, 6, 6),
            (60, 61, 64, 64),
        ]

    def test_an_object_is_resized_into_the_box_and_nothing_else_changes(self):
        halves = torch.zeros(3, 2, 2)
        halves[0, :, 1] = 1  # the right half is red
        picture = implanted(red(0.5), [(10, 20, 14, 24)], halves)
        assert picture[0, 20:24, 10].tolist() == [0] * 4
        assert picture[0, 20:24, 13].tolist() == [1] * 4
        picture[0, 20:24, 10:14] = 0.5
        assert torch.equal(picture, red(0.5))
