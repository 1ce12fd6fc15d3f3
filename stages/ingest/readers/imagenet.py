"""The ``imagenet`` reader: ILSVRC CLS-LOC in Kaggle's form."""

from __future__ import annotations

import csv
import io
import posixpath
import re
from collections.abc import Iterator
from typing import Any

from stages.ingest.listing import Listing
from stages.ingest.places import absolute, exists, files_below, is_folder, join, names_in, parent, relative
from stages.ingest.record import Box, DatasetClass, Record
from stages.ingest.settings import DatasetSettings
from storage.errors import UserError, quoted
from storage.media.images import ImageError, read_bytes

_SOLUTION = re.compile(r"LOC_(\w+)_solution\.csv")
_SYNSETS = "LOC_synset_mapping.txt"
LONGEST_CELL = 2**31 - 1
"""Characters of a CSV cell, at most: the module's own limit, 131,072, is less than some images' boxes take."""
_EXTENSIONS = (".jpeg", ".jpg", ".png", ".webp", ".bmp", ".tif", ".tiff")


class ImagenetReader:
    """Samples of ``LOC_*_solution.csv``: ImageId, then ``wnid xmin ymin xmax ymax`` repeated, inclusive pixels.

    A box becomes half-open by +1 on its maxima. The label is the WordNet id of the first box; the class index is its
    line in ``LOC_synset_mapping.txt``. An image is the file named ImageId with any usual extension, anywhere under the
    folder of images; of several, the one in a folder named after the WordNet id.
    """

    def __init__(self, settings: DatasetSettings) -> None:
        path = absolute(settings.path)
        if is_folder(path):
            self._folder, self._solution = path, _find_solution(path, settings.split)
        elif exists(path):
            self._folder, self._solution = parent(path), path
        else:
            raise UserError(f"dataset.path: there is no {path}; give the folder that holds LOC_*_solution.csv")
        match = _SOLUTION.fullmatch(posixpath.basename(self._solution))
        self._split = match[1] if match else None
        self._images = self._find_images(settings.images)
        self._synsets = absolute(settings.synsets) if settings.synsets else join(self._folder, _SYNSETS)

    @staticmethod
    def recognise(listing: Listing) -> str | None:
        """Why the files below a folder are this format; None if they are not."""
        solutions = [path for path in listing.files if is_solution(path)]
        return f"{', '.join(solutions)} of ILSVRC" if solutions else None

    def classes(self) -> tuple[DatasetClass, ...]:
        """One class a line of the synset mapping."""
        return read_synsets(self._synsets)

    def remarks(self) -> list[str]:
        """None: a missing image is a problem of its sample."""
        return []

    def records(self) -> Iterator[Record]:
        """Samples in the order of the solution file."""
        content = _read_text(self._solution, "dataset.path", "give the folder that holds LOC_*_solution.csv")
        files = self._files()
        try:
            csv.field_size_limit(LONGEST_CELL)
            reader = csv.DictReader(io.StringIO(content, newline=""), strict=True)
            for name in ("ImageId", "PredictionString"):
                if name not in (reader.fieldnames or ()):
                    raise UserError(
                        f"{self._solution} has no column {name!r} (it has "
                        f"{', '.join(reader.fieldnames or ()) or 'none'}); its first line must be "
                        "ImageId,PredictionString"
                    )
            for row in reader:
                yield self._record(f"{self._solution}, line {reader.line_num}", row, files)
        except csv.Error as error:
            raise UserError(
                f"{self._solution}, line {reader.reader.line_num}: not CSV: {error}; repair the line"
            ) from None

    def _record(self, place: str, row: dict[str, Any], files: dict[str, list[str]]) -> Record:
        image_id = (row["ImageId"] or "").strip()
        if not image_id:
            raise UserError(f"{place}: the ImageId is empty; remove the line")
        boxes = parse_prediction(row["PredictionString"] or "", place)
        label = boxes[0].label if boxes else None
        found = files.get(image_id, [])
        if len(found) > 1:
            found = [path for path in found if posixpath.basename(posixpath.dirname(path)) == label] or found
        uri = found[0] if found else join(self._images, f"{image_id}.JPEG")
        problem = None
        if not found:
            problem = f"no image {image_id} in {self._images} ({', '.join(_EXTENSIONS)}); set dataset.images"
        elif len(found) > 1:
            problem = f"{len(found)} images named {image_id}: {found[0]}, {found[1]}; keep one"
        return Record(
            sample_id=relative(uri, self._images),
            uri=uri,
            place=place,
            label=label,
            boxes=tuple(box._replace(label=None) if box.label == label else box for box in boxes),
            split=self._split,
            problem=problem,
        )

    def _find_images(self, images: str | None) -> str:
        if images:
            candidates = [absolute(images)]
        else:
            candidates = [join(self._folder, "images"), join(self._folder, "ILSVRC/Data/CLS-LOC"), self._folder]
            if self._split:
                candidates.insert(1, join(self._folder, f"ILSVRC/Data/CLS-LOC/{self._split}"))
        for candidate in candidates:
            if is_folder(candidate):
                return candidate
        raise UserError(f"dataset.images: there is no folder {candidates[0]}; give the folder of the images")

    def _files(self) -> dict[str, list[str]]:
        """Image files under the folder of images, by name without extension, sorted."""
        files: dict[str, list[str]] = {}
        for path in files_below(self._images):
            stem, extension = posixpath.splitext(posixpath.basename(path))
            if extension.lower() in _EXTENSIONS:
                files.setdefault(stem, []).append(join(self._images, path))
        if not files:
            raise UserError(f"dataset.images: no image in {self._images} ({', '.join(_EXTENSIONS)}); give their folder")
        return files


