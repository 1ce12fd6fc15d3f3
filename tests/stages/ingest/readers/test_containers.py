"""What is particular to WebDataset's tars and Hugging Face's tables."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages.ingest.readers.huggingface import HuggingfaceReader
from stages.ingest.readers.webdataset import WebdatasetReader, shard_split
from stages.ingest.recognise import open_dataset
from stages.ingest.record import Box, Record
from stages.ingest.settings import DatasetSettings
from storage.errors import UserError
from tests.stages.ingest.datasets import PICTURES, embedded, encoded

JPEG = encoded(PICTURES[0])


def tar(path: Path, **members: bytes) -> None:
    with tarfile.open(path, "w") as file:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))


def shards(folder: Path) -> list[Record]:
    return list(WebdatasetReader(DatasetSettings("webdataset", str(folder))).records())


class TestTars:
    def test_of_several_images_of_a_key_the_plain_one_is_the_sample(self, tmp_path: Path) -> None:
        tar(tmp_path / "a.tar", **{"d/1.mask.png": b"", "d/1.jpg": JPEG, "d/1.cls": b"7", "d/2.txt": b"no image"})
        (record,) = shards(tmp_path)
        assert (record.sample_id, record.label) == ("a.tar/d/1.jpg", "7")

    @pytest.mark.parametrize("key", ["label", "class", "cls"])
    def test_the_json_has_label_and_boxes(self, tmp_path: Path, key: str) -> None:
        content = json.dumps({key: "cat", "boxes": [[1, 2, 3, 4]]}).encode()
        tar(tmp_path / "a.tar", **{"1.jpg": JPEG, "1.json": content})
        (record,) = shards(tmp_path)
        assert (record.label, record.boxes) == ("cat", (Box(1, 2, 3, 4),))

    @pytest.mark.parametrize("content", [b"{", b"[1]", b"\xff", b'{"label": ' + b"9" * 5000 + b"}"])
    def test_a_broken_json_is_its_samples_problem(self, tmp_path: Path, content: bytes) -> None:
        tar(tmp_path / "a.tar", **{"1.jpg": JPEG, "1.json": content, "2.jpg": JPEG})
        broken, sound = shards(tmp_path)
        assert str(broken.problem).startswith("its annotation cannot be read: ")
        assert sound.problem is None

    def test_a_name_that_no_url_can_hold(self, tmp_path: Path) -> None:
        tar(tmp_path / "a.tar", **{"std::vector.jpg": JPEG})
        (record,) = shards(tmp_path)
        assert "holds '::', which no URL can address; rename it" in str(record.problem)

    @pytest.mark.parametrize("name", ["a.tar", "a.tar.gz"])
    def test_a_compressed_or_damaged_tar_is_refused(self, tmp_path: Path, name: str) -> None:
        tar(tmp_path / "plain", **{"1.jpg": JPEG})
        (tmp_path / name).write_bytes(gzip.compress((tmp_path / "plain").read_bytes()))
        with pytest.raises(UserError, match=r"is no tar that can be read in place: .*without compression"):
            shards(tmp_path)

    @pytest.mark.parametrize(
        ("name", "split"),
        [
            ("train-000001.tar", "train"),
            ("x/val_00.tar", "val"),
            ("imagenet-train-000.tar", None),
            ("000.tar", None),
            ("test-00000-of-00002.parquet", "test"),
        ],
    )
    def test_a_shards_name_begins_with_its_split(self, name: str, split: str | None) -> None:
        assert shard_split(name) == split


def tables(folder: Path, table: pa.Table, name: str = "t.parquet", **settings: Any) -> list[Record]:
    pq.write_table(table, folder / name)
    return list(HuggingfaceReader(DatasetSettings("huggingface", str(folder), **settings)).records())


class TestTables:
    def test_a_table_of_objects_alone_has_labels_on_boxes(self, tmp_path: Path) -> None:
        first, *_ = tables(tmp_path, embedded(PICTURES).drop_columns(["label"]))
        assert (first.label, first.boxes) == (None, (Box(5, 6, 25, 26, "n02"),))

    def test_objects_may_be_a_list_of_structs(self, tmp_path: Path) -> None:
        table = pa.table(
            {
                "image": [{"bytes": JPEG, "path": None}],
                "objects": [[{"bbox": [1, 2, 3, 4], "label": "cat"}, {"bbox": [1, 2, 3], "label": "cat"}]],
            }
        )
        (record,) = tables(tmp_path, table)
        assert record.boxes == (Box(1, 2, 4, 6, "cat"),)
        assert record.notes == ("object 2 has no box of four numbers: [1, 2, 3]",)

    def test_minus_one_is_no_label(self, tmp_path: Path) -> None:
        table = embedded(PICTURES).set_column(1, "label", pa.array([-1, 0, 9]))
        assert [record.label for record in tables(tmp_path, table)] == [None, "n01", None]

    def test_images_that_are_paths(self, tmp_path: Path) -> None:
        kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
        table = pa.table({"image": pa.array([{"bytes": None, "path": "x/a.jpg"}], kind), "label": ["cat"]})
        (record,) = tables(tmp_path, table)
        assert (record.uri, record.label) == (f"{tmp_path}/x/a.jpg", "cat")

    def test_a_table_without_images_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"t\.parquet has no column of images \(it has \['label'\]\)"):
            tables(tmp_path, pa.table({"label": ["cat"]}))

    def test_a_damaged_table_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "t.parquet").write_bytes(b"PAR1 and no more")
        with pytest.raises(UserError, match=r"t\.parquet cannot be read as a table: "):
            list(HuggingfaceReader(DatasetSettings("huggingface", str(tmp_path))).records())

    def test_a_table_whose_pages_are_damaged_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "t.parquet"
        pq.write_table(embedded(PICTURES).select(["image", "label"]), path, compression="snappy")
        metadata = pq.read_metadata(path)
        (place,) = [
            chunk.data_page_offset
            for chunk in map(metadata.row_group(0).column, range(metadata.num_columns))
            if chunk.path_in_schema == "label"
        ]
        content = bytearray(path.read_bytes())
        content[place] ^= 1
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"t\.parquet is a damaged table: .*thrift"):
            list(HuggingfaceReader(DatasetSettings("huggingface", str(tmp_path))).records())

    @pytest.mark.parametrize("stored", [b"no JSON", b"[]", b'{"info": 1}', b'{"info": {"features": [1]}}'])
    def test_metadata_that_say_nothing_of_features(self, tmp_path: Path, stored: bytes) -> None:
        table = pa.table({"image": [{"bytes": JPEG}], "label": ["cat"]}).replace_schema_metadata(
            {"huggingface": stored}
        )
        (record,) = tables(tmp_path, table)
        assert record.label == "cat"

    def test_objects_of_other_shapes_are_noted(self, tmp_path: Path) -> None:
        objects = [{"bbox": [[1.0, 2, 3, 4], [5.0, 6, 7, 8]], "label": ["cat"]}, {"bbox": None, "label": ["cat"]}]
        first, second = tables(tmp_path, pa.table({"image": [{"bytes": JPEG}] * 2, "objects": objects}))
        assert first.boxes == (Box(1, 2, 4, 6, "cat"), Box(5, 6, 12, 14, None))
        assert (second.boxes, second.notes) == ((), ())
        (other,) = tables(
            tmp_path, pa.table({"image": [{"bytes": JPEG}], "objects": [{"bbox": 7.0, "label": ["cat"]}]})
        )
        assert (other.boxes, other.notes) == ((), ("objects.bbox is no list of boxes: 7.0",))


IMAGE = pa.struct({"bytes": pa.binary(), "path": pa.string()})


class TestSavedToDisk:
    """A folder that datasets 5's save_to_disk wrote, after map() and shuffle() of what load_from_disk gave."""

    def write(self, folder: Path, state: dict[str, Any] | None) -> list[Record]:
        rows = pa.table({"image": pa.array([{"bytes": JPEG, "path": None}] * 2, IMAGE), "label": ["cat", "dog"]})
        tables = {
            "data-00000-of-00002": rows.slice(0, 1),
            "data-00001-of-00002": rows.slice(1),
            "cache-2dd360b147fb7315": rows,
            "cache-ad52ebd75edfc9a7": pa.table({"indices": pa.array([1, 0], pa.uint64())}),
        }
        for name, table in tables.items():
            with pa.OSFile(f"{folder}/{name}.arrow", "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
                writer.write_table(table)
        if state is not None:
            (folder / "state.json").write_text(json.dumps(state))
        return list(open_dataset(DatasetSettings(path=str(folder))).reader.records())

    @pytest.mark.parametrize("state", [None, {"format": "another"}, {"_data_files": [{"filename": "../x.arrow"}]}])
    def test_what_was_computed_of_it_is_no_data(self, tmp_path: Path, state: dict[str, Any] | None) -> None:
        assert [(record.sample_id, record.label) for record in self.write(tmp_path, state)] == [
            ("data-00000-of-00002.arrow/0", "cat"),
            ("data-00001-of-00002.arrow/0", "dog"),
        ]

    def test_the_data_are_what_the_state_lists(self, tmp_path: Path) -> None:
        (record,) = self.write(tmp_path, {"_data_files": [{"filename": "data-00001-of-00002.arrow"}]})
        assert (record.sample_id, record.label) == ("data-00001-of-00002.arrow/0", "dog")

    def test_a_table_that_the_state_lists_and_that_is_gone_is_named(self, tmp_path: Path) -> None:
        listed = [{"filename": f"data-0000{number}-of-00002.arrow"} for number in range(3)]
        with pytest.raises(UserError, match=r"data-00002-of-00002\.arrow cannot be read as a table: "):
            self.write(tmp_path, {"_data_files": listed})


class TestColumns:
    def test_of_two_columns_of_images_it_is_said_which_is_read(self, tmp_path: Path) -> None:
        held = pa.array([{"bytes": JPEG, "path": None}], IMAGE)
        for name in ("a", "b"):  # said once
            pq.write_table(pa.table({"scan": held, "photo": held, "label": ["cat"]}), tmp_path / f"{name}.parquet")
        for mask, column, remarks in (
            (
                None,
                "scan",
                [
                    "of the 2 columns of images of a.parquet 'scan' is read, and not 'photo'; "
                    "name one of masks in dataset.mask, or call the one to be read image"
                ],
            ),
            ("scan", "photo", []),
        ):
            reader = HuggingfaceReader(DatasetSettings("huggingface", str(tmp_path), mask=mask))
            assert [f"{column}/0" in record.uri for record in reader.records()] == [True] * 2
            assert reader.remarks() == remarks

    def test_a_row_of_several_labels_has_none_and_they_are_told(self, tmp_path: Path) -> None:
        labels = {"feature": {"names": ["cat", "dog", "owl"], "_type": "ClassLabel"}, "_type": "List"}
        table = pa.table(
            {
                "image": pa.array([{"bytes": JPEG, "path": None}] * 5, IMAGE),
                "labels": pa.array([[0], [0, 2], [], None, [1, 1]], pa.list_(pa.int64())),
            }
        ).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": {"labels": labels}}})})
        pq.write_table(table, tmp_path / "t.parquet")
        reader = HuggingfaceReader(DatasetSettings("huggingface", str(tmp_path)))
        assert [(record.label, record.notes) for record in reader.records()] == [
            ("cat", ()),
            (None, ("the row has several labels, which are no one label: 'cat', 'owl'",)),
            (None, ()),
            (None, ()),
            ("dog", ()),
        ]
        assert reader.remarks() == [
            "1 row has several labels in the column 'labels', and no one label: write a row for each label of an image"
        ]
