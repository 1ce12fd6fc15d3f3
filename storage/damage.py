"""Files of a run that are not what was written: found by reading all of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from storage.run import ROWS_DIGEST, Part, Run
from storage.tables import PARTED, SCHEMAS, encode

KEPT = ("samples", "reviews", "cue_names")
"""Tables that stay when they are damaged: ``samples`` says which row is whose, the others are what people said."""


@dataclass(frozen=True)
class Damage:
    """A damaged file, by its path relative to the run."""

    path: str
    what: str
    """In words."""
    remade: bool
    """Whether the next run makes it again once it is removed."""


def find_damage(run: Run, progress: Callable[[int, int], object] = lambda done, total: None) -> Iterator[Damage]:
    """What is damaged: parts that cannot be read or hold other rows than were written, other maps than a part vouches
    for, whole tables that cannot be read.

    A part is compared with the digest of its rows and with the checksum of its maps, both in its metadata; parts of
    earlier versions lack one or both, and are only read. ``progress`` takes the files read and their number.
    """
    parts = [part for table in PARTED for part in run.parts(table)]
    tables = [name for name in SCHEMAS if name not in PARTED and run.has_table(name)]
    for done, part in enumerate(parts, start=1):
        if what := _of_part(run, part):
            yield Damage(part.path, what, remade=True)
        progress(done, len(parts) + len(tables))
    for done, name in enumerate(tables, start=1 + len(parts)):
        path = f"{name}.parquet"
        if isinstance(what := _read(run, path), str):
            yield Damage(path, what, remade=name not in KEPT)
        progress(done, len(parts) + len(tables))


def _of_part(run: Run, part: Part) -> str | None:
    table = _read(run, part.path)
    if isinstance(table, str):
        return table
    vouched = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    if ROWS_DIGEST in vouched and vouched[ROWS_DIGEST] != _rows_digest(table, SCHEMAS[part.table]):
        return "its rows are not those that were written"
    if part.table == "explain":
        try:
            same = run.has_maps(part.method, vouched)
        except Exception as error:  # a codec raises types of its own on damaged data
            return f"its maps cannot be read: {_said(error)}"
        if not same:
            return "its maps are not those that were written"
    return None


def _rows_digest(table: pa.Table, schema: pa.Schema) -> str:
    """The digest that :meth:`Run.write_part` takes, of the columns that the file has: a part of another version is no
    damage."""
    known = set(schema.names)
    fields = [schema.field(field.name) if field.name in known else field for field in table.schema]
    try:
        return hashlib.sha256(encode(table, pa.schema(fields))).hexdigest()
    except pa.ArrowException:
        return "columns of another type"


def _read(run: Run, path: str) -> pa.Table | str:
    """The table of a file, or why it cannot be read."""
    try:
        # One thread: pyarrow's others once ended the process after a failed read.
        return pq.ParquetFile(pa.BufferReader(run.directory.read(path))).read(use_threads=False)
    except (pa.ArrowException, OSError, KeyError) as error:
        return f"it cannot be read: {_said(error)}"


def _said(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
