"""Annotations as COCO, Pascal VOC and YOLO write them.

Boxes are half-open pixels [x0, x1) here. COCO: x, y, width, height, floats. VOC: whole pixels, one-based, both ends
included. YOLO: centre, width and height as fractions of the image. Masks are run lengths in COCO, one polygon each in
YOLO, and the objects' numbers in a picture in VOC.
"""

from __future__ import annotations

import csv
import json
import math
import posixpath
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree import ElementTree

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image

from stages.review.export.corrected import AnnotatedImage, Annotation, Annotations
from stages.review.outlines import one_polygon
from storage.media.images import IMAGE_EXTENSIONS, local_path
from storage.media.object_masks import decode_mask

PlaceImage = Callable[[AnnotatedImage, Path], None]
"""Puts an image at a path, as a copy or a link."""

MADE_UP = ".png"
"""Extension of an image that has none of its own: a crop, or a picture in a table."""
_BROKEN_LINE = re.compile(r"[^\S ]|^ | $")
_CROP = re.compile(r"(.*)#(\d+)")

VOC = Path("VOCdevkit") / "VOC2012"
"""Where torchvision looks for VOC 2012 below its root."""

PROVENANCE = ("provenance", "score", "original_label", "verdict", "rule", "target", "reviewer", "reviewed_at", "note")
IMAGE_PROVENANCE = ("original_label", "label_reviewer", "label_reviewed_at")
"""What is written of each box, and of an image whose label was corrected."""


def write_coco(folder: Path, annotations: Annotations, place: PlaceImage | None) -> None:
    """``labels.json``, and ``data/`` with the images or ``data.json`` with their paths, as FiftyOne reads them.

    ``file_name`` is the sample_id, a path below the dataset's root, so that other readers take that root; of a copy
    that is :func:`file_name`.
    """
    paths = sample_paths(annotations.images, of_files=place is not None)
    category = category_index(annotations)
    images: list[dict[str, Any]] = []
    boxes: list[dict[str, Any]] = []
    for number, image in enumerate(annotations.images, 1):
        images.append(
            {
                "id": number,
                "file_name": str(paths[image.sample_id]),
                "width": image.width,
                "height": image.height,
                "sample_id": image.sample_id,
                "label": image.label,
                "split": image.split,
                **image_provenance(image),
            }
        )
        for annotation in image.annotations:
            x0, y0, x1, y1 = annotation.edges
            mask = annotation.mask
            boxes.append(
                {
                    "id": len(boxes) + 1,
                    "image_id": number,
                    "category_id": category(image, annotation) + 1,
                    "bbox": [round(value, 3) for value in (x0, y0, x1 - x0, y1 - y0)],
                    "area": round((x1 - x0) * (y1 - y0), 3) if mask is None else area_of(image, mask),
                    "iscrowd": 0,
                    "segmentation": [] if mask is None else {"size": [image.height, image.width], "counts": mask},
                    **provenance(annotation),
                }
            )
    categories = [
        {"id": index, "name": name, "supercategory": ""} for index, name in enumerate(annotations.categories, 1)
    ]
    content = {
        "info": {"description": "Annotations corrected in review, by Sightline"},
        "licenses": [],
        "images": images,
        "annotations": boxes,
        "categories": categories,
    }
    _write(folder / "labels.json", json.dumps(content, ensure_ascii=False))
    if place is None:
        local = {str(paths[image.sample_id]): local_path(image.uri) for image in annotations.images}
        known = {name: str(path.absolute()) for name, path in local.items() if path is not None}
        _write(folder / "data.json", json.dumps(known, ensure_ascii=False))
    else:
        for image in annotations.images:
            place(image, folder / "data" / paths[image.sample_id])


