"""The ``cvat`` reader: CVAT for images, an XML of all images."""

from __future__ import annotations

import io
import math
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree import ElementTree

from stages.ingest.boxes import as_number, as_size
from stages.ingest.listing import Listing, split_of
from stages.ingest.places import absolute, as_stored, exists, head_of, is_folder, join, parent, relative
from stages.ingest.record import Box, DatasetClass, Record
from stages.ingest.settings import DatasetSettings
from stages.ingest.shapes import Ellipse, Polygons, RowRuns
from stages.words import counted
from storage.errors import UserError, quoted
from storage.files import is_url
from storage.media.images import ImageError, read_bytes

_REMEDY = "export as 'CVAT for images'"
_NUMBERS = {
    "box": ("xtl", "ytl", "xbr", "ybr"),
    "polygon": ("points",),
    "mask": ("left", "top", "width", "height"),
    "ellipse": ("cx", "cy", "rx", "ry"),
}
"""The elements that are objects, in the order in which objects are counted, and the attributes that say where."""


@dataclass(frozen=True, slots=True)
class _Image:
    """What an XML says of an image; boxes in shares of it."""

    name: str
    size: tuple[int, int]
    boxes: tuple[Box, ...]
    tags: tuple[str, ...]
    notes: tuple[str, ...]


class CvatReader:
    """CVAT for images: an XML of ``<image>``, beside the images or above them.

    A box, a polygon, an ellipse and a ``<mask>`` are objects; a polygon's box, and that of what is turned, is the one
    around it. Open lines and points are none. A ``<tag>`` is the image's label where no image of the XML has objects
    without one; else it says something beside them, and remarks count it. FiftyOne's importer leaves out ellipses and
    masks, turns no box, rounds corners to whole pixels, ends at an image that is missing and reads local files alone.
    """

    def __init__(self, settings: DatasetSettings) -> None:
        path = absolute(settings.path)
        if not exists(path):
            raise UserError(f"dataset.path: there is no {path}; give the dataset's folder")
        self._root = path if is_folder(path) else parent(path)
        self._files = _cvat_files(Listing(path)) if is_folder(path) else [posixpath.basename(path)]
        if not self._files:
            raise UserError(f"dataset.path: no XML of CVAT below {path}; {_REMEDY}")
        self._images = absolute(settings.images) if settings.images else None
        self._remarks: list[str] = []

    @staticmethod
    def recognise(listing: Listing) -> str | None:
        """Why the files below a folder are this format; None if they are not."""
        found = _cvat_files(listing)
        return f"{', '.join(found)} of CVAT" if found else None

    def classes(self) -> tuple[DatasetClass, ...]:
        """Nothing: the XML's list is of labels without an order, and may be missing."""
        return ()

    def remarks(self) -> list[str]:
        """How many images have tags that are not their labels."""
        return self._remarks

    def records(self) -> Iterator[Record]:
        """Images in the order of the XML files, then those of their folders that none names."""
        self._remarks = []
        seen: set[str] = set()
        folders: dict[str, str | None] = {}
        for file in self._files:
            path, split = join(self._root, file), split_of(file)
            above = parent(path)
            beside = next((join(above, name) for name in ("data", "images") if is_folder(join(above, name))), above)
            folder = self._images or beside
            folders.setdefault(folder, split)
            images = list(_read_images(path))
            tagged = sum(bool(image.tags) for image in images)
            labels = tagged > 0 and all(image.tags for image in images if image.boxes)
            if tagged and not labels:
                told = counted(tagged, "image has a tag", "images have tags")
                self._remarks.append(f"{file}: {told}, not taken as labels since other images have objects alone")
            for image in images:
                record = self._record(image, join(folder, image.name), path, split, tags=labels)
                seen.add(record.uri)
                yield record
        for folder, split in folders.items():
            for name in Listing(folder).images:
                uri = join(folder, name)
                if uri not in seen:
                    seen.add(uri)
                    notes = ("the image has no annotation",)
                    yield Record(relative(uri, self._root), uri, uri, None, split=split, notes=notes)

    def _record(self, image: _Image, uri: str, path: str, split: str | None, *, tags: bool) -> Record:
        uri = as_stored(uri if is_url(uri) else posixpath.normpath(uri))
        notes = image.notes
        if tags and len(image.tags) > 1:
            notes += (f"the image has several tags, which are no one label: {', '.join(map(quoted, image.tags))}",)
        elif not (image.boxes or image.tags or notes):
            notes = ("the image has no annotation",)
        return Record(
            sample_id=relative(uri, self._root),
            uri=uri,
            place=f"{path}, image {quoted(posixpath.basename(image.name))}",
            label=image.tags[0] if tags and len(image.tags) == 1 else None,
            boxes=image.boxes,
            split=split,
            notes=notes,
            relative=True,
            size=image.size,
        )


