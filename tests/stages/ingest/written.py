"""Datasets that somebody else's code wrote: FiftyOne's exporters, but for its own format without its database."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
from fiftyone.utils.coco import COCODetectionDatasetExporter
from fiftyone.utils.cvat import CVATImageDatasetExporter
from fiftyone.utils.kitti import KITTIDetectionDatasetExporter
from fiftyone.utils.voc import VOCDetectionDatasetExporter
from fiftyone.utils.yolo import YOLOv5DatasetExporter
from PIL import Image

from stages.ingest.settings import DatasetSettings
from tests.stages.ingest.datasets import PICTURES, SYNSETS, Picture, write_images

TINY = 1e-9
"""Added to fractions: FiftyOne's VOC cuts decimals off, and 12 / 30 * 30 would become 11."""


def export(exporter: Any, folder: Path, pictures: Sequence[Picture]) -> None:
    """Have ``exporter`` write pictures whose files lie in ``folder``, with their boxes."""
    with exporter:
        for picture in pictures:
            width, height = picture.size
            detections = [
                fo.Detection(
                    label=picture.label,
                    bounding_box=[
                        value + TINY for value in (x0 / width, y0 / height, (x1 - x0) / width, (y1 - y0) / height)
                    ],
                )
                for x0, y0, x1, y1 in picture.boxes
            ]
            metadata = fo.ImageMetadata(width=width, height=height, num_channels=3)
            path = str(folder / picture.name)
            exporter.export_sample(path, fo.Detections(detections=detections), metadata=metadata)


def originals(folder: Path, pictures: Sequence[Picture]) -> Path:
    """Images to export, in a folder beside the dataset's."""
    place = folder.with_name(f"{folder.name}-originals")
    write_images(place, pictures)
    return place


def as_voc(folder: Path, pictures: Sequence[Picture] = PICTURES) -> DatasetSettings:
    """FiftyOne counts VOC's corners from 0, and the ends out."""
    exporter = VOCDetectionDatasetExporter(
        str(folder), data_path="JPEGImages", labels_path="Annotations", export_media=True
    )
    export(exporter, originals(folder, pictures), pictures)
    sets = folder / "ImageSets" / "Main"
    sets.mkdir(parents=True)
    (sets / "val.txt").write_text("".join(f"{Path(p.name).stem}\n" for p in pictures))
    return DatasetSettings("voc", str(folder), boxes="xyxy")


def as_coco(folder: Path, pictures: Sequence[Picture] = PICTURES) -> DatasetSettings:
    exporter = COCODetectionDatasetExporter(
        str(folder), labels_path="annotations/instances_val.json", classes=list(SYNSETS), export_media=True
    )
    export(exporter, originals(folder, pictures), pictures)
    return DatasetSettings("coco", str(folder))


def as_yolo(folder: Path, pictures: Sequence[Picture] = PICTURES) -> DatasetSettings:
    exporter = YOLOv5DatasetExporter(str(folder), split="val", classes=list(SYNSETS), export_media=True)
    export(exporter, originals(folder, pictures), pictures)
    return DatasetSettings("yolo", str(folder))


def as_kitti(folder: Path, pictures: Sequence[Picture] = PICTURES) -> DatasetSettings:
    export(KITTIDetectionDatasetExporter(str(folder / "val"), export_media=True), originals(folder, pictures), pictures)
    return DatasetSettings("kitti", str(folder))


def as_cvat(folder: Path, pictures: Sequence[Picture] = PICTURES) -> DatasetSettings:
    export(CVATImageDatasetExporter(str(folder / "val"), export_media=True), originals(folder, pictures), pictures)
    return DatasetSettings("cvat", str(folder))


def as_segmented_voc(folder: Path, pictures: Sequence[Picture] = PICTURES) -> DatasetSettings:
    """The same with SegmentationObject, in which the last object of a pixel is on top."""
    settings = as_voc(folder, pictures)
    (folder / "SegmentationObject").mkdir()
    for picture in pictures:
        numbers = np.zeros(picture.size[::-1], dtype=np.uint8)
        for number, (x0, y0, x1, y1) in enumerate(picture.boxes, 1):
            numbers[int(y0) : int(y1), int(x0) : int(x1)] = number
        Image.fromarray(numbers).save(folder / "SegmentationObject" / f"{Path(picture.name).stem}.png")
    return settings


def as_cvat_polygons(folder: Path, pictures: Sequence[Picture] = PICTURES) -> DatasetSettings:
    """Closed lines around the boxes."""
    place = originals(folder, pictures)
    with CVATImageDatasetExporter(str(folder / "val"), export_media=True) as exporter:
        for picture in pictures:
            width, height = picture.size
            lines = [
                fo.Polyline(
                    label=picture.label,
                    points=[[(x / width, y / height) for x, y in ((x0, y0), (x1, y0), (x1, y1), (x0, y1))]],
                    closed=True,
                    filled=True,
                )
                for x0, y0, x1, y1 in picture.boxes
            ]
            metadata = fo.ImageMetadata(width=width, height=height, num_channels=3)
            exporter.export_sample(str(place / picture.name), fo.Polylines(polylines=lines), metadata=metadata)
    return DatasetSettings("cvat", str(folder))


def as_fiftyone(folder: Path, pictures: Sequence[Picture] = PICTURES) -> DatasetSettings:
    """A dataset of FiftyOne's database, exported; needs the fixture ``mongo``."""
    dataset = in_database(folder, pictures)
    dataset.export(export_dir=str(folder), dataset_type=fo.types.FiftyOneDataset)
    dataset.delete()
    return DatasetSettings("fiftyone", str(folder))


def in_database(folder: Path, pictures: Sequence[Picture] = PICTURES, name: str | None = None) -> Any:
    """The pictures as a dataset of FiftyOne's database, their files in a folder beside ``folder``."""
    place = originals(folder, pictures)
    samples = []
    for picture in pictures:
        width, height = picture.size
        corners = [(x0 / width, y0 / height, (x1 - x0) / width, (y1 - y0) / height) for x0, y0, x1, y1 in picture.boxes]
        detections = [fo.Detection(label=picture.label, bounding_box=list(box)) for box in corners]
        metadata = fo.ImageMetadata(width=width, height=height, num_channels=3)
        samples.append(
            fo.Sample(
                str(place / picture.name),
                tags=["reviewed", "val"],
                metadata=metadata,
                ground_truth=fo.Detections(detections=detections),
            )
        )
    dataset = fo.Dataset(name)
    dataset.add_samples(samples, progress=False)
    return dataset


WRITTEN = {
    "voc": as_voc,
    "voc segmented": as_segmented_voc,
    "coco": as_coco,
    "yolo": as_yolo,
    "kitti": as_kitti,
    "cvat": as_cvat,
    "cvat polygons": as_cvat_polygons,
    "fiftyone": as_fiftyone,
}