def write_voc(folder: Path, annotations: Annotations, place: PlaceImage) -> None:
    """``VOCdevkit/VOC2012`` as torchvision reads it, and ``provenance.csv``.

    Images are named ``.jpg``, which torchvision wants, whatever they are. ``ImageSets/Main/trainval.txt`` lists all,
    and each split of the dataset has a list of its own. ``SegmentationObject`` has a picture for each image with masks.
    """
    names = stems(annotations.images)
    root = folder / VOC
    for image in annotations.images:
        name = names[image.sample_id]
        _write(root / "Annotations" / f"{name}.xml", _voc_xml(image, f"{name}.jpg"))
        if any(one.mask for one in image.annotations):
            _save(root / "SegmentationObject" / f"{name}.png", object_numbers(image))
        place(image, root / "JPEGImages" / f"{name}.jpg")
    sets = {"trainval": list(annotations.images)}
    for image in annotations.images:
        if image.split is not None and split_name(image.split) != "trainval":
            sets.setdefault(split_name(image.split), []).append(image)
    for split, images in sets.items():
        listed = "".join(f"{names[image.sample_id]}\n" for image in images)
        _write(root / "ImageSets" / "Main" / f"{split}.txt", listed)
    files = {key: str(VOC / "Annotations" / f"{name}.xml") for key, name in names.items()}
    _write_provenance(folder, annotations.images, files)


