"""Planted annotation faults: each is what it is called, and none is where it should not be."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from benchmarks.planted.faults import BOXES, WRONG, Annotation, iou, plant, wrong_box

CLASSES = ("star", "starfish", "key", "ball")
DOUBLES = {"star": "starfish", "starfish": "star"}
OBJECT, SECOND = (40.0, 60.0, 140.0, 160.0), (200.0, 10.0, 260.0, 70.0)


def annotations() -> list[Annotation]:
    one = [Annotation(f"{k}.jpg", CLASSES[k % 4], (OBJECT,), (300, 250)) for k in range(400)]
    return one + [Annotation(f"twin {k}.jpg", CLASSES[k % 4], (OBJECT, SECOND), (300, 250)) for k in range(40)]


def test_iou_by_hand() -> None:
    assert iou((0, 0, 10, 10), (5, 0, 15, 10)) == pytest.approx(50 / 150)
    assert iou((0, 0, 10, 10), (10, 0, 20, 10)) == 0
    assert iou((0, 0, 10, 10), (2, 2, 7, 7)) == pytest.approx(25 / 100)


@pytest.mark.parametrize("fault", BOXES)
@pytest.mark.parametrize("seed", range(20))
def test_a_wrong_box_is_in_the_picture_and_off_the_object(fault: str, seed: int) -> None:
    box = wrong_box(OBJECT, fault, (300, 250), np.random.default_rng(seed))  # type: ignore[arg-type]
    assert 0 <= box[0] < box[2] <= 300
    assert 0 <= box[1] < box[3] <= 250
    assert iou(box, OBJECT) < WRONG
    area = (box[2] - box[0]) * (box[3] - box[1])
    assert {"box_moved": area == 100 * 100, "box_shrunk": area < 5000, "box_grown": area > 15000}[fault]


def test_faults_are_as_frequent_as_their_shares_and_spare_what_they_should() -> None:
    before = annotations()
    after = plant(before, spared={"0.jpg", "1.jpg", "2.jpg"}, doubles=DOUBLES, classes=CLASSES, seed=1)
    # 440 pictures: 3% of them twice, 5% in three kinds of boxes, 5% dropped.
    assert Counter(one.fault for one in after if one.fault) == {
        "label_double": 13,
        "label_any": 13,
        "box_moved": 7,
        "box_shrunk": 7,
        "box_grown": 7,
        "box_dropped": 22,
    }
    assert not any(one.fault for one in after[:3])
    for old, new in zip(before, after, strict=True):
        assert (new.label != old.label) == (new.fault in ("label_double", "label_any"))
        assert (new.boxes != old.boxes) == (new.fault in (*BOXES, "box_dropped"))
        if new.fault == "label_double":
            assert new.label == DOUBLES[old.label]
        if new.fault == "label_any":
            assert new.label != DOUBLES.get(old.label)
        if new.fault == "box_dropped":
            assert len(old.boxes) == 2
            assert new.boxes in ((OBJECT,), (SECOND,))


def test_the_same_seed_plants_the_same() -> None:
    one, again, other = (
        plant(annotations(), spared=set(), doubles=DOUBLES, classes=CLASSES, seed=seed) for seed in (3, 3, 4)
    )
    assert one == again
    assert one != other
