from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from stages.ingest.readers.yolo import YoloReader, label_path
from stages.ingest.record import Box, Record
from stages.ingest.settings import DatasetSettings
from stages.ingest.shapes import Polygons

BOX = "0 0.5 0.5 0.5 0.25\n"


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(path)


def write(folder: Path, labels: str | None = BOX, yaml: str = "names: [cat, dog]\ntrain: images\n") -> YoloReader:
    picture(folder / "images" / "a.jpg")
    (folder / "labels").mkdir(exist_ok=True)
    if labels is not None:
        (folder / "labels" / "a.txt").write_text(labels)
    if yaml:
        (folder / "data.yaml").write_text(yaml)
    return YoloReader(DatasetSettings("yolo", str(folder)))


def one(reader: YoloReader) -> Record:
    (record,) = reader.records()
    return record


def test_a_box_is_centre_and_size_in_fractions(tmp_path: Path) -> None:
    record = one(write(tmp_path))
    assert record.relative
    assert record.boxes == (Box(0.25, 0.375, 0.75, 0.625, "cat"),)


def test_boxes_and_polygons_in_one_file(tmp_path: Path) -> None:
    record = one(write(tmp_path, BOX + "1 0.1 0.2 0.6 0.2 0.6 0.9\n\n1 0.5 0.5 0.2 0.2 0.87\n"))
    assert record.boxes == (
        Box(0.25, 0.375, 0.75, 0.625, "cat"),
        Box(0.1, 0.2, 0.6, 0.9, "dog", Polygons(([0.1, 0.2, 0.6, 0.2, 0.6, 0.9],), relative=True)),
        Box(0.4, 0.4, 0.6, 0.6, "dog"),  # a fifth number is a confidence
    )


def test_key_points_of_a_pose_follow_its_box(tmp_path: Path) -> None:
    yaml = "names: [cat]\ntrain: images\nkpt_shape: [2, 3]\n"
    assert one(write(tmp_path, "0 0.5 0.5 0.5 0.25 0.9 0.9 2 0.1 0.1 2\n", yaml)).boxes == (
        Box(0.25, 0.375, 0.75, 0.625, "cat"),
    )


@pytest.mark.parametrize("names", ["[cat, dog]", "{0: cat, 1: dog}", '{"0": cat, "1": dog}', "{1: dog, 0: cat}"])
def test_names_are_a_list_or_a_map(tmp_path: Path, names: str) -> None:
    reader = write(tmp_path, "1 0.5 0.5 0.5 0.25", f"names: {names}\ntrain: images\n")
    assert one(reader).boxes[0].label == "dog"
    assert [entry.name for entry in reader.classes()] == ["cat", "dog"]


def test_an_empty_and_a_missing_label_file_are_told_apart(tmp_path: Path) -> None:
    reader = write(tmp_path, labels="\n")
    picture(tmp_path / "images" / "b.jpg")
    first, second = reader.records()
    assert first.notes == ("the label file is empty: no object",)
    assert second.notes == ("the image has no label file",)
    assert reader.remarks() == [
        "1 of 2 images have an empty label file: no object",
        "1 of 2 images have no label file: samples without a box",
    ]


@pytest.mark.parametrize(
    ("line", "note"),
    [
        ("2 0.5 0.5 0.5 0.5", "line 1 is of class '2', and names has 0 to 1"),
        ("-1 0.5 0.5 0.5 0.5", "line 1 is of class '-1', and names has 0 to 1"),
        ("cat 0.5 0.5 0.5 0.5", "line 1 is not of numbers: 'cat 0.5 0.5 0.5 0.5'"),
        ("0 0.5 0.5 0.5", "line 1 has 4 numbers: neither class and box nor class and polygon"),
        ("0 0.1 0.1 0.2 0.2 0.3 0.3 0.4", "line 1 has 8 numbers: neither class and box nor class and polygon"),
        ("0", "line 1 has 1 numbers: neither class and box nor class and polygon"),
        ("0,0.5,0.5,0.5,0.5", "line 1 is not of numbers: '0,0.5,0.5,0.5,0.5'"),
    ],
)
def test_a_line_of_another_shape_is_noted_and_the_rest_is_read(tmp_path: Path, line: str, note: str) -> None:
    record = one(write(tmp_path, f"{line}\n{BOX}"))
    assert record.notes == (note,)
    assert len(record.boxes) == 1


