"""A run: one directory that holds everything a pipeline run produced."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.parquet as pq

from storage.errors import DamagedFile, SightlineError, UserError, said
from storage.files import Directory, answering
from storage.info import RunInfo
from storage.integrity import seals
from storage.maps import CHUNK_ROWS, MapAttributes, MapStore, combined_checksum, outside_maps_of
from storage.tables import CHECKED, PARTED, SCHEMAS, decode, encode

DEFAULT_METHOD = "opti_cam"
"""The method that is audited and shown where nobody chose one, if the run has it."""

KEPT = ("reviews.parquet", "cue_names.parquet")
"""Files that stay when they are damaged: what people said cannot be made again."""

ROWS_DIGEST = "rows_digest"
"""Key of a part's metadata: SHA-256 of its rows, so that its footer tells it from another version of the part."""

_FOOTERS_AT_ONCE = 32
"""Requests at a time: on an object store, almost all of the time of one is waiting."""

_ORDER = ("method", "row", "target")
"""How the rows of a table in parts are sorted."""


@dataclass(frozen=True)
class Part:
    """A committed shard of a table: the file *is* the commit."""

    table: str
    method: str
    index: int

    @property
    def path(self) -> str:
        """Path relative to the run."""
        return f"{self.table}/{self.method}/part-{self.index:05d}.parquet"


MADE_FROM = "made_from"
"""Key of the metadata of a part of ``scores``: the :func:`seal` of the part of ``explain`` that it was made from."""


MAPS_CHECKSUM = "maps_checksum"
"""Entry of the metadata of a part of ``explain``: the checksum of its maps."""
OUTSIDE_CHECKSUM = "outside_checksum"
"""Likewise of its maps of what outside the boxes carries the class, where it has them."""


def seal(vouched: Mapping[str, str]) -> str:
    """What tells a part of ``explain``, by its metadata, from another one that was committed in its place."""
    return " ".join(vouched.get(key, "") for key in (MAPS_CHECKSUM, "probes_fingerprint"))


