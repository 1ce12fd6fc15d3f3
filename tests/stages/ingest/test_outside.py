"""Relative paths and links that lead out of a dataset's folder, in every format; the links are real."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

import fsspec
import pytest
from PIL import Image

from stages.ingest.ingest import ingest
from stages.ingest.places import Bounds
from stages.ingest.recognise import open_dataset
from stages.ingest.settings import DatasetSettings
from storage.errors import UserError
from storage.media.containers import Member
from storage.run import Run
from tests.stages.ingest.datasets import FORMATS, PICTURES, SYNSETS
from tests.stages.ingest.written import WRITTEN

ALL = {**FORMATS, **WRITTEN}
HEADER = "path,label,boxes\n"
BOX = '"[[0, 0, 20, 20]]"'
SECRET = "hunter2"

Rows = list[dict[str, Any]]


def take(folder: Path, names: tuple[str, ...] = ("cat",), **settings: Any) -> Rows:
    path = str(folder / settings.pop("path", "."))
    run = Run.create(str(folder.with_name("run")))
    rows: Rows = ingest(open_dataset(DatasetSettings(path=path, **settings)), names, run).to_pylist()
    return rows


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 30), "red").save(path)
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with one sound image, and one beside the folder."""
    picture(tmp_path / "elsewhere/b.jpg")
    picture(tmp_path / "data/a.jpg")
    return tmp_path / "data"


def told(root: Path, path: str, place: Path) -> str:
    return f"leads out of the dataset's folder, which needs dataset.allow_outside: true: {root}/{path} is {place}"


def move_out(file: Path, outside: Path) -> None:
    """Move a file out of its dataset, and leave a link in its place."""
    outside.mkdir(exist_ok=True)
    target = outside / f"{len(list(outside.iterdir()))}{file.suffix}"
    shutil.move(file, target)
    file.symlink_to(target)


@pytest.mark.usefixtures("mongo")
@pytest.mark.parametrize("name", ALL)
def test_images_that_are_links_out_of_a_dataset_of_any_format_need_the_setting(name: str, tmp_path: Path) -> None:
    settings = ALL[name](tmp_path / "data")
    holders = {".tar", ".arrow"} | ({".parquet"} if settings.reader == "huggingface" else set())
    images = [path for path in (tmp_path / "data").rglob("*") if path.suffix.lower() in {".jpg", ".jpeg", *holders}]
    for path in images:
        move_out(path, tmp_path / "outside")
    run, names = Run.create(str(tmp_path / "run")), tuple(SYNSETS)
    with pytest.raises(UserError, match=r"none of .*leads out of .*needs dataset\.allow_outside: true"):
        ingest(open_dataset(settings), names, run)
    rows = ingest(open_dataset(DatasetSettings(**vars(settings) | {"allow_outside": True})), names, run).to_pylist()
    assert [row["status"] for row in rows] == ["ok"] * len(PICTURES)


