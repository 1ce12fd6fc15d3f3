"""Masks as VOC's pictures, CVAT's XML and Hugging Face's tables have them."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fiftyone.utils.cvat import HasCVATBinaryMask
from PIL import Image
from pycocotools import mask as coco_masks

from stages.ingest.recognise import open_dataset
from stages.ingest.settings import DatasetSettings
from storage.errors import UserError
from storage.samples import object_masks, own_boxes, own_mask
from tests.stages.ingest.masks import (
    HEIGHT,
    L_SHAPE,
    POLYGON,
    WIDTH,
    picture,
    rectangle,
    samples,
)


class TestVoc:
    def write(self, folder: Path, numbers: np.ndarray, names: tuple[str, ...] = ("cat", "", "cat", "dog")) -> None:
        for name in ("Annotations", "JPEGImages", "SegmentationObject"):
            (folder / name).mkdir()
        Image.new("RGB", (WIDTH, HEIGHT), "gray").save(folder / "JPEGImages/a.jpg")
        palette = Image.fromarray(numbers, "P")
        palette.putpalette(np.random.default_rng(0).integers(0, 256, 768).tolist())
        palette.save(folder / "SegmentationObject/a.png")
        box = "<bndbox><xmin>6</xmin><ymin>6</ymin><xmax>25</xmax><ymax>20</ymax></bndbox>"
        objects = "".join(f"<object><name>{name}</name>{box}</object>" for name in names)
        (folder / "Annotations/a.xml").write_text(f"<annotation><segmented>1</segmented>{objects}</annotation>")

    def numbers(self) -> np.ndarray:
        """1 and 3 are cats, 4 a dog, 2 has no name; 255 is void."""
        numbers = np.full((HEIGHT, WIDTH), 255, dtype=np.uint8)
        numbers[1:-1, 1:-1] = 0
        numbers[L_SHAPE] = 1
        numbers[2:4, 2:30] = 2
        numbers[22:28, 30:38] = 3
        numbers[2:12, 32:37] = 4
        return numbers

    def test_an_object_is_what_has_its_place_in_the_xml(self, tmp_path: Path) -> None:
        self.write(tmp_path, self.numbers())
        found = samples(tmp_path, DatasetSettings("voc", str(tmp_path)))
        cat, dog = found["JPEGImages/a.jpg#cat"], found["JPEGImages/a.jpg#dog"]
        assert np.array_equal(own_mask(cat), L_SHAPE | rectangle(30, 22, 38, 28))
        assert np.array_equal(own_mask(dog), rectangle(32, 2, 37, 12))
        first, third, of_dog = object_masks(cat)
        assert np.array_equal(first, L_SHAPE)
        assert np.array_equal(third, rectangle(30, 22, 38, 28))
        assert of_dog is None
        assert own_boxes(cat) == [(5, 5, 25, 20)] * 2

    def test_objects_that_are_no_samples_of_their_own_keep_their_masks(self, tmp_path: Path) -> None:
        self.write(tmp_path, self.numbers())
        (cat,) = samples(tmp_path, DatasetSettings("voc", str(tmp_path), labels="largest_box")).values()
        assert cat["label"] == "cat"
        assert np.array_equal(own_mask(cat), L_SHAPE | rectangle(30, 22, 38, 28))
        boxed = dict(zip([(box["label"], box["x0"]) for box in cat["boxes"]], object_masks(cat), strict=False))
        assert np.array_equal(boxed["dog", 5.0], rectangle(32, 2, 37, 12))

    def test_an_object_that_the_picture_lacks_is_its_box(self, tmp_path: Path) -> None:
        numbers = self.numbers()
        numbers[numbers == 4] = 0
        self.write(tmp_path, numbers)
        told: list[str] = []
        dog = samples(tmp_path, DatasetSettings("voc", str(tmp_path)), told)["JPEGImages/a.jpg#dog"]
        assert (dog["status"], dog["mask"]) == ("ok", None)
        assert "SegmentationObject/a.png, pixels of number 4, covers no pixel; its box (5, 5, 25, 20)" in dog["reason"]
        assert any(line.startswith("1 mask cannot be used") for line in told)

    def test_a_picture_in_colours_or_of_another_size_is_told(self, tmp_path: Path) -> None:
        self.write(tmp_path, self.numbers())
        path = tmp_path / "SegmentationObject/a.png"
        colours = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        for shown, fault in (
            (colours, "it has colours, not one number a pixel"),
            (colours[:9, :, 0], "is of 40 x 9"),
        ):
            Image.fromarray(shown).save(path)
            cat = samples(tmp_path, DatasetSettings("voc", str(tmp_path)))["JPEGImages/a.jpg#cat"]
            assert cat["mask"] is None
            assert fault in cat["reason"]


class TestCvat:
    def write(self, folder: Path, *elements: str) -> DatasetSettings:
        (folder / "images").mkdir()
        picture(folder / "images")
        inside = "".join(elements)
        (folder / "annotations.xml").write_text(
            f'<annotations><version>1.1</version><image id="0" name="a.png" width="{WIDTH}" height="{HEIGHT}">'
            f"{inside}</image></annotations>"
        )
        return DatasetSettings("cvat", str(folder))

    def mask(self, label: str, mask: np.ndarray, **changes: str) -> str:
        """A mask as FiftyOne's own code encodes it."""
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        part = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        values = {"rle": ", ".join(map(str, HasCVATBinaryMask._mask_to_cvat_rle(part))), "left": columns[0]}
        values |= {"top": rows[0], "width": part.shape[1], "height": part.shape[0]} | changes
        said = " ".join(f'{name}="{value}"' for name, value in values.items())
        return f'<mask label="{label}" occluded="0" {said} z_order="0"></mask>'

    def test_polygons_and_masks_are_objects_and_open_lines_are_none(self, tmp_path: Path) -> None:
        points = ";".join(f"{x},{y}" for x, y in zip(POLYGON[::2], POLYGON[1::2], strict=True))
        ring = rectangle(26, 2, 38, 14) & ~rectangle(30, 6, 34, 9)
        settings = self.write(
            tmp_path,
            f'<polygon label="cat" occluded="0" points="{points}" z_order="0"></polygon>',
            '<polyline label="cat" occluded="0" points="1,1;30,2" z_order="0"></polyline>',
            '<box label="cat" occluded="0" xtl="30.0" ytl="20.0" xbr="38.0" ybr="28.0" z_order="0"></box>',
            self.mask("dog", ring),
        )
        found = samples(tmp_path, settings)
        cat, dog = found["images/a.png#cat"], found["images/a.png#dog"]
        assert np.array_equal(own_mask(cat), L_SHAPE | rectangle(30, 20, 38, 28))
        assert sorted(own_boxes(cat)) == [(5, 5, 25, 20), (30, 20, 38, 28)]
        assert np.array_equal(own_mask(dog), ring)
        assert own_boxes(dog) == [(26, 2, 38, 14)]

    @pytest.mark.parametrize(
        ("changes", "fault"),
        [
            ({"rle": "3, 5"}, "has runs that do not fill its window of 20 x 15: '3, 5'"),
            ({"rle": "x"}, "has runs that do not fill its window"),
            ({"left": "30"}, "has a window (30, 5, 20, 15) that leaves the image of 40 x 30"),
        ],
    )
    def test_runs_that_are_none_are_told(self, tmp_path: Path, changes: dict[str, str], fault: str) -> None:
        settings = self.write(tmp_path, self.mask("cat", L_SHAPE, **changes))
        row = samples(tmp_path, settings)["images/a.png#cat"]
        assert row["mask"] is None
        assert fault in row["reason"]


