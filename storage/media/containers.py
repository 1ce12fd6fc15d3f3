"""Images inside larger files, each by a URL of its own that any worker can open again.

- ``tar://shard/0001.jpg::/data/train-000.tar``: a member of a tar; fsspec's own form, which other programs open too.
- ``parquet://image/17::/data/train.parquet``: column ``image``, row 17 from 0: bytes, or a struct with ``bytes``.
- ``arrow://image/17::/data/data-00000-of-00002.arrow``: the same of an Arrow stream.
- ``crop://10,20,110,220::/data/a.jpg``: a rectangle of an image, whatever holds that image.

What stands behind ``::`` is a local path or a URL itself. Nothing is unpacked, so a dataset lies on the disk once; the
index of a tar and the last groups of rows are kept in memory. fsspec's own tar file system keeps one open file and one
index a thread and shard, and has no Parquet.
"""

from __future__ import annotations

import io
import os
import tarfile
import threading
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem
from PIL import Image

from storage.files import file_system, kind_of_no_file

SCHEMES = ("tar", "parquet", "arrow")

_lock = threading.Lock()
"""Threads that want the same group of rows wait for the one that reads it."""


@dataclass(frozen=True)
class Member:
    """An image in a container."""

    scheme: str
    name: str
    archive: str

    @classmethod
    def parse(cls, uri: str) -> Member | None:
        """The member that a URL names; None for any other path or URL."""
        scheme, separator, rest = uri.partition("://")
        if not separator or scheme not in SCHEMES:
            return None
        name, separator, archive = rest.partition("::")
        return cls(scheme, name, archive) if separator else None

    @property
    def url(self) -> str:
        """The URL that :meth:`parse` reads."""
        return f"{self.scheme}://{self.name}::{self.archive}"

    def read(self) -> bytes:
        """The image's bytes; raises FileNotFoundError if the container lacks it."""
        fs, path = file_system(self.archive)
        stamp = _stamp(fs, path)
        if self.scheme == "tar":
            offset, size = self._place(fs, path, stamp)
            return bytes(fs.cat_file(path, start=offset, end=offset + size))
        column, _, row = self.name.rpartition("/")
        return _cell(self.scheme, self.archive, stamp, column, int(row))

    def stamp(self) -> tuple[int, Any]:
        """Size of the image in bytes, and what the container's file system says of the container's time."""
        fs, path = file_system(self.archive)
        size = self._place(fs, path, _stamp(fs, path))[1] if self.scheme == "tar" else len(self.read())
        return size, fs.info(path)

    def _place(self, fs: Any, path: str, stamp: str) -> tuple[int, int]:
        try:
            return tar_index(self.archive, stamp)[self.name]
        except KeyError:
            raise FileNotFoundError(self.name) from None


@dataclass(frozen=True)
class Crop:
    """A rectangle of an image, as an image of its own."""

    edges: tuple[int, int, int, int]
    """Half-open, px of the upright image, within it."""
    image: str
    """Where the image is."""

    @classmethod
    def parse(cls, uri: str) -> Crop | None:
        """The crop that a URL names; None for any other path or URL."""
        edges, separator, image = uri.removeprefix("crop://").partition("::")
        if not separator or not uri.startswith("crop://"):
            return None
        x0, y0, x1, y1 = map(int, edges.split(","))
        return cls((x0, y0, x1, y1), image)

    @property
    def url(self) -> str:
        """The URL that :meth:`parse` reads."""
        return f"crop://{','.join(map(str, self.edges))}::{self.image}"

    def cut(self, image: Image.Image) -> bytes:
        """The crop of the upright RGB image as a BMP: the same bytes for the same pixels, whatever compresses."""
        sink = io.BytesIO()
        image.crop(self.edges).save(sink, "BMP")
        return sink.getvalue()


@lru_cache(maxsize=32)
def tar_index(archive: str, stamp: str = "") -> dict[str, tuple[int, int]]:
    """Name -> offset and size, bytes, of the regular files of a tar, in its order.

    ``stamp`` makes a tar that was rewritten another one. Raises ``tarfile.TarError`` for what is no plain tar: a
    compressed one has no offsets.
    """
    fs, path = _place_of(archive)
    with fs.open(path) as file, tarfile.open(fileobj=file, mode="r:") as tar:
        return {member.name: (member.offset_data, member.size) for member in tar if member.isreg()}


def _cell(scheme: str, archive: str, stamp: str, column: str, row: int) -> bytes:
    try:
        with _lock:
            value = (_arrow_cell if scheme == "arrow" else _parquet_cell)(archive, stamp, column, row)
    except (IndexError, KeyError):
        raise FileNotFoundError(f"{column}/{row}") from None
    content = value.get("bytes") if isinstance(value, dict) else value
    if content is None:
        raise FileNotFoundError(f"{column}/{row} holds no bytes")
    return bytes(content)


def _arrow_cell(archive: str, stamp: str, column: str, row: int) -> Any:
    return _arrow_table(archive, stamp)[column][row].as_py()


def _parquet_cell(archive: str, stamp: str, column: str, row: int) -> Any:
    metadata, first = _parquet_file(archive, stamp).metadata, 0
    for group in range(metadata.num_row_groups):
        count = metadata.row_group(group).num_rows
        if row < first + count:
            return _row_group(archive, stamp, column, group)[row - first].as_py()
        first += count
    raise IndexError(row)


@lru_cache(maxsize=4)
def _arrow_table(archive: str, stamp: str) -> pa.Table:
    return read_arrow(archive)


@lru_cache(maxsize=4)
def _parquet_file(archive: str, stamp: str) -> pq.ParquetFile:
    return open_parquet(archive)


@lru_cache(maxsize=2)
def _row_group(archive: str, stamp: str, column: str, group: int) -> pa.ChunkedArray:
    return _parquet_file(archive, stamp).read_row_group(group, columns=[column])[column]


def open_parquet(archive: str) -> pq.ParquetFile:
    """A Parquet file, of which only the footer is read; raises ``pa.ArrowException`` or OSError if it is none."""
    fs, path = _place_of(archive)
    return pq.ParquetFile(fs.open(path))


def read_arrow(archive: str) -> pa.Table:
    """The table of an Arrow stream or file, mapped where it is local. Raises ``pa.ArrowException`` for neither."""
    fs, path = _place_of(archive)
    local = isinstance(fs, LocalFileSystem)
    source = pa.memory_map(path) if local else pa.BufferReader(fs.cat_file(path))
    try:
        return pa.ipc.open_stream(source).read_all()
    except pa.ArrowInvalid:
        source.seek(0)
        return pa.ipc.open_file(source).read_all()


def _place_of(archive: str) -> tuple[Any, str]:
    """The file system of a container, and the path on it; raises OSError for what is no file."""
    fs, path = file_system(archive)
    if isinstance(fs, LocalFileSystem) and (kind := kind_of_no_file(os.stat(path))):
        raise OSError(f"is a {kind}, not a file")
    return fs, path


def _stamp(fs: Any, path: str) -> str:
    info = fs.info(path)
    return f"{info.get('size')} {info.get('mtime') or info.get('LastModified') or info.get('ETag')}"
