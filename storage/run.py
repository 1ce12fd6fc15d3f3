"""A run: one directory that holds everything a pipeline run produced."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa

from storage.errors import SightlineError, UserError
from storage.files import Directory
from storage.maps import MapStore
from storage.tables import PARTED, SCHEMAS, decode, decode_metadata, decode_names, encode


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


class Run:
    """A run directory. Layout: ``docs/architecture.md``.

    >>> run = Run.open("runs/demo")                                # doctest: +SKIP
    >>> run.table("scores")                                        # doctest: +SKIP
    >>> run.maps("label").read([3, 7], size=(224, 224))            # doctest: +SKIP
    """

    def __init__(self, directory: Directory) -> None:
        self.directory = directory

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
        if not directory.exists("run.json") and not directory.exists("samples.parquet"):
            parent = str(PurePosixPath(directory.root).parent)
            near = Directory(parent).names("") if directory.is_local else []
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
    def info(self) -> dict[str, Any]:
        """Content of run.json; empty before the first run."""
        if not self.directory.exists("run.json"):
            return {}
        return dict(json.loads(self.directory.read("run.json")))

    def write_info(self, info: dict[str, Any]) -> None:
        """Replace run.json."""
        self.directory.write("run.json", (json.dumps(info, indent=2, sort_keys=True) + "\n").encode())

    # Tables

    def has_table(self, name: str) -> bool:
        """Whether the run has that table, whole or in parts."""
        if name in PARTED:
            return any(True for _ in self.parts(name))
        return self.directory.exists(f"{name}.parquet")

    def table(self, name: str, columns: list[str] | None = None) -> pa.Table:
        """A whole table, or its committed parts one after the other, sorted by method, row and target.

        ``columns`` that parts of an earlier version lack are left out. Raises UserError for a table that the run lacks.
        """
        if name not in SCHEMAS:
            raise UserError(f"no table {name!r}; tables are {', '.join(SCHEMAS)}")
        if name in PARTED:
            order = ("method", "row", "target")
            read = sorted({*columns, *order}) if columns else None
            tables = [self.read_part(part, read) for part in self.parts(name)]
            whole = pa.concat_tables(tables) if tables else SCHEMAS[name].empty_table()
            whole = whole.replace_schema_metadata(None)
            whole = whole.sort_by([(key, "ascending") for key in order])
            return whole.select([column for column in columns if column in whole.column_names]) if columns else whole
        if not self.directory.exists(f"{name}.parquet"):
            raise UserError(f"{self.url} has no {name} table yet; `sightline run CONFIG` makes it")
        return decode(self.directory.read(f"{name}.parquet"), columns)

    def write_table(self, name: str, table: pa.Table) -> None:
        """Replace a whole table, cast to its schema, atomically."""
        if name in PARTED:
            raise SightlineError(f"the table {name!r} is written in parts: use write_part")
        self.directory.write(f"{name}.parquet", encode(table, SCHEMAS[name]))

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
        """Commit a part: its rows, and in its metadata what it vouches for."""
        self.directory.write(part.path, encode(table, SCHEMAS[part.table], metadata))

    def read_part(self, part: Part, columns: list[str] | None = None) -> pa.Table:
        """Rows of a committed part; ``columns`` that it lacks are left out."""
        content = self.directory.read(part.path)
        return decode(content, columns and [column for column in columns if column in decode_names(content)])

    def part_metadata(self, part: Part) -> dict[str, str] | None:
        """What a part vouches for; None if it is not committed."""
        if not self.directory.exists(part.path):
            return None
        return decode_metadata(self.directory.read(part.path))

    def discard_part(self, part: Part) -> None:
        """Remove a part, before what it vouches for is changed."""
        self.directory.remove(part.path)

    # Maps

    def create_maps(
        self, method: str, target: str, *, rows: int, grid: tuple[int, int], attributes: dict[str, Any]
    ) -> MapStore:
        """The map array of a method and target, for writing; made, or grown to ``rows``."""
        return MapStore.create(self.directory, method, target, rows=rows, grid=grid, attributes=attributes)

    def maps(self, target: str = "label", method: str = "opti_cam", *, mode: str = "r") -> MapStore:
        """The maps of a target and method; raises UserError if the run has none."""
        return MapStore.open(self.directory, method, target, mode=mode)

    def methods(self) -> list[str]:
        """Methods with at least one committed part."""
        return sorted({part.method for part in self.parts("explain")})

    def targets(self, method: str) -> list[str]:
        """Targets that the method has maps for."""
        found = self.directory.names(f"maps.zarr/{method}")
        return [name for name in found if self.directory.exists(f"maps.zarr/{method}/{name}/zarr.json")]


def _reach(directory: Directory) -> None:
    """Ask a remote file system for anything at all; raises UserError if it does not answer."""
    try:
        directory.exists()
    except Exception as error:  # every remote file system has errors of its own for missing credentials or hosts
        raise UserError(
            f"cannot reach {directory.url}: {type(error).__name__}: {error}; check the address and your credentials"
        ) from error