def _cvat_files(listing: Listing) -> list[str]:
    return [path for path in listing.named(r".*\.xml") if _is_cvat(join(listing.root, path))]


def _is_cvat(path: str) -> bool:
    head = head_of(path)
    return "<annotations>" in head and ("<image " in head or "<meta>" in head)


def _read_images(path: str) -> Iterator[_Image]:
    """The images of an XML; raises UserError where it cannot be read, and for that of a video."""
    try:
        content = io.BytesIO(read_bytes(path))
    except ImageError as error:
        raise UserError(f"dataset.path: cannot read {path} ({error.reason}); {_REMEDY}") from None
    try:
        for _, element in ElementTree.iterparse(content):
            if element.tag == "track":
                raise UserError(f"{path} is of CVAT for video (<track>); {_REMEDY}")
            if element.tag == "image":
                yield _read_image(element, path)
                element.clear()
    except (ElementTree.ParseError, ValueError) as error:
        raise UserError(f"{path} is not XML: {error}; {_REMEDY}") from None


def _read_image(element: ElementTree.Element, path: str) -> _Image:
    name = element.get("name", "").strip().replace("\\", "/")
    width, height = as_size(element.get("width")), as_size(element.get("height"))
    if not name or not width or not height:
        raise UserError(f"{path}: an image without a name, a width or a height: {quoted(element.attrib)}; {_REMEDY}")
    boxes: list[Box] = []
    notes: list[str] = []
    for kind in _NUMBERS:
        for number, entry in enumerate(element.iterfind(kind), 1):
            if not entry.get("label"):
                notes.append(f"{kind} {number} has no label")
            elif box := _read_object(entry, width, height):
                boxes.append(box)
            else:
                said = {key: entry.get(key) for key in (*_NUMBERS[kind], "rotation") if key in entry.attrib}
                notes.append(f"{kind} {number} ({quoted(entry.get('label'))}) does not say where it is: {quoted(said)}")
    tags = dict.fromkeys(label for entry in element.iterfind("tag") if (label := entry.get("label")))
    name = posixpath.normpath(join(element.get("subset") or "", name))
    return _Image(name, (width, height), tuple(boxes), tuple(tags), tuple(notes))


def _read_object(entry: ElementTree.Element, width: int, height: int) -> Box | None:
    """The box and shape of an element of ``_NUMBERS``, in shares of the image; None if its numbers are none."""
    said = ",".join(entry.get(key, "") for key in _NUMBERS[entry.tag])
    words = said.replace(";", ",").split(",")
    numbers = [as_number(word) for word in (*words, entry.get("rotation", "0"))]
    *known, turned = [value if value is not None and math.isfinite(value) else math.nan for value in numbers]
    if any(map(math.isnan, (*known, turned))):
        return None
    label = entry.get("label")
    if entry.tag == "polygon":
        if len(known) % 2:
            return None
        ring = [value / (width, height)[place % 2] for place, value in enumerate(known)]
        shape = Polygons([ring], relative=True)
        return Box(min(ring[0::2]), min(ring[1::2]), max(ring[0::2]), max(ring[1::2]), label, shape)
    a, b, c, d = known
    if entry.tag == "mask":
        runs = RowRuns(entry.get("rle", ""), (int(a), int(b), int(c), int(d)))
        return Box(a / width, b / height, (a + c) / width, (b + d) / height, label, runs)
    if entry.tag == "box" and not turned:
        return Box(a / width, b / height, c / width, d / height, label)
    if entry.tag == "box":
        a, b, c, d = (a + c) / 2, (b + d) / 2, (c - a) / 2, (d - b) / 2
    x, y = a / width, b / height
    cos, sin = math.cos(math.radians(turned)), math.sin(math.radians(turned))
    across, down = (c * cos / width, c * sin / height), (-d * sin / width, d * cos / height)
    if entry.tag == "ellipse":
        wide, high = math.hypot(across[0], down[0]), math.hypot(across[1], down[1])
        return Box(x - wide, y - high, x + wide, y + high, label, Ellipse((x, y), (across, down)))
    wide, high = abs(across[0]) + abs(down[0]), abs(across[1]) + abs(down[1])
    signs = (1, 1), (1, -1), (-1, -1), (-1, 1)
    corners = [centre + k * u + n * v for k, n in signs for centre, u, v in zip((x, y), across, down, strict=True)]
    return Box(x - wide, y - high, x + wide, y + high, label, Polygons([corners], relative=True))