class TestPaths:
    @pytest.mark.parametrize("around", ["/", ".."])
    def test_a_folder_around_the_dataset_is_not_read(self, tmp_path: Path, around: str) -> None:
        place = around if around == "/" else str(tmp_path.parent)
        reader = write(tmp_path, BOX, f"names: [cat, dog]\ntrain: images\nval: {place}\n")
        assert self.ids(reader) == [("images/a.jpg", "train")]
        assert reader.remarks()[0].startswith(
            f"val: '{place}' is a folder around the dataset, all of which would be read"
        )

    def ids(self, reader: YoloReader) -> list[tuple[str, str | None]]:
        return [(record.sample_id, record.split) for record in reader.records()]

    def test_a_path_that_leads_out_is_looked_for_beside_the_yaml(self, tmp_path: Path) -> None:
        picture(tmp_path / "train/images/b.jpg")
        reader = write(tmp_path, yaml="names: [cat, dog]\ntrain: ../train/images\nval: ../valid/images\n")
        assert self.ids(reader) == [("train/images/b.jpg", "train")]
        assert reader.remarks()[:2] == [
            "train: '../train/images' is taken as train/images beside the yaml",
            "val: '../valid/images' leads nowhere, so this split is left out",
        ]

    def test_another_dataset_beside_is_not_taken(self, tmp_path: Path) -> None:
        picture(tmp_path / "train/images/stranger.jpg")
        mine = tmp_path / "mine"
        picture(mine / "train/images/b.jpg")
        reader = write(mine, yaml="names: [cat, dog]\ntrain: ../train/images\n")
        assert self.ids(reader) == [("train/images/b.jpg", "train")]

    def test_a_root_of_another_machine(self, tmp_path: Path) -> None:
        reader = write(tmp_path, yaml="names: [cat, dog]\npath: /datasets/pets\ntrain: images\n")
        assert self.ids(reader) == [("images/a.jpg", "train")]

    def test_a_list_of_folders_and_a_list_in_a_file(self, tmp_path: Path) -> None:
        picture(tmp_path / "more/images/b.jpg")
        picture(tmp_path / "val/images/c.jpg")
        (tmp_path / "val.txt").write_text("./val/images/c.jpg\n")
        reader = write(tmp_path, yaml="names: [cat, dog]\ntrain: [images, more/images]\nval: val.txt\n")
        assert self.ids(reader) == [
            ("images/a.jpg", "train"),
            ("more/images/b.jpg", "train"),
            ("val/images/c.jpg", "val"),
        ]

    def test_images_of_a_list_from_elsewhere_are_found_by_the_ends_of_their_paths(self, tmp_path: Path) -> None:
        """CVAT writes data/ before them, Datumaro and Roboflow whole paths."""
        for name in ("images/train/b.jpg", "images/train/c.jpg", "lists/images/d.jpg", "c.jpg"):
            picture(tmp_path / name)
        (tmp_path / "lists").mkdir(exist_ok=True)
        lines = ["data/images/train/b.jpg", r"D:\work\images\train\c.jpg", "/far/images/d.jpg", "/far/images/e.jpg"]
        (tmp_path / "lists/train.txt").write_text("\n".join(lines))
        reader = write(tmp_path, yaml="names: [cat, dog]\ntrain: lists/train.txt\n")
        assert self.ids(reader) == [
            ("images/train/b.jpg", "train"),
            ("images/train/c.jpg", "train"),  # not c.jpg, of which less of the path is the same
            ("lists/images/d.jpg", "train"),  # beside the list
            ("/far/images/e.jpg", "train"),
        ]
        assert reader.remarks()[0] == (
            "lists/train.txt: 3 images are found by the end of the path alone, "
            "such as 'data/images/train/b.jpg' as images/train/b.jpg"
        )

    def test_an_image_in_two_splits_counts_in_the_first(self, tmp_path: Path) -> None:
        reader = write(tmp_path, yaml="names: [cat, dog]\ntrain: images\nval: images\n")
        assert self.ids(reader) == [("images/a.jpg", "train")]
        assert reader.remarks() == ["1 image of val listed in train too, and counted there"]

    def test_without_a_yaml_the_folders_and_a_class_list_tell(self, tmp_path: Path) -> None:
        (tmp_path / "classes.txt").write_text("\ufeffcat\ndog\n")
        assert one(write(tmp_path, yaml="")).boxes[0].label == "cat"

    @pytest.mark.parametrize(
        ("image", "labels"),
        [
            ("/d/images/train/a.jpg", "/d/labels/train/a.txt"),
            ("/images/d/images/a.b.png", "/images/d/labels/a.b.txt"),
            ("/d/photos/a.jpg", "/d/photos/a.txt"),
            ("/d/images/train_images/a.jpg", "/d/labels/train_images/a.txt"),
            ("/d/my_images/a.jpg", "/d/my_images/a.txt"),
            ("images/images.v2/a.jpg", "labels/images.v2/a.txt"),
        ],
    )
    def test_the_last_folder_images_becomes_labels(self, image: str, labels: str) -> None:
        assert label_path(image) == labels
