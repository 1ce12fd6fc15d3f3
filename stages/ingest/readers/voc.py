"""The ``voc`` reader: Pascal VOC's XML, one file an image; ILSVRC's XML is the same."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from xml.etree import ElementTree

from stages.ingest.boxes import as_number, as_size, read_box
from stages.ingest.listing import Listing, is_image, photos, split_of, stem
from stages.ingest.places import absolute, is_folder, join, read_text
from stages.ingest.record import Box, BoxForm, DatasetClass, Record
from stages.ingest.settings import DatasetSettings
from stages.ingest.shapes import IndexedPixels
from stages.words import counted
from storage.errors import UserError, quoted
from storage.media.images import ImageError, read_bytes

_EDGES = ("xmin", "ymin", "xmax", "ymax")


class VocReader:
    """Pascal VOC: an XML for each image, in Annotations/ beside JPEGImages/ or beside the image.

    Corners count from 1 and include both ends, as the development kit says. FiftyOne's importer takes them as counted
    from 0, cuts decimals off, must be told the two folders, reads local files alone and is ten times slower. An image
    is the one of the XML's own stem, else the one that ``filename`` names. Of several of the stem it is the one with
    the name in ``filename``, then the nearest to the XML, then the one in ``folder``; a picture below annotations/ is
    none where another has its stem, as the trimaps of Oxford-IIIT Pet. Images without an XML are samples without a
    box. ``ImageSets/Main/*.txt`` gives the split: of several lists that name an image the shortest, or the one that
    ``dataset.split`` names. In ``SegmentationObject/`` the picture of an image's stem has k on the pixels of its XML's
    object k.
    """

    def __init__(self, settings: DatasetSettings) -> None:
        root = absolute(settings.path)
        if not is_folder(root):
            raise UserError(f"dataset.path: there is no folder {root}; give the folder that holds Annotations/")
        self._listing = Listing(root)
        pictures = Listing(absolute(settings.images)) if settings.images else self._listing
        self._images = Listing(pictures.root, _photos(pictures.images))
        self._form: BoxForm = settings.boxes or "voc"
        self._relative = bool(settings.relative)
        self._split = settings.split
        self._remarks: list[str] = []
        self._outlines = {
            _below(path, "SegmentationObject"): join(root, path)
            for path in self._listing.named(r"(.*/)?SegmentationObject/.*\.png")
        }

    @staticmethod
    def recognise(listing: Listing) -> str | None:
        """Why the files below a folder are this format; None if they are not."""
        folders = {posixpath.dirname(path) for path in listing.named(r"(.*/)?Annotations/.*\.xml")}
        if folders and any("JPEGImages" in posixpath.dirname(path).split("/") for path in listing.images):
            return "Annotations/*.xml beside JPEGImages/"
        annotated = {stem(path): path for path in listing.named(r".*\.xml")}
        photos = _photos(listing.images)
        images = [path for path in photos if stem(path) in annotated]
        if not images or len(images) * 2 < len(annotated):
            return None
        return f"an .xml for {len(images)} of {len(photos)} images, such as {annotated[stem(images[0])]}"

    def classes(self) -> tuple[DatasetClass, ...]:
        """VOC has no list of classes."""
        return ()

    def records(self) -> Iterator[Record]:
        """Images in the order of their XML files, then those without one."""
        annotated = self._listing.named(r"(?!ImageSets/|.*/ImageSets/).*\.xml")
        if not annotated:
            raise UserError(
                f"dataset.path: no .xml below {self._listing.root}; give the folder that holds Annotations/"
            )
        splits = self._read_sets()
        seen: set[str] = set()
        for path in annotated:
            record = self._record(path, splits)
            seen.add(record.uri)
            yield record
        bare = [path for path in self._images.images if join(self._images.root, path) not in seen]
        for path in bare:
            uri = join(self._images.root, path)
            split = splits.get(stem(path), split_of(path))
            yield Record(path, uri, uri, None, split=split, notes=("the image has no annotation",))
        if bare:
            self._remarks = [f"{counted(len(bare), 'image has', 'images have')} no .xml; the first is {bare[0]}"]

    def remarks(self) -> list[str]:
        """How many images have no annotation."""
        return self._remarks

    def _record(self, path: str, splits: dict[str, str]) -> Record:
        place = join(self._listing.root, path)
        split = splits.get(stem(path), split_of(path))
        try:
            root = parse_xml(place)
        except ImageError as error:
            found, _ = self._images.find(_below_annotations(path), path)
            uri = found or join(self._images.root, stem(path) + ".jpg")
            problem = error.reason
            return Record(self._name(uri), uri, place, None, split=split, problem=problem, annotation=place)
        filename, folder = ((root.findtext(key) or "").strip().replace("\\", "/") for key in ("filename", "folder"))
        said = posixpath.basename(filename), posixpath.basename(folder)
        found, missing = self._images.find(_below_annotations(path), path, *said)
        if found is None and filename:
            found, missing = self._images.find(filename, path, *said)
        uri = found or join(self._images.root, filename if is_image(filename) else stem(path) + ".jpg")
        boxes, notes = read_objects(root, self._form, self._outlines.get(_below_annotations(path)))
        width, height = (as_size(root.findtext(f"size/{side}")) for side in ("width", "height"))
        return Record(
            sample_id=self._name(uri),
            uri=uri,
            place=place,
            label=None,
            boxes=boxes,
            split=split,
            problem=missing if found is None else None,
            notes=notes,
            form=self._form,
            relative=self._relative,
            annotation=place,
            size=(width, height) if width and height else None,
        )

    def _name(self, uri: str) -> str:
        return uri.removeprefix(self._images.root.rstrip("/") + "/")

    def _read_sets(self) -> dict[str, str]:
        """Stem of an image -> the split that lists it. Lists of one class, ``cat_train.txt``, have a second column."""
        members: dict[str, list[str]] = {}
        for path in self._listing.named(r"(.*/)?ImageSets/(Main/)?[^/]*\.txt"):
            text = read_text(join(self._listing.root, path), "save it as text in UTF-8")
            lines = [line.split() for line in text.splitlines() if line.strip()]
            if all(len(line) == 1 for line in lines):
                members.setdefault(posixpath.basename(path)[:-4], []).extend(stem(line[0]) for line in lines)
        splits: dict[str, str] = {}
        for name in sorted(members, key=lambda name: (name != self._split, len(members[name]))):
            for image in members[name]:
                splits.setdefault(image, name)
        return splits


