"""The contract: what every reader gives for the same dataset, and how every reader fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import fsspec
import pytest

from stages.ingest.boxes import scaled
from stages.ingest.labels import LabelResolver
from stages.ingest.recognise import READERS, open_dataset
from stages.ingest.record import Record, Records
from stages.ingest.samples.objects import choose_labels, samples_of
from stages.ingest.settings import DatasetSettings
from storage.errors import UserError
from storage.media.containers import Member
from storage.media.images import read_bytes, read_image, stamp_file
from tests.stages.ingest.datasets import FORMATS, PICTURES, Picture
from tests.stages.ingest.written import WRITTEN

pytestmark = pytest.mark.usefixtures("mongo")

Make = Callable[..., DatasetSettings]
ALL: dict[str, Make] = {**FORMATS, **WRITTEN}


@pytest.fixture(params=ALL, ids=str)
def make(request: pytest.FixtureRequest) -> Make:
    return ALL[request.param]


def read(settings: DatasetSettings) -> list[Record]:
    return list(open_dataset(settings).reader.records())


def samples(settings: DatasetSettings) -> list[Record]:
    """Records as samples: those of detection datasets have no label of their own."""
    records = read(settings)
    how = choose_labels("auto", Records.of(records))
    labels = LabelResolver(("n01", "n02", "n03"), open_dataset(settings).reader.classes())
    found = [sample for record in records for sample in samples_of(record, how, labels)]
    names = [Path(picture.name).stem for picture in PICTURES]  # class folders have an order of their own
    stems = [Path(sample.sample_id.partition("#")[0]).stem for sample in found]
    return [found[place] for place in sorted(range(3), key=lambda k: names.index(stems[k]) if stems[k] in names else k)]


def test_every_reader_is_under_the_contract(tmp_path: Path) -> None:
    assert {write(tmp_path / name.replace(" ", "_")).reader for name, write in ALL.items()} == set(READERS)


def test_records_come_back_from_arrow_as_they_were(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.ingest.record.AT_ONCE", 2)
    given = read(make(tmp_path / "data"))
    held = Records.of(given)
    assert list(held) == given == list(held)
    assert list(held.take([2, 0])) == [given[2], given[0]]
    assert held[1] == given[1]


def test_a_dataset_is_recognised_by_its_files(make: Make, tmp_path: Path) -> None:
    settings = make(tmp_path / "data")
    found = open_dataset(replace(settings, reader="auto"))
    assert found.settings.reader == settings.reader
    assert list(found.reader.records()) == read(settings)


def test_records_are_the_dataset_in_its_order(make: Make, tmp_path: Path) -> None:
    records = samples(make(tmp_path / "data"))
    assert [record.label for record in records] == ["n02", "n01", "n03"]
    for record, picture in zip(records, PICTURES, strict=True):
        boxes = [scaled(box, *picture.size) if record.relative else box for box in record.boxes]
        assert [box[:4] for box in boxes] == [pytest.approx(box, abs=1e-4) for box in picture.boxes]
        assert {box.label for box in record.boxes} <= {None, record.label}
        assert record.size in (None, picture.size)
    assert [record.split for record in records] == ["val"] * 3
    assert all(record.problem is None and record.notes == () for record in records)


def test_the_uri_opens_the_image(make: Make, tmp_path: Path) -> None:
    for record, picture in zip(samples(make(tmp_path / "data")), PICTURES, strict=True):
        member = Member.parse(record.uri)
        assert Path(member.archive if member else record.uri).is_absolute()
        assert read_image(record.uri).size == picture.size
        assert stamp_file(record.uri).size_bytes == len(read_bytes(record.uri))


def test_a_sample_id_is_the_path_below_the_root(make: Make, tmp_path: Path) -> None:
    records = read(make(tmp_path / "data"))
    assert len({record.sample_id for record in records}) == 3
    for record in records:
        assert record.uri.endswith(f"/{record.sample_id}") or Member.parse(record.uri)
        assert not record.sample_id.startswith("/")


def test_reading_twice_gives_the_same(make: Make, tmp_path: Path) -> None:
    reader = open_dataset(make(tmp_path / "data")).reader
    assert list(reader.records()) == list(reader.records())
    assert reader.remarks() == reader.remarks() == []


def test_a_record_says_where_it_stands(make: Make, tmp_path: Path) -> None:
    for record in read(make(tmp_path / "data")):
        file, _, place = record.place.partition(", ")
        assert Path(file).is_file()
        assert not place or place.split()[0] in ("line", "row", "image", "member")


def test_relative_paths_become_absolute(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = make(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    relative = replace(settings, path=str(Path(settings.path).relative_to(tmp_path)))
    assert read(relative) == read(settings)


def test_a_picture_without_boxes_is_a_sample(make: Make, tmp_path: Path) -> None:
    records = read(make(tmp_path / "data", (Picture("bare.JPEG", "n01"), *PICTURES)))
    assert sum(record.boxes == () for record in records) == 1
    assert len(records) == 4


def test_a_split_is_taken_by_its_name(make: Make, tmp_path: Path) -> None:
    settings = replace(make(tmp_path / "data"), split="val")
    assert [record.split for record in read(settings)] == ["val"] * 3


def test_a_missing_dataset_is_named(make: Make, tmp_path: Path) -> None:
    settings = replace(make(tmp_path / "data"), path=str(tmp_path / "elsewhere"))
    for reader in (settings.reader, "auto"):
        with pytest.raises(UserError, match=r"dataset\.path: .*elsewhere"):
            read(replace(settings, reader=reader))


def test_a_dataset_is_found_on_another_file_system(make: Make, tmp_path: Path) -> None:
    settings = make(tmp_path / "data")
    memory = fsspec.filesystem("memory")
    memory.put(f"{tmp_path}/data/", "/dataset/", recursive=True)
    try:
        remote = replace(settings, path=settings.path.replace(str(tmp_path / "data"), "memory://dataset"))
        if settings.reader == "kitti":
            with pytest.raises(UserError, match="memory://dataset is no local folder, and FiftyOne's importer reads"):
                read(remote)
            return
        local, found = read(settings), read(remote)
        assert [record.sample_id for record in found] == [record.sample_id for record in local]
        for record in found:
            assert "memory://dataset/" in record.uri
            assert read_bytes(record.uri)[:2] == b"\xff\xd8"
    finally:
        memory.rm("/dataset", recursive=True)
