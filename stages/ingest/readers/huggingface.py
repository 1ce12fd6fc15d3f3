"""The ``huggingface`` reader: tables with the images in them, as Hugging Face's `datasets` stores them."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from stages.ingest.boxes import as_number, read_box
from stages.ingest.listing import Listing, split_of
from stages.ingest.places import absolute, as_stored, exists, is_folder, join, parent
from stages.ingest.readers.manifest import as_text
from stages.ingest.readers.webdataset import shard_split
from stages.ingest.record import Box, BoxForm, DatasetClass, Record, Shape
from stages.ingest.settings import DatasetSettings
from stages.ingest.shapes import MaskFile, Polygons, RunLengths
from stages.words import counted
from storage.errors import UserError, quoted
from storage.media.containers import Member, open_parquet, read_arrow
from storage.media.images import ImageError, read_bytes
from storage.tables import NO_TABLE

_REMEDY = "give a folder or file of Parquet with a column of images, or what datasets' save_to_disk wrote"
_LABELS = ("label", "labels", "fine_label", "class", "category")
_OBJECT_LABELS = ("categories", "category", "labels", "label", "class")
_TABLES = r".*\.(parquet|arrow)"


class HuggingfaceReader:
    """Hugging Face: Parquet with embedded images, or a folder of save_to_disk; needs no package of theirs.

    The image is the column of structs with ``bytes``. The label is the column ``label``, by name where the schema has
    class names. Boxes are ``objects``, with ``bbox`` as x, y, width, height, as their documentation says, and
    ``categories``; ``segmentation`` in them is each object's polygons or run lengths, as in COCO. ``dataset.mask``
    names a column of pictures in which what is not zero is of the row's label. Images and masks are read from their
    rows: nothing is unpacked. A row with several labels has none; of several columns of images the one called ``image``
    is read, else the first; remarks say so.
    """

    def __init__(self, settings: DatasetSettings) -> None:
        path = absolute(settings.path)
        if is_folder(path):
            self._root, self._files = path, _tables(Listing(path))
        elif exists(path):
            self._root, self._files = parent(path), [posixpath.basename(path)]
        else:
            raise UserError(f"dataset.path: there is no {path}; {_REMEDY}")
        if not self._files:
            raise UserError(f"dataset.path: no .parquet or .arrow below {path}; {_REMEDY}")
        self._form: BoxForm = settings.boxes or "xywh"
        self._relative = bool(settings.relative)
        self._mask = settings.mask
        self._remarks: list[str] = []

    @staticmethod
    def recognise(listing: Listing) -> str | None:
        """Why the files below a folder are this format; None if they are not."""
        tables = _tables(listing)
        first = next((path for path in tables if path in listing.files), None)
        if first is None or listing.images or not holds_images(join(listing.root, first)):
            return None
        return f"images within {first}" + (f" and {len(tables) - 1} more" if len(tables) > 1 else "")

    def classes(self) -> tuple[DatasetClass, ...]:
        """Names of the column of labels, or of the objects, in the order of their numbers; empty without names."""
        features = _features(read_schema(join(self._root, self._files[0])))
        return tuple(DatasetClass(name, name) for name in _names(features))

    def remarks(self) -> list[str]:
        """Columns of images that are not read, and how many rows have several labels."""
        return self._remarks

    def records(self) -> Iterator[Record]:
        """Images in the order of the files and their rows."""
        self._remarks = []
        several: dict[str, int] = {}
        for file in self._files:
            path = join(self._root, file)
            schema = read_schema(path)
            pictures = [name for name in image_columns(schema) if name != self._mask]
            image = "image" if "image" in pictures else next(iter(pictures), None)
            if image is None:
                raise UserError(f"{path} has no column of images (it has {quoted(schema.names)}); {_REMEDY}")
            others = ", ".join(quoted(name) for name in pictures if name != image)
            if others and not self._remarks:
                self._remarks.append(
                    f"of the {len(pictures)} columns of images of {file} {quoted(image)} is read, and not {others}; "
                    "name one of masks in dataset.mask, or call the one to be read image"
                )
            names = _names(_features(schema))
            label = next((name for name in _LABELS if name in schema.names), None)
            wanted = [name for name in (label, "objects") if name and name in schema.names]
            split = split_of(file) or shard_split(file)
            masks = self._masks(path, schema)
            for row, (elsewhere, cells) in enumerate(_read(path, image, wanted)):
                uri = _place(path, image, row, elsewhere)
                boxes, notes = self._boxes(cells.get("objects"), names)
                labels = _labels(cells[label], names) if label else []
                if label and len(labels) > 1:
                    several[label] = several.get(label, 0) + 1
                    notes += (f"the row has several labels, which are no one label: {', '.join(map(quoted, labels))}",)
                yield Record(
                    sample_id=f"{file}/{row}",
                    uri=uri,
                    place=f"{path}, row {row}",
                    label=labels[0] if len(labels) == 1 else None,
                    boxes=boxes,
                    split=split,
                    notes=notes,
                    form=self._form,
                    relative=self._relative,
                    shape=next(masks, None),
                )
        self._remarks += [
            f"{counted(number, 'row has', 'rows have')} several labels in the column {quoted(name)}, and no one label: "
            "write a row for each label of an image"
            for name, number in several.items()
        ]

    def _masks(self, path: str, schema: pa.Schema) -> Iterator[Shape | None]:
        """What of each row's image is of its label, as ``dataset.mask`` says; nothing without it."""
        name = self._mask
        if name is None:
            return
        pictures = image_columns(schema)
        if name not in pictures:
            raise UserError(f"dataset.mask: {path} has no column {name!r} of pictures; it has {', '.join(pictures)}")
        for row, (elsewhere, cells) in enumerate(_read(path, name, [name])):
            held = cells[name] is not None and (elsewhere is not None or _bytes_of(cells[name]) is not None)
            yield MaskFile(_place(path, name, row, elsewhere)) if held else None

    def _boxes(self, objects: Any, names: list[str]) -> tuple[tuple[Box, ...], tuple[str, ...]]:
        if isinstance(objects, list):  # a list of structs; else a struct of lists
            objects = {key: [entry.get(key) for entry in objects] for key in (objects[0] if objects else ())}
        if not isinstance(objects, Mapping):
            return (), ()
        given = objects.get("bbox") or []
        key = next((name for name in _OBJECT_LABELS if name in objects), None)
        if not isinstance(given, list):
            return (), (f"objects.bbox is no list of boxes: {quoted(given)}",)
        labels = _as_many(objects.get(key) if key else None, len(given))
        shapes = _as_many(objects.get("segmentation"), len(given))
        boxes: list[Box] = []
        notes: list[str] = []
        for number, (corners, label, drawn) in enumerate(zip(given, labels, shapes, strict=True), 1):
            numbers = [as_number(value) for value in corners] if isinstance(corners, list) else []
            if len(numbers) != 4 or None in numbers:
                notes.append(f"object {number} has no box of four numbers: {quoted(corners)}")
            else:
                known = [value for value in numbers if value is not None]
                box = read_box(known, self._form, _named(label, names))
                boxes.append(box._replace(shape=_shape(drawn, relative=self._relative)))
        return tuple(boxes), tuple(notes)


