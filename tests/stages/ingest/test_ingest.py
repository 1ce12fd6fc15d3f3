from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pytest
from PIL import Image

from stages.ingest import facts as stage
from stages.ingest.ingest import ingest
from stages.ingest.recognise import open_dataset
from stages.ingest.settings import DatasetSettings
from storage.errors import UserError
from storage.run import Run
from storage.tables import SAMPLES
from tests.stages.ingest.datasets import FORMATS, PICTURES, Picture, as_csv, as_imagenet, write_images, write_rows
from tests.stages.ingest.written import WRITTEN

NAMES = ("n01", "n02", "n03")
FULL = [[0, 0, 40, 30]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(str(tmp_path / "run"))


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """URIs of the image files that were read, in no order."""
    seen: list[str] = []
    original = stage.read_bytes

    def read(uri: str) -> bytes:
        seen.append(uri)
        return original(uri)

    monkeypatch.setattr(stage, "read_bytes", read)
    return seen


def manifest(folder: Path, *rows: dict[str, Any]) -> DatasetSettings:
    return DatasetSettings(
        "manifest", write_rows(folder / "m.csv", [{"label": "n01", "boxes": FULL, **row} for row in rows])
    )


def take(settings: DatasetSettings, names: Sequence[str], run: Run, *told: Any) -> pa.Table:
    return ingest(open_dataset(settings), names, run, *told)


def by_id(table: Any) -> dict[str, dict[str, Any]]:
    return {row["sample_id"]: row for row in table.to_pylist()}


def box(x0: float, y0: float, x1: float, y1: float, label: str | None = None) -> dict[str, Any]:
    return {"x0": x0, "y0": y0, "x1": x1, "y1": y1, "label": label}


class TestTable:
    @pytest.mark.usefixtures("mongo")
    @pytest.mark.parametrize("make", [*FORMATS.values(), *WRITTEN.values()], ids=[*FORMATS, *WRITTEN])
    def test_every_format_gives_the_same_samples(
        self, make: Callable[[Path], DatasetSettings], tmp_path: Path, run: Run
    ) -> None:
        table = ingest(open_dataset(make(tmp_path / "data")), NAMES, run)
        assert table.schema == SAMPLES
        if make is FORMATS["class folders"]:
            table = table.take([1, 0, 2])  # class folders have an order of their own
        assert table["label"].to_pylist() == ["n02", "n01", "n03"]
        assert table["class_index"].to_pylist() == [1, 0, 2]
        assert list(zip(table["width"].to_pylist(), table["height"].to_pylist(), strict=True)) == [
            (40, 30),
            (40, 30),
            (24, 32),
        ]
        for row, picture in zip(table.to_pylist(), PICTURES, strict=True):
            assert row["boxes"] == [pytest.approx(box(*entry), abs=1e-4) for entry in picture.boxes]
        assert table["status"].to_pylist() == ["ok"] * 3
        assert table["reason"].null_count == 3
        assert sorted(run.table("samples")["row"].to_pylist()) == [0, 1, 2]

    def test_digest_size_and_time_are_the_files(self, tmp_path: Path, run: Run) -> None:
        settings = as_csv(tmp_path)
        os.utime(tmp_path / "first.JPEG", ns=(0, 1_234_567_891))
        row = take(settings, NAMES, run).to_pylist()[0]
        content = (tmp_path / "first.JPEG").read_bytes()
        assert row["digest"] == hashlib.sha256(content).hexdigest()
        assert (row["size_bytes"], row["mtime_ns"]) == (len(content), 1_234_567_891)
        assert row["uri"] == str(tmp_path / "first.JPEG")

    def test_progress_counts_to_the_end(self, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("stages.ingest.facts.HANDED", 1)
        said: list[tuple[int, int]] = []
        take(as_csv(tmp_path), NAMES, run, lambda done, total: said.append((done, total)))
        assert said == [(1, 3), (2, 3), (3, 3)]

    def test_imagenet_takes_the_index_from_the_mappings_line(self, tmp_path: Path, run: Run) -> None:
        table = take(as_imagenet(tmp_path), ("Tench", "bird crane", "machine crane"), run)
        assert table["label"].to_pylist() == ["bird crane", "Tench", "machine crane"]
        assert table["class_index"].to_pylist() == [1, 0, 2]

    def test_imagenet_on_a_model_of_some_classes_matches_names(self, tmp_path: Path, run: Run) -> None:
        table = take(as_imagenet(tmp_path), ("dog", "Tinca tinca"), run)
        assert table["label"].to_pylist() == ["crane (n02)", "Tinca tinca", "crane (n03)"]
        assert table["status"].to_pylist() == ["no_class", "ok", "no_class"]

    def test_images_and_run_on_another_file_system(self, tmp_path: Path) -> None:
        settings = as_csv(tmp_path)
        memory = fsspec.filesystem("memory")
        memory.put(f"{tmp_path}/", "/dataset/", recursive=True)
        try:
            far = Run.create("memory://run")
            table = take(replace(settings, path="memory://dataset/manifest.csv"), NAMES, far)
            assert table["status"].to_pylist() == ["ok"] * 3
            assert table["uri"].to_pylist()[0] == "memory://dataset/first.JPEG"
            assert far.table("samples").equals(table)
        finally:
            memory.rm("/", recursive=True)


class TestStatus:
    def test_boxes_are_in_upright_pixels_and_clipped_to_the_upright_image(self, tmp_path: Path, run: Run) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6  # stored 40 x 30, shown 30 x 40
        Image.new("RGB", (40, 30)).save(tmp_path / "turned.jpg", exif=exif)
        settings = manifest(tmp_path, {"path": "turned.jpg", "boxes": [[-5, 31, 12, 39], [20, 0, 50, 50]]})
        row = take(settings, NAMES, run).to_pylist()[0]
        assert (row["width"], row["height"]) == (30, 40)
        assert row["boxes"] == [box(0, 31, 12, 39), box(20, 0, 30, 40)]

    def test_some_boxes_of_no_use_are_dropped_and_noted(self, tmp_path: Path, run: Run) -> None:
        write_images(tmp_path)
        settings = manifest(tmp_path, {"path": "first.JPEG", "boxes": [[1, 1, 5, 5], [50, 0, 60, 9], [7, 7, 7, 9]]})
        row = take(settings, NAMES, run).to_pylist()[0]
        assert row["status"] == "ok"
        assert row["boxes"] == [box(1, 1, 5, 5)]
        assert row["reason"] == "box 2 (50, 0, 60, 9) lies outside the image of 40 x 30; box 3 (7, 7, 7, 9) has no area"

    def test_no_box_names_the_box_and_its_numbers(self, tmp_path: Path, run: Run) -> None:
        write_images(tmp_path)
        settings = manifest(
            tmp_path, {"path": "first.JPEG", "boxes": "[[NaN, 0, 1, 1]]"}, {"path": "second.JPEG", "boxes": ""}
        )
        first, second = take(settings, NAMES, run).to_pylist()
        assert (first["status"], first["reason"]) == ("no_box", "box 1 (nan, 0, 1, 1) is not finite")
        assert (second["status"], second["reason"]) == ("no_box", "the sample has no box")
        assert first["class_index"] == 0

    def test_boxes_of_other_labels_do_not_count_for_the_sample(self, tmp_path: Path, run: Run) -> None:
        write_images(tmp_path)
        other = {"x0": 0, "y0": 0, "x1": 5, "y1": 5, "label": "n02"}
        own = {**other, "label": "n01"}
        settings = manifest(
            tmp_path, {"path": "first.JPEG", "boxes": [other]}, {"path": "second.JPEG", "boxes": [other, own]}
        )
        first, second = take(settings, NAMES, run).to_pylist()
        assert first["status"] == "no_box"
        assert "no box bears the label 'n01', only 'n02'" in first["reason"]
        assert second["status"] == "ok"
        assert second["boxes"] == [box(0, 0, 5, 5, "n02"), box(0, 0, 5, 5)]

    def test_samples_of_one_image_know_each_others_classes(self, tmp_path: Path, run: Run) -> None:
        write_images(tmp_path)
        boxes = [{"x0": 0, "y0": 0, "x1": 9, "y1": 9, "label": name} for name in ("n03", "n01", "other", "n03")]
        rows = [{"path": "first.JPEG", "boxes": boxes}, {"path": "second.JPEG", "boxes": boxes[:1]}]
        settings = replace(manifest(tmp_path, *rows), labels="each")
        told: list[str] = []
        found = by_id(take(settings, NAMES, run, None, told.append))
        assert {name: row["other_classes"] for name, row in found.items()} == {
            "first.JPEG#n01": [2],
            "first.JPEG#n03": [0],
            "first.JPEG#other": [0, 2],
            "second.JPEG#n03": [],
        }
        assert "1 of 2 images have several classes: where one of them is predicted" in told[1]

    def test_a_sample_of_the_same_bytes_names_the_first(self, tmp_path: Path, run: Run) -> None:
        write_images(tmp_path)
        for copy in ("a.JPEG", "b.JPEG", "c.JPEG"):
            (tmp_path / copy).write_bytes((tmp_path / "first.JPEG").read_bytes())
        rows = [{"path": name} for name in ("first.JPEG", "a.JPEG", "second.JPEG")]
        rows += [{"path": "b.JPEG", "label": "n02"}, {"path": "c.JPEG", "label": "n02"}]
        told: list[str] = []
        found = by_id(take(manifest(tmp_path, *rows), NAMES, run, None, told.append))
        assert {name: row["duplicate_of"] for name, row in found.items()} == {
            "first.JPEG": None,
            "a.JPEG": "first.JPEG",
            "second.JPEG": None,
            "b.JPEG": "first.JPEG",  # of another class: no sample before it has the same
            "c.JPEG": "b.JPEG",
        }
        assert told == [
            "3 images are the same file as another, such as a.JPEG and first.JPEG; each counts (samples.duplicate_of)"
        ]

    def test_broken_files_of_the_same_bytes_are_not_said_to_count(self, tmp_path: Path, run: Run) -> None:
        write_images(tmp_path)
        for broken in ("a.JPEG", "b.JPEG"):
            (tmp_path / broken).write_bytes(b"not found")
        told: list[str] = []
        rows = [{"path": name} for name in ("first.JPEG", "a.JPEG", "b.JPEG")]
        found = by_id(take(manifest(tmp_path, *rows), NAMES, run, None, told.append))
        assert found["b.JPEG"]["status"] == "unreadable"
        assert told == []

    def test_samples_of_one_image_are_no_duplicates_and_those_of_its_copy_are(self, tmp_path: Path, run: Run) -> None:
        write_images(tmp_path)
        (tmp_path / "copy.JPEG").write_bytes((tmp_path / "first.JPEG").read_bytes())
        boxes = [{"x0": 0, "y0": 0, "x1": 9, "y1": 9, "label": name} for name in ("n01", "n02")]
        rows = [{"path": name, "boxes": boxes} for name in ("first.JPEG", "copy.JPEG")]
        found = by_id(take(replace(manifest(tmp_path, *rows), labels="each"), NAMES, run))
        assert {name: row["duplicate_of"] for name, row in found.items()} == {
            "first.JPEG#n01": None,
            "first.JPEG#n02": None,
            "copy.JPEG#n01": "first.JPEG#n01",
            "copy.JPEG#n02": "first.JPEG#n02",
        }

    def test_a_label_that_the_model_lacks(self, tmp_path: Path, run: Run) -> None:
        write_images(tmp_path)
        settings = manifest(
            tmp_path,
            {"path": "first.JPEG"},
            {"path": "second.JPEG", "label": "n07"},
            {"path": "third.JPEG", "label": ""},
        )
        _, second, third = take(settings, NAMES, run).to_pylist()
        assert (second["status"], second["label"], second["class_index"]) == ("no_class", "n07", None)
        assert "the model has no class 'n07'" in second["reason"]
        assert "model.classes" in second["reason"]
        assert (third["status"], third["label"]) == ("no_class", None)

    def test_bad_files_get_a_reason_and_the_rest_goes_on(self, tmp_path: Path, run: Run) -> None:
        write_images(tmp_path)
        whole = (tmp_path / "first.JPEG").read_bytes()
        (tmp_path / "empty.jpg").write_bytes(b"")
        (tmp_path / "text.jpg").write_text("404 not found")
        (tmp_path / "cut.jpg").write_bytes(whole[:-60])
        (tmp_path / "folder.jpg").mkdir()
        Image.new("L", (40, 30)).save(tmp_path / "gray.png")
        Image.new("CMYK", (40, 30)).save(tmp_path / "ink.jpg")
        names = ["empty.jpg", "text.jpg", "cut.jpg", "folder.jpg", "gone.jpg", "gray.png", "ink.jpg", "first.JPEG"]
        rows = by_id(take(manifest(tmp_path, *({"path": name} for name in names)), NAMES, run))
        for name, reason in {
            "empty.jpg": "the file is empty (0 bytes)",
            "text.jpg": "not an image in a known format",
            "cut.jpg": "truncated or damaged JPEG",
            "folder.jpg": "is a folder",
            "gone.jpg": "no such file",
        }.items():
            assert rows[name]["status"] == "unreadable"
            assert reason in rows[name]["reason"]
            assert rows[name]["width"] is None
            assert rows[name]["boxes"] == []
        assert [rows[name]["status"] for name in names[5:]] == ["ok"] * 3


class TestSecondTime:
    def test_unchanged_files_are_not_read_again(self, tmp_path: Path, run: Run, reads: list[str]) -> None:
        settings = as_csv(tmp_path)
        first = take(settings, NAMES, run)
        assert len(reads) == 3
        reads.clear()
        assert take(settings, NAMES, run).equals(first)
        assert reads == []

    @pytest.mark.parametrize("change", ["size", "time", "forgotten"])
    def test_a_changed_file_is_read_again(self, tmp_path: Path, run: Run, reads: list[str], change: str) -> None:
        settings = as_csv(tmp_path)
        table = take(settings, NAMES, run)
        reads.clear()
        path = tmp_path / "second.JPEG"
        if change == "size":
            stamp = path.stat()
            Image.new("RGB", (50, 60)).save(path)
            os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
        elif change == "time":
            os.utime(path, ns=(1, 1))
        else:  # what a retry of failed samples writes
            place = SAMPLES.get_field_index("mtime_ns")
            times = [-1 if row["sample_id"] == "second.JPEG" else row["mtime_ns"] for row in table.to_pylist()]
            run.write_table("samples", table.set_column(place, SAMPLES.field(place), pa.array(times, pa.int64())))
        row = by_id(take(settings, NAMES, run))["second.JPEG"]
        assert reads == [str(path)]
        assert row["digest"] == hashlib.sha256(path.read_bytes()).hexdigest()
        assert row["width"] == (50 if change == "size" else 40)

    def test_unreadable_files_are_tried_again(self, tmp_path: Path, run: Run) -> None:
        write_images(tmp_path)
        whole = (tmp_path / "first.JPEG").read_bytes()
        settings = manifest(tmp_path, {"path": "first.JPEG"}, {"path": "second.JPEG"})
        (tmp_path / "first.JPEG").unlink()
        assert take(settings, NAMES, run)["status"].to_pylist() == ["unreadable", "ok"]
        (tmp_path / "first.JPEG").write_bytes(whole)
        assert take(settings, NAMES, run)["status"].to_pylist() == ["ok", "ok"]

    def test_new_boxes_and_labels_need_no_new_reading(self, tmp_path: Path, run: Run, reads: list[str]) -> None:
        write_images(tmp_path)
        take(manifest(tmp_path, {"path": "first.JPEG"}), NAMES, run)
        reads.clear()
        changed = manifest(tmp_path, {"path": "first.JPEG", "label": "n02", "boxes": [[1, 2, 3, 4]]})
        row = take(changed, NAMES, run).to_pylist()[0]
        assert (row["label"], row["class_index"], row["boxes"]) == ("n02", 1, [box(1, 2, 3, 4)])
        assert reads == []

    def test_rows_stay_new_samples_follow_and_lost_ones_are_removed(self, tmp_path: Path, run: Run) -> None:
        write_images(tmp_path, (*PICTURES, Picture("a.jpg", "n01"), Picture("b.jpg", "n01")))

        def rows(*names: str) -> dict[str, tuple[int, str]]:
            table = take(manifest(tmp_path, *({"path": name} for name in names)), NAMES, run)
            assert table["row"].to_pylist() == list(range(table.num_rows))
            return {name: (row["row"], row["status"]) for name, row in by_id(table).items()}

        assert rows("first.JPEG", "second.JPEG") == {"first.JPEG": (0, "ok"), "second.JPEG": (1, "ok")}
        assert rows("a.jpg", "second.JPEG", "b.jpg") == {
            "first.JPEG": (0, "removed"),
            "second.JPEG": (1, "ok"),
            "a.jpg": (2, "ok"),
            "b.jpg": (3, "ok"),
        }
        assert rows("first.JPEG", "third.JPEG") == {
            "first.JPEG": (0, "ok"),
            "second.JPEG": (1, "removed"),
            "a.jpg": (2, "removed"),
            "b.jpg": (3, "removed"),
            "third.JPEG": (4, "ok"),
        }

    def test_nothing_is_written_when_it_fails(self, tmp_path: Path, run: Run) -> None:
        settings = as_csv(tmp_path)

        def stop(done: int, total: int) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            take(settings, NAMES, run, stop)
        assert not run.has_table("samples")
        before = take(settings, NAMES, run)
        with pytest.raises(KeyboardInterrupt):
            take(settings, NAMES, run, stop)
        assert run.table("samples").equals(before)


class TestChoice:
    def many(self, folder: Path, names: list[str]) -> DatasetSettings:
        write_images(folder, [Picture(name, "n01") for name in names])
        return manifest(folder, *({"path": name} for name in names))

    def chosen(self, settings: DatasetSettings, folder: Path) -> list[str]:
        return [str(name) for name in take(settings, NAMES, Run.create(str(folder)))["sample_id"].to_pylist()]

    def test_limit_takes_a_seeded_sample_that_the_order_does_not_change(self, tmp_path: Path) -> None:
        names = [f"{number:02}.jpg" for number in range(20)]
        settings = replace(self.many(tmp_path, names), limit=5)
        first = self.chosen(settings, tmp_path / "run1")
        assert len(first) == 5
        assert first == sorted(first)
        self.many(tmp_path, names[::-1])
        assert sorted(self.chosen(settings, tmp_path / "run2")) == first
        assert sorted(self.chosen(replace(settings, seed=1), tmp_path / "run3")) != first

    def test_a_higher_limit_only_adds(self, tmp_path: Path) -> None:
        names = [f"{number:02}.jpg" for number in range(20)]
        settings = self.many(tmp_path, names)
        few = self.chosen(replace(settings, limit=5), tmp_path / "run1")
        more = self.chosen(replace(settings, limit=9), tmp_path / "run2")
        assert set(few) < set(more)
        assert self.chosen(replace(settings, limit=100), tmp_path / "run3") == names

    def test_split_takes_its_rows(self, tmp_path: Path) -> None:
        write_images(tmp_path)
        settings = manifest(tmp_path, {"path": "first.JPEG", "split": "val"}, {"path": "second.JPEG", "split": "train"})
        assert self.chosen(replace(settings, split="val"), tmp_path / "run1") == ["first.JPEG"]
        with pytest.raises(UserError, match=r"no split 'test'; it has train, val"):
            self.chosen(replace(settings, split="test"), tmp_path / "run2")

    def test_a_limit_below_one_is_refused(self) -> None:
        with pytest.raises(ValueError, match="limit is 0; take at least 1"):
            DatasetSettings("manifest", "m.csv", limit=0)


class TestMistakes:
    def test_an_unknown_reader(self, run: Run) -> None:
        with pytest.raises(UserError, match=r"no reader 'cocoa'; readers are auto, imagenet, voc, coco"):
            take(DatasetSettings("cocoa", "x"), NAMES, run)  # type: ignore[arg-type]

    def test_an_empty_dataset(self, tmp_path: Path, run: Run) -> None:
        (tmp_path / "m.csv").write_text("path,label,boxes\n")
        with pytest.raises(UserError, match=r"m\.csv lists no image"):
            take(DatasetSettings("manifest", str(tmp_path / "m.csv")), NAMES, run)

    @pytest.mark.parametrize("again", ["first.JPEG", "./first.JPEG", "sub/../first.JPEG", "{root}/first.JPEG"])
    def test_an_image_listed_twice_names_both_lines(self, tmp_path: Path, run: Run, again: str) -> None:
        write_images(tmp_path)
        settings = manifest(
            tmp_path, {"path": "first.JPEG"}, {"path": "second.JPEG"}, {"path": again.format(root=tmp_path)}
        )
        with pytest.raises(
            UserError, match=r"line 4: the image first\.JPEG is listed a second time \(first: .*line 2\)"
        ):
            take(settings, NAMES, run)

    def test_no_image_where_the_dataset_says(self, tmp_path: Path, run: Run) -> None:
        settings = manifest(tmp_path, {"path": "a.jpg"}, {"path": "b.jpg"})
        with pytest.raises(
            UserError, match=r"none of the 2 images .*line 2: no such file: .*a\.jpg; check .*dataset\.images"
        ):
            take(settings, NAMES, run)
        assert not run.has_table("samples")

    def test_no_label_of_the_models(self, tmp_path: Path, run: Run) -> None:
        with pytest.raises(UserError, match=r"labels \('n01', 'n02', 'n03'\).*classes \('cat', 'dog'\)"):
            take(as_csv(tmp_path), ("cat", "dog"), run)


def test_an_image_whose_url_no_installed_package_opens_is_a_row_with_the_package_in_its_reason(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_aiohttp(path: str, **_: Any) -> Any:
        raise ImportError('HTTPFileSystem requires "requests" and "aiohttp" to be installed')

    monkeypatch.setattr(fsspec.core, "url_to_fs", without_aiohttp)
    write_images(tmp_path, PICTURES[:1])
    here = PICTURES[0].name
    settings = manifest(tmp_path, {"path": here}, {"path": "http://example.org/b.png"})
    good, remote = take(settings, NAMES, run).to_pylist()
    assert good["status"] == "ok"
    assert remote["status"] == "unreadable"
    assert 'requires "requests" and "aiohttp"' in remote["reason"]
    assert "s3" not in remote["reason"]
