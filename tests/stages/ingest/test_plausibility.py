"""Datasets as people write them wrongly. Boxes are right in one form, and are then read in another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from stages.ingest.boxes import read_box
from stages.ingest.facts import ImageFacts
from stages.ingest.plausibility import check_boxes
from stages.ingest.record import Box, BoxForm, Record
from storage.errors import UserError

WIDTH, HEIGHT = 640, 480
FACTS = ImageFacts(digest="d", size_bytes=1, width=WIDTH, height=HEIGHT)


def corners(count: int = 40, seed: int = 0) -> list[tuple[int, int, int, int]]:
    """Boxes of objects anywhere in an image of 640 x 480."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        width, height = rng.integers(40, 300), rng.integers(40, 240)
        x, y = rng.integers(0, WIDTH - width + 1), rng.integers(0, HEIGHT - height + 1)
        found.append((int(x), int(y), int(x + width), int(y + height)))
    return found


def as_written(box: tuple[int, int, int, int], form: str) -> tuple[float, ...]:
    x0, y0, x1, y1 = box
    return {
        "xyxy": (x0, y0, x1, y1),
        "xywh": (x0, y0, x1 - x0, y1 - y0),
        "cxcywh": ((x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0),
        "yxyx": (y0, x0, y1, x1),
        "fractions": (x0 / WIDTH, y0 / HEIGHT, x1 / WIDTH, y1 / HEIGHT),
    }[form]


def records(
    boxes: Sequence[Sequence[float]], form: BoxForm = "xyxy", *, relative: bool = False, label: str | None = "cat"
) -> list[Record]:
    """An image for each box, read in ``form``."""
    return [
        Record(f"{n}.jpg", f"/{n}.jpg", "m.csv", label, (read_box(numbers, form),), form=form, relative=relative)
        for n, numbers in enumerate(boxes)
    ]


def check(found: Sequence[Record]) -> list[str]:
    return check_boxes(found, [FACTS] * len(found))


FORMS: tuple[BoxForm, ...] = ("xyxy", "xywh", "cxcywh", "yxyx")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("seed", range(5))
def test_a_sound_dataset_is_not_doubted(form: BoxForm, seed: int) -> None:
    assert check(records([as_written(box, form) for box in corners(seed=seed)], form)) == []


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("read", FORMS)
@pytest.mark.parametrize("written", FORMS)
def test_another_form_is_named_with_its_key(written: BoxForm, read: BoxForm, seed: int) -> None:
    if written == read:
        return
    found = records([as_written(box, written) for box in corners(seed=seed)], read)
    with pytest.raises(UserError, match=rf"set dataset\.boxes: {written}, or dataset\.boxes: {read} to insist"):
        check(found)
    (line,) = check_boxes(found, [FACTS] * len(found), insisted=True)
    assert line.endswith(f"; dataset.boxes: {written} reads them so")


def test_fractions_read_as_pixels_are_refused() -> None:
    found = records([as_written(box, "fractions") for box in corners()])
    with pytest.raises(UserError, match=r"all 40 boxes lie in \[0, 1\], .* set dataset\.relative: true"):
        check(found)


def test_pixels_read_as_fractions_are_refused() -> None:
    found = records(corners(), relative=True)
    with pytest.raises(UserError, match=r"40 of 40 boxes have numbers above 2, .* set dataset\.relative: false"):
        check(found)


def test_a_box_of_one_pixel_is_no_fraction() -> None:
    assert check(records([(0, 0, 1, 1)])) == []


def test_some_bad_rows_are_not_another_form() -> None:
    boxes = [*corners(36), (300, 300, 200, 200), (700, 0, 800, 100), (5, 5, 5, 5), (1, 2, 0, 1)]
    assert check(records(boxes)) == []


def test_a_few_boxes_are_not_judged() -> None:
    assert check(records([as_written(box, "xywh") for box in corners(4)])) == []


def test_a_form_that_is_only_likely_is_a_line() -> None:
    wide = [(10, 10, 200 + n, 150 + n) for n in range(34)]  # sound as corners, and as corner and size
    found = check(records([*wide, *[(400, 300, 100, 100)] * 6]))
    (line,) = found
    assert line.startswith("dataset.boxes: 85% of 40 boxes fit their images as xyxy (x0, y0, x1, y1), and 100% as xywh")
    assert line.endswith("; dataset.boxes: xywh reads them so")


class TestFirstPixel:
    def test_corners_from_one(self) -> None:
        boxes = [(1, 1 + n, 640, 200 + n) for n in range(12)]
        (line,) = check(records(boxes))
        assert line.startswith("dataset.boxes: 13 corners are 1 and none is 0: perhaps pixels count from 1")
        assert "dataset.boxes: voc" in line

    def test_a_corner_of_zero_settles_it(self) -> None:
        assert check(records([(0, 0, 9, 9), *[(1, 1 + n, 640, 200 + n) for n in range(12)]])) == []

    def test_voc_does_not_begin_at_zero(self) -> None:
        found = records([(0, 5, 90, 80), (3, 4, 50, 60)], "voc")
        assert check(found) == [
            "dataset.boxes: 1 corners are 0, and VOC counts from 1: perhaps these count from 0; dataset.boxes: xyxy "
            "reads them so"
        ]


def test_boxes_that_are_all_the_same_are_told() -> None:
    (line,) = check(records([(10, 20, 30, 40)] * 10))
    assert line == "all 10 boxes are the same, (10, 20, 30, 40): perhaps a placeholder"
    assert check(records([(10, 20, 30, 40)] * 9)) == []


def test_boxes_of_the_whole_image_are_told() -> None:
    boxes = [(0, 0, WIDTH, HEIGHT + n) for n in range(10)]
    (line,) = check(records(boxes))
    assert line.startswith("all 10 boxes are the whole image")


class TestSizes:
    def record(self, size: tuple[int, int]) -> list[Record]:
        return [replace(records([(1, 2, 30, 40)])[0], size=size, place="a.xml")]

    def test_an_image_of_another_size_than_annotated_is_told(self) -> None:
        assert check(self.record((WIDTH, HEIGHT))) == []
        (line,) = check(self.record((320, 240)))
        assert line.endswith("than the annotation says, such as 0.jpg, 640 x 480 where a.xml says 320 x 240")

    def test_one_that_lies_on_its_side_says_so(self) -> None:
        (line,) = check(self.record((HEIGHT, WIDTH)))
        assert "1 are turned by their EXIF data" in line


class TestLabels:
    def found(self, label: str, *others: str | None) -> list[Record]:
        boxes = tuple(Box(0, 0, 9, 9, other) for other in others)
        return [replace(records([(0, 0, 9, 9)])[0], label=label, boxes=boxes)]

    def test_labels_that_no_box_bears_are_told(self) -> None:
        (line,) = check(self.found("cat", "17", "18"))
        assert line.startswith("no box bears a label of an image: images are 'cat', boxes '17', '18'")

    @pytest.mark.parametrize("others", [("cat", "dog"), (None,), ()])
    def test_labels_that_one_bears_are_not(self, others: tuple[str | None, ...]) -> None:
        assert check(self.found("cat", *others)) == []
