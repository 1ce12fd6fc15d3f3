"""What every reader gives: one record an image, and the dataset's own list of classes if it has one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import islice
from typing import Literal, NamedTuple, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from storage.media.object_masks import ObjectMask

BoxForm = Literal["xyxy", "xywh", "cxcywh", "yxyx", "voc"]
"""How four numbers say a box: ``voc`` is xyxy of pixels that count from 1, both ends included."""


class Shape(Protocol):
    """What of an image an object covers, where the dataset says more than a box; ``readers.shapes`` has them."""

    def drawn(self, box: Box, width: int, height: int) -> ObjectMask:
        """The object's pixels in an image of ``width`` x ``height``; ``box``, px, is around it.

        Raises :class:`stages.ingest.shapes.ShapeError`, in words, where it cannot be a mask of this image.
        """
        ...


class Box(NamedTuple):
    """A half-open rectangle of the upright image, as the dataset says it: not clipped, perhaps not valid."""

    x0: float
    y0: float
    x1: float
    y1: float
    label: str | None = None
    """None: the sample's own label."""
    shape: Shape | None = None
    """What of the box is the object; None where the dataset does not say."""


@dataclass(frozen=True, slots=True)
class Record:
    """One image, or one sample of it, as the dataset describes it; nothing of it was checked against the image."""

    sample_id: str
    """Path relative to the dataset's root, POSIX; the path or URL itself where it lies outside."""
    uri: str
    """Absolute local path or fsspec URL of the image."""
    place: str
    """Where the dataset says so, for messages: a file, and where in it."""
    label: str | None
    """Class of the whole image; None where the dataset has none, and in datasets that label objects alone."""
    boxes: tuple[Box, ...] = ()
    split: str | None = None
    problem: str | None = None
    """Why the sample cannot be used, where the reader knows."""
    notes: tuple[str, ...] = ()
    """What was left out of the sample, and why."""
    form: BoxForm = "xyxy"
    """How the dataset wrote the boxes; they are half-open corners already."""
    relative: bool = False
    """Boxes are fractions of the upright image's width and height, not pixels."""
    annotation: str | None = None
    """The file that annotates this image alone, in formats that have one."""
    size: tuple[int, int] | None = None
    """Width and height, px, that the annotation says the image has."""
    shape: Shape | None = None
    """What of the image is of the class ``label``, where the dataset says it for the image as a whole."""


AT_ONCE = 10_000
"""Rows that are Python objects at a time; of a million, Arrow holds the rest."""

_BOX = pa.struct([*((name, pa.float64()) for name in Box._fields[:4]), ("label", pa.string())])
_PACKED = pa.schema(
    [
        ("number", pa.int64()),
        *((name, pa.string()) for name in ("sample_id", "uri", "place", "label", "split", "problem", "annotation")),
        ("form", pa.string()),
        ("relative", pa.bool_()),
        ("notes", pa.list_(pa.string())),
        ("size", pa.list_(pa.int64())),
        ("boxes", pa.list_(_BOX)),
    ]
)
"""A record as a row; ``number`` is its place among those that were read, by which its shapes are found."""

_Shapes = tuple[Shape | None, tuple[Shape | None, ...]]
"""The shape of a record, and those of its boxes."""


