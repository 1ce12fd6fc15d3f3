"""Masks from what datasets say of objects' shapes; ``pycocotools`` and FiftyOne decode the same files independently."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_masks
from pycocotools.coco import COCO

from stages.ingest.record import Box
from stages.ingest.settings import DatasetSettings
from stages.ingest.shapes import Patch, ShapeError
from storage.errors import UserError
from storage.samples import own_boxes, own_mask
from tests.stages.ingest.datasets import write_rows
from tests.stages.ingest.masks import (
    HEIGHT,
    L_SHAPE,
    OTHER,
    POLYGON,
    SMALL,
    WIDTH,
    packed,
    picture,
    rectangle,
    samples,
)


class TestCoco:
    def write(self, folder: Path, *annotations: dict[str, Any]) -> DatasetSettings:
        picture(folder)
        entries = [
            {"id": number, "image_id": 1, "category_id": 1, "bbox": [5, 5, 20, 15], "iscrowd": 0, "area": 1, **keys}
            for number, keys in enumerate(annotations, 1)
        ]
        content = {
            "images": [{"id": 1, "file_name": "a.png", "width": WIDTH, "height": HEIGHT}],
            "annotations": entries,
            "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        }
        (folder / "labels.json").write_text(json.dumps(content))
        return DatasetSettings("coco", str(folder))

    def theirs(self, folder: Path, *ids: int) -> np.ndarray:
        """The union of annotations as pycocotools draws them."""
        coco = COCO(str(folder / "labels.json"))
        return np.any([coco.annToMask(annotation) for annotation in coco.loadAnns(list(ids))], axis=0)

    def test_a_sample_has_the_polygons_and_run_lengths_of_its_own_objects(self, tmp_path: Path) -> None:
        packed = coco_masks.encode(np.asfortranarray(rectangle(20, 22, 31, 29), dtype=np.uint8))
        long = {"size": [HEIGHT, WIDTH], "counts": [3, 4, 1193]}
        settings = self.write(
            tmp_path,
            {"segmentation": [POLYGON, [12.4, 21.7, 15.2, 22.9, 13, 27]]},
            {"segmentation": {"size": packed["size"], "counts": packed["counts"].decode()}, "bbox": [20, 22, 11, 7]},
            {"segmentation": long, "bbox": [0, 3, 1, 4]},
            {"segmentation": [OTHER], "category_id": 2, "bbox": [30, 2, 8, 10]},
            {"segmentation": long, "iscrowd": 1, "bbox": [0, 0, 40, 30]},
        )
        found = samples(tmp_path, settings)
        cat, dog = found["a.png#cat"], found["a.png#dog"]
        assert np.array_equal(own_mask(cat), self.theirs(tmp_path, 1, 2, 3))
        assert np.array_equal(own_mask(cat)[5:20, 5:25], L_SHAPE[5:20, 5:25])
        assert np.array_equal(own_mask(dog), self.theirs(tmp_path, 4))
        assert own_boxes(cat) == [(5, 5, 25, 20), (20, 22, 31, 29), (0, 3, 1, 7)]

    def test_an_object_without_a_shape_adds_its_box(self, tmp_path: Path) -> None:
        box = {"bbox": [27.4, 2.5, 3.2, 2]}  # pixels whose centre lies in it: 27 to 30, 2 to 3
        found = samples(tmp_path, self.write(tmp_path, {"segmentation": [POLYGON]}, box))
        assert np.array_equal(own_mask(found["a.png#cat"]), L_SHAPE | rectangle(27, 2, 31, 4))

    def test_objects_without_shapes_have_boxes_alone(self, tmp_path: Path) -> None:
        told: list[str] = []
        assert samples(tmp_path, self.write(tmp_path, {}, {"segmentation": []}), told)["a.png#cat"]["mask"] is None
        assert not any("mask" in line for line in told)

    @pytest.mark.parametrize(
        ("segmentation", "fault"),
        [
            ([[5, 5, 10, 5, 10]], "has no polygon of three corners"),
            ([[5, 5, 10, 5, 10, 9, 3]], "has a polygon that is no list of corners x, y: [5, 5, 10, 5, 10, 9, 3]"),
            ([[5, 5, 10, 5, 10, None]], "has a polygon that is no list of corners x, y: [5, 5, 10, 5, 10, None]"),
            ([[5, 5, 10, 5, 10, 1e12]], "has a corner far outside the image of 40 x 30"),
            ([[41, 1, 50, 1, 50, 9]], "covers no pixel"),
            ("polygon", "is no list of polygons: 'polygon'"),
            ({"size": [40, 30], "counts": [600, 600]}, "is of 30 x 40 px, and its image of 40 x 30"),
            ({"size": "40", "counts": [1200]}, "has no size of height and width: '40'"),
            (
                {"size": [30, 40], "counts": [600, 599]},
                "cannot be decoded: its runs are of 1199 pixels, not of 40 x 30",
            ),
            ({"size": [30, 40], "counts": [1200]}, "covers no pixel"),
            ({"size": [30, 40], "counts": ["x"]}, "cannot be decoded: invalid literal for int()"),
            ({"size": [30, 40], "counts": [2**70, 1]}, "cannot be decoded: "),
            ({"size": [30, 40], "counts": "no runs"}, "cannot be decoded: its counts are no compressed run lengths"),
            ({"size": [30, 40]}, "cannot be decoded: "),
        ],
    )
    def test_a_shape_that_is_no_mask_leaves_the_box_and_a_reason(
        self, tmp_path: Path, segmentation: Any, fault: str
    ) -> None:
        told: list[str] = []
        row = samples(tmp_path, self.write(tmp_path, {"segmentation": segmentation}), told)["a.png#cat"]
        assert (row["status"], row["mask"], own_boxes(row)) == ("ok", None, [(5, 5, 25, 20)])
        assert row["reason"].startswith(f"the mask {fault}")
        assert row["reason"].endswith("; its box (5, 5, 25, 20) counts instead")
        (line,) = (line for line in told if "mask" in line)
        assert line.startswith("1 mask cannot be used (samples.reason), the first: ")
        assert "labels.json, image 1: the mask" in line

    def test_a_crop_has_what_it_shows_of_the_masks_of_its_class(self, tmp_path: Path) -> None:
        settings = self.write(tmp_path, {"segmentation": [POLYGON]}, {"segmentation": [OTHER], "bbox": [30, 2, 8, 10]})
        found = samples(tmp_path, DatasetSettings("coco", settings.path, labels="crop"))
        # A quarter of 20 x 15 px around the L: columns 0 to 29, rows 1 to 23. The triangle's crop begins at 28, 0.
        assert np.array_equal(own_mask(found["a.png#1"]), L_SHAPE[1:24, 0:30])
        triangle = self.theirs(tmp_path, 2)
        assert np.array_equal(own_mask(found["a.png#2"]), triangle[0:15, 28:40])


def test_a_polygon_of_yolo_is_in_fractions(tmp_path: Path) -> None:
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    picture(tmp_path / "images")
    numbers = " ".join(str(value / (WIDTH, HEIGHT)[place % 2]) for place, value in enumerate(POLYGON))
    (tmp_path / "labels/a.txt").write_text(f"0 {numbers}\n0 0.75 0.5 0.1 0.2\n1 0.5 0.5 0.2 0.2\n")
    (tmp_path / "data.yaml").write_text("names: [cat, dog]\ntrain: images\n")
    found = samples(tmp_path, DatasetSettings("yolo", str(tmp_path)))
    assert np.array_equal(own_mask(found["images/a.png#cat"]), L_SHAPE | rectangle(28, 12, 32, 18))
    assert found["images/a.png#dog"]["mask"] is None


class TestManifest:
    def read(
        self,
        folder: Path,
        mask: str = "mask.png",
        boxes: Any = "",
        told: list[str] | None = None,
        value: str | None = None,
        **settings: Any,
    ) -> dict[str, dict[str, Any]]:
        if not (folder / "a.png").exists():
            picture(folder)
        picture(folder, "b.png")
        Image.fromarray(L_SHAPE).save(folder / "whole.png")
        rows = [
            {"path": "a.png", "label": "cat", "boxes": boxes, "mask": mask},
            {"path": "b.png", "label": "dog", "boxes": "[[1, 2, 3, 4]]", "mask": "whole.png"},
        ]
        if value is not None:
            rows = [rows[0] | {"mask_value": value}, rows[1] | {"mask_value": ""}]
        path = write_rows(folder / "m.csv", rows)
        return samples(folder, DatasetSettings("manifest", path, **settings), told)

    @pytest.mark.parametrize("mode", ["1", "L", "P", "I;16", "RGB", "RGBA", "LA"])
    def test_what_is_not_zero_is_the_object(self, tmp_path: Path, mode: str) -> None:
        if mode == "P":
            image = Image.fromarray(L_SHAPE.astype(np.uint8), "P")
            image.putpalette([9, 9, 9, 0, 0, 0])
        elif mode == "I;16":
            image = Image.fromarray(L_SHAPE.astype(np.uint16) * 256)
        else:
            image = Image.fromarray(L_SHAPE.astype(np.uint8) * 255).convert(mode)
        image.save(tmp_path / "mask.png")
        told: list[str] = []
        row = self.read(tmp_path, told=told)["a.png"]
        assert np.array_equal(own_mask(row), L_SHAPE)
        assert (row["status"], own_boxes(row)) == ("ok", [(5, 5, 25, 20)])  # the box around it
        assert "2 of 2 samples have a mask, which takes the place of their boxes" in told

    @pytest.mark.parametrize(
        ("dtype", "levels", "shown"),
        [
            (np.uint8, (1, 2, 3), "1, 2, 3"),  # a trimap: the animal, what is around it, and the edge
            (np.uint8, (7, 13, 255), "7, 13"),  # of classes, 255 for what is of none
            (np.uint16, (300, 301), "300, 301"),  # more classes than a byte can number
            (np.uint8, (4, 5, 6, 7, 8, 9), "4, 5, 6, 7, 8, ..."),
            (np.uint8, (1, 1), None),
            (np.uint8, (2, 255), None),
            (np.uint8, (60, 190, 250), None),  # the smoothed edge of a white mask
        ],
    )
    def test_several_numbers_which_may_be_classes_are_told(
        self, tmp_path: Path, dtype: type, levels: tuple[int, ...], shown: str | None
    ) -> None:
        pixels = np.zeros((HEIGHT, WIDTH), dtype)
        for column, level in enumerate(levels):
            pixels[5:9, 5 + column] = level
        Image.fromarray(pixels).save(tmp_path / "mask.png")
        told: list[str] = []
        row = self.read(tmp_path, told=told)["a.png"]
        assert np.array_equal(own_mask(row), rectangle(5, 5, 5 + len(levels), 9))
        lines = [line for line in told if "several numbers" in line]
        if shown is None:
            assert (row["reason"], lines) == (None, [])
        else:
            assert row["reason"] == f"the mask {tmp_path}/mask.png holds the numbers {shown}: all but 0 count"
            assert len(lines) == 1
            assert lines[0].startswith(
                "1 mask holds several numbers, and all but 0 count as the label's; where they are"
            )
            assert f"holds the numbers {shown}: all but" in lines[0]

    def test_of_a_picture_of_classes_the_pixels_of_the_label_s_number_count(self, tmp_path: Path) -> None:
        pixels = np.where(L_SHAPE, 7, np.where(rectangle(30, 2, 38, 8), 3, 0)).astype(np.uint8)
        pixels[0, 0] = 255
        Image.fromarray(pixels).save(tmp_path / "mask.png")
        told: list[str] = []
        row = self.read(tmp_path, told=told, value="7")["a.png"]
        assert np.array_equal(own_mask(row), L_SHAPE)
        assert (row["reason"], own_boxes(row)) == (None, [(5, 5, 25, 20)])
        assert not [line for line in told if "several numbers" in line]
        row = self.read(tmp_path, value="9", boxes="[[4, 4, 26, 21]]")["a.png"]
        assert row["mask"] is None
        assert "pixels of number 9, covers no pixel; the boxes count instead" in row["reason"]

    @pytest.mark.parametrize(
        ("mask", "value", "told"),
        [
            ("", "7", r"m\.csv, line 2: mask_value is '7', and the cell mask is empty"),
            ("mask.png", "cat", r"m\.csv, line 2: mask_value is 'cat'; give the number"),
            ("mask.png", "-1", r"mask_value is '-1'; give the number"),
            ("mask.png", "1.5", r"mask_value is '1\.5'; give the number"),
        ],
    )
    def test_a_number_that_is_none_is_told_with_its_row(self, tmp_path: Path, mask: str, value: str, told: str) -> None:
        Image.fromarray(L_SHAPE).save(tmp_path / "mask.png")
        with pytest.raises(UserError, match=told):
            self.read(tmp_path, mask=mask, value=value)

    def test_boxes_beside_it_stay(self, tmp_path: Path) -> None:
        Image.fromarray(L_SHAPE).save(tmp_path / "mask.png")
        assert own_boxes(self.read(tmp_path, boxes="[[4, 4, 26, 21]]")["a.png"]) == [(4, 4, 26, 21)]
        assert self.read(tmp_path, mask="", boxes="[[4, 4, 26, 21]]")["a.png"]["mask"] is None

    def test_it_is_of_the_upright_image(self, tmp_path: Path) -> None:
        turned = Image.Exif()
        turned[0x0112] = 6
        Image.new("RGB", (HEIGHT, WIDTH)).save(tmp_path / "a.png", exif=turned)
        Image.fromarray(L_SHAPE).save(tmp_path / "mask.png")
        assert np.array_equal(own_mask(self.read(tmp_path)["a.png"]), L_SHAPE)
        Image.fromarray(L_SHAPE.T).save(tmp_path / "mask.png")
        row = self.read(tmp_path)["a.png"]
        assert row["mask"] is None
        assert "mask.png is of 30 x 40 px, and the upright image of 40 x 30" in row["reason"]

    @pytest.mark.parametrize(
        ("content", "fault"),
        [
            (None, "cannot be used: no such file"),
            (b"", "cannot be used: the file is empty"),
            (b"no picture", "cannot be used: not an image"),
            ("JPEG", "cannot be used: a JPEG, which changes pixels; save it as PNG"),
            (np.zeros((HEIGHT, WIDTH), np.uint8), "covers no pixel"),
            (np.ones((HEIGHT, 41), np.uint8), "is of 41 x 30 px, and the upright image of 40 x 30"),
        ],
    )
    def test_one_that_cannot_be_used_is_a_reason(self, tmp_path: Path, content: Any, fault: str) -> None:
        path = tmp_path / "mask.png"
        if isinstance(content, np.ndarray):
            Image.fromarray(content).save(path)
        elif content == "JPEG":
            Image.fromarray(L_SHAPE).convert("L").save(path, "JPEG")
        elif content is not None:
            path.write_bytes(content)
        row = self.read(tmp_path)["a.png"]
        assert (row["status"], row["mask"]) == ("no_box", None)
        assert f"the mask {path} {fault}" in row["reason"]
        row = self.read(tmp_path, boxes="[[4, 4, 26, 21]]")["a.png"]
        assert (row["status"], row["mask"]) == ("ok", None)
        assert row["reason"].endswith("; the boxes count instead")

    def test_where_none_can_be_used_the_column_is_no_masks(self, tmp_path: Path) -> None:
        picture(tmp_path)
        rows = [{"path": "a.png", "label": "cat", "boxes": "[[1, 2, 3, 4]]", "mask": "yes"}]
        settings = DatasetSettings("manifest", write_rows(tmp_path / "m.csv", rows))
        with pytest.raises(UserError, match=r"none of the 1 masks can be used; .*m.csv, line 2: the mask .*yes cannot"):
            samples(tmp_path, settings)

    def test_a_path_out_of_the_folder_is_not_followed(self, tmp_path: Path) -> None:
        inner = tmp_path / "inner"
        inner.mkdir()
        Image.fromarray(L_SHAPE).save(tmp_path / "mask.png")
        row = self.read(inner, mask="../mask.png")["a.png"]
        assert (row["status"], row["mask"]) == ("unreadable", None)
        assert "its mask leads out of the dataset's folder" in row["reason"]
        assert self.read(inner, mask="../mask.png", allow_outside=True)["a.png"]["mask"] is not None

    def test_a_crop_of_another_class_has_no_part_of_it(self, tmp_path: Path) -> None:
        Image.fromarray(L_SHAPE).save(tmp_path / "mask.png")
        boxes = [
            {"x0": 5, "y0": 5, "x1": 25, "y1": 20},
            {"x0": 2, "y0": 2, "x1": 8, "y1": 8, "label": "dog"},
        ]
        found = self.read(tmp_path, boxes=boxes, labels="crop")
        assert np.array_equal(own_mask(found["a.png#1"]), L_SHAPE[1:24, 0:30])
        assert found["a.png#2"]["mask"] is None


@pytest.mark.usefixtures("mongo")
class TestFiftyOne:
    @pytest.fixture
    def dataset(self, tmp_path: Path) -> Any:
        import fiftyone as fo

        picture(tmp_path)
        Image.fromarray(SMALL).save(tmp_path / "patch.png")
        detections = [
            fo.Detection(label="cat", bounding_box=[5 / 40, 5 / 30, 0.5, 0.5], mask=L_SHAPE[5:20, 5:25]),
            fo.Detection(label="dog", bounding_box=[0.5, 0.0, 0.5, 0.5], mask_path=str(tmp_path / "patch.png")),
            fo.Detection(label="dog", bounding_box=[0.0, 0.9, 0.1, 0.1]),
        ]
        made = fo.Dataset("shaped")
        made.add_sample(fo.Sample(str(tmp_path / "a.png"), ground_truth=fo.Detections(detections=detections)))
        yield made
        made.delete()

    def test_an_instance_mask_is_stretched_over_its_box(self, dataset: Any, tmp_path: Path) -> None:
        import fiftyone as fo

        dataset.export(export_dir=str(tmp_path / "exported"), dataset_type=fo.types.FiftyOneDataset)
        theirs = dataset.first().ground_truth.detections[0].to_segmentation(frame_size=(WIDTH, HEIGHT)).mask > 0
        stretched = rectangle(0, 27, 4, 30)  # the box of the dog without a mask
        stretched[:15, 20:] = np.kron(SMALL, np.ones((5, 5)))
        for path in ("fiftyone://shaped", str(tmp_path / "exported")):
            found = samples(tmp_path, DatasetSettings("fiftyone", path)).values()
            cat, dog = sorted((row for row in found if row["status"] != "removed"), key=lambda row: row["label"])
            assert np.array_equal(own_mask(cat), theirs)
            assert np.array_equal(own_mask(cat), L_SHAPE)
            assert np.array_equal(own_mask(dog), stretched)


class TestPatches:
    @pytest.mark.parametrize(
        ("stored", "fault"),
        [
            ({"$binary": {"base64": "!"}}, "cannot be decoded"),
            ({"$oid": "1"}, "cannot be decoded"),
            ([[0, 1]], "cannot be decoded"),
            (zlib.compress(b"no array"), "cannot be decoded"),
            (packed(np.zeros((2, 2, 3))), r"is no array of rows and columns: \(2, 2, 3\)"),
            (packed(np.zeros((2, 2))), "covers no pixel"),
        ],
    )
    def test_what_is_no_instance_mask_is_told(self, stored: Any, fault: str) -> None:
        with pytest.raises(ShapeError, match=fault):
            Patch(stored).drawn(Box(0, 0, 10, 10), WIDTH, HEIGHT)

    def test_a_mask_of_a_box_beyond_the_image_is_cut_with_it(self) -> None:
        drawn = Patch(packed(SMALL)).drawn(Box(-5, -5, 15, 10), WIDTH, HEIGHT)
        whole = np.kron(SMALL, np.ones((5, 5))).astype(bool)
        assert np.array_equal(drawn[:10, :15], whole[5:, 5:])
        assert drawn.sum() == whole[5:, 5:].sum()
