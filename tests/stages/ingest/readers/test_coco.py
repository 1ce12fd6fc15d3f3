from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as masks

from stages.ingest.readers.coco import CocoReader, segmentation_box
from stages.ingest.record import Box, Record
from stages.ingest.settings import DatasetSettings
from stages.ingest.shapes import Polygons
from storage.errors import UserError

CATEGORIES = [{"id": 90, "name": "dog"}, {"id": 3, "name": "cat"}]


def annotation(number: int = 1, **keys: Any) -> dict[str, Any]:
    return {"id": number, "image_id": 7, "category_id": 3, "bbox": [1, 2, 3.5, 4], "iscrowd": 0, **keys}


def write(folder: Path, annotations: list[dict[str, Any]], name: str = "labels.json", **keys: Any) -> DatasetSettings:
    content = {
        "images": [{"id": 7, "file_name": "a.jpg", "width": 40, "height": 30}],
        "annotations": annotations,
        "categories": CATEGORIES,
        **keys,
    }
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    for image in content["images"]:
        place = folder / "images" / image["file_name"]
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30)).save(place)
    return DatasetSettings("coco", str(folder))


def read(settings: DatasetSettings) -> list[Record]:
    return list(CocoReader(settings).records())


def test_a_box_is_corner_width_and_height_and_ids_need_not_begin_at_zero(tmp_path: Path) -> None:
    (record,) = read(write(tmp_path, [annotation()]))
    assert record.boxes == (Box(1, 2, 4.5, 6, "cat"),)
    assert (record.sample_id, record.label, record.size) == ("images/a.jpg", None, (40, 30))


def test_classes_are_in_the_order_of_their_ids(tmp_path: Path) -> None:
    assert [entry.name for entry in CocoReader(write(tmp_path, [])).classes()] == ["cat", "dog"]


def test_crowds_are_left_out_and_counted(tmp_path: Path) -> None:
    reader = CocoReader(write(tmp_path, [annotation(), annotation(2, iscrowd=1), annotation(3, iscrowd=1)]))
    (record,) = reader.records()
    assert record.boxes == (Box(1, 2, 4.5, 6, "cat"),)
    assert record.notes == ("annotation 2 is a crowd of 'cat'", "annotation 3 is a crowd of 'cat'")
    assert reader.remarks() == ["2 crowds are left out of the boxes (2 'cat')"]


def test_an_image_without_annotation_is_a_sample(tmp_path: Path) -> None:
    (record,) = read(write(tmp_path, []))
    assert (record.boxes, record.notes) == ((), ("the image has no annotation",))


def test_annotations_of_no_image_and_of_no_category_are_told(tmp_path: Path) -> None:
    reader = CocoReader(write(tmp_path, [annotation(1, image_id=8), annotation(2, category_id=4)]))
    (record,) = reader.records()
    assert record.notes == ("annotation 2 is of no category of the file: 4",)
    assert reader.remarks() == ["1 annotations belong to no image of the file and are left out"]


class TestSegmentation:
    def test_a_polygon_without_a_box_has_the_box_around_it(self, tmp_path: Path) -> None:
        polygons = [[5, 6, 15.5, 6, 15.5, 20], [2, 8, 3, 8, 3, 9]]
        (record,) = read(write(tmp_path, [annotation(bbox=None, segmentation=polygons)]))
        assert record.boxes == (Box(2, 6, 15.5, 20, "cat", Polygons(polygons)),)

    @pytest.mark.parametrize("packed", [True, False])
    def test_a_run_length_mask_without_a_box_has_the_box_of_its_pixels(self, packed: bool) -> None:
        pixels = np.zeros((30, 40), np.uint8, order="F")
        pixels[4:9, 11:31] = 1
        mask = masks.encode(pixels)
        if packed:
            segmentation = {"size": mask["size"], "counts": mask["counts"].decode()}
        else:  # columns, from the top: the run of zeros comes first
            flat = pixels.flatten(order="F")
            ends = np.flatnonzero(np.diff(flat)) + 1
            segmentation = {"size": [30, 40], "counts": np.diff([0, *ends, flat.size]).tolist()}
        assert segmentation_box(segmentation, "cat") == Box(11, 4, 31, 9, "cat")

    @pytest.mark.parametrize(
        "segmentation",
        [None, [], {}, [[]], {"size": [30], "counts": "x"}, {"size": [30, 40], "counts": ["x"]}, "polygon", [[None]]],
    )
    def test_what_is_no_segmentation_is_no_box(self, segmentation: Any) -> None:
        assert segmentation_box(segmentation, "cat") is None


