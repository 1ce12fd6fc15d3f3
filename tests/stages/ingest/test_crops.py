"""``dataset.labels: crop``: each object is a picture of its own, cut out of its image with its surroundings."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from stages.ingest.ingest import ingest
from stages.ingest.recognise import open_dataset
from stages.ingest.samples.crop_names import _new_names
from stages.ingest.settings import DatasetSettings
from storage.errors import UserError
from storage.media import images
from storage.media.containers import Crop
from storage.media.images import FileStamp, ImageError, local_path, read_bytes, read_image, stamp_file
from storage.run import Run
from storage.samples import read_unchanged
from tests.stages.ingest.datasets import write_rows

NAMES = ("cat", "dog")


@pytest.fixture
def image(tmp_path: Path) -> str:
    """100 x 60 px whose red is the column and whose green is the row."""
    rows, columns = np.mgrid[:60, :100]
    pixels = np.stack([columns, rows, np.zeros_like(rows)], axis=-1).astype(np.uint8)
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path)
    return str(path)


def box(x0: float, y0: float, x1: float, y1: float, label: str) -> dict[str, Any]:
    return {"x0": x0, "y0": y0, "x1": x1, "y1": y1, "label": label}


def cropped(folder: Path, *boxes: dict[str, Any], **settings: Any) -> dict[str, dict[str, Any]]:
    """The samples of the image with these boxes, by name."""
    path = write_rows(folder / "m.csv", [{"path": "a.png", "label": "", "boxes": list(boxes)}])
    dataset = open_dataset(DatasetSettings("manifest", path, labels="crop", **settings))
    table = ingest(dataset, NAMES, Run.create(str(folder / "run")))
    return {row["sample_id"]: row for row in table.to_pylist()}


def edges(sample: dict[str, Any]) -> list[tuple[float, float, float, float]]:
    return [(it["x0"], it["y0"], it["x1"], it["y1"]) for it in sample["boxes"]]


def test_each_object_is_a_sample_with_a_quarter_of_its_sides_around_it(image: str, tmp_path: Path) -> None:
    found = cropped(tmp_path, box(40, 20, 60, 28, "dog"), box(0, 30, 8, 60, "cat"))
    assert [(name, row["label"], row["class_index"]) for name, row in found.items()] == [
        ("a.png#1", "dog", 1),
        ("a.png#2", "cat", 0),
    ]
    # 20 x 8 px and 5 and 2 px on each side; 8 x 30 px in the corner: 2 px to the right and 7.5, so 8, above.
    assert found["a.png#1"]["uri"] == f"crop://35,18,65,30::{image}"
    assert found["a.png#2"]["uri"] == f"crop://0,22,10,60::{image}"
    assert [(row["width"], row["height"]) for row in found.values()] == [(30, 12), (10, 38)]
    assert [edges(row) for row in found.values()] == [[(5, 2, 25, 10)], [(0, 8, 8, 38)]]
    assert all(row["status"] == "ok" and row["reason"] is None for row in found.values())


def test_a_crop_keeps_its_name_and_row_where_objects_before_it_come_and_go(image: str, tmp_path: Path) -> None:
    one, two, three, four = (box(x, 20, x + 8, 28, "dog") for x in (10, 30, 50, 70))
    first = cropped(tmp_path, one, two, three)
    places = {name: (row["uri"], row["row"]) for name, row in first.items()}

    fewer = cropped(tmp_path, two, three)
    assert {name: row["status"] for name, row in fewer.items()} == {
        "a.png#1": "removed",
        "a.png#2": "ok",
        "a.png#3": "ok",
    }
    assert {name: (row["uri"], row["row"]) for name, row in fewer.items()} == places

    # A new object in front has its number taken, and an object that was corrected is another crop.
    more = cropped(tmp_path, four, two, {**three, "x1": 62}, one)
    assert {name: (row["status"], row["row"]) for name, row in more.items()} == {
        "a.png#1": ("ok", 0),
        "a.png#2": ("ok", 1),
        "a.png#3": ("removed", 2),
        "a.png#4": ("ok", 3),
        "a.png#5": ("ok", 4),
    }
    assert more["a.png#4"]["uri"] == f"crop://68,18,80,30::{image}"
    assert more["a.png#5"]["uri"] == f"crop://47,18,65,30::{image}"


@given(st.data())
def test_no_two_crops_have_one_name_and_a_rectangle_keeps_its_own(data: st.DataObject) -> None:
    rectangles = st.lists(st.integers(0, 5), max_size=6)
    known: dict[str, str] = {}  # of all runs, name to rectangle
    for _ in range(4):
        drawn = data.draw(rectangles)
        crops = [(f"a.png#{place}", f"crop://{it}::a.png") for place, it in enumerate(drawn, start=1)]
        names = _new_names(crops, list(known.items()))
        now = {names[name]: uri for name, uri in crops}
        assert len(now) == len(crops)
        for name, uri in now.items():
            assert known.get(name, uri) == uri, "a name that was another rectangle's"
        for uri in {uri for _, uri in crops}:
            before = [name for name, other in known.items() if other == uri]
            again = [name for name, other in now.items() if other == uri]
            assert before[: len(again)] == again[: len(before)]
        known |= now


def test_a_corrected_box_and_a_new_object_are_two_crops_with_a_row_each(image: str, tmp_path: Path) -> None:
    one, two, three = (box(x, 20, x + 8, 28, "dog") for x in (10, 30, 50))
    cropped(tmp_path, one, two)
    found = cropped(tmp_path, {**one, "x1": 22}, two, three)
    assert {name: (row["status"], row["row"]) for name, row in found.items()} == {
        "a.png#1": ("removed", 0),
        "a.png#2": ("ok", 1),
        "a.png#3": ("ok", 3),
        "a.png#4": ("ok", 2),
    }
    assert found["a.png#3"]["uri"] == f"crop://48,18,60,30::{image}"


def test_a_run_in_which_two_crops_have_one_name_is_mended(image: str, tmp_path: Path) -> None:
    one, two = (box(x, 20, x + 8, 28, "dog") for x in (10, 30))
    run = Run.create(str(tmp_path / "run"))
    cropped(tmp_path, one, two)
    samples = run.table("samples")
    for name, values in (("sample_id", ["a.png#1"] * 2), ("row", [0, 0])):
        place = samples.schema.get_field_index(name)
        samples = samples.set_column(place, samples.field(name), pa.array(values, samples.field(name).type))
    run.write_table("samples", samples)
    assert {name: row["row"] for name, row in cropped(tmp_path, one, two).items()} == {"a.png#1": 0, "a.png#2": 1}


def test_an_image_file_with_the_name_of_a_crop_is_told(image: str, tmp_path: Path) -> None:
    Image.open(image).save(tmp_path / "a.png#1", "PNG")
    rows = [
        {"path": name, "label": "", "boxes": boxes}
        for name, boxes in (("a.png", [box(10, 20, 18, 28, "dog")]), ("a.png#1", []))
    ]
    dataset = open_dataset(DatasetSettings("manifest", write_rows(tmp_path / "m.csv", rows), labels="crop"))
    with pytest.raises(UserError, match=r"^two samples are named a.png#1; if an image file's own name ends in # and"):
        ingest(dataset, NAMES, Run.create(str(tmp_path / "run")))


def test_the_picture_of_a_crop_is_that_part_of_the_upright_image(image: str, tmp_path: Path) -> None:
    row = cropped(tmp_path, box(40, 20, 60, 28, "dog"))["a.png#1"]
    pixels = np.asarray(read_unchanged(row))
    assert pixels[0, 0].tolist() == [35, 18, 0]
    assert pixels[-1, -1].tolist() == [64, 29, 0]

    turned = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # stored on its side: upright it is 60 wide, 100 high
    Image.open(image).save(turned, exif=exif, quality=100, subsampling=0)
    assert np.array_equal(
        np.asarray(read_image(Crop((10, 50, 20, 90), str(turned)).url)),
        np.asarray(read_image(str(turned)))[50:90, 10:20],
    )


def test_other_boxes_that_reach_into_a_crop_are_shown_and_those_of_its_class_are_its_own(
    image: str, tmp_path: Path
) -> None:
    found = cropped(
        tmp_path,
        box(40, 20, 60, 40, "dog"),
        box(62, 20, 80, 40, "dog"),
        box(30, 10, 38, 18, "cat"),
        box(90, 0, 99, 9, "cat"),
    )
    first = found["a.png#1"]  # columns 35 to 65, rows 15 to 45
    assert edges(first) == [(5, 5, 25, 25), (27, 5, 30, 25), (0, 0, 3, 3)]
    assert [it["label"] for it in first["boxes"]] == [None, None, "cat"]


def test_fractions_are_of_the_whole_image(image: str, tmp_path: Path) -> None:
    found = cropped(tmp_path, box(0.4, 0.5, 0.6, 1.0, "cat"), relative=True, crop_context=0)
    assert found["a.png#1"]["uri"] == f"crop://40,30,60,60::{image}"
    assert edges(found["a.png#1"]) == [(0, 0, 20, 30)]


def test_what_cannot_be_cut_out_is_a_sample_with_its_reason(image: str, tmp_path: Path) -> None:
    found = cropped(tmp_path, box(40, 20, 40, 28, "dog"), box(0, 0, 8, 8, "cat"))
    assert [(row["status"], row["uri"] == image) for row in found.values()] == [("no_box", True), ("ok", False)]
    assert found["a.png#1"]["reason"].endswith("box 1 (40, 20, 40, 28) has no area")


def test_an_image_without_objects_and_one_that_is_gone_have_their_status(image: str, tmp_path: Path) -> None:
    rows = [
        {"path": "a.png", "label": "", "boxes": []},
        {"path": "gone.png", "label": "", "boxes": [box(0, 0, 8, 8, "cat"), box(0, 0, 9, 9, "dog")]},
    ]
    dataset = open_dataset(DatasetSettings("manifest", write_rows(tmp_path / "m.csv", rows), labels="crop"))
    table = ingest(dataset, NAMES, Run.create(str(tmp_path / "run")))
    assert [(row["sample_id"], row["status"]) for row in table.to_pylist()] == [
        ("a.png", "no_box"),
        ("gone.png#1", "unreadable"),
    ]


def test_a_crop_is_stamped_as_its_image_and_is_no_file_itself(image: str) -> None:
    uri = Crop((0, 0, 10, 10), image).url
    assert stamp_file(uri) == stamp_file(image)
    assert isinstance(stamp_file(uri), FileStamp)
    assert local_path(uri) is None
    assert Image.open(io.BytesIO(read_bytes(uri))).size == (10, 10)
    assert Crop.parse(uri) == Crop((0, 0, 10, 10), image)
    assert Crop.parse(image) is None
    with pytest.raises(ImageError, match=r"no such file: .*gone\.png"):
        read_bytes(Crop((0, 0, 1, 1), f"{image}.gone.png").url)


def test_crops_are_made_of_images_in_containers_too() -> None:
    uri = Crop((1, 2, 3, 4), "tar://d/a.jpg::/data/x.tar").url
    assert Crop.parse(uri) == Crop((1, 2, 3, 4), "tar://d/a.jpg::/data/x.tar")


def test_an_image_is_decoded_once_for_all_of_its_crops_and_again_when_it_changed(
    image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[str] = []
    original = images.read_image
    monkeypatch.setattr(images, "read_image", lambda uri: decoded.append(uri) or original(uri))
    crops = [Crop((x, 5, x + 20, 25), image).url for x in range(0, 80, 2)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(read_bytes, crops))
    assert decoded == [image]
    for x, content in zip(range(0, 80, 2), found, strict=True):
        assert np.asarray(Image.open(io.BytesIO(content)))[0, :, 0].tolist() == list(range(x, x + 20))
    Image.new("RGB", (100, 60), "white").save(image)
    assert np.asarray(Image.open(io.BytesIO(read_bytes(crops[0])))).min() == 255
    assert decoded == [image, image]
    with pytest.raises(ImageError, match="no such file"):
        read_bytes(Crop((0, 0, 5, 5), f"{image}.gone").url)
