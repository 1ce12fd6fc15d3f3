"""The ``manifest`` reader: a table with the columns path, label, boxes and, if wanted, split, mask, mask_value."""

from __future__ import annotations

import csv
import io
import json
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow.parquet as pq

from stages.ingest.boxes import as_number, read_box
from stages.ingest.listing import Listing
from stages.ingest.places import absolute, as_stored, decode_text, is_folder, join, names_in, parent, relative
from stages.ingest.readers.imagenet import LONGEST_CELL
from stages.ingest.record import Box, BoxForm, DatasetClass, Record
from stages.ingest.settings import DatasetSettings
from stages.ingest.shapes import IndexedPixels, MaskFile
from storage.errors import UserError, quoted
from storage.files import is_url
from storage.media.images import ImageError, read_bytes, read_ends
from storage.tables import NO_TABLE

COLUMNS = ("path", "label", "boxes")
_FURTHER = ("split", "mask", "mask_value")
EXTENSIONS = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet", ".pq")
_DELIMITERS = (",", ";", "\t")
_EDGES = ("x0", "y0", "x1", "y1")
_BOX_FORMAT = '[[x0, y0, x1, y1], ...] or [{"x0": .., "y0": .., "x1": .., "y1": .., "label": ..}, ...]'

Row = tuple[str, Mapping[str, Any]]


class ManifestReader:
    """A manifest: CSV (with , ; or tab), JSON Lines or Parquet of path, label, boxes and perhaps split and mask.

    ``path`` is relative to the manifest's folder (or to ``images``), absolute or a URL. ``boxes`` is a list of
    ``[x0, y0, x1, y1]`` or of objects with these keys and perhaps ``label``, half-open pixels of the upright image;
    JSON in a CSV, JSON or nested lists elsewhere. ``dataset.boxes`` and ``dataset.relative`` read them in another form.
    ``mask`` is the path of a PNG of the image's size, relative as ``path`` is, in which what is not zero is of the
    class ``label``; or, in a picture of several classes, the pixels of number ``mask_value``. Empty cells mean: no
    label, no boxes, no split, no mask, what is not zero. Other columns are left alone.
    """

    def __init__(self, settings: DatasetSettings) -> None:
        path = absolute(settings.path)
        found = find_manifests(path) if is_folder(path) else []
        if len(found) > 1:
            raise UserError(f"dataset.path: {found[0]} and {found[1]} are both manifests; give the path of one")
        self._path = join(path, found[0]) if found else path
        self._images = absolute(settings.images) if settings.images else parent(self._path)
        self._split = settings.split
        self._form: BoxForm = settings.boxes or "xyxy"
        self._relative = bool(settings.relative)

    @staticmethod
    def recognise(listing: Listing) -> str | None:
        """Why the files below a folder are this format; None if they are not."""
        found = find_manifests(listing.root, listing.files)
        return f"{', '.join(found)} with the columns path, label, boxes" if found else None

    def classes(self) -> tuple[DatasetClass, ...]:
        """A manifest has no list of classes: labels are names of the model's."""
        return ()

    def remarks(self) -> list[str]:
        """None: every problem of a manifest is one of its rows."""
        return []

    def records(self) -> Iterator[Record]:
        """Samples in the order of the file."""
        for place, row in read_rows(self._path, COLUMNS):
            if self._split is not None and "split" not in row:
                raise UserError(
                    f"{self._path} has no column 'split', but dataset.split is {self._split!r}; leave it out"
                )
            yield self._record(place, row)

    def _record(self, place: str, row: Mapping[str, Any]) -> Record:
        path = as_text(row["path"])
        if path is None:
            raise UserError(f"{place}: the path is empty; give the path of the image, or remove the row")
        uri = self._locate(path)
        return Record(
            sample_id=relative(uri, self._images),
            uri=uri,
            place=place,
            label=as_text(row["label"]),
            boxes=parse_boxes(row["boxes"], place, self._form),
            split=as_text(row.get("split")),
            form=self._form,
            relative=self._relative,
            shape=self._mask(place, row),
        )

    def _mask(self, place: str, row: Mapping[str, Any]) -> MaskFile | IndexedPixels | None:
        mask, value = as_text(row.get("mask")), as_text(row.get("mask_value"))
        if value is None:
            return None if mask is None else MaskFile(self._locate(mask))
        if mask is None:
            raise UserError(f"{place}: mask_value is {quoted(value)}, and the cell mask is empty; give the mask too")
        if not value.isdecimal():
            raise UserError(
                f"{place}: mask_value is {quoted(value)}; give the number of the label's pixels in the mask"
            )
        return IndexedPixels(self._locate(mask), int(value))

    def _locate(self, path: str) -> str:
        return path if is_url(path) else as_stored(join(self._images, path))


