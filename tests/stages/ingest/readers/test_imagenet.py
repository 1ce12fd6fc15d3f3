from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given
from hypothesis import strategies as st

from stages.ingest.readers.imagenet import ImagenetReader, parse_prediction
from stages.ingest.record import Box
from stages.ingest.settings import DatasetSettings
from storage.errors import UserError
from tests.stages.ingest.datasets import PICTURES, as_imagenet, write_images


def test_inclusive_pixels_become_half_open() -> None:
    assert parse_prediction("n01 111 108 441 193 n02 0 0 0 0 ", "here") == (
        Box(111, 108, 442, 194, "n01"),
        Box(0, 0, 1, 1, "n02"),  # one pixel
    )


@given(st.lists(st.tuples(*[st.integers(0, 4000)] * 4), max_size=5))
def test_a_box_has_as_many_pixels_as_its_inclusive_form_names(corners: list[tuple[int, int, int, int]]) -> None:
    text = " ".join(f"n01 {x} {y} {x + w} {y + h}" for x, y, w, h in corners)
    for box, (x, y, w, h) in zip(parse_prediction(text, "here"), corners, strict=True):
        assert (box.x1 - box.x0) * (box.y1 - box.y0) == len(range(x, x + w + 1)) * len(range(y, y + h + 1))


@pytest.mark.parametrize(
    ("text", "message"),
    [("n01 1 2 3", r"4 words in the PredictionString"), ("n01 1 2 3 x", r"'1 2 3 x' are not four numbers")],
)
def test_a_prediction_string_of_another_shape_names_its_line(text: str, message: str) -> None:
    with pytest.raises(UserError, match=f"solution.csv, line 9: {message}"):
        parse_prediction(text, "solution.csv, line 9")


def test_classes_are_the_lines_of_the_mapping(tmp_path: Path) -> None:
    classes = ImagenetReader(as_imagenet(tmp_path)).classes()
    assert [(entry.key, entry.name) for entry in classes] == [("n01", "tench"), ("n02", "crane"), ("n03", "crane")]
    assert classes[0].aliases == ("tench, Tinca tinca", "tench", "Tinca tinca")


def test_a_class_listed_twice_names_the_line(tmp_path: Path) -> None:
    settings = as_imagenet(tmp_path)
    (tmp_path / "LOC_synset_mapping.txt").write_text("n01 tench\nn02 crane\nn01 tench\n")
    with pytest.raises(UserError, match=r"mapping\.txt, line 3: 'n01' a second time"):
        ImagenetReader(settings).classes()


@pytest.mark.parametrize("content", [None, ""])
def test_a_mapping_that_is_missing_or_empty(tmp_path: Path, content: str | None) -> None:
    settings = as_imagenet(tmp_path)
    mapping = tmp_path / "LOC_synset_mapping.txt"
    mapping.unlink() if content is None else mapping.write_text(content)
    with pytest.raises(UserError, match=r"LOC_synset_mapping\.txt"):
        ImagenetReader(settings).classes()


def test_the_solution_itself_may_be_given(tmp_path: Path) -> None:
    settings = as_imagenet(tmp_path)
    given_file = replace(settings, path=str(tmp_path / "LOC_val_solution.csv"))
    assert list(ImagenetReader(given_file).records()) == list(ImagenetReader(settings).records())