def is_solution(name: str) -> bool:
    """Whether a file's name is that of an ILSVRC solution."""
    return _SOLUTION.fullmatch(name) is not None


def read_synsets(path: str) -> tuple[DatasetClass, ...]:
    """Classes of ``LOC_synset_mapping.txt``: a WordNet id, then names with commas between them, one class a line."""
    content = _read_text(path, "dataset.synsets", "give the path of LOC_synset_mapping.txt")
    classes: dict[str, DatasetClass] = {}
    for number, line in enumerate(content.splitlines(), 1):
        wnid, _, names = line.strip().partition(" ")
        if not wnid:
            continue
        if wnid in classes:
            raise UserError(f"{path}, line {number}: {quoted(wnid)} a second time; give each class one line")
        terms = tuple(term.strip() for term in names.split(",") if term.strip())
        classes[wnid] = DatasetClass(wnid, terms[0] if terms else wnid, (names.strip(), *terms))
    if not classes:
        raise UserError(f"{path} is empty; give the mapping with one line a class: wnid, then its names")
    return tuple(classes.values())


def parse_prediction(text: str, place: str) -> tuple[Box, ...]:
    """Boxes of a PredictionString, half-open; raises UserError, naming ``place``, if it is not made of fives."""
    words = text.split()
    if len(words) % 5:
        raise UserError(
            f"{place}: {len(words)} words in the PredictionString, not a multiple of 5; write "
            "'wnid xmin ymin xmax ymax' for each box"
        )
    boxes = []
    for start in range(0, len(words), 5):
        wnid, *numbers = words[start : start + 5]
        try:
            x_min, y_min, x_max, y_max = map(float, numbers)
        except ValueError:
            raise UserError(
                f"{place}: {quoted(' '.join(numbers))} are not four numbers; write xmin ymin xmax ymax"
            ) from None
        boxes.append(Box(x_min, y_min, x_max + 1, y_max + 1, wnid))
    return tuple(boxes)


def _find_solution(folder: str, split: str | None) -> str:
    found = {match[1]: name for name in names_in(folder) if (match := _SOLUTION.fullmatch(name))}
    if split is not None:
        if split not in found:
            raise UserError(
                f"dataset.split: no LOC_{split}_solution.csv in {folder} "
                f"(there is {', '.join(found.values()) or 'none'})"
            )
        return join(folder, found[split])
    if not found:
        raise UserError(f"dataset.path: no LOC_*_solution.csv in {folder}; give the folder that holds it")
    if len(found) > 1:
        raise UserError(
            f"dataset.path: {len(found)} solutions in {folder} ({', '.join(found.values())}); "
            f"choose with dataset.split: {' or '.join(found)}"
        )
    return join(folder, *found.values())


def _read_text(path: str, key: str, remedy: str) -> str:
    try:
        return read_bytes(path).decode("utf-8-sig")
    except ImageError as error:
        raise UserError(f"{key}: cannot read {path} ({error.reason}); {remedy}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 (byte {error.start}); {remedy}") from None