class Run:
    """A run directory. Layout: ``docs/architecture.md``.

    >>> run = Run.open("runs/demo")                                # doctest: +SKIP
    >>> run.table("scores")                                        # doctest: +SKIP
    >>> run.maps("label").read([3, 7], size=(224, 224))            # doctest: +SKIP
    """

    def __init__(self, directory: Directory) -> None:
        self.directory = directory
        self._held: set[seals.Version] = set()

    @classmethod
    def create(cls, url: str) -> Run:
        """Open the run at ``url``, a path or fsspec URL, and make its directory if needed."""
        directory = Directory(str(url))
        if directory.is_local:
            try:
                directory.local_path().mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise UserError(f"cannot make the run directory {url}: {error.strerror}; set `run` elsewhere") from None
        else:
            _reach(directory)
        return cls(directory)

    @classmethod
    def open(cls, url: str) -> Run:
        """Open an existing run; raises UserError if there is none."""
        directory = Directory(str(url))
        if not directory.is_local:
            _reach(directory)
        if not _holds_run(directory):
            near = _runs_near(url) if directory.is_local else []
            hint = f"; there are: {', '.join(near[:8])}" if near else ""
            raise UserError(f"no run at {url}{hint}; `sightline run CONFIG` makes one")
        return cls(directory)

    @property
    def url(self) -> str:
        """Where the run is, as it was given."""
        return self.directory.url

    @property
    def name(self) -> str:
        """Last component of the URL."""
        return PurePosixPath(self.directory.root).name

    def local_path(self, relative: str = "") -> Path:
        """Path on the local disk; raises UserError if the run is remote."""
        return self.directory.local_path(relative)

    # run.json

    @property
    def info(self) -> RunInfo:
        """Content of run.json; empty before a run has finished. Raises DamagedFile, as all that reads a file does."""
        if not self.directory.exists("run.json"):
            return RunInfo()
        with self.naming("run.json"):
            return RunInfo.of_json(self.directory.read("run.json"))

    def write_info(self, info: RunInfo) -> None:
        """Replace run.json."""
        self.directory.write("run.json", info.to_json().encode())

    # Tables

    def has_table(self, name: str) -> bool:
        """Whether the run has that table, whole or in parts."""
        if name in PARTED:
            return any(True for _ in self.parts(name))
        return self.directory.exists(f"{name}.parquet")

    def table(self, name: str, columns: Sequence[str] | None = None, where: pc.Expression | None = None) -> pa.Table:
        """The rows ``where`` a condition holds of a table; those of a table in parts by method, row and target.

        Columns that a file of an earlier version lacks are null there. Raises UserError for a table that the run lacks.
        """
        if name not in SCHEMAS:
            raise UserError(f"no table {name!r}; tables are {', '.join(SCHEMAS)}")
        if name in PARTED:
            read = None if columns is None else list(dict.fromkeys((*columns, *_ORDER)))
            with self.naming(name):
                rows = self.dataset(name).to_table(columns=read, filter=where).replace_schema_metadata(None)
            rows = rows.sort_by([(key, "ascending") for key in _ORDER])
            return rows if columns is None else rows.select(list(columns))
        if not self.directory.exists(f"{name}.parquet"):
            raise UserError(f"{self.url} has no {name} table yet; `sightline run CONFIG` makes it")
        with self.naming(f"{name}.parquet"):
            return decode(self.directory.read(f"{name}.parquet"), columns, where, SCHEMAS[name])

    @contextmanager
    def naming(self, path: str) -> Iterator[None]:
        """Raise DamagedFile, which names ``path``, for what a reader raises in the context on a damaged file."""
        try:
            with answering(self.directory.url_of(path)):
                yield
        except FileNotFoundError:
            raise
        except (pa.ArrowException, OSError, ValueError, TypeError, KeyError) as error:
            raise DamagedFile(f"{self.directory.url_of(path)} cannot be read: {said(error)}; {remedy(path)}") from None

    def dataset(self, name: str, method: str | None = None, *, schema: pa.Schema | None = None) -> pads.Dataset:
        """The committed parts of a table, of one method or of all, to read columns and rows from; nothing is read yet.

        ``schema``: the table's, or some fields of it. Columns that a part lacks are null.
        """
        paths = [part.path for part in self.parts(name, method)]
        return pads.dataset(paths, schema=schema or SCHEMAS[name], format=CHECKED, filesystem=self.directory.arrow)

    def write_table(self, name: str, table: pa.Table, metadata: dict[str, str] | None = None) -> None:
        """Replace a whole table, cast to its schema, atomically; ``metadata`` says what it was made from."""
        if name in PARTED:
            raise SightlineError(f"the table {name!r} is written in parts: use write_part")
        self.directory.write(f"{name}.parquet", encode(table, SCHEMAS[name], metadata))

    def table_metadata(self, name: str) -> dict[str, str]:
        """What a whole table that the run has was written with, from its footer."""
        with self.naming(f"{name}.parquet"):
            return vouched_by(pq.read_schema(f"{name}.parquet", filesystem=self.directory.arrow).metadata)

    def discard_table(self, name: str) -> None:
        """Remove a whole table, if it is there."""
        self.directory.remove(f"{name}.parquet")

    # Parts: one file a method and shard

    def parts(self, table: str, method: str | None = None) -> Iterator[Part]:
        """Committed parts of a table, of one method or of all."""
        methods = [method] if method else self.directory.names(table)
        for name in methods:
            for file in self.directory.names(f"{table}/{name}"):
                if file.startswith("part-") and file.endswith(".parquet"):
                    with suppress(ValueError):
                        yield Part(table, name, int(file.removeprefix("part-").removesuffix(".parquet")))

    def write_part(self, part: Part, table: pa.Table, metadata: dict[str, str]) -> None:
        """Commit a part: its rows, and in its metadata what it vouches for, with a digest of the rows."""
        schema = SCHEMAS[part.table]
        digest = rows_digest(table, schema)
        self.directory.write(part.path, encode(table, schema, {**metadata, ROWS_DIGEST: digest}))

    def read_part(
        self, part: Part, columns: Sequence[str] | None = None, where: pc.Expression | None = None
    ) -> pa.Table:
        """The rows ``where`` a condition holds of a committed part; columns that it lacks are null."""
        content = pads.dataset([part.path], schema=SCHEMAS[part.table], format=CHECKED, filesystem=self.directory.arrow)
        with self.naming(part.path):
            rows = content.to_table(columns=None if columns is None else list(columns), filter=where)
        return rows.replace_schema_metadata(None)

    def part_metadata(self, part: Part) -> dict[str, str] | None:
        """What a part vouches for, from its footer; None if it is not committed."""
        try:
            with self.naming(part.path):
                stored = pq.read_schema(part.path, filesystem=self.directory.arrow).metadata or {}
        except FileNotFoundError:
            return None
        return vouched_by(stored)

    def damaged_parts(self, table: str) -> list[Part]:
        """The parts of a table whose footers cannot be read, or that were changed, by :meth:`refuse_changed`; many are
        read at a time."""

        def is_damaged(part: Part) -> bool:
            try:
                self.part_metadata(part)
                self.refuse_changed([part.path])
            except DamagedFile:
                return True
            return False

        parts = list(self.parts(table))
        with ThreadPoolExecutor(_FOOTERS_AT_ONCE, thread_name_prefix="footers") as pool:
            return [part for part, damaged in zip(parts, pool.map(is_damaged, parts), strict=True) if damaged]

    def refuse_changed(self, paths: Iterable[str], stopped: Callable[[], bool] = lambda: False) -> None:
        """Raise DamagedFile, which names it, for the first of some Parquet files that does not hold its own CRC32.

        For those who read a local disk by other ways than pyarrow; it reads all but the vectors, of each file once for
        each time that the file is written. Of a run elsewhere nothing is read, since there pyarrow reads, and compares
        pages with theirs. Files of earlier versions have none. It ends early once ``stopped``.
        """
        path = seals.changed(self.directory, paths, self._held, stopped) if self.directory.is_local else None
        if path is not None:
            how = remedy(path) if path in KEPT else f"`sightline verify RUN` removes it, and {remedy(path)}"
            raise DamagedFile(f"{self.directory.url_of(path)}: {seals.CHANGED}; {how}")

    def files(self, name: str) -> Iterator[str]:
        """The files of a table that the run has, one or many, by their paths relative to the run."""
        if name in PARTED:
            yield from (part.path for part in self.parts(name))
        elif self.has_table(name):
            yield f"{name}.parquet"

    def footers(self, table: str, method: str | None = None) -> dict[Part, dict[str, str]]:
        """What the committed parts of a table vouch for, of one method or of all: read many at a time."""
        parts = list(self.parts(table, method))
        with ThreadPoolExecutor(_FOOTERS_AT_ONCE, thread_name_prefix="footers") as pool:
            found = pool.map(self.part_metadata, parts)
            return {part: vouched for part, vouched in zip(parts, found, strict=True) if vouched is not None}

    def has_maps(self, method: str, vouched: Mapping[str, str]) -> bool:
        """Whether the maps are those that a part of ``explain`` of the method vouches for in its metadata.

        Parts of an earlier version do not say of which targets, and are believed. Maps that a codec refuses are others.
        """
        if "targets" not in vouched:
            return True
        try:
            start, _, stop = vouched["rows"].partition(":")
            rows, targets = slice(int(start), int(stop)), vouched["targets"].split(",")
            same = vouched[MAPS_CHECKSUM] == combined_checksum(
                self.maps(target, method).read(rows) for target in targets
            )
            if same and OUTSIDE_CHECKSUM in vouched:
                outside = (self.outside_maps(target, method).read(rows) for target in targets)
                same = vouched[OUTSIDE_CHECKSUM] == combined_checksum(outside)
        except (ValueError, KeyError, RuntimeError):
            return False
        return same

    def discard_part(self, part: Part) -> None:
        """Remove a part, before what it vouches for is changed."""
        self.directory.remove(part.path)

    # Maps

    def fits_maps(self, attributes: MapAttributes, *, grid: tuple[int, int], shard: int = CHUNK_ROWS) -> bool:
        """Whether :meth:`create_maps` keeps the maps of the attributes' target and method."""
        return MapStore.fits(self.directory, attributes, grid, shard)

    def create_maps(
        self, attributes: MapAttributes, *, rows: int, grid: tuple[int, int], shard: int = CHUNK_ROWS
    ) -> MapStore:
        """The map array of the attributes' target and method, for writing; made, or grown to ``rows``.

        ``shard``: rows that a task writes, a multiple of ``CHUNK_ROWS``.
        """
        return MapStore.create(self.directory, attributes, rows=rows, grid=grid, shard=shard)

    def discard_maps(self, target: str, method: str) -> None:
        """Remove the maps of a target and method, after the parts that vouch for them."""
        MapStore.remove(self.directory, target, method)

    def name_classes(self, names: tuple[str, ...]) -> None:
        """Record with all maps, whichever method made them, how the network's classes are called now."""
        for method in self.directory.names("maps.zarr"):
            for target in self.targets(method):
                self.maps(target, method, mode="r+").name_classes(names)

    def maps(self, target: str = "label", method: str | None = None, *, mode: str = "r") -> MapStore:
        """The maps of a target and method, by default the audited one; raises UserError if the run has none."""
        return MapStore.open(self.directory, target, method or self.audited_method(), mode=mode)

    def outside_maps(self, target: str, method: str, *, mode: str = "r") -> MapStore:
        """The maps of what outside the boxes carries the class, which were made beside those of a target and method.

        Raises UserError if the run has none.
        """
        return MapStore.open(self.directory, target, outside_maps_of(method), mode=mode)

    def methods(self) -> list[str]:
        """Methods with at least one committed part."""
        return [name for name in self.directory.names("explain") if any(self.parts("explain", name))]

    def targets(self, method: str) -> list[str]:
        """Targets that the method has maps for."""
        found = self.directory.names(f"maps.zarr/{method}")
        return [name for name in found if self.directory.exists(f"maps.zarr/{method}/{name}/zarr.json")]

    def audited_method(self) -> str:
        """The method that the findings are about: ``audit.method`` of the run's config, else :func:`default_method`."""
        return str(self.info.section("audit").get("method") or default_method(self.methods()))

    def class_names(self) -> tuple[str, ...]:
        """Names of the network's classes, as the maps record them; empty for a run without maps."""
        for method in self.methods():
            for target in self.targets(method):
                if names := self.maps(target, method).attributes.class_names:
                    return names
        return ()


