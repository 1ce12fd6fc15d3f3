from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages.ingest.readers.manifest import ManifestReader, parse_boxes
from stages.ingest.record import Box, Record
from stages.ingest.settings import DatasetSettings
from storage.errors import UserError
from tests.stages.ingest.datasets import write_rows


def records(path: Path, text: str | bytes, **settings: Any) -> list[Record]:
    content = text if isinstance(text, bytes) else text.encode()
    path.write_bytes(content)
    return list(ManifestReader(DatasetSettings("manifest", str(path), **settings)).records())


class TestBoxes:
    @pytest.mark.parametrize("cell", [None, "", "  ", "[]", "null", []])
    def test_nothing_is_no_box(self, cell: Any) -> None:
        assert parse_boxes(cell, "here") == ()

    def test_lists_and_objects_may_be_mixed(self) -> None:
        cell = '[[1, 2, 3.5, 4], {"x0": 5, "y0": 6, "x1": 7, "y1": 8, "label": "dog"}, [0, 0, 1, 1]]'
        assert parse_boxes(cell, "here") == (Box(1, 2, 3.5, 4), Box(5, 6, 7, 8, "dog"), Box(0, 0, 1, 1))

    @pytest.mark.parametrize(
        ("cell", "message"),
        [
            ("[[1, 2, 3, 4]", r"boxes are not JSON .*\[\[1, 2, 3, 4\]"),
            ("[1, 2, 3, 4]", r"box 1: 1 is no box"),
            ("[[1, 2, 3]]", r"box 1: 3 coordinates in \[1, 2, 3\], not 4"),
            ("[[1, 2, 3, 4], [1, 2, 3, 4, 5]]", r"box 2: 5 coordinates"),
            ('[[1, 2, "three", 4]]', r"box 1: 'three' in .* is no number"),
            ("[[1, 2, true, 4]]", r"True in .* is no number"),
            ("[[1, 2, null, 4]]", r"None in .* is no number"),
            ('{"x0": 1}', r"boxes are no list"),
            ('[{"x0": 1, "y0": 1, "x1": 2}]', r"no y1 in"),
            ('[{"x0": 1, "y0": 1, "x1": 2, "y1": 2, "lable": "a"}]', r"unknown key 'lable'"),
            ('[{"x0": 1, "y0": 1, "x1": 2, "y1": 2, "label": 3}]', r"the label 3 is no text"),
            ("[" * 100_000, r"boxes are not JSON"),
        ],
    )
    def test_a_cell_of_another_shape_is_an_error_with_place_and_format(self, cell: str, message: str) -> None:
        with pytest.raises(UserError, match=rf"m\.csv, line 3.*{message}.*"):
            parse_boxes(cell, "m.csv, line 3")

    def test_numbers_that_are_no_place_are_left_for_the_sample_to_report(self) -> None:
        boxes = parse_boxes(f"[[NaN, 0, 1, Infinity], [5, 5, 1, 1], [0, 0, {'9' * 400}, 1]]", "here")
        assert boxes[0].x0 != boxes[0].x0
        assert boxes[1] == Box(5, 5, 1, 1)
        assert boxes[2].x1 == float("inf")


