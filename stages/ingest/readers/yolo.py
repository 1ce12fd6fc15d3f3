"""The ``yolo`` reader: Ultralytics' layout since YOLOv5, ``data.yaml`` with a text file beside the images of each."""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from stages.ingest.boxes import as_number, read_box
from stages.ingest.listing import Listing, split_of
from stages.ingest.places import Bounds, absolute, exists, is_folder, join, names_in, parent, read_text, relative
from stages.ingest.record import Box, BoxForm, DatasetClass, Record
from stages.ingest.settings import DatasetSettings
from stages.ingest.shapes import Polygons
from stages.words import counted
from storage.errors import UserError, quoted
from storage.files import is_url, parse_yaml
from storage.media.images import ImageError, read_bytes

_REMEDY = "write names: [cat, dog] and train: images/train, as Ultralytics does"
_LISTS = ("classes.txt", "obj.names", "labels/classes.txt")
_POLYGON = 6
"""Numbers after the class from which on a line is a polygon."""


class YoloReader:
    """YOLO: data.yaml of names and splits; for each image a text of class, centre, width and height, as fractions.

    A line of six or more numbers, an even count, is a polygon: the object's shape, with the box around it. FiftyOne's
    importer finds nothing where ``train: ../train/images`` leads out of the dataset, as labelling services write it, so
    paths are looked for beside the file too, and those of images in a list beside the list. Without a yaml,
    ``classes.txt`` names the classes, and labels/ lies beside images/.
    """

    def __init__(self, settings: DatasetSettings) -> None:
        path = absolute(settings.path)
        if is_folder(path):
            self._root, self._yaml = path, find_yaml(path)
        elif exists(path):
            self._root, self._yaml = parent(path), path
        else:
            raise UserError(f"dataset.path: there is no {path}; give data.yaml, or the folder that holds it")
        self._content = read_yaml(self._yaml) if self._yaml else {}
        self._bounds = Bounds.of(settings)
        self._names = _class_names(self._content.get("names"), self._yaml) if self._yaml else self._listed_names()
        self._images = absolute(settings.images) if settings.images else None
        self._split = settings.split
        self._form: BoxForm = settings.boxes or "cxcywh"
        self._relative = settings.relative is not False
        self._remarks: list[str] = []
        self._outside: str | None = None

    @staticmethod
    def recognise(listing: Listing) -> str | None:
        """Why the files below a folder are this format; None if they are not."""
        for name in listing.named(r"[^/]*\.ya?ml"):
            try:
                content = read_yaml(join(listing.root, name))
            except UserError:
                continue
            if "names" in content and ("train" in content or "val" in content or "nc" in content):
                return f"{name} names classes and splits"
        texts = {path for path in listing.files if path.endswith(".txt")}
        labelled = [path for path in listing.images if label_path(path) in texts]
        if not labelled:
            return None
        if any(name in listing.files for name in _LISTS):
            return f"a class list, and a .txt for {len(labelled)} of {len(listing.images)} images"
        return f"labels/*.txt for {len(labelled)} images" if any("labels/" in path for path in texts) else None

    def classes(self) -> tuple[DatasetClass, ...]:
        """Names in the order of their numbers; empty where no file names them."""
        return tuple(DatasetClass(name, name) for name in dict.fromkeys(self._names.values()))

    def records(self) -> Iterator[Record]:
        """Images split by split, in the order of their paths."""
        self._remarks = []
        unlabelled: Counter[str] = Counter()
        splits: dict[str, str | None] = {}
        repeated: Counter[str] = Counter()
        for split, uri in self._find_images():
            if uri in splits:
                repeated[f"{split} listed in {splits[uri]} too, and counted there"] += 1
                continue
            splits[uri] = split
            yield self._record(uri, split, unlabelled)
        if not splits:
            raise UserError(
                f"dataset.path: no image of {self._yaml or self._root} can be found; "
                + (f"a split {self._outside}" if self._outside else _REMEDY)
            )
        self._remarks += [f"{counted(number, 'image')} of {what}" for what, number in repeated.items()]
        self._remarks += [f"{number} of {len(splits)} images have {what}" for what, number in unlabelled.items()]

    def remarks(self) -> list[str]:
        """Paths that led nowhere, and how many images have no label file or an empty one."""
        return self._remarks

    def _record(self, uri: str, split: str | None, unlabelled: Counter[str]) -> Record:
        place = label_path(uri)
        boxes: list[Box] = []
        notes: list[str] = []
        try:
            text = read_bytes(place).decode("utf-8-sig")
        except (ImageError, UnicodeDecodeError) as error:
            if exists(place):
                problem = f"its label file {place}: {error}"
                return Record(
                    relative(uri, self._root), uri, place, None, split=split, problem=problem, annotation=place
                )
            notes.append("the image has no label file")
            unlabelled["no label file: samples without a box"] += 1
            text, place = "", uri
        else:
            if not text.strip():
                notes.append("the label file is empty: no object")
                unlabelled["an empty label file: no object"] += 1
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip():
                found = self._read_line(line.split())
                if isinstance(found, Box):
                    boxes.append(found)
                else:
                    notes.append(f"line {number} {found}")
        return Record(
            sample_id=relative(uri, self._root),
            uri=uri,
            place=place,
            label=None,
            boxes=tuple(boxes),
            split=split,
            notes=tuple(notes),
            form=self._form,
            relative=self._relative,
            annotation=place,
        )

    def _read_line(self, words: list[str]) -> Box | str:
        """The box of a line of a label file, or what is wrong with the line."""
        numbers = [as_number(word) for word in words]
        if None in numbers:
            return f"is not of numbers: {quoted(' '.join(words))}"
        index, *values = [value for value in numbers if value is not None]
        label = self._names.get(int(index)) if index.is_integer() else None
        if label is None and self._names:
            return f"is of class {quoted(words[0])}, and names has {min(self._names)} to {max(self._names)}"
        label = label or words[0]
        if self._content.get("kpt_shape"):
            values = values[:4]  # key points of a pose follow the box
        if len(values) in (4, 5):  # a fifth is a detector's confidence
            return read_box(values[:4], self._form, label)
        if len(values) < _POLYGON or len(values) % 2:
            return f"has {len(words)} numbers: neither class and box nor class and polygon"
        shape = Polygons((values,), self._relative)
        return Box(min(values[0::2]), min(values[1::2]), max(values[0::2]), max(values[1::2]), label, shape)

    def _find_images(self) -> Iterator[tuple[str | None, str]]:
        """Split and path of each image."""
        if self._images:
            for path in Listing(self._images).images:
                yield split_of(path), join(self._images, path)
            return
        splits = {name: self._content[name] for name in ("train", "val", "test") if self._content.get(name)}
        if self._split in splits:
            splits = {self._split: splits[self._split]}
        for split, entries in splits.items():
            for entry in entries if isinstance(entries, list) else [entries]:
                place = self._locate(str(entry), split)
                if place is None:
                    continue
                if is_folder(place):
                    yield from ((split, join(place, path)) for path in Listing(place).images)
                else:
                    yield from ((split, path) for path in self._listed_images(place))
        if not splits:
            yield from ((split_of(path), join(self._root, path)) for path in Listing(self._root).images)

    def _locate(self, entry: str, split: str) -> str | None:
        """Where a split's entry leads: as Ultralytics takes it, or beside the yaml where that leads nowhere."""
        entry = entry.replace("\\", "/")
        base = join(self._root, str(self._content.get("path") or "").replace("\\", "/"))
        inner = _inner(entry)
        beside = ["/".join(inner[start:]) for start in range(len(inner))]
        meant = [entry if is_url(entry) else join(base, entry)]
        # Of ../valid/images a folder images/ alone says nothing: it may hold another split.
        near = [join(self._root, path) for path in beside if path != "images" or len(inner) == 1]
        # A path that leads out of the dataset may hit another dataset's folder of the same name.
        places = [*near, *meant] if entry.startswith("../") else [*meant, *near]
        why = "leads nowhere"
        for place in places:
            if exists(place):
                problem = self._bounds.problem(place)
                if problem is None and f"{self._root}/".startswith(place.rstrip("/") + "/") and place != self._root:
                    problem = f"is a folder around the dataset, all of which would be read: {place}"
                if problem:
                    why = self._outside = problem
                    continue
                if place != meant[0]:
                    self._remarks.append(
                        f"{split}: {quoted(entry)} is taken as {relative(place, self._root)} beside the yaml"
                    )
                return place
        self._remarks.append(f"{split}: {quoted(entry)} {why}, so this split is left out")
        return None

    def _listed_images(self, path: str) -> Iterator[str]:
        """Images that a text file lists, one a line, from the file's own folder or the dataset's.

        Of a path that leads nowhere from either, as one of another machine, the most of its end that leads somewhere
        is taken.
        """
        folders = list(dict.fromkeys((parent(path), self._root)))
        last: tuple[list[str], str] = [], ""
        moved, first = 0, ""
        for line in read_text(path, "save it as text in UTF-8").splitlines():
            if not (name := line.strip().replace("\\", "/").removeprefix("./")):
                continue
            meant = [join(folder, name) for folder in folders]
            place = next(filter(exists, meant), None)
            inner = [] if place or is_url(name) else _inner(name)
            ways = [(inner[:cut], folder) for cut in range(len(inner)) for folder in folders]
            for beginning, folder in sorted(ways, key=last.__ne__):  # the way of the line before first
                near = join(folder, "/".join(inner[len(beginning) :]))
                if exists(near):
                    place, last = near, (beginning, folder)
                    moved, first = moved + 1, first or f"{quoted(name)} as {relative(near, self._root)}"
                    break
            yield place or meant[0]
        if moved:
            found = f"{counted(moved, 'image is', 'images are')} found by the end of the path alone"
            self._remarks.append(f"{relative(path, self._root)}: {found}, such as {first}")

    def _listed_names(self) -> dict[int, str]:
        for name in _LISTS:
            path = join(self._root, name)
            if exists(path):
                if problem := self._bounds.problem(path):
                    raise UserError(f"dataset.path: the class list {problem}")
                lines = read_text(path, "write one class a line").splitlines()
                return dict(enumerate(line.strip() for line in lines if line.strip()))
        return {}


