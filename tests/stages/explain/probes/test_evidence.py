"""Whose proposal counts, what is undefined when, and where boxes end up, on a network that is a sum over pixels."""

import numpy as np
import pytest
import torch

from stages.explain.probes import evidence as module
from stages.explain.probes.evidence import Explained, evidence
from stages.explain.probes.probes import probe
from stages.explain.probes.surroundings import Donors
from stages.explain.settings import ExplainSettings
from stages.geometry import ViewTransform

SIDE = 20
GRID = (4, 4)
DONORS = Donors([torch.zeros(3, 2, 2)], (1,), (9,), torch.tensor([[0.1, 0.9]]), torch.zeros(2))
OWN, SECOND = (slice(0, 2), slice(0, SIDE)), (slice(18, 20), slice(0, SIDE))  # 40 px each: a tenth of the view


def checkered():
    """Red alternates between 1 and 0; blurred it is a half everywhere, which halves the sum of its squares."""
    images = torch.zeros(1, 3, SIDE, SIDE)
    images[:, 0] = (torch.arange(SIDE)[:, None] + torch.arange(SIDE)) % 2
    return images


def places():
    """Four channels on a grid of 2 x 2: each is 1 in a place of its own."""
    return torch.eye(4).view(1, 4, 2, 2)


def weighing(*parts):
    """Two classes; p of class 0 is the weighted sum of red squared over parts of the view, each with its weight."""
    weights = torch.zeros(SIDE, SIDE)
    for (rows, columns), weight in parts:
        weights[rows, columns] = weight

    def softmax(pictures):
        p = (pictures[:, 0] ** 2 * weights).sum((1, 2))
        return torch.stack([p, 1 - p], 1)

    return softmax


def lit(part):
    maps = torch.zeros(1, SIDE, SIDE)
    maps[0][part] = 1
    return maps


def batch(status="ok", box=(8, 8, 12, 12), width=2 * SIDE, height=SIDE, **changes):
    coverage = torch.zeros(1, SIDE, SIDE)
    if box:
        x0, y0, x1, y1 = box
        coverage[0, y0:y1, x0:x1] = 1
    values = {
        "images": checkered(),
        "features": places(),
        "targets": torch.tensor([0]),
        "maps": lit(OWN),
        "second": lit(SECOND),
        "coverage": coverage,
        "has_box": torch.tensor([box is not None]),
        "boxes": (np.array([box] if box else np.empty((0, 4)), dtype=float),),
        "neutral": torch.zeros(3, 1, 1),
        "seeds": (1,),
        "status": (status,),
        "transforms": (ViewTransform.make("squash", width, height, SIDE),),
    }
    return Explained(**values | changes)


def rows(softmax, explained, **settings):
    return evidence(softmax, explained, DONORS, GRID, ExplainSettings(**settings))


@pytest.mark.parametrize(
    ("own", "second", "locator"),
    [(0.04, 0.01, "opti_cam"), (0.01, 0.04, "grad_cam"), (0.02, 0.02, "opti_cam")],
    ids=["the map's costs more", "Grad-CAM's costs more", "both cost the same"],
)
def test_the_costlier_proposal_is_the_evidence_and_each_is_kept(own, second, locator):
    (row,) = rows(weighing((OWN, own), (SECOND, second)), batch())
    full = 20 * (own + second)
    assert row["hide_locator"] == locator
    assert row["p_hide_outside"] == min(row["p_hide_map"], row["p_hide_second"])
    assert row["p_hide_map"] == pytest.approx(full - 10 * own, abs=0.01)
    assert row["p_hide_second"] == pytest.approx(full - 10 * second, abs=0.01)
    assert "p_hide_scan" not in row


def test_what_carries_the_class_outside_the_boxes_is_a_third_proposal():
    side = (slice(4, 12), slice(0, 5))  # 40 px, where neither map points
    softmax = weighing((side, 0.03), (OWN, 0.01), (SECOND, 0.01))
    (row,) = rows(softmax, batch(outside_map=lit(side)))
    assert (row["hide_locator"], row["p_hide_outside"]) == ("outside_map", row["p_hide_outside_map"])
    assert row["p_hide_outside_map"] == pytest.approx(20 * 0.05 - 10 * 0.03, abs=0.01)
    assert row["hidden_box"] == {"x0": 0, "y0": 4, "x1": 10, "y1": 12}  # the image is twice as wide as the view
    (row,) = rows(weighing((OWN, 0.01)), batch(outside_map=lit(OWN)))
    assert row["hide_locator"] == "opti_cam"  # the method's own where they tie


