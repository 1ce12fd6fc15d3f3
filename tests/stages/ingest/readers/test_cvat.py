"""CVAT for images, as its own documentation shows it."""

from __future__ import annotations

from math import sqrt
from pathlib import Path

import numpy as np
import pytest

from stages.ingest.boxes import scaled
from stages.ingest.ingest import ingest
from stages.ingest.readers.cvat import CvatReader
from stages.ingest.recognise import open_dataset
from stages.ingest.record import Record
from stages.ingest.settings import DatasetSettings
from storage import Run
from storage.errors import UserError
from tests.stages.ingest.datasets import Picture, write_images

CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta><task><labels><label><name>cat</name></label></labels></task></meta>
  <image id="0" name="a.png" width="100" height="50">
    <box label="cat" occluded="0" xtl="10.0" ytl="20.0" xbr="50.0" ybr="40.0" z_order="0"></box>
  </image>
  <image id="1" name="b.png" width="100" height="50"></image>
</annotations>
"""


def test_cvat_for_images_is_read_beside_its_images(tmp_path: Path) -> None:
    write_images(tmp_path / "images", [Picture(name, "", size=(100, 50)) for name in ("a.png", "b.png")])
    (tmp_path / "annotations.xml").write_text(CVAT)
    dataset = open_dataset(DatasetSettings(path=str(tmp_path)))
    assert str(dataset) == "cvat: annotations.xml of CVAT"
    first, second = dataset.reader.records()
    assert [(scaled(box, 100, 50)[:4], box.label) for box in first.boxes] == [
        (pytest.approx((10, 20, 50, 40)), "cat"),
    ]
    assert (second.boxes, second.notes) == ((), ("the image has no annotation",))
    assert first.place == f"{tmp_path}/annotations.xml, image 'a.png'"
    assert list(open_dataset(DatasetSettings("cvat", str(tmp_path / "annotations.xml"))).reader.records()) == [
        first,
        second,
    ]


def test_images_that_cvat_names_and_that_are_missing_are_samples_with_the_reason(tmp_path: Path) -> None:
    write_images(tmp_path / "images", [Picture("b.png", "", size=(100, 50)), Picture("more/c.png", "", size=(9, 9))])
    outside = CVAT.replace('name="b.png"', 'name="../../b.png"').replace("</annotations>", "")
    outside += '<image id="2" subset="more" name="c.png" width="9" height="9"></image></annotations>'
    (tmp_path / "annotations.xml").write_text(outside)
    for name in (".DS_Store", "notes.txt", "more/._c.png"):  # what lies beside images without being one
        (tmp_path / "images" / name).write_text("none")
    table = ingest(open_dataset(DatasetSettings(path=str(tmp_path))), ("cat",), Run.create(str(tmp_path / "run")))
    found = {row["sample_id"]: row for row in table.to_pylist()}
    missing = {f"{tmp_path}/images/a.png": "images/a.png#cat", f"{tmp_path.parent}/b.png": f"{tmp_path.parent}/b.png"}
    for path, name in missing.items():
        row = found.pop(name)
        assert (row["status"], row["reason"]) == ("unreadable", f"no such file: {path}")
    assert {name: row["status"] for name, row in found.items()} == {
        "images/b.png": "no_box",
        "images/more/c.png": "no_box",
    }


def test_xml_that_breaks_off_is_told_in_one_line(tmp_path: Path) -> None:
    write_images(tmp_path / "images", [Picture("a.png", "")])
    (tmp_path / "annotations.xml").write_text(CVAT[:-40])
    with pytest.raises(UserError, match=r"annotations.xml is not XML: .*; export as 'CVAT for images'") as caught:
        list(open_dataset(DatasetSettings(path=str(tmp_path))).reader.records())
    assert "\n" not in str(caught.value)


def read(folder: Path, *images: str) -> tuple[list[Record], list[str]]:
    """Records and remarks of an XML with one element for each of a.png, b.png ... of 100 x 50, and what is in it."""
    named = [f'<image name="{chr(97 + k)}.png" width="100" height="50">{said}</image>' for k, said in enumerate(images)]
    (folder / "annotations.xml").write_text(f"<annotations><meta></meta>{''.join(named)}</annotations>")
    reader = CvatReader(DatasetSettings("cvat", str(folder)))
    return list(reader.records()), reader.remarks()


ELLIPSE = '<ellipse label="cat" cx="30.0" cy="20.5" rx="10.0" ry="5.0"{}></ellipse>'
BOX = '<box label="cat" xtl="10.25" ytl="20.0" xbr="50.25" ybr="28.0"{}></box>'
TURNED = ' rotation="{}"'


@pytest.mark.parametrize(
    ("element", "edges"),
    [
        (BOX.format(""), (10.25, 20, 50.25, 28)),
        (BOX.format(TURNED.format("0.00")), (10.25, 20, 50.25, 28)),
        # The centre is 30.25, 24; the sides are 40 and 8.
        (BOX.format(TURNED.format("90.00")), (26.25, 4, 34.25, 44)),
        (
            BOX.format(TURNED.format("45")),
            (30.25 - 24 * sqrt(0.5), 24 - 24 * sqrt(0.5), 30.25 + 24 * sqrt(0.5), 24 + 24 * sqrt(0.5)),
        ),
        (ELLIPSE.format(""), (20, 15.5, 40, 25.5)),
        (ELLIPSE.format(TURNED.format("270.0")), (25, 10.5, 35, 30.5)),
        # At 30 degrees: sqrt(100 * 3/4 + 25 * 1/4) across and sqrt(100 * 1/4 + 25 * 3/4) down.
        (
            ELLIPSE.format(TURNED.format("30")),
            (30 - sqrt(81.25), 20.5 - sqrt(43.75), 30 + sqrt(81.25), 20.5 + sqrt(43.75)),
        ),
    ],
)
def test_the_box_is_the_one_around_what_is_turned(
    tmp_path: Path, element: str, edges: tuple[float, float, float, float]
) -> None:
    ((record,), _) = read(tmp_path, element)
    (box,) = record.boxes
    assert (scaled(box, 100, 50)[:4], box.label, record.notes) == (pytest.approx(edges), "cat", ())


EDGE = 0.2
"""Pixels whose centre is so near to the edge, px, count as COCO rounds the edge, to fifths of a pixel."""


@pytest.mark.parametrize("degrees", [30, 120, -45])
def test_an_ellipse_and_a_rotated_box_cover_the_pixels_inside_of_them(tmp_path: Path, degrees: int) -> None:
    turned = TURNED.format(degrees)
    ((record,), _) = read(tmp_path, BOX.format(turned) + ELLIPSE.format(turned))
    masks = [box.shape.drawn(box, 100, 50) for box in record.boxes if box.shape]
    y, x = np.mgrid[0.5:50, 0.5:100]
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))

    def along(cx: float, cy: float) -> tuple[np.ndarray, np.ndarray]:
        """Where each pixel's centre lies on the axes of what is turned clockwise, y being downwards."""
        return (x - cx) * cos + (y - cy) * sin, -(x - cx) * sin + (y - cy) * cos

    across, down = along(30.25, 24)
    reach = [np.maximum(abs(across) - 20, abs(down) - 4)]
    across, down = along(30, 20.5)
    reach.append((np.hypot(across / 10, down / 5) - 1) * 5)  # at most px from the edge
    for mask, outside in zip(masks, reach, strict=True):
        clear = abs(outside) > EDGE
        assert np.array_equal(mask[clear], outside[clear] < 0)


