"""The same small dataset in every format, for tests."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from stages.ingest.settings import DatasetSettings

FLOAT = pa.float32()

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


def as_folders(folder: Path, pictures: Sequence[Picture] = PICTURES) -> DatasetSettings:
    write_images(folder, [replace(p, name=f"val/{p.label}/{p.name}") for p in pictures])
    boxed = [{"path": f"val/{p.label}/{p.name}", "boxes": p.boxes} for p in pictures if p.boxes]
    write_rows(folder / "boxes.csv", boxed)
    return DatasetSettings("folder", str(folder))


def as_tar(folder: Path, pictures: Sequence[Picture] = PICTURES) -> DatasetSettings:
    """WebDataset's form: members of one key are a sample."""
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(folder / "val-000000.tar", "w") as tar:
        for number, p in enumerate(pictures):
            boxes = json.dumps({"boxes": p.boxes}).encode()
            for kind, content in {"jpg": encoded(p), "cls": p.label.encode(), "json": boxes}.items():
                member = tarfile.TarInfo(f"{number:06}.{kind}")
                member.size, member.mtime = len(content), 1_700_000_000
                tar.addfile(member, io.BytesIO(content))
    return DatasetSettings("webdataset", str(folder))


def embedded(pictures: Sequence[Picture]) -> pa.Table:
    """Pictures in a table with the schema and the metadata that Hugging Face's datasets writes."""
    names = list(SYNSETS)
    label = {"names": names, "_type": "ClassLabel"}
    box = {"feature": {"dtype": "float32", "_type": "Value"}, "length": 4, "_type": "List"}
    objects = {"bbox": {"feature": box, "_type": "List"}, "category": {"feature": label, "_type": "List"}}
    features = {"image": {"_type": "Image"}, "label": label, "objects": objects}
    schema = pa.schema(
        {
            "image": pa.struct({"bytes": pa.binary(), "path": pa.string()}),
            "label": pa.int64(),
            "objects": pa.struct({"bbox": pa.list_(pa.list_(pa.float32(), 4)), "category": pa.list_(pa.int64())}),
        },
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )
    rows = [
        {
            "image": {"bytes": encoded(p), "path": p.name},
            "label": names.index(p.label),
            "objects": {
                "bbox": [[x0, y0, x1 - x0, y1 - y0] for x0, y0, x1, y1 in p.boxes],
                "category": [names.index(p.label)] * len(p.boxes),
            },
        }
        for p in pictures
    ]
    return pa.Table.from_pylist(rows, schema=schema)


def as_embedded_parquet(folder: Path, pictures: Sequence[Picture] = PICTURES) -> DatasetSettings:
    (folder / "data").mkdir(parents=True, exist_ok=True)
    pq.write_table(embedded(pictures), folder / "data/val-00000-of-00001.parquet", row_group_size=2)
    return DatasetSettings("huggingface", str(folder))


def as_outlined_parquet(folder: Path, pictures: Sequence[Picture] = PICTURES) -> DatasetSettings:
    """The same with the polygons of the objects, which fill their boxes."""
    (folder / "data").mkdir(parents=True, exist_ok=True)
    table = embedded(pictures)
    corners = [[[[x0, y0, x1, y0, x1, y1, x0, y1]] for x0, y0, x1, y1 in p.boxes] for p in pictures]
    objects = table["objects"].combine_chunks()
    fields = [objects.field("bbox"), objects.field("category"), pa.array(corners, pa.list_(pa.list_(pa.list_(FLOAT))))]
    outlined = pa.StructArray.from_arrays(fields, ["bbox", "category", "segmentation"])
    table = table.set_column(2, "objects", outlined).replace_schema_metadata(table.schema.metadata)
    pq.write_table(table, folder / "data/val-00000-of-00001.parquet")
    return DatasetSettings("huggingface", str(folder))


def as_saved_to_disk(folder: Path, pictures: Sequence[Picture] = PICTURES) -> DatasetSettings:
    """What ``Dataset.save_to_disk`` writes for each split: an Arrow stream and two files about it."""
    (folder / "val").mkdir(parents=True, exist_ok=True)
    table = embedded(pictures)
    path = str(folder / "val/data-00000-of-00001.arrow")
    with pa.OSFile(path, "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    (folder / "val/state.json").write_text("{}")
    (folder / "val/dataset_info.json").write_text("{}")
    return DatasetSettings("huggingface", str(folder))


def encoded(picture: Picture) -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", picture.size, picture.colour).save(sink, "JPEG")
    return sink.getvalue()


FORMATS = {
    "csv": as_csv,
    "parquet": as_parquet,
    "parquet of structs": as_parquet_of_structs,
    "imagenet": as_imagenet,
    "imagenet in folders": as_imagenet_in_folders,
    "class folders": as_folders,
    "tar": as_tar,
    "embedded in parquet": as_embedded_parquet,
    "saved to disk": as_saved_to_disk,
    "outlined in parquet": as_outlined_parquet,
}
