"""KITTI, as its own documentation shows it; the importer is FiftyOne's."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages.ingest.boxes import scaled
from stages.ingest.recognise import open_dataset, recognise
from stages.ingest.settings import DatasetSettings
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
