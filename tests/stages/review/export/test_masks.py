"""Masks in exports, read back by pycocotools, FiftyOne and OpenCV."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cv2
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_masks
from pycocotools.coco import COCO
from scipy import ndimage

from stages.ingest.ingest import ingest
from stages.ingest.recognise import open_dataset
from stages.ingest.settings import DatasetSettings
from stages.review.export.corrected import corrected_annotations
from stages.review.export.export import export_annotations
from stages.review.export.formats import object_numbers
from stages.review.outlines import has_hole, one_polygon
from stages.review.settings import ReviewSettings
from stages.review.verdicts.boxes import Box
from stages.review.verdicts.table import Review, append_reviews
from storage.media.object_masks import encode_mask
from storage.run import Run
from storage.samples import object_masks
from storage.tables import SAMPLES
from tests.stages.review.synthetic import Planted, make_run

WIDTH, HEIGHT = 400, 300
NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
RING = np.hypot(*np.mgrid[-60:60, -80:80] / [[[1.0]], [[4 / 3]]]) < 58
RING &= np.hypot(*np.mgrid[-60:60, -80:80]) > 20


def placed(patch: np.ndarray, x: int, y: int) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[y : y + patch.shape[0], x : x + patch.shape[1]] = patch
    return mask


CAT = placed(RING, 20, 30)
BESIDE = placed(np.tri(100, 90, dtype=bool), 120, 60)  # its box overlaps that of the ring
DOG = placed(np.ones((40, 50), dtype=bool), 300, 200) | placed(np.ones((20, 20), dtype=bool), 360, 150)


def box_of(mask: np.ndarray, label: str | None = None) -> dict[str, Any]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    corners = map(float, (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
    return dict(zip(("x0", "y0", "x1", "y1"), corners, strict=True)) | {"label": label}


PLAIN_BOX = {"x0": 5.0, "y0": 250.0, "x1": 40.0, "y1": 290.0, "label": None}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """An image of three cats, two with masks, and a dog: a sample each class."""
    one = Planted("one.png", WIDTH, HEIGHT)
    run = make_run(tmp_path, [one, one])
    cat, dog = run.table("samples").to_pylist()
    cats = [box_of(CAT), box_of(BESIDE), PLAIN_BOX]
    cat |= {
        "sample_id": "one.png#cat",
        "boxes": [*cats, box_of(DOG, "dog")],
        "mask": encode_mask(CAT | BESIDE),
        "object_masks": [encode_mask(CAT), encode_mask(BESIDE), None, None],
    }
    dog |= {
        "sample_id": "one.png#dog",
        "uri": cat["uri"],
        "label": "dog",
        "class_index": 1,
        "boxes": [*(box | {"label": "cat"} for box in cats), box_of(DOG)],
        "mask": encode_mask(DOG),
        "object_masks": [None, None, None, encode_mask(DOG)],
    }
    run.write_table("samples", pa.Table.from_pylist([cat, dog], schema=SAMPLES))
    return run


def export(run: Run, folder: Path, format: str) -> list[str]:
    return export_annotations(run, ReviewSettings(), folder, format).lines


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


def test_pycocotools_reads_every_objects_own_pixels(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    lines = export(run, tmp_path / "out", "coco")
    assert "3 boxes have a mask, as run lengths" in lines
    coco = COCO(str(tmp_path / "out" / "labels.json"))
    cat, beside, plain, dog = coco.loadAnns(coco.getAnnIds())
    for annotation, mask in ((cat, CAT), (beside, BESIDE), (dog, DOG)):
        assert np.array_equal(coco.annToMask(annotation), mask)
        assert annotation["area"] == mask.sum() == coco_masks.area(coco.annToRLE(annotation))
        assert coco_masks.toBbox(coco.annToRLE(annotation)).tolist() == annotation["bbox"]
    assert (plain["segmentation"], plain["area"]) == ([], 35 * 40)
    capsys.readouterr()


def test_opencv_fills_the_polygons_of_yolo_and_their_boxes_are_those_of_the_dataset(run: Run, tmp_path: Path):
    lines = export(run, tmp_path / "out", "yolo")
    assert "3 boxes have a mask, as a polygon each, which fills the holes of 1" in lines
    (file,) = (tmp_path / "out" / "labels").rglob("*.txt")
    words = [line.split() for line in file.read_text().splitlines()]
    # Ultralytics takes every line of a file for a polygon if one has more than six words, and x, y for its corners.
    assert all(len(line) > 6 and len(line) % 2 for line in words)
    corners = [np.array(line[1:], dtype=float).reshape(-1, 2) * [WIDTH, HEIGHT] for line in words]
    assert [line[0] for line in words] == ["0", "0", "0", "1"]
    boxes = [box_of(CAT), box_of(BESIDE), PLAIN_BOX, box_of(DOG)]
    for own, box in zip(corners, boxes, strict=True):
        edges = [*own.min(axis=0), *own.max(axis=0)]
        assert edges == pytest.approx([box[edge] for edge in ("x0", "y0", "x1", "y1")], abs=0.01)
    solid = ndimage.binary_fill_holes(CAT)
    for own, mask in zip(corners, (solid, BESIDE, None, DOG), strict=True):
        if mask is not None:
            fine = np.zeros((8 * HEIGHT, 8 * WIDTH), dtype=np.uint8)
            cv2.fillPoly(fine, [np.round(own * 8 - 0.5).astype(np.int32)], 1)
            drawn = fine.reshape(HEIGHT, 8, WIDTH, 8).mean(axis=(1, 3)) >= 0.5
            assert overlap(drawn, mask) > 0.99


@pytest.mark.usefixtures("mongo")
@pytest.mark.parametrize(
    ("format", "field", "options"), [("coco", "segmentations", {"label_types": "segmentations"}), ("fiftyone", "", {})]
)
def test_fiftyone_reads_the_masks_of_boxes(run: Run, tmp_path: Path, format: str, field: str, options: dict[str, str]):
    import fiftyone as fo

    export(run, tmp_path / "out", format)
    kind = {"coco": fo.types.COCODetectionDataset, "fiftyone": fo.types.FiftyOneDataset}[format]
    paths = {"data_path": "data.json"} if format == "coco" else {}
    dataset = fo.Dataset.from_dir(
        dataset_dir=str(tmp_path / "out"), dataset_type=kind, progress=False, **paths, **options
    )
    (sample,) = dataset
    found = next(sample[name] for name in ("segmentations", "ground_truth") if sample.has_field(name)).detections
    masks = [one for one in found if one.mask is not None]
    assert [one.label for one in masks] == ["cat", "cat", "dog"]
    for one, mask in zip(masks, (CAT, BESIDE, DOG), strict=True):
        x, y, width, height = np.round(np.array(one.bounding_box) * [WIDTH, HEIGHT, WIDTH, HEIGHT]).astype(int)
        assert np.array_equal(np.asarray(one.mask) > 0, mask[y : y + height, x : x + width])
    dataset.delete()


def test_what_is_exported_is_read_again_with_the_same_masks(run: Run, tmp_path: Path):
    export(run, tmp_path / "out", "coco")
    settings = DatasetSettings("coco", str(tmp_path / "out"), images=str(tmp_path / "images"))
    table = ingest(open_dataset(settings), ("cat", "dog"), Run.create(str(tmp_path / "again")))
    cat, dog = table.to_pylist()
    for found, wanted in (*zip(object_masks(cat), (CAT, BESIDE, None, None), strict=True), (object_masks(dog)[3], DOG)):
        assert found is None if wanted is None else np.array_equal(found, wanted)


def test_the_objects_of_voc_have_their_numbers_and_are_read_again_with_the_same_masks(run: Run, tmp_path: Path):
    assert "3 boxes have a mask, in the pictures of SegmentationObject" in export(run, tmp_path / "out", "voc")
    root = tmp_path / "out" / "VOCdevkit" / "VOC2012"
    (picture,) = (root / "SegmentationObject").iterdir()
    with Image.open(picture) as stored:
        assert stored.mode == "P"
        numbers = np.asarray(stored)
        red, green, blue = stored.convert("RGB").getpixel((int(np.flatnonzero(DOG.any(axis=0))[0]), 210))
    assert DOG.sum() < BESIDE.sum() < CAT.sum()
    assert np.array_equal(numbers, np.select([DOG, BESIDE, CAT], [4, 2, 1]))
    assert (red, green, blue) == (0, 0, 128)  # VOC's colour of number 4
    (described,) = (ElementTree.parse(path).getroot() for path in (root / "Annotations").iterdir())
    assert described.findtext("segmented") == "1"
    # The images are links.
    settings = DatasetSettings("voc", str(tmp_path / "out"), allow_outside=True)
    table = ingest(open_dataset(settings), ("cat", "dog"), Run.create(str(tmp_path / "again")))
    cat, dog = table.to_pylist()
    first, second, third = *object_masks(cat)[:2], object_masks(dog)[3]
    for found, wanted in ((first, CAT & ~BESIDE), (second, BESIDE), (third, DOG)):
        assert np.array_equal(found, wanted)


def test_where_masks_overlap_the_pixel_is_the_smaller_objects(run: Run):
    large, small = placed(np.ones((50, 60), dtype=bool), 10, 10), placed(np.ones((10, 10), dtype=bool), 30, 30)
    (image,) = corrected_annotations(run, ReviewSettings()).images
    first, second = (replace(image.annotations[0], mask=encode_mask(mask)) for mask in (small, large))
    numbers = object_numbers(replace(image, annotations=(first, second)))
    assert np.array_equal(numbers, np.where(small, 1, large * 2))


def test_a_box_that_a_reviewer_left_as_it_was_keeps_its_mask_and_a_drawn_one_has_none(run: Run, tmp_path: Path):
    cat = Box.of(box_of(CAT))
    drawn = (replace(cat, x0=cat.x0 + 0.01), Box("dog", 1, 2, 30, 40))
    append_reviews(run, [Review("one.png#cat", "label", "r", "fix_box", "ann", boxes=drawn, time=NOON)])
    assert "1 box has a mask, as run lengths" in export(run, tmp_path / "out", "coco")
    coco = COCO(str(tmp_path / "out" / "labels.json"))
    kept, new = coco.loadAnns(coco.getAnnIds())
    assert np.array_equal(coco.annToMask(kept), CAT)
    assert new["segmentation"] == []


def test_of_one_mask_for_all_objects_each_has_what_its_box_holds(run: Run):
    cat = run.table("samples").to_pylist()[0] | {"object_masks": None}
    first, second, plain, dog = object_masks(cat)
    assert np.array_equal(first, (CAT | BESIDE) & placed(np.ones((115, 155), dtype=bool), 23, 33))
    assert np.array_equal(second, (CAT | BESIDE) & placed(np.ones((100, 90), dtype=bool), 120, 60))
    assert plain is not None
    assert not plain.any()
    assert dog is None


class TestPolygons:
    def test_a_rectangle_has_its_four_edges(self) -> None:
        own = one_polygon(placed(np.ones((7, 9), dtype=bool), 0, 0))
        assert [*own.min(axis=0), *own.max(axis=0)] == [0, 0, 9, 7]

    def test_a_pixel_is_a_polygon_too(self) -> None:
        own = one_polygon(placed(np.ones((1, 1), dtype=bool), 10, 20))
        assert [*own.min(axis=0), *own.max(axis=0)] == [10, 20, 11, 21]
        assert len(own) >= 3

    def test_only_a_hole_is_one(self) -> None:
        assert has_hole(CAT)
        assert not has_hole(BESIDE)
        assert not has_hole(DOG)

    @given(st.integers(0, 2**32 - 1))
    def test_a_polygon_covers_what_its_mask_does_whatever_its_parts(self, seed: int) -> None:
        noise = ndimage.gaussian_filter(np.random.default_rng(seed).random((60, 80)), 5)
        mask = ndimage.binary_fill_holes(noise > np.quantile(noise, 0.7))
        own = one_polygon(mask)
        fine = np.zeros((8 * 60, 8 * 80), dtype=np.uint8)
        cv2.fillPoly(fine, [np.round(own * 8 - 0.5).astype(np.int32)], 1)
        drawn = fine.reshape(60, 8, 80, 8).mean(axis=(1, 3)) >= 0.5
        assert overlap(drawn, mask) > 0.93
