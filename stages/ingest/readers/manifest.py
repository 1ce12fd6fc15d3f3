"""The ``manifest`` reader: a CSV or Parquet file with the columns path, label, boxes and, if wanted, split."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from stages.ingest.places import absolute, join, parent, relative
from stages.ingest.record import Box, DatasetClass, Record
from stages.ingest.settings import DatasetSettings
from storage.errors import UserError
from storage.images import ImageError, read_bytes

COLUMNS = ("path", "label", "boxes")
_BOX_FORMAT = '[[x0, y0, x1, y1], ...] or [{"x0": .., "y0": .., "x1": .., "y1": .., "label": ..}, ...]'


class ManifestReader:
    """Samples of a manifest. ``path`` is relative to the manifest's folder (or to ``images``), absolute or a URL.

    ``boxes`` is a list of ``[x0, y0, x1, y1]`` or of objects with these keys and perhaps ``label``, half-open pixels of
    the upright image; JSON in a CSV, JSON or nested lists in Parquet. Empty cells mean: no label, no boxes, no split.
    Other columns are left alone.
    """

    def __init__(self, settings: DatasetSettings) -> None:
        self._path = absolute(settings.path)
        self._images = absolute(settings.images) if settings.images else parent(self._path)
        self._split = settings.split

    def classes(self) -> tuple[DatasetClass, ...]:
        """A manifest has no list of classes: labels are names of the model's."""
        return ()

    def records(self) -> Iterator[Record]:
        """Samples in the order of the file."""
        try:
            content = read_bytes(self._path)
        except ImageError as error:
            raise UserError(
                f"dataset.path: cannot read the manifest {self._path} ({error.reason}); give a CSV or Parquet file "
                f"with the columns {', '.join(COLUMNS)}"
            ) from None
        rows = self._parquet(content) if content[:4] == b"PAR1" else self._csv(content)
        for place, row in rows:
            yield self._record(place, row)

    def _csv(self, content: bytes) -> Iterator[tuple[str, Mapping[str, Any]]]:
        try:
            reader = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
            self._check_columns(reader.fieldnames or ())
            for row in reader:
                place = f"{self._path}, line {reader.line_num}"
                if None in row or None in row.values():
                    fields = len(reader.fieldnames or ())
                    raise UserError(
                        f"{place}: not {fields} fields as in the header; put boxes in double quotes, like "
                        '"[[10, 20, 110, 220]]"'
                    )
                yield place, row
        except UnicodeDecodeError as error:
            raise UserError(
                f"{self._path} is neither Parquet nor CSV in UTF-8 (byte {error.start}); save it as one of these"
            ) from None
        except csv.Error as error:
            raise UserError(f"{self._path}, line {reader.reader.line_num}: not CSV: {error}; quote the cell") from None

    def _parquet(self, content: bytes) -> Iterator[tuple[str, Mapping[str, Any]]]:
        try:
            table = pq.read_table(io.BytesIO(content))
        except pa.ArrowException as error:
            raise UserError(f"{self._path} is damaged Parquet: {error}; write it again") from None
        self._check_columns(table.column_names)
        columns = [name for name in (*COLUMNS, "split") if name in table.column_names]
        for number, row in enumerate(table.select(columns).to_pylist(), 1):
            yield f"{self._path}, row {number}", row

    def _check_columns(self, found: Sequence[str]) -> None:
        missing = [name for name in COLUMNS if name not in found]
        if missing:
            raise UserError(
                f"{self._path} has no column {missing[0]!r} (it has {', '.join(map(repr, found)) or 'none'}); a "
                f"manifest has the columns {', '.join(COLUMNS)}, with empty cells where there is nothing to say"
            )
        if self._split is not None and "split" not in found:
            raise UserError(f"{self._path} has no column 'split', but dataset.split is {self._split!r}; leave it out")

    def _record(self, place: str, row: Mapping[str, Any]) -> Record:
        path = _text(row["path"])
        if path is None:
            raise UserError(f"{place}: the path is empty; give the path of the image, or remove the row")
        uri = join(self._images, path)
        return Record(
            sample_id=relative(uri, self._images),
            uri=uri,
            place=place,
            label=_text(row["label"]),
            boxes=parse_boxes(row["boxes"], place),
            split=_text(row.get("split")),
        )


def parse_boxes(cell: Any, place: str) -> tuple[Box, ...]:
    """Boxes of a manifest's cell; raises UserError, naming ``place``, for what has not the shape of a list of boxes."""
    if isinstance(cell, str):
        if not cell.strip():
            return ()
        try:
            cell = json.loads(cell)
        except (json.JSONDecodeError, RecursionError) as error:
            raise UserError(f"{place}: boxes are not JSON ({error}): {_short(cell)}; write {_BOX_FORMAT}") from None
    if cell is None:
        return ()
    if not isinstance(cell, list):
        raise UserError(f"{place}: boxes are no list: {_short(cell)}; write {_BOX_FORMAT}")
    return tuple(_parse_box(entry, f"{place}, box {number}") for number, entry in enumerate(cell, 1))


def _parse_box(entry: Any, place: str) -> Box:
    label: Any = None
    if isinstance(entry, Mapping):
        unknown = sorted(set(entry) - {"x0", "y0", "x1", "y1", "label"})
        missing = [name for name in ("x0", "y0", "x1", "y1") if name not in entry]
        if unknown or missing:
            fault = f"no {missing[0]}" if missing else f"an unknown key {unknown[0]!r}"
            raise UserError(f"{place}: {fault} in {_short(entry)}; write {_BOX_FORMAT}")
        numbers, label = [entry[name] for name in ("x0", "y0", "x1", "y1")], entry.get("label")
    elif isinstance(entry, list):
        numbers = entry
    else:
        raise UserError(f"{place}: {_short(entry)} is no box; write {_BOX_FORMAT}")
    if len(numbers) != 4:
        raise UserError(f"{place}: {len(numbers)} coordinates in {_short(entry)}, not 4; write {_BOX_FORMAT}")
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise UserError(f"{place}: {number!r} in {_short(entry)} is no number; write {_BOX_FORMAT}")
    if label is not None and not isinstance(label, str):
        raise UserError(f"{place}: the label {label!r} is no text; put it in quotes")
    x0, y0, x1, y1 = map(_real, numbers)
    return Box(x0, y0, x1, y1, _text(label))


def _real(number: float) -> float:
    try:
        return float(number)
    except OverflowError:  # an integer of hundreds of digits: as far out as can be, which drops the box
        return float("inf") if number > 0 else float("-inf")


def _text(value: Any) -> str | None:
    """A cell as text; None if it is empty."""
    return None if value is None else str(value).strip() or None


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
