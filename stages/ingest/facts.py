"""What image files say of themselves: digest, size and whether they can be read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from stages.ingest.record import AT_ONCE, Records
from storage.media.images import FileStamp, ImageError, examine_image, read_bytes, stamp_file
from storage.media.rgb import NOTES

THREADS = 8
HANDED = 128
"""Images that are looked at in one go: a second of work or less, so that progress is told often."""

Row = dict[str, Any]
Look = Callable[[Iterator[pa.Table], int], Iterable[tuple[int, pa.Table]]]
"""Gives the facts that :func:`look_at` finds for each of some tables, with the table's place among them, in any order.
The number is that of images that no earlier run saw."""

_KNOWN = ["digest", "size_bytes", "mtime_ns", "width", "height", "reason"]
"""What the previous run has of a sample from which its facts are known again: facts in their order, and its reason."""


KNOWN_COLUMNS = ("uri", *_KNOWN)


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

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __iter__(self) -> Iterator[ImageFacts]:
        for batch in self._table.to_batches(max_chunksize=AT_ONCE):
            yield from map(ImageFacts, *(batch[name].to_pylist() for name in _PACKED.names))

    def column(self, name: str) -> pa.ChunkedArray:
        """One fact of each image."""
        return self._table[name]


def look_here(asked: Iterator[pa.Table], new: int) -> Iterator[tuple[int, pa.Table]]:
    """A :data:`Look` by threads of this process."""
    with _threads() as pool:
        yield from enumerate(_look(some, pool) for some in asked)


def read_all(
    records: Records,
    known: pa.Table,
    progress: Callable[[int, int], object] | None,
    look: Look = look_here,
) -> Facts:
    """Facts of each record's image, in order. ``known`` are samples of the previous run, their ``KNOWN_COLUMNS``."""
    places = pc.index_in(records.column("uri"), value_set=known["uri"])

    def asked() -> Iterator[pa.Table]:
        for start in range(0, len(records), HANDED):
            some = {name: records.column(name).slice(start, HANDED) for name in ("uri", "problem")}
            before = known.select(_KNOWN).take(places.slice(start, HANDED))
            yield pa.table({**some, **{f"known_{name}": before[name] for name in _KNOWN}}).combine_chunks()

    found, done = dict[int, pa.Table](), 0
    for number, facts in look(asked(), places.null_count):
        found[number] = facts
        done += facts.num_rows
        if progress is not None:
            progress(done, len(records))
    return Facts(pa.concat_tables([found[number] for number in sorted(found)]).combine_chunks())


def look_at(asked: pa.Table) -> pa.Table:
    """The facts of some images, read by threads.

    ``asked`` has their ``uri``, the ``problem`` that the dataset's reader knows, and as ``known_...`` what a run before
    has found.
    """
    with _threads() as pool:
        return _look(asked, pool)


def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(THREADS, thread_name_prefix="ingest")


def _look(asked: pa.Table, pool: ThreadPoolExecutor) -> pa.Table:
    rows = asked.to_pylist()
    facts = [ImageFacts()] * len(rows)
    places = iter(range(len(rows)))

    def take() -> None:
        # Each thread takes the next image: a future for each would take longer than to see that an image is known.
        for place in places:
            facts[place] = _facts_of(rows[place])

    for thread in [pool.submit(take) for _ in range(min(THREADS, len(rows)))]:
        thread.result()
    return pa.table(
        [pa.array([getattr(one, field.name) for one in facts], field.type) for field in _PACKED], schema=_PACKED
    )


def _facts_of(asked: Row) -> ImageFacts:
    """Facts of an image; what is known is used again if the file's size and modification time are the same."""
    if asked["problem"] is not None:
        return ImageFacts(problem=asked["problem"])
    facts = ImageFacts()
    try:
        stamp = stamp_file(asked["uri"])
        if _unchanged(stamp, asked):
            note = "; ".join(note for note in NOTES if note in (asked["known_reason"] or "")) or None
            return ImageFacts(**{name: asked[f"known_{name}"] for name in _KNOWN[:-1]}, note=note)
        content = read_bytes(asked["uri"])
        digest = hashlib.sha256(content).hexdigest()
        facts = ImageFacts(digest=digest, size_bytes=stamp.size_bytes, mtime_ns=stamp.mtime_ns)
        examined = examine_image(content)
    except ImageError as error:
        return replace(facts, problem=error.reason)
    return replace(facts, width=examined.width, height=examined.height, note=examined.note)


def _unchanged(stamp: FileStamp, asked: Row) -> bool:
    known = asked["known_size_bytes"], asked["known_mtime_ns"]
    return asked["known_width"] is not None and None not in known and known == (stamp.size_bytes, stamp.mtime_ns)
