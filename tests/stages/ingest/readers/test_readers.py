"""The contract: what every reader gives for the same dataset, and how every reader fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import fsspec
import pytest
from PIL import Image

from stages.ingest.ingest import READERS
from stages.ingest.settings import DatasetSettings
from storage.errors import UserError
from tests.stages.ingest.datasets import FORMATS, PICTURES, Picture

Make = Callable[..., DatasetSettings]


@pytest.fixture(params=FORMATS, ids=str)
def make(request: pytest.FixtureRequest) -> Make:
    return FORMATS[request.param]


def test_every_reader_is_under_the_contract(tmp_path: Path) -> None:
    assert {write(tmp_path / name.replace(" ", "_")).reader for name, write in FORMATS.items()} == set(READERS)


def test_records_are_the_dataset_in_its_order(make: Make, tmp_path: Path) -> None:
    settings = make(tmp_path)
    records = list(READERS[settings.reader](settings).records())
    assert [record.label for record in records] == ["n02", "n01", "n03"]
    assert [tuple(box[:4] for box in record.boxes) for record in records] == [picture.boxes for picture in PICTURES]
    assert [record.split for record in records] == ["val"] * 3
    assert all(box.label is None for record in records for box in record.boxes)
    assert all(record.problem is None for record in records)


def test_the_uri_opens_the_image(make: Make, tmp_path: Path) -> None:
    settings = make(tmp_path)
    for record, picture in zip(READERS[settings.reader](settings).records(), PICTURES, strict=True):
        assert Path(record.uri).is_absolute()
        with Image.open(record.uri) as image:
            assert image.size == picture.size


def test_a_sample_id_is_the_path_below_the_root(make: Make, tmp_path: Path) -> None:
    settings = make(tmp_path)
    records = list(READERS[settings.reader](settings).records())
    assert len({record.sample_id for record in records}) == 3
    for record in records:
        assert record.uri.endswith(f"/{record.sample_id}")
        assert not record.sample_id.startswith("/")


def test_reading_twice_gives_the_same(make: Make, tmp_path: Path) -> None:
    settings = make(tmp_path)
    reader = READERS[settings.reader](settings)
    assert list(reader.records()) == list(reader.records())


def test_a_record_says_where_it_stands(make: Make, tmp_path: Path) -> None:
    settings = make(tmp_path)
    for record in READERS[settings.reader](settings).records():
        file, _, place = record.place.partition(", ")
        assert Path(file).is_file()
        assert place.split()[0] in ("line", "row")


def test_relative_paths_become_absolute(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = make(tmp_path)
    monkeypatch.chdir(tmp_path.parent)
    relative = replace(settings, path=str(Path(settings.path).relative_to(tmp_path.parent)))
    expected = list(READERS[settings.reader](settings).records())
    assert list(READERS[settings.reader](relative).records()) == expected


def test_a_picture_without_boxes_is_a_sample(make: Make, tmp_path: Path) -> None:
    settings = make(tmp_path, (Picture("bare.JPEG", "n01"), *PICTURES))
    records = list(READERS[settings.reader](settings).records())
    assert records[0].boxes == ()
    assert len(records) == 4


def test_a_missing_dataset_is_named(make: Make, tmp_path: Path) -> None:
    settings = replace(make(tmp_path), path=str(tmp_path / "elsewhere"))
    with pytest.raises(UserError, match=r"dataset\.path: .*elsewhere"):
        list(READERS[settings.reader](settings).records())


def test_a_dataset_is_found_on_another_file_system(make: Make, tmp_path: Path) -> None:
    settings = make(tmp_path)
    memory = fsspec.filesystem("memory")
    memory.put(f"{tmp_path}/", "/dataset/", recursive=True)
    try:
        remote = replace(settings, path=settings.path.replace(str(tmp_path), "memory://dataset"))
        local = list(READERS[settings.reader](settings).records())
        found = list(READERS[settings.reader](remote).records())
        assert [record.sample_id for record in found] == [record.sample_id for record in local]
        for record in found:
            assert record.uri.startswith("memory://dataset/")
            assert fsspec.open(record.uri).open().read(2) == b"\xff\xd8"
    finally:
        memory.rm("/dataset", recursive=True)