def read_rows(path: str, columns: Sequence[str]) -> Iterator[Row]:
    """Rows of a table, each with its place, in any of the forms of a manifest.

    Raises UserError for a file that is none of them, or that lacks one of ``columns``.
    """
    try:
        content = read_bytes(path)
    except ImageError as error:
        raise UserError(
            f"dataset.path: cannot read the manifest {path} ({error.reason}); give a CSV or Parquet file "
            f"with the columns {', '.join(columns)}"
        ) from None
    if content[:4] == b"PAR1":
        yield from _parquet(path, content, columns)
        return
    text = decode_text(content, path, "save it as CSV or JSON Lines in UTF-8, or as Parquet")
    begin = text.lstrip()[:1]
    yield from _json_lines(path, text, columns) if begin in ("{", "[") else _csv(path, text, columns)


def _csv(path: str, text: str, columns: Sequence[str]) -> Iterator[Row]:
    header = text.lstrip().partition("\n")[0]
    delimiter = max(_DELIMITERS, key=lambda mark: len({*columns} & {cell.strip(' "\r') for cell in header.split(mark)}))
    csv.field_size_limit(LONGEST_CELL)
    lines = io.TextIOWrapper(io.BytesIO(text.encode()), "utf-8", newline="")  # StringIO takes 4 bytes a letter
    reader = csv.DictReader(lines, strict=True, delimiter=delimiter)
    try:
        names = reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
        _check_columns(path, names, columns)
        for row in reader:
            place = f"{path}, line {reader.line_num}"
            if None in row or None in row.values():
                raise UserError(
                    f"{place}: not {len(names)} fields as in the header; put boxes in double quotes, like "
                    '"[[10, 20, 110, 220]]"'
                )
            yield place, row
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.reader.line_num}: not CSV: {error}; quote the cell") from None


def _json_lines(path: str, text: str, columns: Sequence[str]) -> Iterator[Row]:
    for number, line in enumerate(text.splitlines(), 1):
        place = f"{path}, line {number}"
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            _refuse_other_json(path, text)
            raise UserError(f"{place}: not JSON: {error}; write one object a line") from None
        if not isinstance(row, dict) or "images" in row:
            _refuse_other_json(path, text)
            raise UserError(f"{place}: {quoted(row)} is no object; write one object of {', '.join(columns)} a line")
        missing = [name for name in columns if name not in row]
        if missing:
            raise UserError(
                f"{place}: no key {missing[0]!r} (it has {quoted(list(row))}); a row has the keys "
                f"{', '.join(columns)}, null where there is nothing to say"
            )
        yield place, row


def _refuse_other_json(path: str, text: str) -> None:
    if '"images"' in text and '"annotations"' in text:
        raise UserError(f"{path} is a COCO file, not a manifest; set dataset.reader: coco")
    if text.lstrip().startswith("["):
        raise UserError(f"{path} is one JSON list; a manifest has one object a line, or is a CSV or Parquet file")


def _parquet(path: str, content: bytes, columns: Sequence[str]) -> Iterator[Row]:
    try:
        table = pq.read_table(io.BytesIO(content))
        found = table.column_names
        _check_columns(path, found, columns)
        rows = table.select([*columns, *(name for name in _FURTHER if name in found)]).to_pylist()
    except NO_TABLE as error:
        raise UserError(f"{path} is damaged Parquet: {quoted(str(error))}; write it again") from None
    for number, row in enumerate(rows, 1):
        yield f"{path}, row {number}", row


