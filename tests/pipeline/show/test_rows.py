"""What a query answers is written so that other software reads the same values under the same names."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.show.rows import render
from storage import Run
from storage.info import RunInfo
from storage.sql import run_query


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = Run.create(str(tmp_path / "run"))
    run.write_info(RunInfo())
    return run


def written(table: pa.Table, format: str) -> str:
    stream = io.StringIO()
    render(table, format, stream)
    return stream.getvalue()


SAME = "SELECT 1 AS a, 2 AS a, 3 AS a_1, 4 AS a, 5 AS b"
APART = {"a": 1, "a_2": 2, "a_1": 3, "a_3": 4, "b": 5}


def test_columns_of_one_name_keep_their_values_in_every_format(run: Run) -> None:
    table = run_query(run, SAME)
    assert list(csv.DictReader(io.StringIO(written(table, "csv")))) == [{k: str(v) for k, v in APART.items()}]
    assert json.loads(written(table, "json")) == [APART]
    assert [line.split() for line in written(table, "markdown").replace("|", "").splitlines()[::2]] == [
        list(APART),
        list(map(str, APART.values())),
    ]
    shown = written(table, "table").splitlines()
    assert shown[3].replace("│", "").split() == list(map(str, APART.values()))
    stream = io.BytesIO()
    render(table, "parquet", stream)
    assert pq.read_table(stream).to_pylist() == [APART]


def test_json_has_numbers_where_the_query_has_them(run: Run) -> None:
    sql = """SELECT sum(i) AS whole, sum(i)::DECIMAL(9, 2) / 4 AS double, 1.25::DECIMAL(5, 2) AS decimal,
        18446744073709551615::UBIGINT AS large, MAP {'a': 'nan'::DOUBLE, 'b': 1.5} AS map,
        {'x': [sum(i)]} AS nested FROM range(24) t(i)"""
    text = written(run_query(run, sql), "json")

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    assert json.loads(text, parse_constant=refuse) == [
        {
            "whole": 276,
            "double": 69.0,
            "decimal": 1.25,
            "large": 2**64 - 1,
            "map": [["a", None], ["b", 1.5]],
            "nested": {"x": [276]},
        }
    ]
