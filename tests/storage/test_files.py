import os
import uuid

import pytest

from storage.errors import UserError
from storage.files import Directory, parse_yaml


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
    with pytest.raises(OSError, match=f"No space left on device: '{tmp_path}/table.parquet'"):
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


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("s3://AKIA123:topsecret@bucket/run", "s3://...@bucket/run"),
        ("https://ann:topsecret@example.com/run", "https://...@example.com/run"),
        ("simplecache::s3://AKIA123:topsecret@bucket/run", "simplecache::s3://...@bucket/run"),
    ],
)
def test_a_password_in_a_url_is_refused_and_not_repeated(url, shown):
    with pytest.raises(UserError, match=r"holds credentials; leave them out, .*AWS_ACCESS_KEY_ID") as told:
        Directory(url)
    assert str(told.value).startswith(shown)
    assert "topsecret" not in str(told.value)
    assert "AKIA123" not in str(told.value)


def test_an_at_sign_in_a_name_is_no_password(tmp_path):
    for url in ("memory://runs/a:b@c", "memory://me@host/run", str(tmp_path / "x:y@z")):
        assert Directory(url).url == url


def bomb(levels):
    """Each level repeats the one before nine times: 9 ** levels values in some hundred bytes."""
    lines = ["l0: &l0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, levels)]
    return "\n".join(lines)


def test_an_alias_bomb_is_refused_and_an_alias_is_not():
    with pytest.raises(ValueError, match="its aliases stand for more than 1000000 values; write out what they repeat"):
        parse_yaml(bomb(8))
    with pytest.raises(ValueError, match="aliases"):
        parse_yaml("a: &a [*a]")
    assert parse_yaml("a: &a {steps: 3}\nb: {<<: *a, size: 32}")["b"] == {"steps": 3, "size": 32}
    assert parse_yaml("") is None


@pytest.mark.parametrize("text", ["a: [1", "a\tb: - c", "day: 2026-13-45", "[" * 10_000])
def test_what_is_no_yaml_is_a_value_error_of_one_line(text):
    with pytest.raises(ValueError) as told:  # noqa: PT011 - whatever the library says of it
        parse_yaml(text)
    assert "\n" not in str(told.value)