def _check_columns(path: str, found: Sequence[str], columns: Sequence[str]) -> None:
    missing = [name for name in columns if name not in found]
    if missing:
        has = ", ".join(map(quoted, found[:12])) + (", ..." if len(found) > 12 else "")
        raise UserError(
            f"{path} has no column {missing[0]!r} (it has {has or 'none'}); a "
            f"manifest has the columns {', '.join(columns)}, with empty cells where there is nothing to say"
        )


def find_manifests(folder: str, names: Sequence[str] | None = None) -> list[str]:
    """Files directly in a folder that begin as a manifest does."""
    names = [name for name in (names_in(folder) if names is None else names) if "/" not in name]
    tables = [name for name in names if posixpath.splitext(name)[1].lower() in EXTENSIONS]
    return [name for name in tables if has_columns(join(folder, name), COLUMNS)]


def has_columns(path: str, columns: Sequence[str]) -> bool:
    """Whether a table's first line, or its Parquet schema, names all of ``columns``."""
    try:
        head, _ = read_ends(path, 4096)
        if head[:4] == b"PAR1":
            return {*columns} <= {*pq.read_schema(io.BytesIO(read_bytes(path))).names}
        line = decode_text(head.rpartition(b"\n")[0] or head, path, "").lstrip().partition("\n")[0]
    except (ImageError, UserError, *NO_TABLE):
        return False
    words = line.translate(dict.fromkeys(map(ord, ',;\t"{}:\r'), " ")).split()
    return {*columns} <= {*words}


def parse_boxes(cell: Any, place: str, form: BoxForm = "xyxy") -> tuple[Box, ...]:
    """Boxes of a manifest's cell; raises UserError, naming ``place``, for what has not the shape of a list of boxes."""
    if isinstance(cell, str):
        if not cell.strip():
            return ()
        try:
            cell = json.loads(cell)
        except (ValueError, RecursionError) as error:  # a number of thousands of digits is a plain ValueError
            raise UserError(f"{place}: boxes are not JSON ({error}): {quoted(cell)}; write {_BOX_FORMAT}") from None
    if cell is None:
        return ()
    if not isinstance(cell, list):
        raise UserError(f"{place}: boxes are no list: {quoted(cell)}; write {_BOX_FORMAT}")
    return tuple(_parse_box(entry, f"{place}, box {number}", form) for number, entry in enumerate(cell, 1))


def _parse_box(entry: Any, place: str, form: BoxForm) -> Box:
    label: Any = None
    if isinstance(entry, Mapping):
        unknown = sorted(set(entry) - {*_EDGES, "label"})
        missing = [name for name in _EDGES if name not in entry]
        if unknown or missing:
            fault = f"no {missing[0]}" if missing else f"an unknown key {quoted(unknown[0])}"
            raise UserError(f"{place}: {fault} in {quoted(entry)}; write {_BOX_FORMAT}")
        given, label = [entry[name] for name in _EDGES], entry.get("label")
    elif isinstance(entry, list):
        given = entry
    else:
        raise UserError(f"{place}: {quoted(entry)} is no box; write {_BOX_FORMAT}")
    if len(given) != 4:
        raise UserError(f"{place}: {len(given)} coordinates in {quoted(entry)}, not 4; write {_BOX_FORMAT}")
    numbers = []
    for value in given:
        number = as_number(value)
        if number is None:
            raise UserError(f"{place}: {quoted(value)} in {quoted(entry)} is no number; write {_BOX_FORMAT}")
        numbers.append(number)
    if label is not None and not isinstance(label, str):
        raise UserError(f"{place}: the label {quoted(label)} is no text; put it in quotes")
    return read_box(numbers, form, as_text(label))


def as_text(value: Any) -> str | None:
    """A cell as text; None if it is empty. Tables with gaps hold 7 as 7.0 and nothing as NaN."""
    if isinstance(value, float):
        value = int(value) if value.is_integer() else None if value != value else value
    return None if value is None else str(value).strip() or None
