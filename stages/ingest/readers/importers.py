"""The ``kitti`` and ``cvat`` readers: FiftyOne's own importers, which need no database; local folders alone."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from xml.etree import ElementTree

from stages.ingest.boxes import as_number
from stages.ingest.listing import Listing, split_of
from stages.ingest.places import absolute, exists, files_below, is_folder, join, parent, relative
from stages.ingest.readers.shapes import Polygons, RowRuns
from stages.ingest.record import Box, DatasetClass, Record
from stages.ingest.settings import DatasetSettings
from storage.errors import UserError, quoted
from storage.files import is_url, kind_of_no_file
from storage.media.images import ImageError, read_ends

_KITTI_LABELS = r"(.*/)?(labels|label_2)/[^/]*\.txt"
_KITTI_FIELDS = (15, 16)
"""Words of a line: type, truncated, occluded, alpha, 4 of the box, 7 in space, and perhaps a score."""
_NO_OBJECT = "DontCare"
"""KITTI's label of regions in which nothing was labelled."""


class _Imported:
    """Records of what an importer yields: the image's path, its size, and its objects, boxes in shares of the image."""

    def __init__(self, settings: DatasetSettings) -> None:
        path = absolute(settings.path)
        if is_url(path):
            raise UserError(f"dataset.path: {path} is no local folder, and FiftyOne's importers read no other; copy it")
        if not exists(path):
            raise UserError(f"dataset.path: there is no {path}; give the dataset's folder")
        self._root = path if is_folder(path) else parent(path)
        self._path = path
        self._images = absolute(settings.images) if settings.images else None

    def classes(self) -> tuple[DatasetClass, ...]:
        """Nothing: the format's list, where it has one, is of labels without an order."""
        return ()

    def remarks(self) -> list[str]:
        """Nothing: what is wrong with an image is its own problem."""
        return []

    def _drawn(self, uri: str, size: tuple[int, int] | None) -> list[Box]:
        """Objects of an image that the importer leaves out, boxes in shares of the image."""
        return []

    def _records(self, importer: Any, places: dict[str, str], split: str | None) -> Iterator[Record]:
        """``places`` says where an image's stem, or else the empty one, is annotated."""
        try:
            with importer:
                for uri, metadata, label in importer:
                    if uri in places.values():
                        continue  # the annotations themselves, where they lie among the images
                    # An importer of several kinds of annotation gives a dict of them.
                    found = label.get("detections") if isinstance(label, dict) else label
                    name = posixpath.basename(uri)
                    stem = posixpath.splitext(name)[0]
                    place = places.get(stem) or f"{places.get('', self._root)}, image {quoted(name)}"
                    size = (metadata.width, metadata.height) if metadata is not None else None
                    boxes = [] if found is None else [_box(entry) for entry in found.detections]
                    boxes += _outlined(label) + self._drawn(uri, size)
                    boxes = [box for box in boxes if box.label != _NO_OBJECT]
                    yield Record(
                        sample_id=relative(uri, self._root),
                        uri=uri,
                        place=place,
                        label=None,
                        boxes=tuple(boxes),
                        split=split,
                        notes=() if boxes else ("the image has no annotation",),
                        relative=True,
                        annotation=places.get(stem),
                        size=size,
                    )
        except Exception as error:  # each importer raises what its parser does
            told = " ".join(str(error).split())[:200]
            raise UserError(f"{self._path}: FiftyOne's importer cannot read it ({told}); repair the file") from error


class KittiReader(_Imported):
    """KITTI detection: ``labels/x.txt`` beside ``data/``, or ``label_2/`` beside ``image_2/``, below splits or not."""

    @staticmethod
    def recognise(listing: Listing) -> str | None:
        """Why the files below a folder are this format; None if they are not."""
        for path in listing.named(_KITTI_LABELS):
            if words := _head(join(listing.root, path)).partition("\n")[0].split():
                # YOLO's polygons of seven corners have as many words, but begin with the class's number.
                fits = len(words) in _KITTI_FIELDS and [as_number(word) is None for word in words].index(False) == 1
                return f"{path} with {len(words)} words a line" if fits else None
        return None

    def records(self) -> Iterator[Record]:
        """Images that have labels, folder by folder."""
        from fiftyone.utils.kitti import KITTIDetectionDatasetImporter

        labels = Listing(self._root).named(_KITTI_LABELS)
        if not labels:
            raise UserError(f"dataset.path: no labels/*.txt or label_2/*.txt below {self._root}; give their folder")
        for folder in sorted({posixpath.dirname(path) for path in labels}):
            images = "image_2" if posixpath.basename(folder) == "label_2" else "data"
            data_path = self._images or join(self._root, join(posixpath.dirname(folder), images))
            labels_path = join(self._root, folder)
            _refuse_pipes(join(below, path) for below in (data_path, labels_path) for path in files_below(below))
            importer = KITTIDetectionDatasetImporter(
                dataset_dir=self._root, data_path=data_path, labels_path=labels_path, include_all_data=True
            )
            inside = [path for path in labels if posixpath.dirname(path) == folder]
            places = {posixpath.splitext(posixpath.basename(path))[0]: join(self._root, path) for path in inside}
            yield from self._records(importer, places, split_of(inside[0]))


