"""Broken VOC, COCO and YOLO datasets, and folders of no one format: each with the message that it gets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from stages.ingest.recognise import open_dataset
from stages.ingest.settings import DatasetSettings
from storage.errors import UserError
from tests.stages.ingest.broken.corpus import BOX, HEADER, LONGEST_MESSAGE, annotated, edited, picture, take


def voc(text: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / "Annotations").mkdir()
        (folder / "JPEGImages").mkdir()
        (folder / "a.jpg").rename(folder / "JPEGImages/a.jpg")
        (folder / "Annotations/a.xml").write_text(text)

    return write


def one_object(inner: str) -> str:
    return f"<annotation><object>{inner}</object></annotation>"


BOMB = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">{}]><annotation>&j;</annotation>'.format(
    "".join(f'<!ENTITY {b} "{f"&{a};" * 20}">' for a, b in zip("abcdefghi", "bcdefghij", strict=True))
)
CORNERS = "<xmin>1</xmin><ymin>1</ymin><xmax>9</xmax>"

XML = {
    "no XML": ("not xml at all", "unreadable", r"a\.xml is not XML: syntax error: line 1, column 0"),
    "nothing": ("", "unreadable", r"a\.xml is not XML: no element found"),
    "XML that breaks off": ("<annotation><object>", "unreadable", r"is not XML: no element found: line 1, column 20"),
    "entities that grow without end": (BOMB, "unreadable", r"is not XML: limit on input amplification"),
    "no object": ("<annotation/>", "no_box", r"the image has no box with a class"),
    "no name": (one_object(f"<bndbox>{CORNERS}<ymax>9</ymax></bndbox>"), "no_box", r"object 1 has no name"),
    "no corner": (
        one_object(f"<name>cat</name><bndbox>{CORNERS}</bndbox>"),
        "no_box",
        r"object 1 \('cat'\) has no box",
    ),
    "no box": (one_object("<name>cat</name>"), "no_box", r"object 1 \('cat'\) has no box of four numbers"),
    "words": (one_object(f"<name>cat</name><bndbox>{CORNERS}<ymax>x</ymax></bndbox>"), "no_box", r"'ymax': 'x'"),
    "another class": (
        one_object(f"<name>cow</name><bndbox>{CORNERS}<ymax>9</ymax></bndbox>"),
        "no_class",
        r"no class 'cow'",
    ),
}


@pytest.mark.parametrize("name", XML)
def test_a_broken_xml_is_its_samples_problem(data: Path, name: str) -> None:
    text, status, reason = XML[name]
    voc(text)(data)
    good = one_object(f"<name>cat</name><bndbox>{CORNERS}<ymax>9</ymax></bndbox>")
    (data / "Annotations/good.xml").write_text(good)
    picture(data / "JPEGImages/good.jpg")
    bad, sound = take(data)
    assert sound["status"] == "ok"
    assert (bad["status"], bad["boxes"] if status != "no_class" else []) == (status, [])
    assert pytest.importorskip("re").search(reason, bad["reason"])


COCO = {
    "no JSON": ('{"images": [', r"labels\.json is not JSON: "),
    "a list": ("[]", r"labels\.json is a list of 0, no COCO file"),
    "results": ('[{"image_id": 0, "bbox": [0, 0, 9, 9], "score": 1}]', r"is a results file, .* \(with a score\)"),
    "no categories": (
        '{"images": [], "annotations": []}',
        r"has no list 'categories' \(it has \['images', 'annotations'\]\)",
    ),
    "captions": (
        edited(annotations=[{"id": 1, "image_id": 0, "caption": "a cat"}]),
        r"no annotation has a category_id",
    ),
    "images by id": (edited(images={"0": "a.jpg"}), r"has no list 'images'"),
    "an image that is a name": (edited(images=["a.jpg"]), r"images, entry 1 is no object but 'a\.jpg'"),
    "an image without a name": (edited(images=[{"id": 0}]), r"image 1: no file_name in \{'id': 0\}"),
    "an image without an id": (edited(images=[{"file_name": "a.jpg"}]), r"image 1: no id in "),
    "an id twice": (
        edited(images=[{"id": 0, "file_name": "a.jpg"}, {"id": 0, "file_name": "b.jpg"}]),
        r"image 2: the id 0 a second time",
    ),
    "an annotation without an image": (annotated(image_id=None), r"/labels\.json, annotation 1: no image_id in "),
    "a category without a name": (edited(categories=[{"id": 1}]), r"category 1: no name in "),
    "a number of 5,000 digits": (edited()[:-1] + f', "x": {"9" * 5000}}}', r"is not JSON: Exceeds the limit"),
    "no image": (edited(images=[]), r"lists no image"),
}


@pytest.mark.parametrize("name", COCO)
def test_a_broken_coco_file_is_refused(data: Path, name: str) -> None:
    text, message = COCO[name]
    (data / "labels.json").write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        take(data, path="labels.json")
    assert len(str(caught.value)) < LONGEST_MESSAGE


ANNOTATIONS = {
    "three numbers": (annotated(bbox=[0, 0, 9]), r"annotation 1 has no box of four numbers: [0, 0, 9]"),
    "words": (annotated(bbox=["a", 0, 9, 9]), r"annotation 1 has no box of four numbers"),
    "null": (annotated(bbox=[None, 0, 9, 9]), r"annotation 1 has no box of four numbers"),
    "a crowd alone": (annotated(iscrowd=1), r"annotation 1 is a crowd of 'cat'"),
    "an unknown category": (annotated(category_id=7), r"annotation 1 is of no category of the file: 7"),
    "a category that is a list": (annotated(category_id=[7]), r"annotation 1 is of no category of the file: [7]"),
    "no annotation": (edited(annotations=[]), r"the image has no annotation"),
}


@pytest.mark.parametrize("name", ANNOTATIONS)
def test_an_annotation_of_no_use_is_noted(data: Path, name: str) -> None:
    text, reason = ANNOTATIONS[name]
    (data / "labels.json").write_text(text)
    (row,) = take(data, path="labels.json")
    assert row["status"] == "no_box"
    assert reason in row["reason"]


YOLO = {
    "no YAML": ("names: [cat\n", r"data\.yaml is not YAML: "),
    "no keys": ("- cat\n", r"data\.yaml holds no keys"),
    "no names": ("nc: 2\ntrain: .\n", r"names is None, neither a list nor a map"),
    "names as text": ("names: cat dog\ntrain: .\n", r"names is 'cat dog', neither a list nor a map"),
    "names by letters": ("names: {a: cat}\ntrain: .\n", r"names is \{'a': 'cat'\}, neither"),
    "splits that lead nowhere": ("names: [cat]\ntrain: /gone/images\n", r"no image of .*data\.yaml can be found"),
}


@pytest.mark.parametrize("name", YOLO)
def test_a_broken_data_yaml_is_refused(data: Path, name: str) -> None:
    text, message = YOLO[name]
    (data / "data.yaml").write_text(text)
    with pytest.raises(UserError, match=message):
        take(data, path="data.yaml")


def test_a_label_file_of_pixels_is_refused(data: Path) -> None:
    (data / "data.yaml").write_text("names: [cat]\ntrain: .\n")
    (data / "a.txt").write_text("0 20 15 10 10\n")
    with pytest.raises(UserError, match=r"1 of 1 boxes have numbers above 2.*set dataset\.relative: false"):
        take(data)


def test_a_label_file_that_is_no_text_is_its_samples_problem(data: Path) -> None:
    (data / "data.yaml").write_text("names: [cat]\ntrain: .\n")
    (data / "a.txt").write_bytes(b"\xff\xfe\x00")
    picture(data / "b.jpg")
    (data / "b.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    bad, sound = take(data)
    assert (bad["status"], sound["status"]) == ("unreadable", "ok")
    assert "its label file" in bad["reason"]


# Which format it is


def test_a_folder_of_nothing_known_lists_what_there_is(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/notes.docx").write_bytes(b"x")
    with pytest.raises(
        UserError, match=r"of no format that is known by its files \(\['\.docx'\]\); set dataset\.reader"
    ):
        take(tmp_path / "data")


def test_a_folder_of_two_formats_lists_both(data: Path) -> None:
    (data / "labels.json").write_text(edited())
    (data / "data.yaml").write_text("names: [cat]\ntrain: .\n")
    with pytest.raises(
        UserError,
        match=r"may be coco: .*labels\.json; yolo: data\.yaml .*; give one of its folders where these are several "
        "datasets, or set dataset.reader to one of coco",
    ):
        take(data)


def test_two_manifests_are_not_guessed(data: Path) -> None:
    for name in ("train.csv", "val.csv"):
        (data / name).write_text(HEADER + f"a.jpg,cat,{BOX}\n")
    with pytest.raises(UserError, match=r"train\.csv and val\.csv are both manifests; give the path of one"):
        take(data)


def test_a_dataset_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"dataset\.path: there is no .*gone; give the dataset's folder or file"):
        take(tmp_path, path="gone")


def test_a_home_of_nobody(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"~nobody-of-that-name/data: .*write the whole path"):
        open_dataset(DatasetSettings(path="~nobody-of-that-name/data"))