def test_a_folder_without_solution(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no LOC_\*_solution\.csv in"):
        ImagenetReader(DatasetSettings("imagenet", str(tmp_path)))


def test_of_two_solutions_the_split_chooses(tmp_path: Path) -> None:
    settings = as_imagenet(tmp_path)
    (tmp_path / "LOC_train_solution.csv").write_text("ImageId,PredictionString\nfirst,n01 0 0 1 1\n")
    with pytest.raises(UserError, match=r"2 solutions .*dataset\.split: train or val"):
        ImagenetReader(settings)
    assert len(list(ImagenetReader(replace(settings, split="train")).records())) == 1
    assert len(list(ImagenetReader(replace(settings, split="val")).records())) == 3
    with pytest.raises(UserError, match=r"dataset\.split: no LOC_test_solution\.csv"):
        ImagenetReader(replace(settings, split="test"))


def test_kaggles_layout_is_known(tmp_path: Path) -> None:
    settings = as_imagenet(tmp_path)
    (tmp_path / "ILSVRC/Data/CLS-LOC").mkdir(parents=True)
    (tmp_path / "images").rename(tmp_path / "ILSVRC/Data/CLS-LOC/val")
    records = list(ImagenetReader(settings).records())
    assert records[0].uri == f"{tmp_path}/ILSVRC/Data/CLS-LOC/val/first.JPEG"
    assert records[0].sample_id == "first.JPEG"


def test_an_image_that_is_missing_is_the_samples_problem(tmp_path: Path) -> None:
    settings = as_imagenet(tmp_path)
    (tmp_path / "images" / "first.JPEG").unlink()
    first, second, _ = ImagenetReader(settings).records()
    assert first.problem is not None
    assert "no image first in" in first.problem
    assert second.problem is None


def test_of_two_images_the_one_in_the_classs_folder_is_taken(tmp_path: Path) -> None:
    settings = as_imagenet(tmp_path)
    write_images(tmp_path / "images" / "n02", PICTURES[:1])
    (tmp_path / "images" / "first.JPEG").rename(tmp_path / "images" / "first.png")
    first, *_ = ImagenetReader(settings).records()
    assert (first.sample_id, first.problem) == ("n02/first.JPEG", None)
    write_images(tmp_path / "images" / "n01", PICTURES[1:2])
    (tmp_path / "images" / "n01" / "second.png").write_bytes(b"")
    _, second, _ = ImagenetReader(settings).records()
    assert second.problem is not None
    assert second.problem.startswith("2 images named second")


def test_a_file_system_that_gives_no_answer_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> bool:
        raise RuntimeError("Unable to locate credentials")

    monkeypatch.setattr(MemoryFileSystem, "isdir", refuse)
    for url, message in {
        "memory://photos": "cannot look into memory://photos: Unable to locate credentials; check the address",
        "nonsense://photos": "cannot open nonsense://photos: Protocol not known: nonsense",
    }.items():
        with pytest.raises(UserError, match=message):
            ImagenetReader(DatasetSettings("imagenet", url))


@pytest.mark.parametrize("missing", ["folder", "images"])
def test_no_images(tmp_path: Path, missing: str) -> None:
    settings = replace(as_imagenet(tmp_path), images=str(tmp_path / "photos"))
    if missing == "images":
        (tmp_path / "photos").mkdir()
    with pytest.raises(UserError, match=r"dataset\.images: .*photos"):
        list(ImagenetReader(settings).records())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Image,Boxes\n", r"no column 'ImageId' \(it has Image, Boxes\)"),
        ("ImageId,PredictionString\n,n01 0 0 1 1\n", r"line 2: the ImageId is empty"),
        ('ImageId,PredictionString\n"a"b,n01\n', r"line 2: not CSV"),
    ],
)
def test_a_broken_solution_is_named_with_the_line(tmp_path: Path, text: str, message: str) -> None:
    settings = as_imagenet(tmp_path)
    (tmp_path / "LOC_val_solution.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        list(ImagenetReader(settings).records())


def test_a_box_of_another_class_keeps_its_own_label(tmp_path: Path) -> None:
    settings = as_imagenet(tmp_path)
    (tmp_path / "LOC_val_solution.csv").write_text("ImageId,PredictionString\nfirst,n02 0 0 1 1 n01 2 2 3 3\n")
    (record,) = ImagenetReader(settings).records()
    assert record.label == "n02"
    assert [box.label for box in record.boxes] == [None, "n01"]