class TestCsv:
    def test_other_columns_a_byte_order_mark_and_blank_lines_are_fine(self, tmp_path: Path) -> None:
        text = '\ufeffid,path,label,boxes\r\n7, a.jpg ,dog,"[[0, 0, 5, 5]]"\r\n\r\n8,b.jpg,,\r\n'
        first, second = records(tmp_path / "m.csv", text)
        assert (first.sample_id, first.label, first.boxes) == ("a.jpg", "dog", (Box(0, 0, 5, 5),))
        assert (second.sample_id, second.label, second.boxes, second.split) == ("b.jpg", None, (), None)
        assert first.place == f"{tmp_path / 'm.csv'}, line 2"
        assert second.place.endswith("line 4")

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("file,label,boxes\n", r"m\.csv has no column 'path' \(it has 'file', 'label', 'boxes'\)"),
            ("path,label\n", r"has no column 'boxes'"),
            ("path|label|boxes\n", r"it has 'path\|label\|boxes'"),
            ("", r"it has none"),
            ("path,label,boxes\na.jpg,dog,[[0, 0, 5, 5]]\n", r"m\.csv, line 2: not 3 fields.*double quotes"),
            ("path,label,boxes\na.jpg,dog\n", r"line 2: not 3 fields"),
            ("path,label,boxes\na.jpg,dog,\n ,dog,\n", r"line 3: the path is empty"),
            ('path,label,boxes\na.jpg,dog,"[[1, 2"]]\n', r"line 2: not CSV"),
            (
                b"\xff\xd8\xff\xe0 a photo",
                r"is not UTF-8 \(byte 0\); save it as CSV or JSON Lines in UTF-8, or as Parquet",
            ),
            (b"PAR1 and nothing else", r"damaged Parquet"),
        ],
    )
    def test_a_broken_manifest_is_named_with_the_line(self, tmp_path: Path, text: str | bytes, message: str) -> None:
        with pytest.raises(UserError, match=message):
            records(tmp_path / "m.csv", text)

    def test_a_split_needs_its_column(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"no column 'split', but dataset\.split is 'val'"):
            records(tmp_path / "m.csv", "path,label,boxes\na.jpg,dog,\n", split="val")

    def test_a_folder_is_no_manifest(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"is a folder.*give a CSV or Parquet file"):
            list(ManifestReader(DatasetSettings("manifest", str(tmp_path))).records())


class TestPaths:
    def ids(self, tmp_path: Path, *paths: str, **settings: Any) -> list[tuple[str, str]]:
        rows = [{"path": path, "label": "dog", "boxes": ""} for path in paths]
        reader = ManifestReader(DatasetSettings("manifest", write_rows(tmp_path / "m.csv", rows), **settings))
        return [(record.sample_id, record.uri) for record in reader.records()]

    def test_relative_to_the_manifest(self, tmp_path: Path) -> None:
        assert self.ids(tmp_path, "sub/a.jpg", "./b.jpg") == [
            ("sub/a.jpg", f"{tmp_path}/sub/a.jpg"),
            ("b.jpg", f"{tmp_path}/b.jpg"),
        ]

    def test_relative_to_the_folder_of_images_where_it_is_given(self, tmp_path: Path) -> None:
        assert self.ids(tmp_path, "a.jpg", images=str(tmp_path / "photos")) == [("a.jpg", f"{tmp_path}/photos/a.jpg")]

    def test_absolute_below_the_root_and_outside(self, tmp_path: Path) -> None:
        inside, outside = str(tmp_path / "a.jpg"), str(tmp_path.parent / "elsewhere" / "a.jpg")
        assert self.ids(tmp_path, inside, outside) == [("a.jpg", inside), (outside, outside)]

    def test_urls(self, tmp_path: Path) -> None:
        uri = "s3://bucket/photos/a.jpg"
        assert self.ids(tmp_path, uri) == [(uri, uri)]
        assert self.ids(tmp_path, uri, "b.jpg", images="s3://bucket/photos") == [
            ("a.jpg", uri),
            ("b.jpg", "s3://bucket/photos/b.jpg"),
        ]


def test_parquet_boxes_may_be_json_and_labels_numbers(tmp_path: Path) -> None:
    table = pa.table({"path": ["a.jpg"], "label": [7], "boxes": ["[[0, 1, 2, 3]]"]})
    pq.write_table(table, tmp_path / "m.parquet")
    (record,) = ManifestReader(DatasetSettings("manifest", str(tmp_path / "m.parquet"))).records()
    assert (record.label, record.boxes) == ("7", (Box(0, 1, 2, 3),))
    assert record.place.endswith("m.parquet, row 1")