class Records:
    """Records of a dataset, in their order, as rows of Arrow: about 200 bytes one, a third of what objects take.

    Iterating makes ``AT_ONCE`` of them at a time, anew each time. Shapes, which are of many kinds, stay objects.
    """

    def __init__(self, table: pa.Table, shapes: dict[int, _Shapes]) -> None:
        self._table, self._shapes = table, shapes

    @classmethod
    def of(cls, records: Iterable[Record]) -> Records:
        """The records, each read once."""
        shapes: dict[int, _Shapes] = {}
        batches: list[pa.RecordBatch] = []
        number, given = 0, iter(records)
        while some := list(islice(given, AT_ONCE)):
            batches.append(_pack(some, number))
            for record in some:
                if record.shape is not None or any(box.shape is not None for box in record.boxes):
                    shapes[number] = record.shape, tuple(box.shape for box in record.boxes)
                number += 1
        return cls(pa.Table.from_batches(batches, _PACKED), shapes)

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __iter__(self) -> Iterator[Record]:
        for batch in self._table.to_batches(max_chunksize=AT_ONCE):
            yield from self._unpack(batch)

    def __getitem__(self, place: int) -> Record:
        return next(self._unpack(self._table.slice(place, 1)))

    def column(self, name: str) -> pa.ChunkedArray:
        """One value of each record: ``sample_id``, ``uri``, ``label``, ``split`` or ``problem``."""
        return self._table[name]

    def filter(self, chosen: pa.Array | pa.ChunkedArray) -> Records:
        """The records at which ``chosen``, one boolean each, is true."""
        return Records(self._table.filter(chosen), self._shapes)

    def take(self, places: Sequence[int]) -> Records:
        """The records at ``places``."""
        return Records(self._table.take(pa.array(places, pa.int64())), self._shapes)

    def renamed(self, names: Mapping[str, str]) -> Records:
        """The records, of which those that ``names`` has by their ``sample_id`` get another."""
        column = self._table["sample_id"]
        places = pc.index_in(column, value_set=pa.array(names, pa.string())).combine_chunks()
        new = pc.coalesce(pa.array(names.values(), pa.string()).take(places), column.combine_chunks())
        return Records(self._table.set_column(_PACKED.get_field_index("sample_id"), "sample_id", new), self._shapes)

    def box_labels(self) -> pa.ChunkedArray:
        """The label of each box, null for one without."""
        return pc.struct_field(pc.list_flatten(self._table["boxes"]), "label")

    def has_shapes(self) -> bool:
        """Whether the dataset says of an image as a whole which of its pixels are of its class."""
        return any(shape is not None for shape, _ in self._shapes.values())

    def _unpack(self, rows: pa.RecordBatch | pa.Table) -> Iterator[Record]:
        columns = {name: rows[name].to_pylist() for name in _PACKED.names}
        names = [field.name for field in fields(Record) if field.name != "shape"]
        for number, *values in zip(columns["number"], *(columns[name] for name in names), strict=True):
            given = dict(zip(names, values, strict=True))
            whole, each = self._shapes.get(number, (None, (None,) * len(given["boxes"])))
            boxes = (Box(**box, shape=shape) for box, shape in zip(given.pop("boxes"), each, strict=True))
            size, notes = given.pop("size"), given.pop("notes")
            yield Record(
                **given,
                boxes=tuple(boxes),
                notes=tuple(notes),
                size=None if size is None else (size[0], size[1]),
                shape=whole,
            )


def _pack(records: Sequence[Record], number: int) -> pa.RecordBatch:
    columns: dict[str, list[object]] = {
        name: [getattr(record, name) for record in records] for name in _PACKED.names if name != "number"
    }
    columns["number"] = list(range(number, number + len(records)))
    columns["boxes"] = [[box[:5] for box in record.boxes] for record in records]
    return pa.RecordBatch.from_arrays([pa.array(columns[field.name], field.type) for field in _PACKED], schema=_PACKED)


@dataclass(frozen=True)
class DatasetClass:
    """A class of the dataset's own list."""

    key: str
    """What labels say, such as a WordNet id."""
    name: str
    aliases: tuple[str, ...] = ()
    """Other names under which a model may list it."""


class DatasetReader(Protocol):
    """A format of datasets, made from its settings. The docstring's first line says what the format is.

    Raises UserError, with file, line and remedy, for a dataset that is malformed itself. What is wrong with one image
    or its annotation becomes the record's ``problem`` or ``notes``.
    """

    def records(self) -> Iterator[Record]:
        """Images in the dataset's order, each ``sample_id`` once if the dataset is sound."""
        ...

    def classes(self) -> tuple[DatasetClass, ...]:
        """The dataset's classes in the order of their indices; empty if it has no list."""
        ...

    def remarks(self) -> list[str]:
        """What a person should know of how the records were read, one line each; complete after ``records``."""
        ...
