"""Boxes that no image has: what is left of them, and what is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.stages.ingest.broken.corpus import HEADER, annotated, picture, take

BOXES = {
    "[[0, 0, 1e400, 9]]": "box 1 (0, 0, inf, 9) is not finite",
    f"[[0, 0, {'9' * 100}, {'9' * 100}]]": None,
    f"[[{'9' * 100}, 0, {'9' * 101}, 9]]": "lies outside the image of 40 x 30",
    "[[NaN, 0, 1, 9]]": "is not finite",
    "[[9, 9, 9, 9]]": "has no area",
    "[[20, 9, 10, 12]]": "has no area",
    "[[-9, 0, -1, 9]]": "lies outside the image of 40 x 30",
    "[]": "the sample has no box",
}


@pytest.mark.parametrize("boxes", BOXES, ids=lambda text: text[:24])
def test_boxes_of_no_use_are_dropped_with_their_numbers(data: Path, boxes: str) -> None:
    (data / "m.csv").write_text(HEADER + f'a.jpg,cat,"{boxes}"\n')
    (row,) = take(data, path="m.csv")
    reason = BOXES[boxes]
    assert row["status"] == ("ok" if reason is None else "no_box")
    assert row["reason"] is None if reason is None else reason in row["reason"]


@pytest.mark.parametrize("labels", ["image", "crop"])
@pytest.mark.parametrize("digits", [100, 308, 400])
def test_corners_of_hundreds_of_digits_are_cut_as_those_of_a_few_are(data: Path, digits: int, labels: str) -> None:
    far = "9" * digits
    (data / "m.csv").write_text(HEADER + f'a.jpg,cat,"[[-{far}, 0, {far}, 9]]"\n')
    (row,) = take(data, path="m.csv", labels=labels)
    if digits == 400:  # beyond a double
        assert (row["status"], row["reason"]) == ("no_box", "box 1 (-inf, 0, inf, 9) is not finite")
    else:
        assert row["status"] == "ok"
        assert row["boxes"] == [{"x0": 0, "y0": 0, "x1": 40, "y1": 9, "label": None}]


LONG = "9" * 100


def write_yolo(folder: Path) -> None:
    (folder / "data.yaml").write_text("names: [cat]\ntrain: .\n")
    (folder / "a.txt").write_text(f"0 0.5 0.5 {LONG} 0.5\n{LONG} 0.5 0.5 0.5 0.5\n")
    picture(folder / "b.jpg")  # a set of one such box would be taken for one of pixels
    (folder / "b.txt").write_text("0 0.5 0.5 0.5 0.5\n")


def write_coco(folder: Path) -> None:
    (folder / "l.json").write_text(annotated(bbox=["W", 0, "W", 9]).replace('"W"', LONG))


def write_voc(folder: Path) -> None:
    corners = f"<xmin>-{LONG}</xmin><ymin>1</ymin><xmax>{LONG}</xmax><ymax>9</ymax>"
    size = f"<size><width>{LONG}</width><height>{LONG}</height></size>"
    (folder / "a.xml").write_text(
        f"<annotation>{size}<object><name>cat</name><bndbox>{corners}</bndbox></object></annotation>"
    )


LONG_NUMBERS: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "yolo": (write_yolo, "ok", "line 2 is of class '999"),
    "coco": (write_coco, "no_box", "box 1 (1e+100, 0, 2e+100, 9) lies outside the image of 40 x 30"),
    "voc": (write_voc, "ok", ""),
}


@pytest.mark.parametrize("reader", LONG_NUMBERS)
def test_numbers_of_a_hundred_digits_end_no_reader(data: Path, reader: str) -> None:
    write, status, reason = LONG_NUMBERS[reader]
    write(data)
    row, *_ = take(data, reader=reader)
    assert row["status"] == status
    assert reason in (row["reason"] or "")