def parse_xml(path: str) -> ElementTree.Element:
    """The root of an annotation; raises ImageError if the file is gone or no XML."""
    try:
        content = read_bytes(path)
    except ImageError as error:
        raise ImageError("unreadable", f"the annotation cannot be read: {error.reason}") from None
    try:
        return ElementTree.fromstring(content)
    except (ElementTree.ParseError, ValueError) as error:
        raise ImageError("unreadable", f"the annotation {path} is not XML: {error}") from None


def read_objects(
    root: ElementTree.Element, form: BoxForm, outlines: str | None = None
) -> tuple[tuple[Box, ...], tuple[str, ...]]:
    """Boxes of an annotation's objects, and what was left out. Parts of an object (a head, a hand) are not objects.

    ``outlines`` is the picture of ``SegmentationObject``, if there is one.
    """
    boxes: list[Box] = []
    notes: list[str] = []
    for number, entry in enumerate(root.findall("object"), 1):
        label = " ".join((entry.findtext("name") or "").split())
        corners = [(entry.findtext(f"bndbox/{edge}") or "").strip() for edge in _EDGES]
        numbers = [as_number(corner) for corner in corners]
        if not label:
            notes.append(f"object {number} has no name")
        elif any(value is None for value in numbers):
            wrong = dict(zip(_EDGES, corners, strict=True))
            notes.append(f"object {number} ({quoted(label)}) has no box of four numbers: {quoted(wrong)}")
        else:
            box = read_box([value for value in numbers if value is not None], form, label)
            boxes.append(box._replace(shape=IndexedPixels(outlines, number) if outlines else None))
    return tuple(boxes), tuple(notes)


def _below_annotations(path: str) -> str:
    """``train/x`` of ``Annotations/train/x.xml``: the image has the same place below its own folder."""
    return _below(path, "Annotations")


def _below(path: str, folder: str) -> str:
    folders, name = posixpath.split(path)
    parts = folders.split("/") if folders else []
    below = parts[parts.index(folder) + 1 :] if folder in parts else []
    return "/".join([*below, stem(name)])


def _photos(pictures: list[str]) -> list[str]:
    """The pictures that are not masks: neither in VOC's folders of them, nor among the annotations of another."""
    return photos(path for path in pictures if not any(part.startswith("Segmentation") for part in path.split("/")))