def find_yaml(folder: str) -> str | None:
    """The yaml in a folder that names classes; raises UserError for several."""
    found = [join(folder, name) for name in names_in(folder) if name.lower().endswith((".yaml", ".yml"))]
    naming = [path for path in found if "names" in read_yaml(path)]
    if len(naming) > 1:
        raise UserError(f"dataset.path: {naming[0]} and {naming[1]} both name classes; give the path of one")
    return naming[0] if naming else None


def read_yaml(path: str) -> dict[str, Any]:
    """The keys of a ``data.yaml``; raises UserError if it is none."""
    try:
        content = parse_yaml(read_text(path, _REMEDY))
    except ValueError as error:
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())[:200]}; {_REMEDY}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no keys; {_REMEDY}")
    return content


def label_path(image: str) -> str:
    """Label file of an image: the last folder ``images`` becomes ``labels``; beside the image where there is none."""
    base = posixpath.splitext(image)[0] + ".txt"
    return re.sub(r"^(.*/|)images/", r"\1labels/", base, flags=re.DOTALL)


def _inner(path: str) -> list[str]:
    """The parts of a path that are names."""
    return [part for part in path.split("/") if part not in ("", ".", "..")]


def _class_names(names: Any, path: str) -> dict[int, str]:
    """Names by class number, of a list or a map, in the order of the numbers."""
    if isinstance(names, list):
        return {index: str(name) for index, name in enumerate(names)}
    if isinstance(names, dict):
        numbers = {key: as_number(key) for key in names}
        if all(number is not None and number.is_integer() for number in numbers.values()):
            named = {int(number): str(names[key]) for key, number in numbers.items() if number is not None}
            return dict(sorted(named.items()))
    raise UserError(f"{path}: names is {quoted(names)}, neither a list nor a map of numbers to names; {_REMEDY}")