def test_tags_are_the_labels_of_images(tmp_path: Path) -> None:
    tag = '<tag label="cat" source="manual"></tag>'
    records, remarks = read(
        tmp_path, tag + BOX.format(""), '<tag label="dog"></tag>', "", tag + tag + '<tag label="dog"/>'
    )
    assert [(record.label, len(record.boxes), record.notes) for record in records] == [
        ("cat", 1, ()),
        ("dog", 0, ()),
        (None, 0, ("the image has no annotation",)),
        (None, 0, ("the image has several tags, which are no one label: 'cat', 'dog'",)),
    ]
    assert remarks == []


def test_tags_beside_the_objects_of_some_images_are_no_labels_and_are_told(tmp_path: Path) -> None:
    records, remarks = read(tmp_path, '<tag label="blurred"></tag>' + BOX.format(""), BOX.format(""))
    assert [(record.label, len(record.boxes)) for record in records] == [(None, 1), (None, 1)]
    told = "1 image has a tag, not taken as labels since other images have objects alone"
    assert remarks == [f"annotations.xml: {told}"]


def test_a_video_is_refused(tmp_path: Path) -> None:
    track = '<track id="0" label="cat"><box frame="0" xtl="1" ytl="2" xbr="3" ybr="4"></box></track>'
    (tmp_path / "a.xml").write_text(f"<annotations><meta></meta>{track}</annotations>")
    reader = CvatReader(DatasetSettings("cvat", str(tmp_path)))
    with pytest.raises(UserError, match=r"a\.xml is of CVAT for video \(<track>\); export as 'CVAT for images'"):
        list(reader.records())


@pytest.mark.parametrize(
    ("element", "note"),
    [
        (
            BOX.format("").replace("10.25", "ten"),
            "box 1 ('cat') does not say where it is: {'xbr': '50.25', 'xtl': 'ten', ",
        ),
        (BOX.format(TURNED.format("nan")), "box 1 ('cat') does not say where it is: {'rotation': 'nan', "),
        ('<ellipse label="cat" cx="3"/>', "ellipse 1 ('cat') does not say where it is: {'cx': '3'}"),
        ('<polygon label="cat" points="1,2;3"/>', "polygon 1 ('cat') does not say where it is: {'points': '1,2;3'}"),
        (BOX.format("").replace('label="cat"', ""), "box 1 has no label"),
    ],
)
def test_an_object_that_cannot_be_read_is_noted_and_the_others_are_kept(
    tmp_path: Path, element: str, note: str
) -> None:
    ((record,), _) = read(tmp_path, element + ELLIPSE.format(""))
    (told,) = record.notes
    assert told.startswith(note)
    assert len(record.boxes) == 1


def test_an_image_without_a_size_is_refused(tmp_path: Path) -> None:
    (tmp_path / "annotations.xml").write_text(
        '<annotations><image id="0" name="a.png" width="0" height="5"/></annotations>'
    )
    reader = CvatReader(DatasetSettings("cvat", str(tmp_path)))
    with pytest.raises(
        UserError, match=r"annotations\.xml: an image without a name, a width or a height: .*'width': '0'"
    ):
        list(reader.records())


def test_an_image_that_one_of_two_files_names_is_listed_once(tmp_path: Path) -> None:
    write_images(tmp_path / "images", [Picture(name, "", size=(100, 50)) for name in ("a.png", "b.png", "c.png")])
    for name in ("a", "b"):
        image = f'<image name="{name}.png" width="100" height="50">{ELLIPSE.format("")}</image>'
        (tmp_path / f"{name}.xml").write_text(f"<annotations><meta></meta>{image}</annotations>")
    records = CvatReader(DatasetSettings("cvat", str(tmp_path))).records()
    assert [(record.sample_id, len(record.boxes)) for record in records] == [
        ("images/a.png", 1),
        ("images/b.png", 1),
        ("images/c.png", 0),
    ]
