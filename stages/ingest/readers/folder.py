"""The ``folder`` reader: a folder for each class, as torchvision's ImageFolder takes them."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from stages.ingest.labels import WORDNET
from stages.ingest.listing import Listing, is_split
from stages.ingest.places import absolute, as_stored, exists, is_folder, join, relative
from stages.ingest.readers.imagenet import read_synsets
from stages.ingest.readers.manifest import EXTENSIONS, as_text, parse_boxes, read_rows
from stages.ingest.record import Box, BoxForm, DatasetClass, Record
from stages.ingest.settings import DatasetSettings
from stages.words import counted
from storage.errors import UserError, quoted

_SYNSETS = "LOC_synset_mapping.txt"
BOXES = "boxes"
"""Name, without extension, of the file of boxes."""


_AROUND = frozenset({"images", "imgs", "img", "data"})
"""Names of a folder that holds all images."""
_BESIDE = frozenset({"masks", "labels", "annotations"})
"""Names of folders of what is no image of a class."""


class FolderReader:
    """Class folders: <class>/**/image or <split>/<class>/**/image, with boxes.csv (jsonl, parquet) if there is one.

    A folder ``images`` or ``data`` around them, and a split within a split of the same images, are passed by.

    The file of boxes has the columns ``path``, from the dataset's folder, and ``boxes`` as in a manifest. FiftyOne's
    importer of classification trees has no boxes and reads local files alone.
    """

    def __init__(self, settings: DatasetSettings) -> None:
        self._root = absolute(settings.path)
        if not is_folder(self._root):
            raise UserError(f"dataset.path: there is no folder {self._root}; give the one that holds a folder a class")
        self._listing = Listing(self._root)
        self._boxes = _boxes_file(self._listing)
        self._depth = _depth(self._listing)
        self._form: BoxForm = settings.boxes or "xyxy"
        self._relative = bool(settings.relative)
        self._remarks: list[str] = []

    @staticmethod
    def recognise(listing: Listing) -> str | None:
        """Why the files below a folder are this format; None if they are not."""
        depth = _depth(listing)
        classes = {_class(path, depth) for path in listing.images} - {None}
        if not classes or _without_class(listing) or _no_classes(classes):
            return None
        boxes = _boxes_file(listing)
        around = ["<split>" if is_split(name) else name for name in listing.images[0].split("/")[:depth]]
        parts = "/".join([*around, "<class>/"])
        named = ", ".join(sorted(map(str, classes))[:3]) + (" ..." if len(classes) > 3 else "")
        return f"images in {len(classes)} folders {parts} ({named})" + (f" and {boxes}" if boxes else "")

    @staticmethod
    def almost(listing: Listing) -> str | None:
        """Why class folders are not taken for such: images that lie in none of them, or folders that are none; None if
        neither is the reason."""
        classes = {_class(path, _depth(listing)) for path in listing.images} - {None}
        bare = _without_class(listing)
        if classes and not bare:
            named = ", ".join(quoted(str(name)) for name in sorted(map(str, classes))[:3])
            return f"images lie in folders of parts and not of classes ({named}); what names their classes is not known"
        if not bare or len(bare) == len(listing.images):
            return None
        inside = counted(len(listing.images) - len(bare), "image lies in a folder", "images lie in folders")
        return f"{inside} and {len(bare)} in none ({quoted(bare[0])})"

    def classes(self) -> tuple[DatasetClass, ...]:
        """Folders by name, as torchvision orders them; of WordNet ids, those of the mapping if there is one."""
        names = sorted({_class(path, self._depth) for path in self._listing.images} - {None}, key=str)
        mapping = join(self._root, _SYNSETS)
        if names and all(WORDNET.fullmatch(str(name)) for name in names) and exists(mapping):
            return read_synsets(mapping)
        return tuple(DatasetClass(str(name), str(name)) for name in names)

    def remarks(self) -> list[str]:
        """Rows of boxes without an image."""
        return self._remarks

    def records(self) -> Iterator[Record]:
        """Images in the order of their paths."""
        boxes = self._read_boxes()
        for path in self._listing.images:
            uri = join(self._root, path)
            place, found = boxes.pop(path, (uri, ()))
            yield Record(
                sample_id=path,
                uri=uri,
                place=place,
                label=_class(path, self._depth),
                boxes=found,
                split=_split(path, self._depth),
                form=self._form,
                relative=self._relative,
            )
        if boxes:
            rows = counted(len(boxes), f"row of {self._boxes} has", f"rows of {self._boxes} have")
            self._remarks = [f"{rows} no image; the first is {min(boxes)}"]

    def _read_boxes(self) -> dict[str, tuple[str, tuple[Box, ...]]]:
        if self._boxes is None:
            return {}
        found: dict[str, tuple[str, tuple[Box, ...]]] = {}
        for place, row in read_rows(join(self._root, self._boxes), ("path", "boxes")):
            name = as_text(row["path"])
            if name is None:
                raise UserError(f"{place}: the path is empty; give the path of the image, or remove the row")
            path = relative(as_stored(join(self._root, name)), self._root)
            if path in found:
                raise UserError(f"{place}: {path} a second time (first: {found[path][0]}); give each image one row")
            found[path] = (place, parse_boxes(row["boxes"], place, self._form))
        return found


def _boxes_file(listing: Listing) -> str | None:
    names = [f"{BOXES}{extension}" for extension in EXTENSIONS]
    return next((name for name in names if name in listing.files), None)


def _depth(listing: Listing) -> int:
    """How many folders lie around those of the classes: splits, or one that holds all images."""
    depth = 0
    while listing.images and all(path.count("/") >= depth + 2 for path in listing.images):
        names = {path.split("/")[depth].lower() for path in listing.images}
        if not (all(map(is_split, names)) or (len(names) == 1 and names <= _AROUND)):
            break
        depth += 1
    return depth


def _split(path: str, depth: int) -> str | None:
    return next((folder for folder in path.split("/")[:depth] if is_split(folder)), None)


def _without_class(listing: Listing) -> list[str]:
    """Images beside the folders of the classes."""
    depth = _depth(listing)
    return [path for path in listing.images if _class(path, depth) is None]


def _no_classes(names: Collection[str | None]) -> bool:
    """Whether folders are named as splits, or as what is of other kinds than an image, and none as a class."""
    return all(name is not None and (is_split(name.lower()) or name.lower() in _AROUND | _BESIDE) for name in names)


def _class(path: str, depth: int) -> str | None:
    folders = path.split("/")[depth:-1]
    return folders[0] if folders else None