def write_yolo(folder: Path, annotations: Annotations, place: PlaceImage) -> None:
    """``dataset.yaml``, ``images/<split>``, ``labels/<split>`` as Ultralytics reads them, and ``provenance.csv``.

    Readers find an image's labels by putting ``labels`` for the last folder ``images`` of its path, so folders of
    either name in a sample_id are left out of the path below the split.
    Samples without a split are ``train``. Ultralytics wants ``train`` and ``val``; for one that is missing another
    stands in, and a comment says so.
    """
    names = stems(annotations.images, without=("images", "labels"))
    category = category_index(annotations)
    files: dict[str, str] = {}
    splits: list[str] = []
    for image in annotations.images:
        split, name = split_name(image.split or "train"), names[image.sample_id]
        splits += [split] if split not in splits else []
        label_file = Path("labels") / split / f"{name}.txt"
        files[image.sample_id] = str(label_file)
        # A reader takes all lines of a file for polygons if one is.
        form = _yolo_polygon if any(one.mask for one in image.annotations) else _yolo_box
        lines = [f"{category(image, one)} {form(image, one)}\n" for one in image.annotations]
        _write(folder / label_file, "".join(lines))
        suffix = PurePosixPath(file_name(image.sample_id)).suffix
        place(image, folder / "images" / split / f"{name}{suffix}")
    first = (splits or ["train"])[0]
    used = {name: name if name in splits else ("train" if "train" in splits else first) for name in ("train", "val")}
    used |= {split: split for split in splits}
    missing = "".join(
        f"# The dataset has no split {name}: {split} stands in.\n" for name, split in used.items() if name != split
    )
    content: dict[str, Any] = {name: f"images/{split}" for name, split in used.items()}
    content["names"] = dict(enumerate(annotations.categories))
    _write(folder / "dataset.yaml", missing + yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
    _write_provenance(folder, annotations.images, files)


def category_index(annotations: Annotations) -> Callable[[AnnotatedImage, Annotation], int]:
    """Place of an annotation's label among the categories; the model's index for the sample's own label."""
    places: dict[str, int] = {}
    for index, name in enumerate(annotations.categories):
        places.setdefault(name, index)

    def index_of(image: AnnotatedImage, annotation: Annotation) -> int:
        if image.class_index is not None and annotation.label == image.label:
            return image.class_index
        return places[annotation.label]

    return index_of


def area_of(image: AnnotatedImage, mask: str) -> int:
    """Pixels of a mask."""
    return int(decode_mask(mask, image.width, image.height).sum())


def object_numbers(image: AnnotatedImage) -> NDArray[np.uint8]:
    """VOC's numbers (height, width) of an image's pixels: k is on the mask of the k-th annotation, 0 on none.

    Where masks overlap, the pixel is the smaller object's. A byte has no number for more than 254: 255 is VOC's void.
    """
    numbers = np.zeros((image.height, image.width), dtype=np.uint8)
    masks = [
        (number, decode_mask(one.mask, image.width, image.height))
        for number, one in enumerate(image.annotations[:254], 1)
        if one.mask is not None
    ]
    for number, mask in sorted(masks, key=lambda pair: -int(pair[1].sum())):
        numbers[mask] = number
    return numbers


def provenance(annotation: Annotation) -> dict[str, Any]:
    """Where an annotation comes from, without what does not apply."""
    review = annotation.review
    values: dict[str, Any] = {"provenance": annotation.provenance, "original_label": annotation.original_label}
    values["score"] = None if annotation.score is None else round(annotation.score, 4)
    if review is not None:
        values |= {name: getattr(review, name) for name in ("verdict", "rule", "target", "reviewer", "note")}
        values["reviewed_at"] = review.time.isoformat()
    return {name: values[name] for name in PROVENANCE if values.get(name) is not None}


def image_provenance(image: AnnotatedImage) -> dict[str, Any]:
    """Who corrected the label of an image, if anybody did."""
    review = image.relabelled_by
    if review is None:
        return {}
    values = (image.original_label, review.reviewer, review.time.isoformat())
    return dict(zip(IMAGE_PROVENANCE, values, strict=True))


def file_name(sample_id: str) -> str:
    """The sample_id as a reader of images takes it for one: ``a.jpg#2``, a crop, is ``a-2.png``, and ``17`` ``17.png``.

    Its extension is then :data:`MADE_UP`, which says how the image is to be written.
    """
    crop = _CROP.fullmatch(sample_id)
    name, number = (crop[1], f"-{crop[2]}") if crop else (sample_id, "")
    stem, extension = posixpath.splitext(name)
    known = extension.lower() in IMAGE_EXTENSIONS
    return sample_id if known and not crop else f"{stem if known else name}{number}{MADE_UP}"


def sample_paths(images: Iterable[AnnotatedImage], *, of_files: bool) -> dict[str, PurePosixPath]:
    """A relative path for each sample_id: itself, where it is a path below the dataset's root; ``of_files``: its
    :func:`file_name`."""
    taken: set[str] = set()
    names = {image.sample_id: file_name(image.sample_id) if of_files else image.sample_id for image in images}
    return {key: PurePosixPath(_once(_below(name), taken)) for key, name in names.items()}


def stems(images: Iterable[AnnotatedImage], without: Collection[str] = ()) -> dict[str, str]:
    """The same of files without the extension, for formats that name an image and its annotations alike.

    Folders named in ``without`` are left out of the paths. Lists have a name a line and are read without the spaces at
    its ends, so white space is ``_`` there but for a space within.
    """
    taken: set[str] = set()
    paths = {image.sample_id: PurePosixPath(_below(file_name(image.sample_id))) for image in images}
    kept = {key: [part for part in path.parent.parts if part not in without] for key, path in paths.items()}
    named = {key: str(PurePosixPath(*kept[key], path.stem)) for key, path in paths.items()}
    return {key: _once(_BROKEN_LINE.sub("_", name), taken) for key, name in named.items()}


def split_name(split: str) -> str:
    """A split as the name of one file or folder."""
    return re.sub(r"[^\w.-]|^\.+", "_", split)


def voc_box(edges: tuple[float, float, float, float], width: int, height: int) -> tuple[int, int, int, int]:
    """(xmin, ymin, xmax, ymax): edges rounded to whole pixels, one-based, both ends included, at least one pixel."""
    x0, x1 = _whole(edges[0], edges[2], width)
    y0, y1 = _whole(edges[1], edges[3], height)
    return x0 + 1, y0 + 1, x1, y1


def _whole(low: float, high: float, side: int) -> tuple[int, int]:
    """Half-open whole pixels nearest to [low, high)."""
    start = min(max(math.floor(low + 0.5), 0), side - 1)
    return start, max(min(math.floor(high + 0.5), side), start + 1)


def _below(sample_id: str) -> str:
    """An absolute path or a URL as a path below a folder; neither it nor ``..`` leads out of that."""
    parts = [
        part for part in PurePosixPath(sample_id.partition("://")[2] or sample_id).parts if part not in ("/", "..")
    ]
    return str(PurePosixPath(*parts)) if parts else "image"


def _once(path: str, taken: set[str]) -> str:
    """``path``, numbered before its extension where it is taken; it is taken from then on."""
    candidate, number = path, 1
    while candidate in taken:
        number += 1
        place = PurePosixPath(path)
        candidate = str(place.with_name(f"{place.stem}-{number}{place.suffix}"))
    taken.add(candidate)
    return candidate


def _yolo_box(image: AnnotatedImage, annotation: Annotation) -> str:
    x0, y0, x1, y1 = annotation.edges
    width, height = image.width, image.height
    numbers = ((x0 + x1) / 2 / width, (y0 + y1) / 2 / height, (x1 - x0) / width, (y1 - y0) / height)
    return " ".join(f"{number:.6f}" for number in numbers)


def _yolo_polygon(image: AnnotatedImage, annotation: Annotation) -> str:
    if annotation.mask is None:
        x0, y0, x1, y1 = annotation.edges
        corners = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
    else:
        corners = one_polygon(decode_mask(annotation.mask, image.width, image.height))
    shares = np.clip(corners / [image.width, image.height], 0, 1)
    return " ".join(f"{number:.6f}" for number in shares.ravel().tolist())


def _voc_xml(image: AnnotatedImage, filename: str) -> str:
    root = ElementTree.Element("annotation")
    _texts(root, {"folder": "JPEGImages", "filename": filename, "path": str(local_path(image.uri) or image.uri)})
    _texts(ElementTree.SubElement(root, "size"), {"width": image.width, "height": image.height, "depth": 3})
    _texts(root, {"segmented": int(any(one.mask for one in image.annotations))})
    for annotation in image.annotations:
        entry = ElementTree.SubElement(root, "object")
        _texts(entry, {"name": annotation.label, "pose": "Unspecified", "truncated": 0, "difficult": 0})
        corners = zip(
            ("xmin", "ymin", "xmax", "ymax"), voc_box(annotation.edges, image.width, image.height), strict=True
        )
        _texts(ElementTree.SubElement(entry, "bndbox"), dict(corners))
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def _save(path: Path, numbers: NDArray[np.uint8]) -> None:
    """Write a picture of numbers as VOC has them: a PNG whose palette tells neighbouring numbers apart by eye."""
    picture = Image.fromarray(numbers, "P")
    # Bits 0, 3 and 6 of a number are the highest ones of its red, 1, 4 and 7 of its green, 2 and 5 of its blue.
    shades = ((number >> channel) & 0o111 for number in range(256) for channel in range(3))
    picture.putpalette([(bits & 1) << 7 | (bits & 8) << 3 | (bits & 64) >> 1 for bits in shades])
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)


def _texts(parent: ElementTree.Element, values: Mapping[str, object]) -> None:
    for name, value in values.items():
        ElementTree.SubElement(parent, name).text = str(value)


def _write_provenance(folder: Path, images: Iterable[AnnotatedImage], files: Mapping[str, str]) -> None:
    """``provenance.csv``: one row a box, in the order of its file, and one without a box for each image without any."""
    columns = ("file", "box", "sample_id", "label", "x0", "y0", "x1", "y1", *PROVENANCE)
    with open(folder / "provenance.csv", "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns, lineterminator="\n")
        writer.writeheader()
        for image in images:
            common = {"file": files[image.sample_id], "sample_id": image.sample_id}
            for number, annotation in enumerate(image.annotations, 1):
                corners = zip(("x0", "y0", "x1", "y1"), (round(edge, 3) for edge in annotation.edges), strict=True)
                writer.writerow(
                    {**common, "box": number, "label": annotation.label, **dict(corners), **provenance(annotation)}
                )
            if not image.annotations:
                writer.writerow({**common, "label": image.label})


def _write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
