"""The checksum that a Parquet file has of itself, so that who reads it by other ways than pyarrow notices damage.

DuckDB compares no page with its CRC32, and nobody compares a footer, whose statistics decide which rows are read. So
the footer of each file that we write has an entry with the CRC32 of the file: of all but the columns of vectors, which
no query reads and which are most of a part's bytes, and of zeros for the digits of the CRC32 itself. One flipped bit
anywhere else is always found, and so is any change within 32 bits.
"""

from __future__ import annotations

import os
import re
import struct
import zlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from itertools import pairwise
from typing import BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from storage.files import Directory

KEY = "crc32_but_vectors"
"""The footer's entry: eight hexadecimal digits, then the places that are left out, ``-START:STOP`` in bytes."""

CHANGED = "its bytes are not those that were written"
"""What is said of a file that does not hold its CRC32."""

GROUP = 1 << 20
"""Rows of a row group, pyarrow's own default."""

_DIGITS = 8
_ENTRY = re.compile(KEY.encode() + rb"\x18.{1,3}?([0-9a-f]{8})((?:-[0-9a-f]{12}:[0-9a-f]{12})*)", re.DOTALL)
_END = struct.Struct("<I4s")
"""How a Parquet file ends: the length of its footer, and PAR1."""
_TAIL = 65_536
"""Bytes from the end that are read first; the footer of a part is less."""
_AT_ONCE = 1 << 24
"""Bytes in memory at a time."""


class Version(NamedTuple):
    """A file as it was looked at; who writes it anew makes another inode, or another time."""

    path: str
    inode: int
    size: int
    modified_ns: int


Read = Callable[[int, int], bytes | memoryview]
"""The bytes of a file from one place to another."""


def write_sealed(table: pa.Table, sink: BinaryIO, vectors: Sequence[str], **options: object) -> None:
    """Write Parquet with the entry of its own CRC32 into an empty ``sink``, which can also be read.

    ``vectors``: names of the columns that are left out; ``options`` are those of pyarrow's ``ParquetWriter``.
    """
    groups = max(1, -(-table.num_rows // GROUP))
    places = [(0, 0)] * (groups * len(vectors))
    with pq.ParquetWriter(sink, table.schema, **options) as writer:
        writer.write_table(table, row_group_size=GROUP)
        writer.add_key_value_metadata({KEY: _text(0, places)})
    content = sink.getbuffer()  # type: ignore[attr-defined]
    size = len(content)
    start = size - _END.size - _END.unpack(content[-_END.size :])[0]
    found = _last_entry(bytes(content[start:]))
    assert found is not None
    place = start + found.start(1)
    filled = _text(0, _places(pq.read_metadata(pa.BufferReader(content)), vectors)).encode()
    content[place : place + len(filled)] = filled
    content[place : place + _DIGITS] = f"{_crc(lambda a, b: content[a:b], size, place, filled.decode()):08x}".encode()


def holds(content: bytes) -> bool | None:
    """Whether the bytes of a Parquet file are those that were written; None where they have no CRC32 of their own.

    Of what is no Parquet at all it says None too: who reads it says what is wrong.
    """
    view = memoryview(content)
    return _holds(lambda start, stop: view[start:stop], len(content))


def changed(
    directory: Directory, paths: Iterable[str], held: set[Version], stopped: Callable[[], bool] = lambda: False
) -> str | None:
    """The first of some files of a local directory that is not what was written; None where there is none, or once
    ``stopped``. A file that is gone, or has no CRC32 of its own, counts as unchanged. Of the files in ``held`` nothing
    is read, and it gets those that were read and were what was written.
    """
    for path in paths:
        if stopped():
            return None
        try:
            descriptor = os.open(directory.path(path), os.O_RDONLY)
        except FileNotFoundError:
            continue
        with closing(os.fdopen(descriptor, "rb", buffering=0)) as file:
            found = os.fstat(descriptor)
            version = Version(path, found.st_ino, found.st_size, found.st_mtime_ns)
            if version in held:
                continue
            if _holds(_reader(file), found.st_size) is False:
                return path
            held.add(version)
    return None


def _reader(file: BinaryIO) -> Read:
    def read(start: int, stop: int) -> bytes:
        return os.pread(file.fileno(), stop - start, start)

    return read


def _holds(read: Read, size: int) -> bool | None:
    tail_start = max(0, size - _TAIL)
    tail = bytes(read(tail_start, size))
    if len(tail) < _END.size:
        return None
    length, magic = _END.unpack(tail[-_END.size :])
    start = size - _END.size - length
    if magic != b"PAR1" or start < 0:
        return None
    if start < tail_start:
        tail_start, tail = start, bytes(read(start, size))
    found = _last_entry(tail[start - tail_start :])
    if found is None:
        return None

    def read_again(first: int, last: int) -> bytes | memoryview:
        if first >= tail_start:
            return memoryview(tail)[first - tail_start : last - tail_start]
        return read(first, last)

    entry = (found[1] + found[2]).decode()
    return _crc(read_again, size, start + found.start(1), entry, tail_start) == int(found[1], 16)


def _last_entry(footer: bytes) -> re.Match[bytes] | None:
    place = footer.rfind(KEY.encode())
    return None if place < 0 else _ENTRY.match(footer, place)


def _crc(read: Read, size: int, place: int, entry: str, *cuts: int) -> int:
    """CRC32 of a file of ``size`` bytes without what its ``entry`` leaves out; the entry's digits are at ``place``.

    No more than one side of each of ``cuts`` is read at once.
    """
    out = [(int(first, 16), int(last, 16)) for first, last in re.findall("-(.{12}):(.{12})", entry)]
    crc, begin = 0, 0
    for first, last in [*sorted(span for span in out if span[0] < span[1]), (size, size)]:
        edges = sorted({begin, first, *(cut for cut in (*cuts, place, place + _DIGITS) if begin < cut < first)})
        for low, high in pairwise(edges):
            if low == place:
                crc = zlib.crc32(b"0" * _DIGITS, crc)
                continue
            for start in range(low, high, _AT_ONCE):
                crc = zlib.crc32(read(start, min(high, start + _AT_ONCE)), crc)
        begin = max(begin, last)
    return crc


def _places(metadata: pq.FileMetaData, vectors: Sequence[str]) -> list[tuple[int, int]]:
    """The bytes of the columns of vectors, from one place to another."""
    places = []
    for group in range(metadata.num_row_groups):
        row_group = metadata.row_group(group)
        for index in range(metadata.num_columns):
            column = row_group.column(index)
            if column.path_in_schema.split(".")[0] in vectors:
                first = column.dictionary_page_offset or column.data_page_offset
                places.append((first, first + column.total_compressed_size))
    return places


def _text(crc: int, places: Iterable[tuple[int, int]]) -> str:
    return f"{crc:08x}" + "".join(f"-{first:012x}:{last:012x}" for first, last in places)