def test_a_scan_finds_what_no_map_points_at_and_says_where_in_the_image():
    corner = (slice(7, 13), slice(0, 6))  # on the left edge, half-way down: away from both maps
    softmax = weighing((corner, 0.03), (OWN, 0.005))
    (row,) = rows(softmax, batch(), scan=True)
    assert (row["hide_locator"], row["p_hide_outside"]) == ("scan", row["p_hide_scan"])
    assert row["p_hide_scan"] < row["p_hide_map"] < row["p_hide_second"]
    # A window of 6 px of the view at (0, 7); the image is 40 x 20, squashed to 20 x 20.
    assert row["scan_box"] == {"x0": 0, "y0": 7, "x1": 12, "y1": 13}


@pytest.mark.parametrize(
    ("own", "second", "where"),
    [(0.04, 0.01, [0.5, 0.5, 0, 0]), (0.01, 0.04, [0, 0, 0.5, 0.5])],
    ids=["the map's", "Grad-CAM's"],
)
def test_the_features_are_those_under_the_map_whose_proposal_counts(own, second, where):
    (row,) = rows(weighing((OWN, own), (SECOND, second)), batch(second=3 * lit(SECOND)))
    assert row["outside_features"] == where
    top = {"x0": 0, "y0": 0, "x1": 40, "y1": 2}  # the image is twice as wide as the view
    assert row["hidden_box"] == (top if where[0] else top | {"y0": 18, "y1": 20})


