"""Manifests as people break them: each with the message that it gets, or the samples that it gives."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from storage.errors import UserError
from tests.stages.ingest.broken.corpus import BOX, HEADER, LONGEST_MESSAGE, coco, take


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
    "Parquet with a damaged page": (
        parquet(path=["a.jpg"], label=["cat"], boxes=["[]"]).replace(b"PAR1\x15\x04", b"PAR1\x14\x04"),
        r"is damaged Parquet: .*thrift",
    ),
    "Parquet with a cell that is no UTF-8": (
        parquet(path=["a.jpg"], label=["cat"], boxes=["[]"]).replace(b"cat", b"\xffat"),
        r"is damaged Parquet: .*utf-8",
    ),
    "Parquet with a column that is no text": (
        parquet(path=["a.jpg"], label=["cat"], boxes=["[]"]).replace(b"boxes", b"\xefoxes"),
        r"is damaged Parquet: ",
    ),
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


def test_a_line_break_in_a_path_is_escaped_in_the_reason(data: Path) -> None:
    (data / "m.jsonl").write_text(
        '{"path": "a.jpg", "label": "cat", "boxes": [[0, 0, 20, 20]]}\n'
        '{"path": "b\\nc.jpg", "label": "cat", "boxes": [[0, 0, 20, 20]]}\n'
    )
    _, lost = take(data, path="m.jsonl")
    assert (lost["status"], lost["reason"]) == ("unreadable", f"no such file: {data}/b\\nc.jpg")
