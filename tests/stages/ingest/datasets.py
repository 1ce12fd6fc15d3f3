"""The same small dataset in every format, for tests."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from stages.ingest.settings import DatasetSettings

HalfOpen = tuple[float, float, float, float]


@dataclass(frozen=True)
class Picture:
    """An image of ``size`` px, and what the dataset says of it."""

    name: str
    label: str
    boxes: tuple[HalfOpen, ...] = ()
    size: tuple[int, int] = (40, 30)
    colour: str = "gray"


SYNSETS = {"n01": "tench, Tinca tinca", "n02": "crane", "n03": "crane, lifting device"}
"""Label in the datasets below -> names."""

PICTURES = (
    Picture("first.JPEG", "n02", ((5, 6, 25, 26),)),
    Picture("second.JPEG", "n01", ((0, 0, 40, 30), (1, 2, 11, 12)), colour="red"),
    Picture("third.JPEG", "n03", ((10, 10, 20, 20),), size=(24, 32), colour="blue"),
)


def write_images(folder: Path, pictures: Sequence[Picture] = PICTURES) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for picture in pictures:
        (folder / picture.name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", picture.size, picture.colour).save(folder / picture.name)


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> str:
    """A CSV of ``rows``; boxes are dumped as JSON unless they are text already."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        for row in rows:
            boxes = row.get("boxes", "")
            writer.writerow({**row, "boxes": boxes if isinstance(boxes, str) else json.dumps(boxes)})
    return str(path)


def as_csv(folder: Path, pictures: Sequence[Picture] = PICTURES) -> DatasetSettings:
    write_images(folder, pictures)
    rows = [{"path": p.name, "label": p.label, "boxes": p.boxes, "split": "val"} for p in pictures]
    return DatasetSettings("manifest", write_rows(folder / "manifest.csv", rows))


def as_parquet(folder: Path, pictures: Sequence[Picture] = PICTURES) -> DatasetSettings:
    write_images(folder, pictures)
    table = pa.table(
        {
            "path": [p.name for p in pictures],
            "label": [p.label for p in pictures],
            "boxes": pa.array(
                [[list(map(float, box)) for box in p.boxes] for p in pictures], pa.list_(pa.list_(pa.float64()))
            ),
            "split": ["val"] * len(pictures),
        }
    )
    pq.write_table(table, folder / "manifest.parquet")
    return DatasetSettings("manifest", str(folder / "manifest.parquet"))


def as_parquet_of_structs(folder: Path, pictures: Sequence[Picture] = PICTURES) -> DatasetSettings:
    write_images(folder, pictures)
    keys = ("x0", "y0", "x1", "y1")
    rows = [
        {
            "path": p.name,
            "label": p.label,
            "boxes": [dict(zip(keys, map(float, b), strict=True)) for b in p.boxes],
            "split": "val",
        }
        for p in pictures
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "manifest.pq")
    return DatasetSettings("manifest", str(folder / "manifest.pq"))


def as_imagenet(folder: Path, pictures: Sequence[Picture] = PICTURES) -> DatasetSettings:
    """ILSVRC's own form: inclusive pixels, so one less at the maxima."""
    write_images(folder / "images", pictures)
    lines = ["ImageId,PredictionString"]
    for p in pictures:
        boxes = [f"{p.label} {x0} {y0} {x1 - 1} {y1 - 1} " for x0, y0, x1, y1 in p.boxes]
        lines.append(f"{Path(p.name).stem},{''.join(boxes)}")
    (folder / "LOC_val_solution.csv").write_text("\n".join(lines) + "\n")
    (folder / "LOC_synset_mapping.txt").write_text("".join(f"{wnid} {names}\n" for wnid, names in SYNSETS.items()))
    return DatasetSettings("imagenet", str(folder))


def as_imagenet_in_folders(folder: Path, pictures: Sequence[Picture] = PICTURES) -> DatasetSettings:
    settings = as_imagenet(folder, pictures)
    for p in pictures:
        target = folder / "images" / p.label / Path(p.name).with_suffix(".jpg").name
        target.parent.mkdir(exist_ok=True)
        (folder / "images" / p.name).rename(target)
    return settings


FORMATS = {
    "csv": as_csv,
    "parquet": as_parquet,
    "parquet of structs": as_parquet_of_structs,
    "imagenet": as_imagenet,
    "imagenet in folders": as_imagenet_in_folders,
}