def _tables(listing: Listing) -> list[str]:
    """The tables below a folder, without those that `datasets` keeps beside them of what it computed.

    Where save_to_disk wrote a ``state.json``, the tables of its folder are those that this lists.
    """
    found = [path for path in listing.named(_TABLES) if not re.fullmatch(r"(.*/)?cache-[^/]*\.arrow", path)]
    for state in listing.named(r"(.*/)?state\.json"):
        folder = posixpath.dirname(state)
        if listed := _data_files(join(listing.root, state)):
            elsewhere = [path for path in found if posixpath.dirname(path) != folder]
            found = elsewhere + [posixpath.join(folder, name) for name in listed]
    return sorted(found)


def _data_files(state: str) -> list[str]:
    """The names of the tables that a ``state.json`` lists; none where it is another's."""
    try:
        listed = json.loads(read_bytes(state))["_data_files"]
        names = [str(entry["filename"]) for entry in listed]
    except (ImageError, ValueError, RecursionError, KeyError, TypeError):
        return []
    return names if all(posixpath.basename(name) == name for name in names) else []


def _as_many(cells: Any, count: int) -> list[Any]:
    """The first ``count`` entries of a list beside the boxes, None where it has fewer or is none."""
    found = cells[:count] if isinstance(cells, list) else []
    return [*found, *[None] * (count - len(found))]


def _shape(drawn: Any, *, relative: bool) -> Shape | None:
    """A segmentation as COCO writes it: run lengths, polygons, or the one polygon by itself."""
    if isinstance(drawn, Mapping):
        return RunLengths(drawn) if drawn.get("counts") is not None else None
    if not drawn:
        return None
    flat = isinstance(drawn, list) and not isinstance(drawn[0], list)
    return Polygons([drawn] if flat else drawn, relative)


def _place(path: str, column: str, row: int, elsewhere: str | None) -> str:
    """Where the picture in a row of a table is read from."""
    if elsewhere is not None:
        return as_stored(join(parent(path), elsewhere))
    return Member("arrow" if path.endswith(".arrow") else "parquet", f"{column}/{row}", path).url