class TestManifest:
    def rows(self, data: Path, path: str, **settings: Any) -> Rows:
        (data / "m.csv").write_text(HEADER + f"a.jpg,cat,{BOX}\n{path},cat,{BOX}\n")
        return take(data, path="m.csv", **settings)

    def test_a_relative_path_that_leads_out_is_a_status(self, data: Path) -> None:
        sound, row = self.rows(data, "../elsewhere/b.jpg")
        assert (sound["status"], row["status"]) == ("ok", "unreadable")
        assert row["reason"] == told(data, "../elsewhere/b.jpg", data.parent / "elsewhere/b.jpg")
        assert (row["digest"], row["size_bytes"]) == (None, None)  # it was not opened

    def test_it_is_followed_with_the_setting_and_then_again_not(self, data: Path) -> None:
        statuses = [
            self.rows(data, "../elsewhere/b.jpg", allow_outside=allowed)[1]["status"] for allowed in (True, False)
        ]
        assert statuses == ["ok", "unreadable"]

    def test_an_absolute_path_is_the_users_own_choice(self, data: Path) -> None:
        assert self.rows(data, f"{data.parent}/elsewhere/b.jpg")[1]["status"] == "ok"

    def test_a_path_that_leads_out_and_back_is_inside(self, data: Path) -> None:
        picture(data / "c.jpg")
        assert self.rows(data, "../data/c.jpg")[1]["status"] == "ok"

    def test_a_link_to_a_folder_elsewhere_leads_out_as_one_to_a_file_does(self, data: Path) -> None:
        (data / "images").symlink_to(data.parent / "elsewhere")
        assert self.rows(data, "images/b.jpg")[1]["reason"] == told(
            data, "images/b.jpg", data.parent / "elsewhere/b.jpg"
        )

    def test_a_link_within_the_dataset_is_followed(self, data: Path) -> None:
        picture(data / "files/c.jpg")
        (data / "images").symlink_to("files")
        (data / "images/d.jpg").symlink_to("c.jpg")
        assert self.rows(data, "images/d.jpg")[1]["status"] == "ok"

    def test_a_folder_whose_name_begins_as_the_datasets_does_is_outside(self, data: Path) -> None:
        picture(data.parent / "data-private/b.jpg")
        assert "leads out of" in self.rows(data, "../data-private/b.jpg")[1]["reason"]

    def test_the_datasets_own_folder_may_be_a_link(self, data: Path) -> None:
        (data.parent / "link").symlink_to(data)
        (data / "m.csv").write_text(HEADER + f"a.jpg,cat,{BOX}\n")
        assert take(data.parent / "link", path="m.csv")[0]["status"] == "ok"

    def test_the_folder_of_images_is_the_users_own_choice_too(self, data: Path) -> None:
        images = picture(data.parent / "images/b.jpg").parent
        (images / "c.jpg").symlink_to(data / "a.jpg")  # from one of the two folders into the other
        (images / "d.jpg").symlink_to(data.parent / "elsewhere/b.jpg")
        (data / "m.csv").write_text(HEADER + "".join(f"{name}.jpg,cat,{BOX}\n" for name in "bcd"))
        rows = take(data, path="m.csv", images=str(images))
        assert [row["status"] for row in rows] == ["ok", "ok", "unreadable"]

    def test_a_file_in_annotations_belongs_to_the_folder_above(self, data: Path) -> None:
        (data / "annotations").mkdir()
        (data / "annotations/m.csv").write_text(HEADER + f"../a.jpg,cat,{BOX}\n../../elsewhere/b.jpg,cat,{BOX}\n")
        assert [row["status"] for row in take(data, path="annotations/m.csv")] == ["ok", "unreadable"]

    def test_on_an_object_store_segments_of_two_dots_lead_out(self) -> None:
        memory = fsspec.filesystem("memory")
        sink = io.BytesIO()
        Image.new("RGB", (40, 30), "red").save(sink, "JPEG")
        for path in ("/set/a.jpg", "/other/b.jpg"):
            memory.pipe_file(path, sink.getvalue())
        names = ("a.jpg", "sub/../a.jpg", "../other/b.jpg", "%2e%2e/other/b.jpg")
        bounds = Bounds(("memory://set",))
        assert [bounds.problem(f"memory://set/{name}") is None for name in names] == [True, True, False, False]
        assert bounds.problem("memory://set/../other/b.jpg") == (
            "leads out of the dataset's folder, which needs dataset.allow_outside: true: "
            "memory://set/../other/b.jpg is memory://other/b.jpg"
        )
        assert bounds.problem("memory://other/b.jpg") is None  # whole, as an absolute path is
        assert bounds.problem(Member("tar", "x.jpg", "memory://set/../t.tar").url) is not None


