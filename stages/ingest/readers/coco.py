"""The ``coco`` reader: COCO instances, one JSON for all images or one for each split."""

from __future__ import annotations

import json
import posixpath
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from stages.ingest.boxes import as_number, as_size, read_box
from stages.ingest.listing import Listing, photos, split_of
from stages.ingest.places import absolute, decode_text, exists, is_folder, join, relative, root_of
from stages.ingest.record import Box, BoxForm, DatasetClass, Record, Shape
from stages.ingest.settings import DatasetSettings
from stages.ingest.shapes import Polygons, RunLengths
from storage.errors import UserError, quoted
from storage.media.images import ImageError, read_bytes, read_ends

_REMEDY = "give an instances file: an object with images, annotations and categories"
_INSTANCES = re.compile(r"instances_(\w+)\.json")
_HEAD = 4096


class CocoReader:
    """COCO: a JSON of images, annotations and categories.

    ``bbox`` is x, y, width, height; an annotation without one has the box of its polygons or of its run-length mask,
    which are the object's shape. Crowds are no boxes: one is around many objects and between them; remarks count them.
    FiftyOne's importer keeps crowds, draws a mask for every polygon as it reads, gives boxes as fractions of the size
    that the JSON says, reads local files alone and takes an image that is missing for one without objects.
    """

    def __init__(self, settings: DatasetSettings) -> None:
        path = absolute(settings.path)
        if is_folder(path):
            self._root = path
            files = find_annotations(Listing(path))
            if not files:
                raise UserError(f"dataset.path: no COCO JSON below {path}; {_REMEDY}")
        elif exists(path):
            self._root = root_of(path)
            name = relative(path, self._root)
            files = {name: _split(name, alone=True)}
        else:
            raise UserError(f"dataset.path: there is no {path}; {_REMEDY}")
        if settings.split is not None and settings.split in files.values():
            files = {name: split for name, split in files.items() if split == settings.split}
        self._files = files
        pictures = Listing(absolute(settings.images) if settings.images else self._root)
        self._listing = Listing(pictures.root, photos(pictures.images))
        self._form: BoxForm = settings.boxes or "xywh"
        self._relative = bool(settings.relative)
        self._contents: dict[str, dict[str, Any]] = {}
        self._remarks: list[str] = []

    @staticmethod
    def recognise(listing: Listing) -> str | None:
        """Why the files below a folder are this format; None if they are not."""
        found = list(find_annotations(listing))
        return f"images, annotations and categories in {', '.join(found[:3])}" if found else None

    def classes(self) -> tuple[DatasetClass, ...]:
        """Categories in the order of their ids, which need not begin at 0 nor be without gaps."""
        ids: dict[str, float] = {}
        for name in self._files:
            for key, label in self._categories(name).items():
                ids.setdefault(label, as_number(key) or 0)
        return tuple(DatasetClass(label, label) for label in sorted(ids, key=ids.__getitem__))

    def records(self) -> Iterator[Record]:
        """Images in the order of the files."""
        crowds: Counter[str] = Counter()
        lost = 0
        for name, split in self._files.items():
            content, categories = self._content(name), self._categories(name)
            objects: dict[Any, list[dict[str, Any]]] = {}
            for number, annotation in enumerate(content["annotations"], 1):
                where = f"{join(self._root, name)}, annotation {number}"
                objects.setdefault(_field(annotation, "image_id", where), []).append(annotation)
            seen: set[Any] = set()
            for number, image in enumerate(content["images"], 1):
                place = f"{join(self._root, name)}, image {number}"
                key = _field(image, "id", place)
                if key in seen:
                    raise UserError(f"{place}: the id {quoted(key)} a second time; give each image an id of its own")
                seen.add(key)
                yield self._record(image, name, place, split, objects.pop(key, []), categories, crowds)
            lost += sum(map(len, objects.values()))
        self._remarks = []
        if crowds:
            most = ", ".join(f"{count} {quoted(label)}" for label, count in crowds.most_common(5))
            self._remarks.append(f"{crowds.total()} crowds are left out of the boxes ({most})")
        if lost:
            self._remarks.append(f"{lost} annotations belong to no image of the file and are left out")

    def remarks(self) -> list[str]:
        """How many crowds were left out, and annotations of no image."""
        return self._remarks

    def _record(
        self,
        image: Mapping[str, Any],
        file: str,
        place: str,
        split: str | None,
        annotations: list[dict[str, Any]],
        categories: Mapping[Any, str],
        crowds: Counter[str],
    ) -> Record:
        name = str(_field(image, "file_name", place))
        near = relative(join(self._root, file), self._listing.root)
        uri, missing = self._listing.find(name if "/" in name or not split else f"{split}/{name}", near)
        if uri is None and split and "/" not in name:
            uri, missing = self._listing.find(name, near)
        boxes: list[Box] = []
        notes: list[str] = []
        for annotation in annotations:
            what = f"annotation {quoted(annotation.get('id'))}"
            category = annotation.get("category_id")
            label = categories.get(category) if isinstance(category, int | float | str) else None
            if label is None:
                notes.append(f"{what} is of no category of the file: {quoted(category)}")
            elif annotation.get("iscrowd") in (1, True, "1"):
                crowds[label] += 1
                notes.append(f"{what} is a crowd of {quoted(label)}")
            elif (box := self._box(annotation, label)) is None:
                notes.append(f"{what} has no box of four numbers: {quoted(annotation.get('bbox'))}")
            else:
                boxes.append(box._replace(shape=self._shape(annotation.get("segmentation"))))
        if not annotations:
            notes.append("the image has no annotation")
        width, height = as_size(image.get("width")), as_size(image.get("height"))
        uri = uri or join(self._listing.root, name)
        return Record(
            sample_id=relative(uri, self._listing.root),
            uri=uri,
            place=place,
            label=None,
            boxes=tuple(boxes),
            split=split,
            problem=missing,
            notes=tuple(notes),
            form=self._form,
            relative=self._relative,
            size=(width, height) if width and height else None,
        )

    def _box(self, annotation: Mapping[str, Any], label: str) -> Box | None:
        given = annotation.get("bbox")
        if not given:
            return segmentation_box(annotation.get("segmentation"), label)
        numbers = [as_number(value) for value in given] if isinstance(given, list) else []
        if len(numbers) != 4 or None in numbers:
            return None
        return read_box([value for value in numbers if value is not None], self._form, label)

    def _shape(self, segmentation: Any) -> Shape | None:
        if isinstance(segmentation, dict):
            return RunLengths(segmentation)
        return Polygons(segmentation, self._relative) if segmentation else None

    def _content(self, name: str) -> dict[str, Any]:
        if name not in self._contents:
            self._contents[name] = read_coco(join(self._root, name))
        return self._contents[name]

    def _categories(self, name: str) -> dict[Any, str]:
        path = join(self._root, name)
        return {
            _field(entry, "id", f"{path}, category {number}"): str(_field(entry, "name", f"{path}, category {number}"))
            for number, entry in enumerate(self._content(name)["categories"], 1)
        }