class TestHuggingface:
    def write(self, folder: Path, objects: pa.Array | None = None, **columns: pa.Array) -> DatasetSettings:
        sink = io.BytesIO()
        Image.new("RGB", (WIDTH, HEIGHT), "gray").save(sink, "PNG")
        held = pa.array([{"bytes": sink.getvalue(), "path": "a.png"}])
        columns |= {} if objects is None else {"objects": objects}
        (folder / "data").mkdir()
        pq.write_table(pa.table({"mask": held, **columns, "image": held}), folder / "data/train.parquet")
        return DatasetSettings("huggingface", str(folder / "data"))

    @pytest.mark.parametrize(
        "drawn",
        [
            [POLYGON],  # polygons, as COCO has them
            POLYGON,  # the one polygon by itself
            {"size": [HEIGHT, WIDTH], "counts": coco_masks.encode(np.asfortranarray(L_SHAPE, np.uint8))["counts"]},
        ],
        ids=["polygons", "one polygon", "run lengths"],
    )
    def test_the_segmentation_of_objects_is_that_of_coco(self, tmp_path: Path, drawn: Any) -> None:
        objects = pa.array([{"bbox": [[5, 5, 20, 15]], "category": ["cat"], "segmentation": [drawn]}])
        (row,) = samples(tmp_path, self.write(tmp_path, objects)).values()
        assert np.array_equal(own_mask(row), L_SHAPE)
        assert own_boxes(row) == [(5, 5, 25, 20)]

    def test_a_column_of_pictures_is_a_mask_where_the_settings_name_it(self, tmp_path: Path) -> None:
        sink = io.BytesIO()
        Image.fromarray(L_SHAPE).save(sink, "PNG")
        drawn = pa.array([{"bytes": sink.getvalue(), "path": "mask.png"}])
        settings = self.write(tmp_path, mask=drawn, label=pa.array(["cat"]))
        (plain,) = samples(tmp_path, settings).values()
        assert (plain["mask"], plain["status"]) == (None, "no_box")
        (row,) = samples(tmp_path, replace(settings, mask="mask")).values()
        assert np.array_equal(own_mask(row), L_SHAPE)
        assert (row["status"], own_boxes(row)) == ("ok", [(5, 5, 25, 20)])

    def test_a_column_that_holds_no_pictures_is_refused_and_so_is_another_format(self, tmp_path: Path) -> None:
        settings = self.write(tmp_path, label=pa.array(["cat"]))
        with pytest.raises(UserError, match=r"dataset\.mask: .* no column 'label' of pictures; it has mask, image"):
            samples(tmp_path, replace(settings, mask="label"))
        with pytest.raises(UserError, match=r"dataset\.mask names a column of Hugging Face's tables, and .* as coco"):
            open_dataset(DatasetSettings("coco", str(tmp_path), mask="mask"))