def rows_digest(table: pa.Table, schema: pa.Schema) -> str:
    """SHA-256 of the rows of a part, without the checksums of its pages, which parts of earlier versions lack."""
    return hashlib.sha256(encode(table, schema, checksums=False)).hexdigest()


def vouched_by(metadata: Mapping[bytes, bytes] | None) -> dict[str, str]:
    """Metadata of a part as text, without Arrow's own; a damaged byte makes a text that vouches for nothing."""
    pairs = (metadata or {}).items()
    return {key.decode(errors="replace"): value.decode(errors="replace") for key, value in pairs if key[:5] != b"ARROW"}


def class_name(names: Sequence[str], index: int) -> str:
    """Name of a class of the network, by its number where ``names`` ends before it."""
    return names[index] if index < len(names) else f"class {index}"


def default_method(methods: Sequence[str]) -> str:
    """:data:`DEFAULT_METHOD` if it is among ``methods`` or there are none, else the first of them by name."""
    return DEFAULT_METHOD if not methods or DEFAULT_METHOD in methods else min(methods)


def remedy(path: str) -> str:
    """What to do where a file of a run cannot be read."""
    if path == "reviews.parquet":
        return "`sightline reviews RUN` names the copy to go back to"
    if path == "cue_names.parquet":
        return "put a copy of yours in its place, or remove it and name the cues again"
    return "`sightline run CONFIG` makes it again"


def _holds_run(directory: Directory) -> bool:
    return directory.exists("run.json") or directory.exists("samples.parquet")


def _runs_near(path: str) -> list[str]:
    """The local runs in a folder and beside it, as a shell takes them."""
    folders = (PurePosixPath(path), PurePosixPath(path).parent)
    found = (str(folder / name) for folder in folders for name in Directory(str(folder)).names(""))
    return [shlex.quote(run) for run in found if holds_run(run)]


def holds_run(path: str | PurePath) -> bool:
    """Whether a local folder is that of a run."""
    return _holds_run(Directory(str(path)))


def _reach(directory: Directory) -> None:
    """Ask a remote file system for anything at all; raises UserError if it does not answer."""
    try:
        directory.exists()
    except Exception as error:  # every remote file system has errors of its own for missing credentials or hosts
        why = error.__cause__ or error  # of NoAnswer, what the file system said
        raise UserError(
            f"cannot reach {directory.url}: {type(why).__name__}: {why}; check the address and your credentials"
        ) from error
