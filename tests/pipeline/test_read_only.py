"""What is asked of a run that cannot be written, such as an archive on a read-only disk."""

import errno
import os

import pyarrow as pa
import pytest

from storage import Run
from storage.info import RunInfo
from storage.integrity import lock
from storage.tables import CLASSES, DONORS
from tests.pipeline.datasets import contents


@pytest.fixture(params=[errno.EROFS, errno.EACCES])
def archive(request, tmp_path, monkeypatch):
    """A run whose lock file cannot be opened."""

    def refuse(path, *_, **__):
        raise OSError(request.param, os.strerror(request.param), path)

    run = Run.create(str(tmp_path / "run"))
    run.write_info(RunInfo())
    run.write_table("classes", CLASSES.empty_table())
    run.write_table("donors", pa.Table.from_pylist([{"sample_id": "a.png", "row": 0}], schema=DONORS))
    monkeypatch.setattr(lock, "open", refuse, raising=False)
    return tmp_path / "run"


def test_a_whole_archive_is_verified(command, archive):
    status, out, err = command("verify", archive)
    assert (status, out, err) == (0, f"{archive}: every file is what was written\n", "")


def test_damage_of_an_archive_is_named_and_nothing_removed(command, archive):
    (archive / "donors.parquet").write_bytes((archive / "donors.parquet").read_bytes()[:-9])
    before = contents(archive)
    status, out, err = command("verify", archive)
    assert status == 1
    assert out.startswith("donors.parquet: it cannot be read: ")
    assert "removed" not in out
    assert err == f"fault: 1 damaged file in {archive}, which cannot be written: nothing was removed\n"
    assert contents(archive) == before


def test_a_full_disk_is_no_archive(command, archive, monkeypatch):
    def refuse(path, *_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    monkeypatch.setattr(lock, "open", refuse)
    status, out, err = command("verify", archive)
    assert (status, out, err) == (1, "", f"fault: No space left on device: {archive}/.lock\n")