class TestAnnotations:
    """What stands in a file outside comes into no table, as a reason, a label or a box."""

    def secret(self, data: Path) -> Path:
        file = data.parent / "elsewhere/private"
        file.write_text(f"{SECRET} 1 2 3\n")
        return file

    def test_a_label_file_of_yolo(self, data: Path) -> None:
        picture(data / "b.jpg")
        (data / "data.yaml").write_text("names: [cat]\ntrain: .\n")
        (data / "a.txt").write_text("0 0.5 0.5 0.5 0.5\n")
        (data / "b.txt").symlink_to(self.secret(data))
        sound, row = take(data)
        assert (sound["status"], row["status"], row["label"], row["boxes"]) == ("ok", "unreadable", None, [])
        assert row["reason"] == f"its annotation {told(data, 'b.txt', data.parent / 'elsewhere/private')}"

    def test_an_xml_of_voc(self, data: Path) -> None:
        box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
        (data / "Annotations").mkdir()
        picture(data / "JPEGImages/b.jpg")
        shutil.move(data / "a.jpg", data / "JPEGImages/a.jpg")
        for name, label in (("a", "cat"), ("b", SECRET)):
            (data / f"Annotations/{name}.xml").write_text(
                f"<annotation><object><name>{label}</name>{box}</object></annotation>"
            )
        move_out(data / "Annotations/b.xml", data.parent / "outside")
        sound, row = take(data)
        assert (sound["status"], row["status"], row["label"], row["boxes"]) == ("ok", "unreadable", None, [])
        assert SECRET not in str(row)

    def test_a_class_list_of_yolo_is_refused(self, data: Path) -> None:
        (data / "a.txt").write_text("0 0.5 0.5 0.5 0.5\n")
        (data / "classes.txt").symlink_to(self.secret(data))
        with pytest.raises(UserError, match=r"the class list leads out of .*allow_outside.*classes\.txt is ") as caught:
            take(data, reader="yolo")
        assert SECRET not in str(caught.value)


class TestYoloSplits:
    """A split that leads out is not looked into: a folder's names are private too, and a list's lines are names."""

    def test_a_split_elsewhere_is_left_out_and_told(self, data: Path) -> None:
        (data / "a.txt").write_text("0 0.5 0.5 0.5 0.5\n")
        (data / "data.yaml").write_text("names: [cat]\ntrain: .\nval: ../elsewhere\ntest: ../elsewhere/private\n")
        (data.parent / "elsewhere/private").write_text(f"{SECRET}\n")
        lines: list[str] = []
        run = Run.create(str(data.parent / "run"))
        rows = ingest(open_dataset(DatasetSettings(path=str(data))), ("cat",), run, tell=lines.append).to_pylist()
        assert [row["uri"] for row in rows] == [f"{data}/a.jpg"]
        outside = told(data, "../elsewhere", data.parent / "elsewhere")
        assert f"val: '../elsewhere' {outside}, so this split is left out" in lines
        assert any(line.startswith("test: '../elsewhere/private' leads out") for line in lines)
        assert SECRET not in "".join(lines)

    def test_where_no_split_is_left_the_error_names_the_key(self, data: Path) -> None:
        (data / "data.yaml").write_text("names: [cat]\ntrain: ../elsewhere\n")
        with pytest.raises(UserError, match=r"no image of .*data\.yaml can be found; .*allow_outside: true"):
            take(data)
        (data.parent / "elsewhere/b.txt").write_text("0 0.5 0.5 0.5 0.5\n")
        assert [row["status"] for row in take(data, allow_outside=True)] == ["ok"]

    def test_a_folder_of_images_that_is_a_link_out_needs_the_setting(self, data: Path) -> None:
        (data / "data.yaml").write_text("names: [cat]\ntrain: images\n")
        (data / "images").symlink_to(data.parent / "elsewhere")
        with pytest.raises(
            UserError, match=r"a split leads out of .*needs dataset\.allow_outside: true: .*data/images is .*elsewhere"
        ):
            take(data)
        assert len(take(data, allow_outside=True)) == 1