class TestImages:
    def test_the_same_name_in_several_folders(self, tmp_path: Path) -> None:
        images = [{"id": 7, "file_name": "left/1.jpg"}, {"id": 8, "file_name": "right/1.jpg"}]
        settings = write(tmp_path, [annotation()], images=images)
        assert [record.sample_id for record in read(settings)] == ["images/left/1.jpg", "images/right/1.jpg"]

    @pytest.mark.parametrize(("name", "other"), [("000.png", "thumbs/000.png"), ("img/a.png", "old/img/a.png")])
    def test_the_path_itself_before_a_namesake_further_below(self, tmp_path: Path, name: str, other: str) -> None:
        images = [{"id": 7, "file_name": name}, {"id": 8, "file_name": other}]
        settings = replace(write(tmp_path, [annotation()], images=images), images=str(tmp_path / "images"))
        found = [(record.uri, record.problem) for record in read(settings)]
        assert found == [(str(tmp_path / "images" / name), None), (str(tmp_path / "images" / other), None)]

    @pytest.mark.parametrize("below", ["", "annotations/"])
    def test_of_one_name_in_several_folders_the_nearest_to_the_json(self, tmp_path: Path, below: str) -> None:
        for site in ("site1", "site2"):
            write(tmp_path, [annotation()], f"{site}/{below}ann_{site}.json")
            (tmp_path / site / "a.jpg").write_bytes((tmp_path / "images/a.jpg").read_bytes())
        (tmp_path / "images/a.jpg").unlink()
        found = [(record.sample_id, record.split) for record in read(DatasetSettings("coco", str(tmp_path)))]
        assert found == [("site1/a.jpg", "ann_site1"), ("site2/a.jpg", "ann_site2")]

    def test_masks_below_the_annotations_are_not_taken_for_the_images_that_they_are_of(self, tmp_path: Path) -> None:
        settings = write(tmp_path, [annotation()], "annotations/ann.json")
        (tmp_path / "annotations/masks").mkdir()
        (tmp_path / "annotations/masks/a.jpg").write_bytes((tmp_path / "images/a.jpg").read_bytes())
        (record,) = read(settings)
        assert (record.sample_id, record.problem) == ("images/a.jpg", None)

    def test_one_that_is_gone_is_not_taken_for_its_namesake(self, tmp_path: Path) -> None:
        images = [{"id": 7, "file_name": "left/1.jpg"}, {"id": 8, "file_name": "right/1.jpg"}]
        settings = write(tmp_path, [annotation()], images=images)
        (tmp_path / "images/right/1.jpg").unlink()
        _, right = read(settings)
        assert right.problem == f"no image 'right/1.jpg' in {tmp_path}"

    def test_two_of_one_name_are_not_guessed(self, tmp_path: Path) -> None:
        settings = write(tmp_path, [annotation()])
        (tmp_path / "other").mkdir()
        Image.new("RGB", (4, 4)).save(tmp_path / "other/a.jpg")
        (record,) = read(settings)
        assert (
            record.problem
            == "2 images are named 'a.jpg': images/a.jpg, other/a.jpg; keep one, or name its folder in dataset.images"
        )

    @pytest.mark.parametrize(
        "name", ["/home/pi/data/images/a.jpg", r"C:\data\a.jpg", r".\images\a.jpg", "../images/a.jpg"]
    )
    def test_paths_of_another_machine(self, tmp_path: Path, name: str) -> None:
        settings = write(tmp_path, [annotation()])
        content = json.loads((tmp_path / "labels.json").read_text())
        content["images"][0]["file_name"] = name
        (tmp_path / "labels.json").write_text(json.dumps(content))
        (record,) = read(settings)
        assert (record.sample_id, record.problem) == ("images/a.jpg", None)


class TestSplits:
    def test_each_instances_file_is_a_split_and_its_images_are_in_its_folder(self, tmp_path: Path) -> None:
        for split in ("train2017", "val2017"):
            write(tmp_path, [annotation()], f"annotations/instances_{split}.json")
            (tmp_path / split).mkdir()
            (tmp_path / "images/a.jpg").rename(tmp_path / split / "a.jpg")
        (tmp_path / "annotations/captions_val2017.json").write_text('{"images": [], "annotations": [{"caption": "a"}]}')
        settings = DatasetSettings("coco", str(tmp_path))
        found = [(record.sample_id, record.split) for record in read(settings)]
        assert found == [("train2017/a.jpg", "train2017"), ("val2017/a.jpg", "val2017")]
        one = DatasetSettings("coco", str(tmp_path / "annotations/instances_val2017.json"))
        assert [record.sample_id for record in read(one)] == ["val2017/a.jpg"]

    def test_a_folder_for_each_split_with_the_json_in_it(self, tmp_path: Path) -> None:
        for split in ("train", "valid"):
            write(tmp_path, [annotation()], f"{split}/_annotations.coco.json")
            (tmp_path / "images/a.jpg").rename(tmp_path / split / "a.jpg")
        found = [(record.sample_id, record.split) for record in read(DatasetSettings("coco", str(tmp_path)))]
        assert found == [("train/a.jpg", "train"), ("valid/a.jpg", "valid")]


def test_a_results_file_is_refused_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps([{"image_id": 7, "category_id": 3, "bbox": [1, 2, 3, 4], "score": 0.9}]))
    with pytest.raises(UserError, match=r"results\.json is a results file, a list of what a detector found"):
        CocoReader(DatasetSettings("coco", str(path))).classes()
