"""What image files say of themselves: digest, size and whether they can be read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from stages.ingest.record import AT_ONCE, Record, Records
from storage.media.images import EXIF_DAMAGED, FileStamp, ImageError, examine_image, read_bytes, stamp_file

THREADS = 8
_HANDED = 1024  # images handed to the threads in one go: bounds the memory, not the speed

Row = dict[str, Any]

_REUSED = ["uri", "digest", "size_bytes", "mtime_ns", "width", "height", "reason"]
"""Columns of a sample of the previous run from which its facts are known again."""


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """Facts of a sample's file; None for a fact that could not be read."""

    digest: str | None = None
    size_bytes: int | None = None
    mtime_ns: int | None = None
    width: int | None = None
    height: int | None = None
    problem: str | None = None
    """Why the image cannot be used."""
    note: str | None = None
    """What is wrong with the file, though the image can be used."""


_PACKED = pa.schema(
    [
        ("digest", pa.string()),
        *((name, pa.int64()) for name in ("size_bytes", "mtime_ns", "width", "height")),
        ("problem", pa.string()),
        ("note", pa.string()),
    ]
)


class Facts:
    """Facts of images, in the order of their records, as rows of Arrow. Iterating makes objects of some at a time."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    @classmethod
    def of(cls, facts: Iterable[ImageFacts]) -> Facts:
        """The facts, each read once."""
        given, batches = iter(facts), []
        while some := list(islice(given, AT_ONCE)):
            columns = [pa.array([getattr(one, field.name) for one in some], field.type) for field in _PACKED]
            batches.append(pa.RecordBatch.from_arrays(columns, schema=_PACKED))
        return cls(pa.Table.from_batches(batches, _PACKED))

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __iter__(self) -> Iterator[ImageFacts]:
        for batch in self._table.to_batches(max_chunksize=AT_ONCE):
            yield from map(ImageFacts, *(batch[name].to_pylist() for name in _PACKED.names))

    def column(self, name: str) -> pa.ChunkedArray:
        """One fact of each image."""
        return self._table[name]


def read_all(records: Records, known: pa.Table, progress: Callable[[int, int], object] | None) -> Facts:
    """Facts of each record's image, in order, read by threads. ``known`` are the samples of the previous run."""
    return Facts.of(_read(records, known, progress))


def _read(records: Records, known: pa.Table, progress: Callable[[int, int], object] | None) -> Iterator[ImageFacts]:
    places = pc.index_in(records.column("uri"), value_set=known["uri"])
    given, start = iter(records), 0
    with ThreadPoolExecutor(THREADS, thread_name_prefix="ingest") as pool:
        while some := list(islice(given, _HANDED)):
            own = places.slice(start, len(some))
            before = iter(known.select(_REUSED).take(own.drop_null()).to_pylist())
            befores = [next(before) if place.is_valid else None for place in own]
            for done, facts in enumerate(pool.map(read_facts, some, befores), start + 1):
                if progress is not None:
                    progress(done, len(records))
                yield facts
            start += len(some)


def read_facts(record: Record, before: Row | None = None) -> ImageFacts:
    """Facts of a record's image. ``before``, a row of the previous run, is reused if the file's size and modification
    time are the same."""
    if record.problem is not None:
        return ImageFacts(problem=record.problem)
    facts = ImageFacts()
    try:
        stamp = stamp_file(record.uri)
        if before is not None and before["width"] is not None and _unchanged(record, stamp, before):
            note = EXIF_DAMAGED if EXIF_DAMAGED in (before["reason"] or "") else None
            return ImageFacts(
                before["digest"], stamp.size_bytes, stamp.mtime_ns, before["width"], before["height"], note=note
            )
        content = read_bytes(record.uri)
        digest = hashlib.sha256(content).hexdigest()
        facts = ImageFacts(digest=digest, size_bytes=stamp.size_bytes, mtime_ns=stamp.mtime_ns)
        examined = examine_image(content)
    except ImageError as error:
        return replace(facts, problem=error.reason)
    return replace(facts, width=examined.width, height=examined.height, note=examined.note)


def _unchanged(record: Record, stamp: FileStamp, before: Row) -> bool:
    return stamp.mtime_ns is not None and (record.uri, stamp.size_bytes, stamp.mtime_ns) == (
        before["uri"],
        before["size_bytes"],
        before["mtime_ns"],
    )