class CvatReader(_Imported):
    """CVAT for images: an XML of ``<image>``, beside the images or above them.

    A polygon is an object, its box the one around it; so is a ``<mask>``, which FiftyOne's importer leaves out. Open
    lines and points are none.
    """

    def __init__(self, settings: DatasetSettings) -> None:
        super().__init__(settings)
        self._masks: dict[str, list[Mapping[str, str]]] = {}
        """Attributes of the masks of the images that have any, by the image's path."""

    def _drawn(self, uri: str, size: tuple[int, int] | None) -> list[Box]:
        return [_mask_box(mask, size) for mask in self._masks.get(uri, ()) if size]

    @staticmethod
    def recognise(listing: Listing) -> str | None:
        """Why the files below a folder are this format; None if they are not."""
        found = _cvat_files(listing)
        return f"{', '.join(found)} of CVAT" if found else None

    def records(self) -> Iterator[Record]:
        """Images in the order of the XML."""
        from fiftyone.utils.cvat import CVATImageDatasetImporter

        files = _cvat_files(Listing(self._root)) if is_folder(self._path) else [relative(self._path, self._root)]
        if not files:
            raise UserError(f"dataset.path: no XML of CVAT below {self._root}; export as 'CVAT for images'")
        for file in files:
            folder = join(self._root, posixpath.dirname(file)) if posixpath.dirname(file) else self._root
            beside = next((join(folder, name) for name in ("data", "images") if is_folder(join(folder, name))), folder)
            path = join(self._root, file)
            _refuse_pipes([path])
            masks = _masks(path)
            # The importer ends at the first name that it is given no path for. A path without a file is a sample's
            # own problem.
            data = self._images or beside
            paths = {name: join(data, name) for name in (*masks, *Listing(data).images)}
            self._masks = {posixpath.normpath(paths[name]): found for name, found in masks.items() if found}
            importer = CVATImageDatasetImporter(
                dataset_dir=folder, data_path=paths, labels_path=path, include_all_data=True
            )
            yield from self._records(importer, {"": path}, split_of(file))


def _refuse_pipes(paths: Iterable[str]) -> None:
    """Raise UserError for a named pipe, socket or device, which an importer would read without end."""
    for path in paths:
        if os.path.exists(path) and (kind := kind_of_no_file(os.stat(path))):
            raise UserError(f"dataset.path: {path} is a {kind}, not a file; remove it")


def _cvat_files(listing: Listing) -> list[str]:
    return [path for path in listing.named(r".*\.xml") if _is_cvat(join(listing.root, path))]


def _is_cvat(path: str) -> bool:
    head = _head(path)
    return "<annotations>" in head and ("<image " in head or "<meta>" in head)


def _head(path: str) -> str:
    """The first 4096 bytes of a file as text; empty if it cannot be read."""
    try:
        return read_ends(path, 4096)[0].decode(errors="replace")
    except ImageError:
        return ""


def _masks(path: str) -> dict[str, list[Mapping[str, str]]]:
    """Attributes of the masks of each image of an XML, by the importer's name; what is no XML is left to it."""
    found: dict[str, list[Mapping[str, str]]] = {}
    try:
        for _, element in ElementTree.iterparse(path):
            if element.tag == "image":
                name = posixpath.normpath(join(element.get("subset") or "", element.get("name", "")))
                found.setdefault(name, []).extend(dict(mask.attrib) for mask in element.iterfind("mask"))
                element.clear()
    except (ElementTree.ParseError, OSError):
        return {}
    return found


def _mask_box(mask: Mapping[str, str], size: tuple[int, int]) -> Box:
    window = [as_number(mask.get(name)) for name in ("left", "top", "width", "height")]
    left, top, across, down = (int(number) if number is not None and abs(number) < 2**31 else -1 for number in window)
    width, height = size
    corners = left / width, top / height, (left + across) / width, (top + down) / height
    return Box(*corners, str(mask.get("label")), RowRuns(mask.get("rle", ""), (left, top, across, down)))


def _outlined(label: Any) -> list[Box]:
    """The closed lines of what an importer gives, as objects."""
    found = label.get("polylines") if isinstance(label, dict) else None
    closed = [line for line in found.polylines if line.closed] if found is not None else []
    boxes = []
    for line in closed:
        x, y = ([corner[axis] for ring in line.points for corner in ring] for axis in (0, 1))
        shape = Polygons([[value for corner in ring for value in corner] for ring in line.points], relative=True)
        boxes.append(Box(min(x), min(y), max(x), max(y), str(line.label), shape))
    return boxes


def _box(detection: Any) -> Box:
    x, y, width, height = detection.bounding_box
    return Box(x, y, x + width, y + height, str(detection.label))