def _bytes_of(cell: Any) -> Any:
    return cell.get("bytes") if isinstance(cell, Mapping) else cell


def _read(path: str, image: str, columns: list[str]) -> Iterator[tuple[str | None, dict[str, Any]]]:
    """Rows of a table: ``columns``, and the path of an image whose bytes are elsewhere; its own bytes are not read.

    Raises UserError where the table is damaged further on than its schema.
    """
    try:
        yield from _rows(path, image, columns)
    except NO_TABLE as error:
        raise UserError(f"{path} is a damaged table: {quoted(str(error))}; {_REMEDY}") from None


def _rows(path: str, image: str, columns: list[str]) -> Iterator[tuple[str | None, dict[str, Any]]]:
    if path.endswith(".arrow"):
        table = read_arrow(path)
        structs = pa.types.is_struct(table.schema.field(image).type)
        column = table[image].combine_chunks() if structs else None
        held = column is None or column.field("bytes").null_count < len(column)
        paths = None if held or column is None else column.field("path").to_pylist()
        batches = table.select(columns).to_batches() if columns else [table.select([])]
        count = table.num_rows
    else:
        file = open_parquet(path)
        held = not _all_null(file.metadata, f"{image}.bytes")
        paths = None if held else file.read(columns=[f"{image}.path"])[image].combine_chunks().field("path").to_pylist()
        batches = file.iter_batches(columns=columns) if columns else []
        count = file.metadata.num_rows
    rows = (row for batch in batches for row in batch.to_pylist()) if columns else ({} for _ in range(count))
    for number, row in enumerate(rows):
        yield None if paths is None else paths[number], row


def _all_null(metadata: pq.FileMetaData, column: str) -> bool:
    """Whether a column holds nothing, as far as the statistics of its chunks say."""
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        for chunk in map(group.column, range(group.num_columns)):
            if chunk.path_in_schema == column:
                known = chunk.statistics is not None and chunk.statistics.has_null_count
                if not known or chunk.statistics.null_count < group.num_rows:
                    return False
    return column in {metadata.schema.column(index).path for index in range(metadata.num_columns)}


def read_schema(path: str) -> pa.Schema:
    """Schema of a Parquet or Arrow file; raises UserError if it is neither."""
    try:
        schema = read_arrow(path).schema if path.endswith(".arrow") else open_parquet(path).schema_arrow
        schema.names  # noqa: B018  a name may be no UTF-8
        return schema
    except NO_TABLE as error:
        raise UserError(f"{path} cannot be read as a table: {quoted(str(error))}; {_REMEDY}") from None


def image_columns(schema: pa.Schema) -> list[str]:
    """The columns of images: structs with ``bytes``, or else bytes themselves."""
    structs = [
        field.name for field in schema if pa.types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0
    ]
    plain = [field.name for field in schema if pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type)]
    return structs or plain


def holds_images(path: str) -> bool:
    """Whether a file is a table with a column of images."""
    try:
        return bool(image_columns(read_schema(path)))
    except UserError:
        return False


def _features(schema: pa.Schema) -> dict[str, Any]:
    """What `datasets` says of the columns, in the schema's metadata."""
    stored = (schema.metadata or {}).get(b"huggingface")
    try:
        found: Any = json.loads(stored) if stored else None
    except (ValueError, RecursionError):
        return {}
    for key in ("info", "features"):
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


def _names(features: Mapping[str, Any]) -> list[str]:
    """Class names of the column of labels, else of the objects' labels."""
    for name in _LABELS:
        if found := _class_names(features.get(name)):
            return found
    objects = features.get("objects")
    objects = objects.get("feature", objects) if isinstance(objects, dict) else objects
    objects = objects[0] if isinstance(objects, list) and objects else objects
    for name in _OBJECT_LABELS:
        if isinstance(objects, dict) and (found := _class_names(objects.get(name))):
            return found
    return []


def _class_names(feature: Any) -> list[str]:
    if isinstance(feature, list) and feature:
        feature = feature[0]
    if isinstance(feature, dict) and feature.get("_type") in ("Sequence", "List", "LargeList"):
        feature = feature.get("feature")
    names = feature.get("names") if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" else None
    return [str(name) for name in names] if isinstance(names, list) else []


def _labels(cell: Any, names: list[str]) -> list[str]:
    """The labels of a row by their names, each once; a cell may be a list of them."""
    found = [_named(value, names) for value in (cell if isinstance(cell, list) else [cell])]
    return list(dict.fromkeys(name for name in found if name is not None))


def _named(value: Any, names: list[str]) -> str | None:
    """A label by its name, where the schema names its number; -1 stands for none there."""
    if names and isinstance(value, int):
        return names[value] if 0 <= value < len(names) else None
    return as_text(value)