def read_coco(path: str) -> dict[str, Any]:
    """The content of an instances file; raises UserError for another kind of JSON, and says which."""
    try:
        content = json.loads(decode_text(read_bytes(path), path, _REMEDY))
    except ImageError as error:
        raise UserError(f"dataset.path: cannot read {path} ({error.reason}); {_REMEDY}") from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits is a plain ValueError
        raise UserError(f"{path} is not JSON: {error}; {_REMEDY}") from None
    if isinstance(content, list):
        entry = content[0] if content else None
        if isinstance(entry, dict) and "score" in entry:
            raise UserError(
                f"{path} is a results file, a list of what a detector found (with a score), not of what is there; "
                f"{_REMEDY}"
            )
        raise UserError(f"{path} is a list of {len(content)}, no COCO file; {_REMEDY}")
    missing = [key for key in ("images", "annotations", "categories") if not isinstance(content.get(key), list)]
    if missing:
        raise UserError(f"{path} has no list {missing[0]!r} (it has {quoted(list(content))}); {_REMEDY}")
    for key in ("images", "annotations", "categories"):
        for number, entry in enumerate(content[key], 1):
            if not isinstance(entry, dict):
                raise UserError(f"{path}: {key}, entry {number} is no object but {quoted(entry)}; {_REMEDY}")
    if content["annotations"] and not any("category_id" in entry for entry in content["annotations"]):
        raise UserError(f"{path}: no annotation has a category_id: captions or panoptic segments; {_REMEDY}")
    return dict(content)


def segmentation_box(segmentation: Any, label: str) -> Box | None:
    """The box around polygons or a run-length mask; None for none of them."""
    if isinstance(segmentation, dict):
        return _mask_box(segmentation, label)
    if not isinstance(segmentation, list) or not segmentation:
        return None
    numbers = [[as_number(value) for value in polygon] for polygon in segmentation if isinstance(polygon, list)]
    xs = [value for polygon in numbers for value in polygon[0::2] if value is not None]
    ys = [value for polygon in numbers for value in polygon[1::2] if value is not None]
    return Box(min(xs), min(ys), max(xs), max(ys), label) if xs and ys else None


def _mask_box(mask: Mapping[str, Any], label: str) -> Box | None:
    from pycocotools import mask as masks

    size, counts = mask.get("size"), mask.get("counts")
    if not isinstance(size, list) or len(size) != 2 or not all(map(as_size, size)) or not counts:
        return None
    try:
        packed = masks.frPyObjects(dict(mask), *size) if isinstance(counts, list) else mask
        x, y, width, height = map(float, masks.toBbox(packed))
    except (TypeError, ValueError):
        return None
    return Box(x, y, x + width, y + height, label) if width and height else None


def find_annotations(listing: Listing) -> dict[str, str | None]:
    """Instances files below a folder, and the split that each one's name or folder says."""
    found = [path for path in listing.named(r".*\.json") if looks_like_coco(join(listing.root, path))]
    instances = [path for path in found if _INSTANCES.fullmatch(posixpath.basename(path))]
    splits = {path: _split(path, alone=len(instances or found) == 1) for path in instances or found}
    return dict(sorted(splits.items()))


def looks_like_coco(path: str) -> bool:
    """Whether a JSON file begins, or ends, as an instances file does."""
    try:
        head, tail = read_ends(path, _HEAD)
    except ImageError:
        return False
    if not head.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"{"):
        return False
    keys = [key in head + tail for key in (b'"images"', b'"annotations"', b'"categories"')]
    marks = [mark in head + tail for mark in (b'"file_name"', b'"category_id"', b'"bbox"', b'"supercategory"')]
    return any(keys) and sum(keys) + sum(marks) >= 2


def _split(path: str, *, alone: bool) -> str | None:
    name = posixpath.basename(path)
    if match := _INSTANCES.fullmatch(name):
        return match[1]
    return split_of(path) or (None if alone else posixpath.splitext(name)[0])


def _field(entry: Mapping[str, Any], key: str, place: str) -> Any:
    value = entry.get(key)
    if value is None or isinstance(value, dict | list):
        raise UserError(f"{place}: no {key} in {quoted(entry)}; {_REMEDY}")
    return value
