"""The ``imagenet`` reader: ILSVRC CLS-LOC, by Kaggle's solution where there is one, else by its XML."""

from __future__ import annotations

import re
from collections.abc import Iterator

from stages.ingest.listing import Listing, is_image, stem
from stages.ingest.places import absolute, is_folder, join
from stages.ingest.readers.imagenet import ImagenetReader, is_solution, read_synsets
from stages.ingest.readers.voc import parse_xml, read_objects
from stages.ingest.record import DatasetClass, DatasetReader, Record
from stages.ingest.settings import DatasetSettings
from storage.errors import UserError
from storage.media.images import ImageError

_SYNSETS = "LOC_synset_mapping.txt"
_IMAGE = re.compile(r"(?:.*/)?Data/CLS-LOC/(?P<split>\w+)/(?:(?P<wnid>n\d{8})/)?[^/]+")


def imagenet_reader(settings: DatasetSettings) -> DatasetReader:
    """The reader of an ILSVRC folder: of its solution, or of its XML where it has no solution."""
    folder = absolute(settings.path)
    if is_folder(folder):
        listing = Listing(folder)
        if not any(map(is_solution, listing.files)) and IlsvrcReader.recognise(listing):
            return IlsvrcReader(settings, listing)
    return ImagenetReader(settings)


class IlsvrcReader:
    """ILSVRC CLS-LOC: Annotations/CLS-LOC/<split>/**/<id>.xml, and Data/CLS-LOC/<split>/ with the images.

    The XML has VOC's form, but corners count from 0, both ends included, as in Kaggle's solution. The label is the
    WordNet id of the first object; an image without XML has the one of its folder, and no box.
    """

    def __init__(self, settings: DatasetSettings, listing: Listing | None = None) -> None:
        self._listing = listing or Listing(absolute(settings.path))
        self._root = self._listing.root
        self._split = settings.split
        mappings = self._listing.named(rf"(.*/)?{re.escape(_SYNSETS)}")
        if settings.synsets:
            self._synsets = absolute(settings.synsets)
        else:
            self._synsets = join(self._root, mappings[0] if mappings else _SYNSETS)

    @staticmethod
    def recognise(listing: Listing) -> str | None:
        """Why the files below a folder are this format, or Kaggle's; None if they are not."""
        if why := ImagenetReader.recognise(listing):
            return why
        annotated = listing.named(r"(.*/)?Annotations/CLS-LOC/.*\.xml")
        return "Annotations/CLS-LOC/*.xml and Data/CLS-LOC/ of ILSVRC" if annotated else None

    def classes(self) -> tuple[DatasetClass, ...]:
        """One class a line of the synset mapping."""
        return read_synsets(self._synsets)

    def remarks(self) -> list[str]:
        """None: a missing image is a problem of its sample."""
        return []

    def records(self) -> Iterator[Record]:
        """Images in the order of their paths."""
        annotations = {stem(path): path for path in self._listing.named(r"(.*/)?Annotations/CLS-LOC/.*\.xml")}
        found = 0
        for path in self._listing.files:
            match = _IMAGE.fullmatch(path) if is_image(path) else None
            if match and self._split in (None, match["split"]):
                found += 1
                yield self._record(path, match["split"], match["wnid"], annotations.get(stem(path)))
        if not found:
            raise UserError(
                f"dataset.path: no image in Data/CLS-LOC/{self._split or ''} of {self._root}; unpack it there"
            )

    def _record(self, path: str, split: str, wnid: str | None, annotation: str | None) -> Record:
        uri = join(self._root, path)
        if annotation is None:
            return Record(path, uri, uri, wnid, split=split, notes=("the image has no annotation",))
        place = join(self._root, annotation)
        try:
            boxes, notes = read_objects(parse_xml(place), "xyxy")
        except ImageError as error:
            return Record(path, uri, place, wnid, split=split, problem=error.reason, annotation=place)
        label = boxes[0].label if boxes else wnid
        own = [box._replace(x1=box.x1 + 1, y1=box.y1 + 1) for box in boxes]
        own = [box._replace(label=None) if box.label == label else box for box in own]
        return Record(path, uri, place, label, tuple(own), split, notes=notes, annotation=place)