def test_where_hiding_costs_nothing_the_features_are_of_an_arbitrary_place():
    box = (8, 8, 12, 12)
    inside = (slice(8, 12), slice(8, 12))
    (row,) = rows(weighing((inside, 0.05)), batch(box=box, seeds=(7,)))  # nothing outside is worth anything
    assert row["p_hide_outside"] == row["p_hide_random"]
    noise = torch.from_numpy(np.random.default_rng(7).random(GRID))[None, None].float()
    blob = torch.nn.functional.interpolate(noise, (SIDE, SIDE), mode="bilinear")[0, 0]
    blob[inside] = -1
    place = torch.zeros(SIDE * SIDE)
    place[blob.flatten().argsort(descending=True)[: SIDE * SIDE // 10]] = 1
    shares = place.view(2, 10, 2, 10).sum((1, 3)).flatten() / (SIDE * SIDE // 10)
    assert row["outside_features"] == pytest.approx(shares.tolist(), abs=2e-3)
    assert row["hidden_box"] == {"x0": 0, "y0": 0, "x1": 40, "y1": 2}  # still what the map had hidden


def test_a_network_that_gives_nan_on_the_random_picture_alone_leaves_the_place_of_the_proposal(monkeypatch):
    def but_random(*arguments):
        return probe(*arguments) | {"p_hide_random": torch.tensor([torch.nan])}

    monkeypatch.setattr(module, "probe", but_random)
    (row,) = rows(weighing((OWN, 0.02)), batch())
    assert (row["p_hide_random"], row["hide_locator"]) == (None, "opti_cam")
    assert row["outside_features"] == [0.5, 0.5, 0, 0]


def test_what_lies_in_a_box_has_no_part_in_the_features():
    maps = lit((slice(0, 4), slice(0, 10))) + 0.5 * lit((slice(16, 20), slice(10, 20)))
    low = (slice(16, 20), slice(10, 20))
    (row,) = rows(weighing((low, 0.02)), batch(maps=maps, box=(0, 0, 10, 3), width=SIDE))
    # Of 40 lit px at the top left, 10 are left; 40 at the bottom right, half as bright.
    assert row["outside_features"] == pytest.approx([10 / 30, 0, 0, 20 / 30], abs=1e-3)
    # 40 px are hidden: the 10, and the first 30 of the others, which are three rows.
    assert row["hidden_box"] == {"x0": 10, "y0": 16, "x1": 20, "y1": 19}


def test_another_classs_object_is_neither_hidden_nor_shown_alone_nor_in_the_features():
    # All that counts lies in rows 0 and 1, which the method's map points at, and they are another class's object.
    others = torch.zeros(1, SIDE, SIDE)
    others[0, 0:2] = 1
    softmax = weighing((OWN, 1 / 40))
    (before,), (after,) = rows(softmax, batch()), rows(softmax, batch(others=others))
    assert before["p_hide_map"] == pytest.approx(before["p_hide_context"])
    assert before["p_hide_map"] == pytest.approx(0.25)
    assert after["p_hide_map"] == after["p_hide_context"] == after["p_hide_far"] == pytest.approx(0.5)
    assert after["p_context"] == before["p_box"] == after["p_box"] == 0
    assert before["p_context"] == pytest.approx(0.5)
    assert before["p_crop_outside"] is not None
    assert after["p_crop_outside"] is None
    assert (before["hidden_box"]["y0"], after["hidden_box"]) == (0, None)
    nothing = torch.zeros_like(others)
    assert rows(softmax, batch(others=nothing)) == rows(softmax, batch())


def test_the_features_of_a_scan_are_those_of_its_window_outside_the_boxes():
    corner = (slice(7, 13), slice(0, 6))
    (row,) = rows(weighing((corner, 0.03)), batch(box=(4, 10, 12, 12)), scan=True)
    assert row["hide_locator"] == "scan"
    # The window holds 3 x 6 px above the middle and 3 x 6 below, of which the box takes 2 x 2.
    assert row["outside_features"] == pytest.approx([18 / 32, 0, 14 / 32, 0], abs=1e-3)
    assert row["hidden_box"] == row["scan_box"]


def test_a_map_that_lights_up_nothing_outside_points_at_nothing_there():
    (row,) = rows(
        weighing((OWN, 0.02)), batch(maps=lit((slice(8, 12), slice(8, 12))), second=torch.zeros(1, SIDE, SIDE))
    )
    assert row["hide_locator"] == "opti_cam"
    assert (row["hidden_box"], row["outside_features"]) == (None, None)


def test_features_beyond_half_precision_are_undefined():
    (row,) = rows(weighing((OWN, 0.02)), batch(features=places() * 1e6))
    assert row["outside_features"] is None
    assert row["hidden_box"] is not None


def test_the_scan_leaves_the_boxes_alone():
    inside = (slice(8, 12), slice(8, 12))
    (row,) = rows(weighing((inside, 0.1)), batch(), scan=True)
    assert row["p_hide_scan"] == pytest.approx(0.8)
    assert row["p_hide_inside"] is None  # 16 px inside are fewer than 40


def test_where_less_than_a_tenth_lies_outside_nothing_is_hidden_there():
    (row,) = rows(weighing((OWN, 0.02)), batch(box=(0, 0, 20, 19)), scan=True)
    undefined = {name for name, value in row.items() if value is None}
    assert undefined == {
        *("p_hide_map", "p_hide_second", "p_hide_scan", "scan_box", "p_hide_random"),
        *("p_crop_outside", "pred_crop_outside", "crop_outside_box"),
    }
    assert not {"p_hide_outside", "hidden_box", "outside_features"} & set(row)


def test_a_constant_second_opinion_is_none():
    (row,) = rows(weighing((OWN, 0.02)), batch(second=torch.zeros(1, SIDE, SIDE)))
    assert row["p_hide_second"] is None
    assert (row["hide_locator"], row["p_hide_outside"]) == ("opti_cam", row["p_hide_map"])


def test_the_crop_outside_is_told_with_its_class_and_its_place_in_the_image():
    explained = batch(images=torch.ones(1, 3, SIDE, SIDE), width=10, height=60)
    (row,) = rows(weighing((OWN, 0.02)), explained)  # the crop, red alone, has p = 40 x .02
    assert row["p_crop_outside"] == pytest.approx(0.8)
    assert row["pred_crop_outside"] == 0
    assert row["crop_outside_box"] == {"x0": 0, "y0": 0, "x1": 10, "y1": 6}


def test_a_constant_map_keeps_what_needs_no_map():
    (row,) = rows(weighing((OWN, 0.02)), batch("degenerate_map"), scan=True, curves=True)
    shown_under_the_map = {"p_saliency", "p_saliency_in_box", "p_saliency_in_context"}
    where_it_is_highest = {"p_hide_map", "p_hide_second", "p_hide_inside", "p_crop", "insertion", "deletion"}
    the_part_outside = {"p_crop_outside", "pred_crop_outside", "crop_outside_box"}
    undefined = {name for name, value in row.items() if value is None}
    assert undefined == shown_under_the_map | where_it_is_highest | the_part_outside
    assert row["p_hide_scan"] is not None
    assert not {"hide_locator", "hidden_box", "outside_features"} & set(row)


def test_nothing_is_told_of_a_network_that_gives_nan():
    assert rows(weighing((OWN, 0.02)), batch("non_finite")) == [{}]


def test_curves_are_taken_when_they_are_asked_for():
    softmax = weighing((OWN, 0.02))
    (row,) = rows(softmax, batch())
    assert not {"insertion", "deletion"} & set(row)
    (row,) = rows(softmax, batch(), curves=True)
    # 400 px in two steps of 224: the own part goes black in the first. p: .4, 0, 0.
    assert row["deletion"] == pytest.approx((0.4 / 2) / 2)
    # Blurred, .2; the own part comes back in the first step.
    assert row["insertion"] == pytest.approx((0.2 / 2 + 0.4 + 0.4 / 2) / 2, abs=0.01)


def test_a_padded_batch_has_rows_for_its_images_alone():
    one = batch()
    padded = Explained(
        **{
            name: value.repeat(3, *[1] * (value.ndim - 1))
            for name, value in vars(one).items()
            if torch.is_tensor(value) and name != "neutral"
        },
        neutral=one.neutral,
        boxes=one.boxes,
        seeds=(1, 1, 1),
        status=one.status,
        transforms=one.transforms,
    )
    softmax = weighing((OWN, 0.02))
    assert rows(softmax, padded, scan=True) == [
        {name: pytest.approx(value) if isinstance(value, float) else value for name, value in row.items()}
        for row in rows(softmax, one, scan=True)
    ]
