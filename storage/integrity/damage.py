"""Files of a run that cannot be read, or are not what was written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from storage.errors import DamagedFile, UserError, said
from storage.info import RunInfo
from storage.integrity import seals
from storage.maps import OUTSIDE
from storage.run import KEPT, ROWS_DIGEST, Part, Run, remedy, rows_digest, vouched_by
from storage.tables import NO_TABLE, PARTED, SCHEMAS


@dataclass(frozen=True)
class Damage:
    """A damaged file, by its path relative to the run."""

    path: str
    what: str
    """In words."""

    @property
    def remade(self) -> bool:
        """Whether the next run makes it again once it is removed."""
        return self.path not in KEPT

    @property
    def remedy(self) -> str:
        """What becomes of it when it is discarded."""
        return "removed" if self.remade else f"kept: {remedy(self.path)}"


def find_unreadable(run: Run) -> Iterator[Damage]:
    """What cannot be opened, of the files that other stages read: run.json, whole tables, the arrays of maps, and the
    footers of parts, where a file that was cut off ends; on a local disk also parts that do not hold their CRC32.
    """
    if run.directory.exists("run.json"):
        content = run.directory.read("run.json")
        try:
            RunInfo.of_json(content)
        except ValueError as error:
            yield Damage("run.json", f"it cannot be read: {said(error)}")
    for path in _whole_tables(run):
        if isinstance(what := _read(run, path), str):
            yield Damage(path, what)
    for method in run.directory.names("maps.zarr"):
        for target in run.targets(method):
            try:
                run.maps(target, method)
            except DamagedFile as error:
                yield Damage(f"maps.zarr/{method}/{target}/zarr.json", str(error))
    for table in PARTED:
        for part in run.damaged_parts(table):
            # Read whole, since of a footer pyarrow does not say whether the file or the way to it is at fault.
            if isinstance(what := _read(run, part.path), str):
                yield Damage(part.path, what)


def find_damage(run: Run, progress: Callable[[int, int], object] = lambda done, total: None) -> Iterator[Damage]:
    """What is damaged, found by reading every file: what cannot be read, parts that hold other rows than were written,
    maps that are not those a part vouches for.

    A part is compared with the digest of its rows and with the checksum of its maps, both in its metadata; parts of
    earlier versions lack one or both, and are only read. ``progress`` takes the files read and their number.
    """
    parts = [part for table in PARTED for part in run.parts(table)]
    unreadable = {damage.path: damage for damage in find_unreadable(run)}
    yield from unreadable.values()
    for done, part in enumerate(parts, start=1):
        if part.path not in unreadable and (what := _of_part(run, part)):
            yield Damage(part.path, what)
        progress(done, len(parts))


def discard(run: Run, damage: Damage) -> None:
    """Remove a damaged file, so that the next run makes it again; those that cannot be made again stay."""
    if not damage.remade:
        return
    folder, _, name = damage.path.rpartition("/")
    if name == "zarr.json":
        method = folder.split("/")[1].removesuffix(OUTSIDE)
        for part in list(run.parts("explain", method)):
            run.discard_part(part)  # it vouches for maps of this array
    run.directory.remove(damage.path)


def _whole_tables(run: Run) -> list[str]:
    return [f"{name}.parquet" for name in SCHEMAS if name not in PARTED and run.has_table(name)]


def _of_part(run: Run, part: Part) -> str | None:
    table = _read(run, part.path)
    if isinstance(table, str):
        return table
    vouched = vouched_by(table.schema.metadata)
    if ROWS_DIGEST in vouched and vouched[ROWS_DIGEST] != _digest_of_known(table, SCHEMAS[part.table]):
        return "its rows are not those that were written"
    if part.table == "explain":
        try:
            same = run.has_maps(part.method, vouched)
        except (DamagedFile, UserError) as error:  # the array itself
            return f"its maps cannot be read: {error}"
        if not same:
            return "its maps are not those that were written"
    return None


def _digest_of_known(table: pa.Table, schema: pa.Schema) -> str:
    """The digest that :meth:`Run.write_part` takes, of the columns that the file has: a part of another version is no
    damage."""
    known = set(schema.names)
    fields = [schema.field(field.name) if field.name in known else field for field in table.schema]
    try:
        return rows_digest(table, pa.schema(fields))
    except pa.ArrowException:
        return "columns of another type"


def _read(run: Run, path: str) -> pa.Table | str:
    """The table of a file, or why it is none. What the disk or the network does not give is raised: it is no damage."""
    content = run.directory.read(path)
    try:
        # One thread: pyarrow's others once ended the process after a failed read.
        table = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True).read(use_threads=False)
    except NO_TABLE as error:
        return f"it cannot be read: {said(error)}"
    return seals.CHANGED if seals.holds(content) is False else table
