"""Datasets of every format with other values, keys, entries and bytes than they should have."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from stages.ingest.settings import DatasetSettings
from tests.fuzz.outcome import Base, Rows, check_boxes_told
from tests.fuzz.profile import fuzz
from tests.fuzz.strategies import TEXTS, VALUES, altered, altered_words, altered_xml, damaged
from tests.stages.ingest.datasets import FORMATS, PICTURES, encoded, write_images
from tests.stages.ingest.written import WRITTEN

Make = Callable[[str], Base]


def as_json_lines(folder: Path) -> DatasetSettings:
    write_images(folder)
    rows = [{"path": p.name, "label": p.label, "boxes": p.boxes, "split": "val"} for p in PICTURES]
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return DatasetSettings("manifest", str(folder / "manifest.jsonl"))


BASES = {
    **FORMATS,
    "json lines": as_json_lines,
    **{name: WRITTEN[name] for name in ("voc", "coco", "yolo", "kitti", "cvat")},
}
IMAGES = (".JPEG", ".jpg", ".jpeg", ".png")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Make:
    bases: dict[str, Base] = {}

    def made(name: str) -> Base:
        if name not in bases:
            folder = tmp_path_factory.mktemp("fuzz") / "data"
            settings = BASES[name](folder) if name in ("coco", "yolo", "kitti", "cvat", "voc") else _in(folder, name)
            bases[name] = Base(folder, settings)
            assert isinstance(bases[name].take({}), list)
        return bases[name]

    return made


def _in(folder: Path, name: str) -> DatasetSettings:
    folder.mkdir()
    return BASES[name](folder)


def only(base: Base, extension: str) -> str:
    """The one file of a base, or the first by name, with that extension."""
    return min(name for name in base.files if name.endswith(extension))


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode("utf-8", "surrogatepass")


def count(cell: Any) -> int:
    return len(cell) if isinstance(cell, list) else 0


@pytest.mark.parametrize("name", BASES)
@fuzz(15)
@given(data=st.data())
def test_annotations_of_other_bytes(made: Make, name: str, data: st.DataObject) -> None:
    base = made(name)
    file = data.draw(st.sampled_from(sorted(name for name in base.files if not name.endswith(IMAGES))))
    base.take({file: data.draw(damaged(base.files[file]))})


@fuzz(30)
@given(data=st.data())
def test_images_of_other_bytes(made: Make, data: st.DataObject) -> None:
    base = made("csv")
    rows = base.take({"first.JPEG": data.draw(damaged(base.files["first.JPEG"]))})
    assert isinstance(rows, list)  # one image is no fault of the dataset
    assert [row["status"] for row in rows[1:]] == ["ok", "ok"]


@fuzz(30)
@given(data=st.data())
def test_json_lines(made: Make, data: st.DataObject) -> None:
    base = made("json lines")
    rows = data.draw(altered([json.loads(line) for line in base.files["manifest.jsonl"].splitlines()]))
    lines = rows if isinstance(rows, list) else [rows]
    found = base.take({"manifest.jsonl": b"\n".join(map(as_json, lines))})
    if isinstance(found, list):
        cells = {index: count(row["boxes"]) for index, row in enumerate(lines)}
        check_boxes_told(found, lambda row: cells[row["row"]])


@fuzz(30)
@given(data=st.data())
def test_csv(made: Make, data: st.DataObject) -> None:
    base = made("csv")
    rows = list(csv.reader(io.StringIO(base.files["manifest.csv"].decode())))
    rows = data.draw(altered([[json.loads(cell) if cell[:1] == "[" else cell for cell in row] for row in rows]))
    sink = io.StringIO()
    writer = csv.writer(sink, delimiter=data.draw(st.sampled_from(",,,;\t|")))
    for row in rows if isinstance(rows, list) else [[rows]]:
        cells = row if isinstance(row, list) else [row]
        writer.writerow([json.dumps(cell) if isinstance(cell, list | dict) else str(cell) for cell in cells])
    base.take({"manifest.csv": sink.getvalue().encode("utf-8", "surrogatepass")})


COLUMNS = {
    "path": st.sampled_from(
        [pa.string(), pa.binary(), pa.int64(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())]
    ),
    "label": st.sampled_from(
        [pa.string(), pa.int64(), pa.float64(), pa.bool_(), pa.null(), pa.date32(), pa.list_(pa.string())]
    ),
    "boxes": st.sampled_from(
        [
            pa.string(),
            pa.list_(pa.list_(pa.float64())),
            pa.list_(pa.list_(pa.int64(), 4)),
            pa.float64(),
            pa.list_(pa.string()),
            pa.list_(pa.struct({key: pa.float32() for key in ("x0", "y0", "x1", "y1")})),
            pa.map_(pa.string(), pa.float64()),
        ]
    ),
    "split": st.sampled_from([pa.string(), pa.int8(), pa.timestamp("ns")]),
    "mask": st.sampled_from([pa.string(), pa.binary(), pa.null()]),
}


def cells_of(kind: pa.DataType) -> st.SearchStrategy[Any]:
    """Cells that a column of that type can hold."""
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        size = kind.list_size if pa.types.is_fixed_size_list(kind) else None
        cell = st.lists(cells_of(kind.value_type), min_size=size or 0, max_size=size or 5)
    elif pa.types.is_struct(kind):
        cell = st.fixed_dictionaries({field.name: cells_of(field.type) for field in kind})
    elif pa.types.is_map(kind):
        cell = st.lists(st.tuples(st.text(max_size=3), cells_of(kind.item_type)), max_size=3)
    elif pa.types.is_floating(kind):
        cell = st.floats(width=32) | st.integers(-50, 50).map(float)
    elif pa.types.is_boolean(kind):
        cell = st.booleans()
    elif pa.types.is_integer(kind) or pa.types.is_temporal(kind):
        cell = st.integers(-100, 100)
    elif pa.types.is_null(kind):
        return st.none()
    elif pa.types.is_binary(kind):
        cell = st.binary(max_size=12) | st.just(b"first.JPEG")
    else:
        cell = TEXTS.filter(lambda text: "\ud800" not in text)
    return cell | st.none()


@fuzz(30)
@given(data=st.data())
def test_parquet(made: Make, data: st.DataObject) -> None:
    base, rows = made("parquet"), data.draw(st.integers(0, 3))
    names = data.draw(st.lists(st.sampled_from(list(COLUMNS)), min_size=3, max_size=5, unique=True))
    columns = {}
    for name in [*names, *(["path", "label", "boxes"] if data.draw(st.booleans()) else [])]:
        kind = data.draw(COLUMNS[name])
        cells = [data.draw(cells_of(kind)) for _ in range(rows)]
        if name == "path" and kind == pa.string() and data.draw(st.booleans()):
            cells = [picture.name for picture in PICTURES[:rows]]
        columns[name] = pa.array(cells, kind)
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    found = base.take({"manifest.parquet": sink.getvalue()})
    if isinstance(found, list):
        cells = columns["boxes"].to_pylist()
        check_boxes_told(found, lambda row: count(cells[row["row"]]))


SEGMENTATIONS: list[Any] = [
    [[5, 6, 25, 6, 25, 26, 5, 26]],
    {"size": [30, 40], "counts": [0, 1200]},
    {"size": [30, 40], "counts": "0`U1"},
]
"""Polygons, run lengths, and run lengths as pycocotools packs them."""


@fuzz(50)
@given(data=st.data())
def test_coco(made: Make, data: st.DataObject) -> None:
    base = made("coco")
    name = "annotations/instances_val.json"
    document = json.loads(base.files[name])
    for entry, segmentation in zip(document["annotations"], SEGMENTATIONS, strict=False):
        entry["segmentation"] = segmentation
    document = data.draw(altered(document, 4))
    labels = data.draw(st.sampled_from(["auto", "largest_box", "crop"]))
    found = base.take({name: as_json(document)}, labels=labels)
    if isinstance(found, list) and labels == "auto":
        check_boxes_told(found, lambda row: _annotations(document, row))


def _annotations(document: Any, row: dict[str, Any]) -> int:
    """Annotations of the images that a row can be of, by the name of its file; those of one id belong to one."""
    name = Path(row["uri"]).name
    images = [image for image in document["images"] if str(image["file_name"]) == name]
    if len(images) != 1:
        return 0
    mine = [entry for entry in document["annotations"] if entry["image_id"] == images[0]["id"]]
    # The reason names at most ten faults; a crowd is named by its class.
    return len(mine)


@fuzz(30)
@given(data=st.data())
def test_voc(made: Make, data: st.DataObject) -> None:
    base = made("voc")
    name = only(base, ".xml")
    text = data.draw(altered_xml(base.files[name].decode()))
    base.take({name: text.encode("utf-8", "surrogatepass")}, boxes=data.draw(st.sampled_from([None, "xyxy", "xywh"])))


@fuzz(30)
@given(data=st.data())
def test_cvat(made: Make, data: st.DataObject) -> None:
    base = made("cvat")
    name = only(base, ".xml")
    base.take({name: data.draw(altered_xml(base.files[name].decode())).encode("utf-8", "surrogatepass")})


@fuzz(30)
@given(data=st.data())
def test_labels_of_yolo(made: Make, data: st.DataObject) -> None:
    base = made("yolo")
    name = only(base, ".txt")
    polygon = "1 0.1 0.1 0.5 0.1 0.5 0.5 0.1 0.5"
    text = data.draw(altered_words(f"{base.files[name].decode().rstrip()}\n{polygon}"))
    found = base.take({name: text.encode("utf-8", "surrogatepass")})
    if isinstance(found, list):
        lines = len([line for line in text.splitlines() if line.strip()])
        mine = Path(name).stem
        check_boxes_told(found, lambda row: lines if Path(row["uri"]).stem == mine else 0)


@fuzz(30)
@given(data=st.data())
def test_data_yaml_of_yolo(made: Make, data: st.DataObject) -> None:
    base = made("yolo")
    name = only(base, ".yaml")
    document = data.draw(altered(yaml.safe_load(base.files[name])))
    try:
        text = yaml.safe_dump(document, allow_unicode=data.draw(st.booleans()))
    except (yaml.YAMLError, ValueError):
        text = json.dumps(document)
    base.take({name: text.encode("utf-8", "surrogatepass")})


@fuzz(30)
@given(data=st.data())
def test_labels_of_kitti(made: Make, data: st.DataObject) -> None:
    base = made("kitti")
    name = only(base, ".txt")
    base.take({name: data.draw(altered_words(base.files[name].decode())).encode("utf-8", "surrogatepass")})


def as_name(text: str) -> str:
    """A name that the disk takes: no folder of its own, and not too long."""
    return "".join(letter for letter in text if letter not in "/\x00")[:40].strip(".") or "x"


@fuzz(30)
@given(data=st.data())
def test_class_folders(made: Make, data: st.DataObject) -> None:
    base = made("class folders")
    names = st.lists(TEXTS.map(as_name).filter(lambda name: "\ud800" not in name), min_size=1, max_size=4)
    changes: dict[str, bytes | None] = {
        "/".join([*data.draw(names), "x.jpg"]): encoded(PICTURES[0]) for _ in range(data.draw(st.integers(0, 3)))
    }
    rows = data.draw(altered([["path", "boxes"], *([f"val/{p.label}/{p.name}", list(p.boxes)] for p in PICTURES)]))
    sink = io.StringIO()
    for row in rows if isinstance(rows, list) else [[rows]]:
        csv.writer(sink).writerow([str(cell) for cell in row] if isinstance(row, list) else [str(row)])
    changes["boxes.csv"] = sink.getvalue().encode("utf-8", "surrogatepass")
    base.take(changes)


MEMBERS = st.one_of(
    st.sampled_from(["000000.jpg", "000000.cls", "000000.json", "000000.txt", "a/000001.jpg", "000001", ".json"]),
    TEXTS.map(lambda text: text.replace("\x00", "")[:90] + ".jpg"),
)


@fuzz(30)
@given(data=st.data())
def test_webdataset(made: Make, data: st.DataObject) -> None:
    base = made("tar")
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", errors="surrogateescape") as tar:
        for _ in range(data.draw(st.integers(0, 5))):
            name = data.draw(MEMBERS)
            member = tarfile.TarInfo(name.encode("utf-8", "replace").decode())
            kinds = [tarfile.REGTYPE] * 6 + [tarfile.SYMTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE]
            member.type, member.linkname = data.draw(st.sampled_from(kinds)), "../../etc/passwd"
            if name.endswith(".json"):
                content = as_json(data.draw(altered({"label": "n01", "boxes": [[0, 0, 9, 9]]})))
            elif name.endswith(".cls"):
                content = data.draw(st.binary(max_size=8) | st.just(b"n02"))
            else:
                content = data.draw(st.just(encoded(PICTURES[0])) | damaged(encoded(PICTURES[0])))
            member.size = len(content) if member.isreg() else 0
            tar.addfile(member, io.BytesIO(content))
    base.take({"val-000000.tar": sink.getvalue()})


@fuzz(30)
@given(data=st.data())
def test_a_folder_of_any_json_and_yaml(made: Make, data: st.DataObject) -> None:
    """Where no reader is named, what is recognised by its files is not believed."""
    base = made("csv")
    changes: dict[str, bytes | None] = {"manifest.csv": None}
    changes["x.json"] = as_json({"images": data.draw(VALUES), "annotations": data.draw(VALUES), "categories": []})
    changes["data.yaml"] = as_json({"names": data.draw(VALUES), "train": data.draw(VALUES)})
    keep: Rows | str = base.take(changes, reader="auto", path=str(base.folder))
    assert keep
