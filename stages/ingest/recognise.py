"""Which format a dataset has: the registry of readers, and how files tell."""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from stages.ingest.listing import Listing
from stages.ingest.places import absolute, exists, is_folder
from stages.ingest.readers.coco import CocoReader
from stages.ingest.readers.cvat import CvatReader
from stages.ingest.readers.fiftyone import ExportReader, fiftyone_reader
from stages.ingest.readers.folder import FolderReader
from stages.ingest.readers.huggingface import HuggingfaceReader, holds_images
from stages.ingest.readers.ilsvrc import IlsvrcReader, imagenet_reader
from stages.ingest.readers.imagenet import is_solution, read_synsets
from stages.ingest.readers.kitti import KittiReader
from stages.ingest.readers.manifest import COLUMNS, ManifestReader, has_columns
from stages.ingest.readers.voc import VocReader
from stages.ingest.readers.webdataset import WebdatasetReader
from stages.ingest.readers.yolo import YoloReader
from stages.ingest.record import DatasetClass, DatasetReader
from stages.ingest.settings import FIFTYONE, DatasetSettings, ReaderName
from storage.errors import UserError, quoted

READERS: dict[str, Callable[[DatasetSettings], DatasetReader]] = {
    "imagenet": imagenet_reader,
    "voc": VocReader,
    "coco": CocoReader,
    "yolo": YoloReader,
    "manifest": ManifestReader,
    "folder": FolderReader,
    "huggingface": HuggingfaceReader,
    "webdataset": WebdatasetReader,
    "kitti": KittiReader,
    "cvat": CvatReader,
    "fiftyone": fiftyone_reader,
}


class _Recognises(Protocol):
    @staticmethod
    def recognise(listing: Listing) -> str | None: ...


_BY_FILES: dict[ReaderName, _Recognises] = {
    "imagenet": IlsvrcReader,
    "voc": VocReader,
    "coco": CocoReader,
    "yolo": YoloReader,
    "manifest": ManifestReader,
    "huggingface": HuggingfaceReader,
    "webdataset": WebdatasetReader,
    "kitti": KittiReader,
    "cvat": CvatReader,
    "fiftyone": ExportReader,
}
_OF_OBJECTS = ("voc", "coco", "yolo", "kitti", "cvat")
_BY_NAME: dict[str, ReaderName] = {
    ".csv": "manifest",
    ".tsv": "manifest",
    ".jsonl": "manifest",
    ".ndjson": "manifest",
    ".parquet": "manifest",
    ".pq": "manifest",
    ".json": "coco",
    ".yaml": "yolo",
    ".yml": "yolo",
    ".tar": "webdataset",
    ".arrow": "huggingface",
}


@dataclass(frozen=True)
class Dataset:
    """A dataset that was opened: its settings, in which no reader is ``auto`` any more, and its reader."""

    settings: DatasetSettings
    reader: DatasetReader
    reason: str
    """Why it was taken for that format."""

    @property
    def of_objects(self) -> bool:
        """Whether the format gives classes to objects and none to images."""
        return self.settings.reader in _OF_OBJECTS

    def classes(self) -> tuple[DatasetClass, ...]:
        """The dataset's classes in the order of their indices: those of ``dataset.synsets``, else of its own list."""
        return read_synsets(absolute(self.settings.synsets)) if self.settings.synsets else self.reader.classes()

    def __str__(self) -> str:
        return f"{self.settings.reader}: {self.reason}"


def open_dataset(settings: DatasetSettings) -> Dataset:
    """The dataset of ``settings``, its format recognised where that is ``auto``.

    Raises UserError for one that is missing, of no known format, or that looks like several.
    """
    if settings.reader == "auto":
        name, reason = recognise(settings.path)
        settings = replace(settings, reader=name)
    else:
        reason = "dataset.reader says so"
    if settings.reader not in READERS:
        raise UserError(f"dataset.reader: no reader {settings.reader!r}; readers are auto, {', '.join(READERS)}")
    if settings.mask is not None and settings.reader != "huggingface":
        raise UserError(
            f"dataset.mask names a column of Hugging Face's tables, and {settings.path} is read as {settings.reader}; "
            "leave it out: other formats say by themselves where masks are"
        )
    return Dataset(settings, READERS[settings.reader](settings), reason)


def recognise(path: str) -> tuple[ReaderName, str]:
    """Format of the dataset at ``path``, and by which files; raises UserError for none, or several."""
    if path.startswith(FIFTYONE):
        return "fiftyone", "a name in FiftyOne's database"
    path = absolute(path)
    if not exists(path):
        raise UserError(f"dataset.path: there is no {path}; give the dataset's folder or file")
    if not is_folder(path):
        return _of_file(path)
    listing = Listing(path)
    found = {name: why for name, kind in _BY_FILES.items() if (why := kind.recognise(listing))}
    if len(found) > 1:
        told = "; ".join(f"{name}: {why}" for name, why in found.items())
        raise UserError(
            f"dataset.reader: {path} may be {told}; give one of its folders where these are several datasets, or set "
            f"dataset.reader to one of {', '.join(found)}"
        )
    if not found and (why := FolderReader.recognise(listing)):  # class folders have no file that tells
        return "folder", why
    if not found and (why := FolderReader.almost(listing)):
        raise UserError(
            f"dataset.reader: {path} is of no format that is known by its files: {why}; for class folders move those "
            f"away or set dataset.reader to folder, else to one of {', '.join(READERS)}, or write a manifest: a CSV of "
            "path,label,boxes"
        )
    if not found:
        kinds = sorted({posixpath.splitext(name)[1].lower() or name for name in listing.files})
        raise UserError(
            f"dataset.reader: {path} is of no format that is known by its files ({quoted(kinds[:8])}); set "
            f"dataset.reader to one of {', '.join(READERS)}, or write a manifest: a CSV of path,label,boxes"
        )
    ((name, why),) = found.items()
    return name, why


def _of_file(path: str) -> tuple[ReaderName, str]:
    name = posixpath.basename(path)
    if is_solution(name):
        return "imagenet", f"{name} is a solution of ILSVRC"
    extension = posixpath.splitext(name)[1].lower()
    if extension == ".parquet" and not has_columns(path, COLUMNS) and holds_images(path):
        return "huggingface", f"images within {name}"
    return _BY_NAME.get(extension, "manifest"), f"{name} is a file of {extension or 'no extension'}"
