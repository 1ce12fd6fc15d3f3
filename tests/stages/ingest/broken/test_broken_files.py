"""Names of files, files that are no image and places that are no file: each with its status."""

from __future__ import annotations

import csv
import io
import os
import socket
import struct
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from storage.errors import UserError
from storage.media.images import ImageError, read_image
from tests.stages.ingest.broken.corpus import BOX, HEADER, picture, take

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
    "a TIFF of 12 bits in 16": (
        tiff(np.linspace(0, 4095, 1200).astype(np.uint16).reshape(30, 40)),
        "ok",
        "no pixel is brighter than a quarter of white: values of 12 or 14 bits in a 16-bit file?",
    ),
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
