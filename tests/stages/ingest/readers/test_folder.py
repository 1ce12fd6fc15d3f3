from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from stages.ingest.labels import LabelResolver
from stages.ingest.listing import Listing
from stages.ingest.readers.folder import FolderReader
from stages.ingest.recognise import recognise
from stages.ingest.record import Box
from stages.ingest.settings import DatasetSettings
from storage.errors import UserError


def write(folder: Path, *names: str) -> FolderReader:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(path)
    return FolderReader(DatasetSettings("folder", str(folder)))


def test_the_first_folder_is_the_class(tmp_path: Path) -> None:
    reader = write(tmp_path, "dog/1.jpg", "cat/deep/2.jpg")
    assert [(record.sample_id, record.label, record.split) for record in reader.records()] == [
        ("cat/deep/2.jpg", "cat", None),
        ("dog/1.jpg", "dog", None),
    ]
    assert [entry.name for entry in reader.classes()] == ["cat", "dog"]


def test_folders_of_splits_hold_the_classes(tmp_path: Path) -> None:
    reader = write(tmp_path, "train/dog/1.jpg", "val/cat/1.jpg")
    assert [(record.label, record.split) for record in reader.records()] == [("dog", "train"), ("cat", "val")]


@pytest.mark.parametrize(
    ("paths", "labels", "splits"),
    [
        (("Training/no/1.jpg", "Testing/yes/1.jpg"), ["yes", "no"], ["Testing", "Training"]),
        (("seg_train/seg_train/sea/1.jpg", "seg_test/seg_test/ice/1.jpg"), ["ice", "sea"], ["seg_test", "seg_train"]),
        (("images/train2017/dog/1.jpg", "images/val2017/cat/1.jpg"), ["dog", "cat"], ["train2017", "val2017"]),
        (("images/dog/1.jpg", "images/cat/1.jpg"), ["cat", "dog"], [None, None]),
        (("cat/images/1.jpg", "dog/images/1.jpg"), ["cat", "dog"], [None, None]),
    ],
)
def test_folders_around_those_of_the_classes_are_passed_by(
    tmp_path: Path, paths: tuple[str, ...], labels: list[str], splits: list[str | None]
) -> None:
    records = list(write(tmp_path, *paths).records())
    assert [record.label for record in records] == labels
    assert [record.split for record in records] == splits
    assert recognise(str(tmp_path))[0] == "folder"


@pytest.mark.parametrize(
    "paths",
    [
        ("train/1.jpg", "test1/1.jpg"),
        ("train_images/1.jpg", "test_images/1.jpg"),
        ("images/1.jpg", "masks/1.png"),
        ("train/images/1.jpg", "train/masks/1.png"),
    ],
)
def test_folders_of_parts_are_no_classes(tmp_path: Path, paths: tuple[str, ...]) -> None:
    """Two classes `train` and `test` would be audited, by a network of two outputs without names in silence."""
    write(tmp_path, *paths)
    with pytest.raises(UserError, match=r"images lie in folders of parts and not of classes \('\w+', '\w+'\); what"):
        recognise(str(tmp_path))


def test_classes_named_as_splits_are_are_classes(tmp_path: Path) -> None:
    reader = write(tmp_path, "train/1.jpg", "bus/2.jpg")
    assert [record.label for record in reader.records()] == ["bus", "train"]


def test_boxes_beside_the_folders(tmp_path: Path) -> None:
    reader = write(tmp_path, "cat/1.jpg", "cat/2.jpg")
    (tmp_path / "boxes.csv").write_text('path;boxes\ncat\\1.jpg;"[[1, 2, 3, 4]]"\ncat/9.jpg;"[[1, 2, 3, 4]]"\n')
    reader = FolderReader(DatasetSettings("folder", str(tmp_path)))
    first, second = reader.records()
    assert (first.boxes, first.place) == ((Box(1, 2, 3, 4),), f"{tmp_path}/boxes.csv, line 2")
    assert second.boxes == ()
    assert reader.remarks() == ["1 row of boxes.csv has no image; the first is cat/9.jpg"]


def test_two_rows_of_boxes_for_an_image_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "cat/1.jpg")
    (tmp_path / "boxes.csv").write_text("path,boxes\ncat/1.jpg,\n./cat/1.jpg,\n")
    with pytest.raises(UserError, match=r"boxes\.csv, line 3: cat/1\.jpg a second time \(first: .*line 2\)"):
        list(FolderReader(DatasetSettings("folder", str(tmp_path))).records())


def test_images_outside_of_folders_are_no_class_folders(tmp_path: Path) -> None:
    write(tmp_path, "cat/1.jpg", "dog/1.jpg", "2.jpg")
    assert FolderReader.recognise(Listing(str(tmp_path))) is None
    with pytest.raises(UserError, match=r"2 images lie in folders and 1 in none \('2\.jpg'\); for class folders move"):
        recognise(str(tmp_path))


class TestWordnet:
    def test_ids_are_named_by_the_mapping_beside_them(self, tmp_path: Path) -> None:
        reader = write(tmp_path, "n01440764/1.jpg")
        (tmp_path / "LOC_synset_mapping.txt").write_text("n01440764 tench, Tinca tinca\nn01443537 goldfish\n")
        labels = LabelResolver(("goldfish", "tench"), reader.classes())
        assert labels.resolve("n01440764").class_index == 1

    def test_as_many_ids_as_outputs_are_in_torchvisions_order(self, tmp_path: Path) -> None:
        reader = write(tmp_path, "n01443537/1.jpg", "n01440764/1.jpg")
        labels = LabelResolver(("tench", "goldfish"), reader.classes())
        assert [labels.resolve(wnid).name for wnid in ("n01440764", "n01443537")] == ["tench", "goldfish"]
