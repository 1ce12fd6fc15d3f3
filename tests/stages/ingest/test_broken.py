"""A corpus of broken and odd datasets, made as people make them: each with the status or the message that it gets."""

from __future__ import annotations

import csv
import io
import json
import os
import socket
import struct
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from stages.ingest.ingest import ingest
from stages.ingest.recognise import open_dataset
from stages.ingest.settings import DatasetSettings
from storage.errors import UserError
from storage.images import ImageError, read_image
from storage.run import Run

NAMES = ("cat", "dog", "caf\u00e9")
HEADER = "path,label,boxes\n"
BOX = '"[[0, 0, 20, 20]]"'
LONGEST_MESSAGE = 900

Rows = list[dict[str, Any]]


def take(folder: Path, **settings: Any) -> Rows:
    """The samples of the dataset in ``folder``, or at the ``path`` below it."""
    path = str(folder / settings.pop("path", "."))
    run = Run.create(str(folder.with_name(f"{folder.name}-run")))
    rows: Rows = ingest(open_dataset(DatasetSettings(path=path, **settings)), NAMES, run).to_pylist()
    return rows


def picture(path: Path, size: tuple[int, int] = (40, 30)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, "red").save(path)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with one sound image."""
    picture(tmp_path / "data" / "a.jpg")
    return tmp_path / "data"


# The manifest as a file


def coco(entries: int, indent: int | None = None) -> str:
    images = [{"id": number, "file_name": f"{number:012}.jpg"} for number in range(entries)]
    annotation = {"id": 1, "image_id": 0, "category_id": 1, "bbox": [1, 2, 3, 4]}
    content = {"images": images, "annotations": [annotation], "categories": [{"id": 1, "name": "cat"}]}
    return json.dumps(content, indent=indent)


def parquet(**columns: list[Any]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


MANIFESTS: dict[str, tuple[str | bytes, str]] = {
    "a COCO file of 5 MB": (coco(100_000), r"is a COCO file, not a manifest; set dataset\.reader: coco"),
    "a COCO file over many lines": (coco(3, 1), r"is a COCO file, not a manifest; set dataset\.reader: coco"),
    "one JSON list": ('[{"path": "a.jpg", "label": "cat", "boxes": []}]', r"is one JSON list"),
    "JSON that breaks off": ('{"path": "a.jpg", "la', r"line 1: not JSON: .*write one object a line"),
    "JSON without a key": (
        '{"path": "a.jpg", "label": "cat"}',
        r"line 1: no key 'boxes' \(it has \['path', 'label'\]\)",
    ),
    "JSON of no object": ('{"path": "a.jpg", "label": null, "boxes": null}\n7\n', r"line 2: 7 is no object"),
    "nothing": ("", r"has no column 'path' \(it has none\)"),
    "a header alone": (HEADER, r"lists no image; add at least one row"),
    "no header": (f"a.jpg,cat,{BOX}\n", r"has no column 'path' \(it has 'a\.jpg', 'cat', "),
    "a header of 200,000 columns": (",".join(f"c{n}" for n in range(200_000)), r"has no column 'path' \(it has 'c0', "),
    "Latin-1": (HEADER.encode() + "a.jpg,caf\u00e9,\n".encode("latin-1"), r"is not UTF-8 \(byte \d+\); save it as CSV"),
    "a JPEG": (b"\xff\xd8\xff\xe0 a photo", r"is not UTF-8 \(byte 0\)"),
    "damaged Parquet": (b"PAR1" + bytes(50), r"is damaged Parquet: "),
    "Parquet that breaks off": (parquet(path=["a.jpg"], label=["cat"], boxes=["[]"])[:-40], r"is damaged Parquet: "),
    "Parquet without a column": (parquet(path=["a.jpg"], label=["cat"]), r"has no column 'boxes'"),
    "a quote that is not closed": (HEADER + 'a.jpg,cat,"[[1, 2', r"line 2: not CSV: .*; quote the cell"),
    "boxes without quotes": (HEADER + "a.jpg,cat,[[0, 0, 5, 5]]\n", r"line 2: not 3 fields as in the header"),
    "no path": (HEADER + f",cat,{BOX}\n", r"line 2: the path is empty"),
    "boxes that are a megabyte of text": (
        HEADER + f"a.jpg,cat,{'x' * 10**6}\n",
        r"line 2: boxes are not JSON .*'x+'\.\.\.",
    ),
    "a box that is a megabyte of text": (
        HEADER + f'a.jpg,cat,"[[0, 0, 1, ""{"x" * 10**6}""]]"\n',
        r"line 2, box 1: 'x+'\.\.\. in \[0, 0, 1, 'x+.* is no number",
    ),
    "a number of 5,000 digits": (HEADER + f'a.jpg,cat,"[[0, 0, 5, {"9" * 5000}]]"\n', r"line 2: boxes are not JSON"),
    "boxes nested a hundred thousand deep": (HEADER + f"a.jpg,cat,{'[' * 10**5}\n", r"line 2: boxes are not JSON"),
    "a box of words": (HEADER + 'a.jpg,cat,"[[""left"", 0, 5, 5]]"\n', r"line 2, box 1: 'left' in .* is no number"),
    "a box of true": (HEADER + 'a.jpg,cat,"[[true, 0, 5, 5]]"\n', r"line 2, box 1: True in .* is no number"),
    "one box, not a list of boxes": (HEADER + 'a.jpg,cat,"[0, 0, 5, 5]"\n', r"line 2, box 1: 0 is no box"),
    "boxes as an object": (HEADER + 'a.jpg,cat,"{""x0"": 1}"\n', r"line 2: boxes are no list"),
    "an image twice": (
        HEADER + f"a.jpg,cat,{BOX}\n./a.jpg,cat,{BOX}\n",
        r"line 3: the image a\.jpg is listed a second",
    ),
    "a label of a megabyte": (
        HEADER + f"a.jpg,{'x' * 10**6},{BOX}\n",
        r"none of the dataset's 1 labels \('x+'\.\.\.\)",
    ),
    "no image that exists": (HEADER + f"b.jpg,cat,{BOX}\n", r"none of the 1 images .* no such file: .*b\.jpg"),
    "a name of a megabyte": (HEADER + f"{'x' * 10**6},cat,{BOX}\n", r"none of the 1 images .*File name too long"),
    "labels that count from 1": (
        HEADER + f"a.jpg,1,{BOX}\nb.jpg,3,{BOX}\n",
        r"labels are the numbers 1 to 3, and the model's outputs are 0 to 2: they count from 1",
    ),
    "fractions": (HEADER + 'a.jpg,cat,"[[0.1, 0.2, 0.8, 0.9]]"\n', r"lie in \[0, 1\].*set dataset\.relative: true"),
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_broken_manifest_is_refused_in_one_bounded_line(data: Path, name: str) -> None:
    content, message = MANIFESTS[name]
    (data / "m.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=message) as caught:
        take(data, path="m.csv", reader="manifest")
    told = str(caught.value)
    assert len(told.replace(str(data), "")) < LONGEST_MESSAGE
    assert "\n" not in told
    assert not Path(f"{data}-run/samples.parquet").exists()


ODD: dict[str, str | bytes] = {
    "semicolons": f"path;label;boxes\na.jpg;cat;{BOX}\n",
    "tabs": f"path\tlabel\tboxes\na.jpg\tcat\t{BOX}\n",
    "a byte order mark": f"\ufeff{HEADER}a.jpg,cat,{BOX}\n",
    "UTF-16, as a spreadsheet saves Unicode": f"path\tlabel\tboxes\na.jpg\tcat\t{BOX}\n".encode("utf-16"),
    "spaces in the header": f"path, label, boxes\na.jpg, cat,{BOX}\n",
    "numbers in quotes": HEADER + 'a.jpg,cat,"[[""0"", ""0.0"", ""20"", ""2e1""]]"\n',
    "decimals": HEADER + 'a.jpg,cat,"[[0.0, 0.0, 20.0, 20.0]]"\n',
    "a cell of 200 kB": HEADER + f'a.jpg,cat,"[[0, 0, 20, 20], {", ".join(["[0, 0, 20, 20]"] * 15_000)}]"\n',
    "JSON Lines": '{"path": "a.jpg", "label": "cat", "boxes": [[0, 0, 20, 20]]}\n\n',
    "Parquet with the label as a number with gaps": parquet(path=["a.jpg"], label=[0.0], boxes=[[[0.0, 0, 20, 20]]]),
    "a label that a spreadsheet made 0.0": HEADER + f"a.jpg,0.0,{BOX}\n",
    "a label in capitals": HEADER + f"a.jpg,CAT,{BOX}\n",
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_manifest_is_read(data: Path, name: str) -> None:
    content = ODD[name]
    (data / "m.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    (row,) = take(data, path="m.csv", reader="manifest")
    assert (row["sample_id"], row["label"], row["class_index"], row["status"]) == ("a.jpg", "cat", 0, "ok")
    assert row["boxes"][0] == {"x0": 0, "y0": 0, "x1": 20, "y1": 20, "label": None}


# Names of files

NAMED = [
    "~a.jpg",
    "~/a.jpg",
    "~nobody/a.jpg",
    "std::vector.jpg",
    "a::b",
    "a:b.jpg",
    "50%.jpg",
    "a#b.jpg",
    "a?b.jpg",
    "[a].jpg",
]


@pytest.mark.parametrize("name", [*NAMED, "na\u00efve.jpg", "nai\u0308ve.jpg", " a .jpg", "{a}.jpg", "*.jpg", "-a.jpg"])
def test_a_name_is_a_name(data: Path, name: str) -> None:
    place = data / "images" / Path(name)
    place.parent.mkdir(parents=True, exist_ok=True)
    (data / "a.jpg").rename(place)
    with (data / "m.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "label", "boxes"], [f"images/{name}", "cat", "[[0, 0, 9, 9]]"]])
    (row,) = take(data, path="m.csv")
    assert (row["status"], row["uri"]) == ("ok", f"{data}/images/{name}")


def test_another_spelling_of_a_file_is_found(data: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "caf\u00e9.jpg") for form in ("NFC", "NFD"))
    picture(data / "sub" / decomposed)
    (data / "m.csv").write_text(HEADER + f"sub\\{composed},cafe\u0301,{BOX}\n.\\a.jpg,cat,{BOX}\n")
    first, second = take(data, path="m.csv")
    assert (first["status"], first["sample_id"], first["label"]) == ("ok", f"sub/{decomposed}", "caf\u00e9")
    assert (second["status"], second["sample_id"]) == ("ok", "a.jpg")


# Files that are no image, or an odd one


def tiff(values: np.ndarray) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(values).save(sink, "TIFF")
    return sink.getvalue()


def container(brand: bytes) -> bytes:
    """The start of an ISO container, as HEIC and AVIF have it."""
    return struct.pack(">I", 24) + b"ftyp" + brand + bytes(4) + b"mif1" + brand + bytes(200)


def with_exif(exif: bytes) -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", (40, 30)).save(sink, "JPEG", exif=exif)
    return sink.getvalue()


FILES: dict[str, tuple[bytes, str, str | None]] = {
    "nothing": (b"", "unreadable", "the file is empty (0 bytes)"),
    "a page": (b"<!DOCTYPE html><title>404</title>", "unreadable", "not an image in a known format"),
    "SVG": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "unreadable", "not an image in a known format"),
    "PDF": (b"%PDF-1.7\n" + bytes(90), "unreadable", "not an image in a known format"),
    "a pointer of Git LFS": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
        "unreadable",
        "a pointer of Git LFS, not the image itself: git lfs pull",
    ),
    "HEIC": (
        container(b"heic"),
        "unreadable",
        "a HEIC image, which Pillow does not read by itself: pip install pillow-heif",
    ),
    "half a JPEG": (with_exif(b"")[:400], "unreadable", "truncated or damaged JPEG"),
    "a TIFF of floats from 0 to 255": (
        tiff(np.linspace(0, 255, 1200, dtype=np.float32).reshape(30, 40)),
        "unreadable",
        "values from 0 to 255, where black is 0 and white is 1",
    ),
    "a TIFF of floats from 0 to 1": (tiff(np.linspace(0, 1, 1200, dtype=np.float32).reshape(30, 40)), "ok", None),
    "a TIFF with NaN": (tiff(np.full((30, 40), np.nan, np.float32)), "unreadable", "values from nan to nan"),
    "damaged EXIF": (
        with_exif(b"Exif\0\0rubbish, no TIFF"),
        "ok",
        "the EXIF data are damaged; the image is taken as upright",
    ),
    "EXIF that breaks off": (
        with_exif(b"Exif\0\0II*\0\x08\0\0\0\xff\x00"),
        "ok",
        "the EXIF data are damaged; the image is taken as upright",
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_gets_its_status_and_explain_judges_alike(data: Path, name: str) -> None:
    content, status, reason = FILES[name]
    (data / "b.jpg").write_bytes(content)
    (data / "m.csv").write_text(HEADER + f"a.jpg,cat,{BOX}\nb.jpg,cat,{BOX}\n")
    _, row = take(data, path="m.csv")
    assert row["status"] == status
    assert row["reason"] is None if reason is None else reason in row["reason"]
    assert take(data, path="m.csv")[1] == row  # the second time, when a sound file is not read again
    if status == "ok":
        assert read_image(row["uri"]).size == (40, 30)
    else:
        with pytest.raises(ImageError) as caught:
            read_image(row["uri"])
        assert caught.value.reason == row["reason"]


def test_no_byte_of_a_file_that_is_no_image_is_told(data: Path) -> None:
    secrets = {
        "key.jpg": b"hunter2-private-key",
        "p.jpg": b"P6 hunter2 more",
        "g.jpg": b"GIF89ahunter2",
        "t.jpg": b"II*\0hunter2",
    }
    for name, content in secrets.items():
        (data / name).write_bytes(content)
    (data / "m.csv").write_text(HEADER + "".join(f"{name},cat,{BOX}\n" for name in secrets))
    for row in take(data, path="m.csv"):
        assert row["status"] == "unreadable"
        assert not any(content in row["reason"] for content in ("hunter", "hunt", "private"))


def test_avif_without_its_plugin_says_what_is_missing(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.init()
    monkeypatch.delitem(Image.OPEN, "AVIF", raising=False)
    (data / "b.jpg").write_bytes(container(b"avif"))
    (data / "m.csv").write_text(HEADER + f"a.jpg,cat,{BOX}\nb.jpg,cat,{BOX}\n")
    _, row = take(data, path="m.csv")
    assert row["reason"].startswith(
        "an AVIF image, and this Pillow was built without AVIF: pip install --upgrade pillow"
    )


def make_socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # the path of a socket is short
    try:
        socket.socket(socket.AF_UNIX).bind(path.name)
    finally:
        os.chdir(here)


PLACES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a folder": (lambda path: path.mkdir(), "is a folder, not an image"),
    "a named pipe": (os.mkfifo, "is a named pipe, not a file"),
    "a device": (lambda path: path.symlink_to("/dev/zero"), "is a device, not a file"),
    "a socket": (make_socket, "is a socket, not a file"),
    "a link to nowhere": (lambda path: path.symlink_to("gone.jpg"), "no such file"),
    "a link to itself": (lambda path: path.symlink_to(path.name), "cannot be read: Too many levels of symbolic links"),
}


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("name", PLACES)
def test_what_is_no_file_is_a_status_and_no_hang(data: Path, name: str) -> None:
    make, reason = PLACES[name]
    make(data / "b.jpg")
    (data / "m.csv").write_text(HEADER + f"a.jpg,cat,{BOX}\nb.jpg,cat,{BOX}\n")
    _, row = take(data, path="m.csv", allow_outside=True)
    assert row["status"] == "unreadable"
    assert reason in row["reason"]


def kitti_label(folder: Path) -> Path:
    picture(folder / "image_2/b.jpg")
    return folder / "label_2/b.txt"


CONTAINERS: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "a tar": ("webdataset", lambda folder: folder / "b.tar"),
    "Parquet": ("huggingface", lambda folder: folder / "b.parquet"),
    "Arrow": ("huggingface", lambda folder: folder / "b.arrow"),
    "a label file of KITTI": ("kitti", kitti_label),
    "an image of KITTI": ("kitti", lambda folder: folder / "image_2/b.jpg"),
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_pipe_that_stands_for_a_container_or_a_label_file_is_refused(tmp_path: Path, name: str) -> None:
    reader, place = CONTAINERS[name]
    picture(tmp_path / "data/image_2/a.jpg")
    (tmp_path / "data/label_2").mkdir()
    (tmp_path / "data/label_2/a.txt").write_text(f"cat 0 0 0 1 2 9 9{' 0' * 7}\n")
    os.mkfifo(place(tmp_path / "data"))
    with pytest.raises(UserError, match="is a named pipe, not a file"):
        take(tmp_path / "data", reader=reader)


# Boxes that no image has

BOXES = {
    "[[0, 0, 1e400, 9]]": "box 1 (0, 0, inf, 9) is not finite",
    f"[[0, 0, {'9' * 100}, {'9' * 100}]]": None,
    f"[[{'9' * 100}, 0, {'9' * 101}, 9]]": "lies outside the image of 40 x 30",
    "[[NaN, 0, 1, 9]]": "is not finite",
    "[[9, 9, 9, 9]]": "has no area",
    "[[20, 9, 10, 12]]": "has no area",
    "[[-9, 0, -1, 9]]": "lies outside the image of 40 x 30",
    "[]": "the sample has no box",
}


@pytest.mark.parametrize("boxes", BOXES, ids=lambda text: text[:24])
def test_boxes_of_no_use_are_dropped_with_their_numbers(data: Path, boxes: str) -> None:
    (data / "m.csv").write_text(HEADER + f'a.jpg,cat,"{boxes}"\n')
    (row,) = take(data, path="m.csv")
    reason = BOXES[boxes]
    assert row["status"] == ("ok" if reason is None else "no_box")
    assert row["reason"] is None if reason is None else reason in row["reason"]


@pytest.mark.parametrize("labels", ["image", "crop"])
@pytest.mark.parametrize("digits", [100, 308, 400])
def test_corners_of_hundreds_of_digits_are_cut_as_those_of_a_few_are(data: Path, digits: int, labels: str) -> None:
    far = "9" * digits
    (data / "m.csv").write_text(HEADER + f'a.jpg,cat,"[[-{far}, 0, {far}, 9]]"\n')
    (row,) = take(data, path="m.csv", labels=labels)
    if digits == 400:  # beyond a double
        assert (row["status"], row["reason"]) == ("no_box", "box 1 (-inf, 0, inf, 9) is not finite")
    else:
        assert row["status"] == "ok"
        assert row["boxes"] == [{"x0": 0, "y0": 0, "x1": 40, "y1": 9, "label": None}]


LONG = "9" * 100


def write_yolo(folder: Path) -> None:
    (folder / "data.yaml").write_text("names: [cat]\ntrain: .\n")
    (folder / "a.txt").write_text(f"0 0.5 0.5 {LONG} 0.5\n{LONG} 0.5 0.5 0.5 0.5\n")
    picture(folder / "b.jpg")  # a set of one such box would be taken for one of pixels
    (folder / "b.txt").write_text("0 0.5 0.5 0.5 0.5\n")


def write_coco(folder: Path) -> None:
    (folder / "l.json").write_text(annotated(bbox=["W", 0, "W", 9]).replace('"W"', LONG))


def write_voc(folder: Path) -> None:
    corners = f"<xmin>-{LONG}</xmin><ymin>1</ymin><xmax>{LONG}</xmax><ymax>9</ymax>"
    size = f"<size><width>{LONG}</width><height>{LONG}</height></size>"
    (folder / "a.xml").write_text(
        f"<annotation>{size}<object><name>cat</name><bndbox>{corners}</bndbox></object></annotation>"
    )


LONG_NUMBERS: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "yolo": (write_yolo, "ok", "line 2 is of class '999"),
    "coco": (write_coco, "no_box", "box 1 (1e+100, 0, 2e+100, 9) lies outside the image of 40 x 30"),
    "voc": (write_voc, "ok", ""),
}


@pytest.mark.parametrize("reader", LONG_NUMBERS)
def test_numbers_of_a_hundred_digits_end_no_reader(data: Path, reader: str) -> None:
    write, status, reason = LONG_NUMBERS[reader]
    write(data)
    row, *_ = take(data, reader=reader)
    assert row["status"] == status
    assert reason in (row["reason"] or "")


# Detection formats


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


def edited(**changes: Any) -> str:
    content = json.loads(coco(1)) | {"images": [{"id": 0, "file_name": "a.jpg", "width": 40, "height": 30}]}
    return json.dumps(content | changes)


def annotated(**keys: Any) -> str:
    return edited(annotations=[{"id": 1, "image_id": 0, "category_id": 1, "bbox": [0, 0, 9, 9], **keys}])


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
    "an annotation without an image": (annotated(image_id=None), r"labels\.json: no image_id in "),
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
        UserError, match=r"may be coco: .*labels\.json; yolo: data\.yaml .*set dataset\.reader to one of coco"
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
