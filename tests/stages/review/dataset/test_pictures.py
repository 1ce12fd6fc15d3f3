"""Crops and members of containers, as files that the App serves."""

from __future__ import annotations

import io
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from stages.review.dataset.contents import read_contents
from stages.review.dataset.pictures import write_pictures
from stages.review.settings import ReviewSettings
from storage.errors import UserError
from storage.media.containers import Crop, Member
from storage.media.images import read_image
from storage.tables import SAMPLES
from tests.stages.review.synthetic import Planted, make_run


@pytest.fixture
def image(tmp_path: Path) -> str:
    """A JPEG of a gradient, 40 x 30 px."""
    pixels = np.mgrid[:30, :40][1].astype(np.uint8) * 6
    Image.fromarray(pixels).convert("RGB").save(tmp_path / "a.jpg")
    return str(tmp_path / "a.jpg")


def test_a_crop_becomes_a_png_and_a_member_keeps_its_bytes(image: str, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        tar.add(image, "d/a.jpg")
    crop = Crop((10, 5, 30, 25), image).url
    member = Member("tar", "d/a.jpg", str(tmp_path / "x.tar")).url
    gone = Crop((0, 0, 1, 1), str(tmp_path / "gone.jpg")).url
    cut, taken, lost = write_pictures(tmp_path / "run", [(crop, "11"), (member, "22"), (gone, "33")], threads=2)
    assert cut is not None
    assert taken is not None
    assert lost is None
    assert (cut.name, taken.name) == ("11.png", "22.jpeg")
    assert np.array_equal(np.asarray(Image.open(cut)), np.asarray(read_image(image))[5:25, 10:30])
    assert taken.read_bytes() == Path(image).read_bytes()


def test_a_picture_that_is_there_is_kept(image: str, tmp_path: Path) -> None:
    crop = Crop((10, 5, 30, 25), image).url
    (first,) = write_pictures(tmp_path / "run", [(crop, "11")], threads=1)
    Path(image).unlink()
    assert write_pictures(tmp_path / "run", [(crop, "11")], threads=1) == [first]


def test_the_app_is_given_the_picture_of_a_crop(image: str, tmp_path: Path) -> None:
    run = make_run(tmp_path, [Planted("a.png"), Planted("b.png")])
    rows = run.table("samples").to_pylist()
    crop = Crop((10, 5, 30, 25), image).url
    run.write_table("samples", pa.Table.from_pylist([rows[0] | {"uri": crop}, rows[1]], schema=SAMPLES))
    shown = {sample.key: sample.path for sample in read_contents(run, ReviewSettings()).samples}
    assert Path(shown["a.png"]).parent == run.local_path("pictures")
    assert Image.open(io.BytesIO(Path(shown["a.png"]).read_bytes())).size == (20, 20)
    assert Path(shown["b.png"]).parent != run.local_path("pictures")


def test_maps_of_other_targets_alone_are_not_shown_and_that_is_said(tmp_path: Path) -> None:
    run = make_run(tmp_path, [Planted("a.png")])
    run.create_maps(replace(run.maps("label").attributes, target="top2"), rows=1, grid=(7, 7))
    for target in ("label", "predicted"):
        run.discard_maps(target, "opti_cam")
    with pytest.raises(UserError, match="has opti_cam maps of top2 alone, and the App shows those of label and predi"):
        read_contents(run, ReviewSettings())
