"""The ``kitti`` reader: FiftyOne's own importer, which needs no database; local folders alone."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator
from typing import Any

from stages.ingest.boxes import as_number
from stages.ingest.listing import Listing, split_of
from stages.ingest.places import absolute, exists, files_below, head_of, is_folder, join, parent, relative
from stages.ingest.record import Box, DatasetClass, Record
from stages.ingest.settings import DatasetSettings
from storage.errors import UserError
from storage.files import is_url, kind_of_no_file

_LABELS = r"(.*/)?(labels|label_2)/[^/]*\.txt"
_FIELDS = (15, 16)
"""Words of a line: type, truncated, occluded, alpha, 4 of the box, 7 in space, and perhaps a score."""
_NO_OBJECT = "DontCare"
"""KITTI's label of regions in which nothing was labelled."""


class KittiReader:
    """KITTI detection: ``labels/x.txt`` beside ``data/``, or ``label_2/`` beside ``image_2/``, below splits or not."""

    def __init__(self, settings: DatasetSettings) -> None:
        path = absolute(settings.path)
        if is_url(path):
            raise UserError(f"dataset.path: {path} is no local folder, and FiftyOne's importer reads no other; copy it")
        if not exists(path):
            raise UserError(f"dataset.path: there is no {path}; give the dataset's folder")
        self._root = path if is_folder(path) else parent(path)
        self._path = path
        self._images = absolute(settings.images) if settings.images else None

    @staticmethod
    def recognise(listing: Listing) -> str | None:
        """Why the files below a folder are this format; None if they are not."""
        for path in listing.named(_LABELS):
            if words := head_of(join(listing.root, path)).partition("\n")[0].split():
                # YOLO's polygons of seven corners have as many words, but begin with the class's number.
                fits = len(words) in _FIELDS and [as_number(word) is None for word in words].index(False) == 1
                return f"{path} with {len(words)} words a line" if fits else None
        return None

    def classes(self) -> tuple[DatasetClass, ...]:
        """Nothing: KITTI has no list of labels."""
        return ()

    def remarks(self) -> list[str]:
        """Nothing: what is wrong with an image is its own problem."""
        return []

    def records(self) -> Iterator[Record]:
        """Images that have labels, folder by folder."""
        from fiftyone.utils.kitti import KITTIDetectionDatasetImporter

        labels = Listing(self._root).named(_LABELS)
        if not labels:
            raise UserError(f"dataset.path: no labels/*.txt or label_2/*.txt below {self._root}; give their folder")
        for folder in sorted({posixpath.dirname(path) for path in labels}):
            images = "image_2" if posixpath.basename(folder) == "label_2" else "data"
            data_path = self._images or join(self._root, join(posixpath.dirname(folder), images))
            labels_path = join(self._root, folder)
            for path in (join(below, path) for below in (data_path, labels_path) for path in files_below(below)):
                # The importer would read a pipe without end.
                if os.path.exists(path) and (kind := kind_of_no_file(os.stat(path))):
                    raise UserError(f"dataset.path: {path} is a {kind}, not a file; remove it")
            importer = KITTIDetectionDatasetImporter(
                dataset_dir=self._root, data_path=data_path, labels_path=labels_path, include_all_data=True
            )
            inside = [path for path in labels if posixpath.dirname(path) == folder]
            places = {posixpath.splitext(posixpath.basename(path))[0]: join(self._root, path) for path in inside}
            yield from self._records(importer, places, split_of(inside[0]))

    def _records(self, importer: Any, places: dict[str, str], split: str | None) -> Iterator[Record]:
        """``places`` says where an image's stem is annotated."""
        try:
            with importer:
                for uri, metadata, found in importer:
                    if uri in places.values():
                        continue  # the annotations themselves, where they lie among the images
                    place = places.get(posixpath.splitext(posixpath.basename(uri))[0])
                    boxes = [] if found is None else [_box(entry) for entry in found.detections]
                    boxes = [box for box in boxes if box.label != _NO_OBJECT]
                    yield Record(
                        sample_id=relative(uri, self._root),
                        uri=uri,
                        place=place or uri,
                        label=None,
                        boxes=tuple(boxes),
                        split=split,
                        notes=() if boxes else ("the image has no annotation",),
                        relative=True,
                        annotation=place,
                        size=(metadata.width, metadata.height) if metadata is not None else None,
                    )
        except Exception as error:  # the importer raises what its parser does
            told = " ".join(str(error).split())[:200]
            raise UserError(f"{self._path}: FiftyOne's importer cannot read it ({told}); repair the file") from error


def _box(detection: Any) -> Box:
    x, y, width, height = detection.bounding_box
    return Box(x, y, x + width, y + height, str(detection.label))
