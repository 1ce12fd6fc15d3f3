"""Images within tars and tables, by URL."""

from __future__ import annotations

import io
import os
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from storage.media.containers import Member
from storage.media.images import ImageError, local_path, read_bytes, stamp_file

CONTENTS = [bytes([number]) * (1000 + number) for number in range(40)]


@pytest.fixture
def tar(tmp_path: Path) -> str:
    path = tmp_path / "a::b.tar"
    with tarfile.open(path, "w") as file:
        for number, content in enumerate(CONTENTS):
            member = tarfile.TarInfo(f"d/{number:02}.jpg")
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
        folder = tarfile.TarInfo("e")
        folder.type = tarfile.DIRTYPE
        file.addfile(folder)
    return str(path)


@pytest.fixture
def table() -> pa.Table:
    return pa.table({"image": [{"bytes": content, "path": None} for content in CONTENTS], "bare": CONTENTS})


def uris(folder: Path, tar: str, table: pa.Table) -> dict[str, list[str]]:
    pq.write_table(table, folder / "t.parquet", row_group_size=7)
    with pa.OSFile(str(folder / "t.arrow"), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=7)
    numbers = range(len(CONTENTS))
    return {
        "tar": [f"tar://d/{n:02}.jpg::{tar}" for n in numbers],
        "parquet": [f"parquet://image/{n}::{folder}/t.parquet" for n in numbers],
        "parquet without structs": [f"parquet://bare/{n}::{folder}/t.parquet" for n in numbers],
        "arrow": [f"arrow://image/{n}::{folder}/t.arrow" for n in numbers],
    }


def test_every_member_is_read_by_many_threads_at_once(tmp_path: Path, tar: str, table: pa.Table) -> None:
    for found in uris(tmp_path, tar, table).values():
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(read_bytes, found)) == CONTENTS


def test_a_stamp_has_the_members_size_and_the_containers_time(tmp_path: Path, tar: str, table: pa.Table) -> None:
    for found in uris(tmp_path, tar, table).values():
        archive = str(Member.parse(found[3]).archive)  # type: ignore[union-attr]
        os.utime(archive, ns=(0, 1_000_000_000))
        stamp = stamp_file(found[3])
        assert (stamp.size_bytes, stamp.mtime_ns) == (1003, 1_000_000_000)
        assert local_path(found[3]) is None


def test_a_tar_is_read_as_fsspec_reads_it(tar: str) -> None:
    plain = Path(tar).with_name("plain.tar")  # fsspec has no names with '::'
    Path(tar).rename(plain)
    uri = f"tar://d/07.jpg::{plain}"
    with fsspec.open(uri) as file:
        assert file.read() == read_bytes(uri) == CONTENTS[7]


def test_a_tar_that_was_written_again_is_another(tar: str) -> None:
    assert read_bytes(f"tar://d/00.jpg::{tar}") == CONTENTS[0]
    with tarfile.open(tar, "w") as file:
        member = tarfile.TarInfo("d/00.jpg")
        member.size = 3
        file.addfile(member, io.BytesIO(b"new"))
    assert read_bytes(f"tar://d/00.jpg::{tar}") == b"new"


def test_on_another_file_system(tmp_path: Path, tar: str, table: pa.Table) -> None:
    memory = fsspec.filesystem("memory")
    try:
        for name, found in uris(tmp_path, tar, table).items():
            member = Member.parse(found[5])
            assert member is not None
            memory.pipe_file(f"/containers/{member.scheme}", Path(member.archive).read_bytes())
            far = Member(member.scheme, member.name, f"memory://containers/{member.scheme}")
            assert read_bytes(far.url) == CONTENTS[5], name
    finally:
        memory.rm("/containers", recursive=True)


@pytest.mark.parametrize(
    "uri",
    [
        "tar://d/99.jpg::{tar}",
        "tar://e::{tar}",
        "tar://d/00.jpg::{folder}/gone.tar",
        "parquet://image/40::{folder}/t.parquet",
        "parquet://other/0::{folder}/t.parquet",
        "parquet://image/0::{folder}/gone.parquet",
        "arrow://image/40::{folder}/t.arrow",
        "arrow://other/0::{folder}/t.arrow",
    ],
)
def test_what_is_not_there_is_missing(tmp_path: Path, tar: str, table: pa.Table, uri: str) -> None:
    uris(tmp_path, tar, table)
    asked = uri.format(tar=tar, folder=tmp_path)
    for ask in (read_bytes, stamp_file):
        with pytest.raises(ImageError, match="no such file: "):
            ask(asked)


@pytest.mark.parametrize(
    "uri", ["tar://d/00.jpg::{folder}/no.tar", "parquet://image/0::{folder}/no.tar", "arrow://i/0::{folder}/no.tar"]
)
def test_what_is_no_container_cannot_be_read(tmp_path: Path, uri: str) -> None:
    (tmp_path / "no.tar").write_bytes(b"no container of any kind" * 50)
    with pytest.raises(ImageError, match="cannot be read: "):
        read_bytes(uri.format(folder=tmp_path))


@pytest.mark.parametrize(
    "uri", ["/d/a.jpg", "tar://a.jpg", "s3://bucket/a.jpg", "simplecache::s3://bucket/a.jpg", "a::b"]
)
def test_other_paths_and_urls_are_no_members(uri: str) -> None:
    assert Member.parse(uri) is None
