import os
import uuid

import pytest

from storage.errors import UserError
from storage.files import Directory


@pytest.fixture(params=["path", "file url", "memory url", "memory url with a slash at its end"])
def directory(request, tmp_path):
    name = uuid.uuid4().hex
    urls = {
        "path": str(tmp_path / name),
        "file url": f"file://{tmp_path / name}",
        "memory url": f"memory://{name}",
        "memory url with a slash at its end": f"memory://{name}/",
    }
    return Directory(urls[request.param])


def test_a_file_reads_back_as_written_and_the_last_write_counts(directory):
    assert not directory.exists("a/b.bin")
    directory.write("a/b.bin", b"first")
    directory.write("a/b.bin", b"second")
    directory.write("a/empty", b"")
    assert directory.read("a/b.bin") == b"second"
    assert directory.read("a/empty") == b""
    assert directory.names("a") == ["b.bin", "empty"]


def test_names_of_what_is_not_there_are_none_and_removing_it_is_no_error(directory):
    assert directory.names("nowhere") == []
    directory.remove("nowhere/nothing")


def test_a_removed_file_is_gone(directory):
    directory.write("a/one", b"1")
    directory.write("a/two", b"2")
    directory.remove("a/one")
    assert not directory.exists("a/one")
    assert directory.names("a") == ["two"]


def test_the_url_of_a_file_has_no_doubled_slash(directory):
    assert directory.url_of("maps.zarr").removeprefix("memory://").removeprefix("file://").count("//") == 0
    assert Directory(directory.url_of("sub")).root == directory.path("sub")


def test_two_views_of_one_directory_see_each_other_s_writes(directory):
    other = Directory(directory.url)
    assert other.names("parts") == []
    directory.write("parts/one", b"1")
    assert other.names("parts") == ["one"]
    assert other.exists("parts/one")
    other.remove("parts/one")
    assert not directory.exists("parts/one")


@pytest.mark.parametrize("fault", ["write", "replace"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, fault):
    directory = Directory(str(tmp_path))
    directory.write("table.parquet", b"old")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, {"write": "fsync", "replace": "replace"}[fault], fail)
    with pytest.raises(OSError, match="No space left"):
        directory.write("table.parquet", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["table.parquet"]
    assert directory.read("table.parquet") == b"old"


def test_a_reader_never_sees_a_part_of_a_file(tmp_path, monkeypatch):
    directory = Directory(str(tmp_path))
    directory.write("table.parquet", b"old")
    seen = []
    flush = os.fsync

    def look(descriptor):
        seen.append(directory.read("table.parquet"))
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", look)
    directory.write("table.parquet", b"new, and longer")
    assert seen == [b"old"]


def test_a_remote_directory_has_no_local_path():
    directory = Directory("memory://somewhere")
    assert not directory.is_local
    with pytest.raises(UserError, match=r"memory://somewhere is not on a local disk"):
        directory.local_path("heatmaps")


def test_a_file_url_has_a_local_path(tmp_path):
    assert Directory(f"file://{tmp_path}").local_path("heatmaps") == tmp_path / "heatmaps"


def test_a_url_of_an_unknown_kind_is_the_user_s_mistake():
    with pytest.raises(UserError, match="cannot open nonsense://bucket/run: Protocol not known: nonsense; use"):
        Directory("nonsense://bucket/run")
