"""An export is counted on disk as its readers find it, before it is called done."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from xml.etree import ElementTree

import yaml

from stages.review.export.corrected import Annotations
from stages.review.export.formats import VOC
from storage.errors import SightlineError
from storage.media.images import IMAGE_EXTENSIONS


def check_export(folder: Path, format: str, annotations: Annotations, without_image: Collection[str] = ()) -> None:
    """Raise SightlineError unless a reader of the format finds every image and every box in ``folder``.

    Readers of YOLO go by the images, so they find nothing of the samples ``without_image``.
    """
    images = [one for one in annotations.images if format != "yolo" or one.sample_id not in without_image]
    expected = len(images), sum(len(image.annotations) for image in images)
    found = {"coco": _coco, "voc": _voc, "yolo": _yolo, "fiftyone": _fiftyone}[format](folder)
    if found != expected:
        raise SightlineError(
            f"the {format} export would be read as {found[0]} images and {found[1]} boxes, not {expected[0]} and "
            f"{expected[1]}; nothing was written"
        )


def _coco(folder: Path) -> tuple[int, int]:
    content = json.loads((folder / "labels.json").read_text(encoding="utf-8"))
    known = {image["id"] for image in content["images"]}
    return len(known), sum(box["image_id"] in known for box in content["annotations"])


def _voc(folder: Path) -> tuple[int, int]:
    listed = (folder / VOC / "ImageSets" / "Main" / "trainval.txt").read_text(encoding="utf-8").splitlines()
    files = [folder / VOC / "Annotations" / f"{name}.xml" for name in listed]
    return len(files), sum(len(ElementTree.parse(file).findall("object")) for file in files)


def _yolo(folder: Path) -> tuple[int, int]:
    """Readers list the images of a split and look for each one's labels where `labels` stands for the last `images`."""
    described = yaml.safe_load((folder / "dataset.yaml").read_text(encoding="utf-8"))
    splits = {path for name, path in described.items() if name != "names"}
    files = [path for split in splits for path in sorted((folder / split).rglob("*"))]
    images = [path for path in files if path.suffix.lower() in IMAGE_EXTENSIONS and not path.is_dir()]
    labels = [Path("/labels/".join(str(path).rsplit("/images/", 1))).with_suffix(".txt") for path in images]
    there = [path for path in labels if path.is_file()]
    return len(there), sum(len(path.read_text(encoding="utf-8").splitlines()) for path in there)


def _fiftyone(folder: Path) -> tuple[int, int]:
    samples = json.loads((folder / "samples.json").read_text(encoding="utf-8"))["samples"]
    return len(samples), sum(len((sample["ground_truth"] or {}).get("detections", ())) for sample in samples)
