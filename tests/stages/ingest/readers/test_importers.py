"""KITTI and CVAT, as their own documentation shows them; the importers are FiftyOne's."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages.ingest.boxes import scaled
from stages.ingest.ingest import ingest
from stages.ingest.recognise import open_dataset, recognise
from stages.ingest.settings import DatasetSettings
from storage import Run
from storage.errors import UserError
from tests.stages.ingest.datasets import Picture, write_images

# The form of KITTI's devkit: type, truncated, occluded, alpha, box, dimensions, location, rotation_y.
CAR = "Car 0.00 0 1.85 10.00 20.00 50.00 40.00 1.67 1.87 3.69 -16.53 2.39 58.49 1.57"
NOWHERE = "DontCare -1 -1 -10 0.00 0.00 5.00 6.00 -1 -1 -1 -1000 -1000 -1000 -10"


def kitti(folder: Path, text: str) -> Path:
    write_images(folder / "training/image_2", [Picture("000000.png", "", size=(100, 50))])
    (folder / "training/label_2").mkdir(parents=True)
    (folder / "training/label_2/000000.txt").write_text(text)
    return folder


def test_kitti_s_own_layout_is_read_and_regions_without_labels_are_no_boxes(tmp_path: Path) -> None:
    path = kitti(tmp_path, f"{CAR}\n{NOWHERE}\n")
    dataset = open_dataset(DatasetSettings(path=str(path)))
    assert str(dataset) == "kitti: training/label_2/000000.txt with 15 words a line"
    (record,) = dataset.reader.records()
    assert record.sample_id == "training/image_2/000000.png"
    (box,) = record.boxes
    assert (scaled(box, 100, 50)[:4], box.label) == (pytest.approx((10, 20, 50, 40)), "Car")
    assert dataset.of_objects


def test_yolo_s_polygons_of_as_many_words_are_not_kitti_s(tmp_path: Path) -> None:
    write_images(tmp_path / "images", [Picture("a.png", "")])
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/a.txt").write_text("0 .1 .1 .2 .1 .3 .2 .3 .3 .2 .4 .1 .3 .1 .2\n")
    assert recognise(str(tmp_path))[0] == "yolo"


def test_a_line_that_is_no_kitti_is_told_in_one_line(tmp_path: Path) -> None:
    path = kitti(tmp_path, CAR.replace("10.00", "ten"))
    with pytest.raises(UserError, match=r"FiftyOne's importer cannot read it .*'ten'.*; repair the file") as caught:
        list(open_dataset(DatasetSettings("kitti", str(path))).reader.records())
    assert "\n" not in str(caught.value)


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
    with pytest.raises(UserError, match=r"FiftyOne's importer cannot read it .*; repair the file") as caught:
        list(open_dataset(DatasetSettings(path=str(tmp_path))).reader.records())
    assert "\n" not in str(caught.value)
