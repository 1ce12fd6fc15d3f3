"""SQL over a run: DuckDB with the run's tables as views, canned queries, and output in four formats."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import resources
from typing import IO, TYPE_CHECKING, Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from storage.errors import UserError
from storage.tables import SCHEMAS, without_vectors

if TYPE_CHECKING:
    from storage import Run

FORMATS = ("table", "csv", "json", "markdown", "parquet")
KEYS = ("sample_id", "row", "target", "method")
LIST_HINT = "`sightline query RUN --list` shows the tables and the canned queries"
SHOWN_ROWS = 100
"""Rows that the format ``table`` shows; the other formats write all."""


def connect(run: Run) -> duckdb.DuckDBPyConnection:
    """A DuckDB connection with a view for each table that ``run`` has, and ``audit``.

    ``audit`` has a row a sample, target and method: samples, explain and scores joined, without removed
    samples. A column that several of them have is prefixed by its table. It adds ``target_label`` and
    ``pred_label`` (class names), ``correct`` (the prediction is the label; null without a class) and
    ``p_label`` (p of the label's class, also beside other targets). The connection reads the tables through
    the run, wherever that is, and cannot touch files or settings. Columns of vectors are left out: nobody reads a
    thousand channels, and DuckDB has no half-precision numbers.
    """
    connection = duckdb.connect(
        ":memory:",
        config={"enable_external_access": "false", "python_enable_replacements": "false"},
    )
    tables = {name: run.table(name, without_vectors(schema)) for name, schema in SCHEMAS.items() if run.has_table(name)}
    if "findings" not in tables:
        tables.pop("cues", None)  # kept for the names in it: it is of the audit before
    for name, table in tables.items():
        connection.register(name, table)
    if {"samples", "explain", "scores"} <= tables.keys():
        connection.register("class_names", class_names(run, tables["samples"]))
        connection.execute(audit_view({name: tables[name].column_names for name in ("samples", "explain", "scores")}))
    connection.execute("SET lock_configuration = true")
    return connection


def audit_view(columns: dict[str, list[str]]) -> str:
    """The statement that makes the view ``audit`` of tables with these columns."""
    owners: dict[str, list[str]] = {}
    for table, names in columns.items():
        for name in names:
            owners.setdefault(name, []).append(table)
    selected = ["samples.sample_id", "samples.row", "explain.target", "explain.method"]
    for name, tables in owners.items():
        if name not in KEYS:
            alias = "{table}_{name}" if len(tables) > 1 else "{name}"
            selected += [f'{table}."{name}" AS "{alias.format(table=table, name=name)}"' for table in tables]
    return f"""
        CREATE VIEW audit AS
        SELECT {", ".join(selected)},
            coalesce(target_names.name, 'class ' || explain.class_index) AS target_label,
            coalesce(pred_names.name, 'class ' || explain.pred_index) AS pred_label,
            explain.pred_index = samples.class_index AS correct,
            max(explain.p_full) FILTER (explain.target = 'label')
                OVER (PARTITION BY samples.sample_id, explain.method) AS p_label
        FROM samples
        LEFT JOIN explain ON explain.sample_id = samples.sample_id AND explain.row = samples.row
        LEFT JOIN scores ON scores.sample_id = explain.sample_id AND scores.row = explain.row
            AND scores.target = explain.target AND scores.method = explain.method
        LEFT JOIN class_names AS target_names ON target_names.class_index = explain.class_index
        LEFT JOIN class_names AS pred_names ON pred_names.class_index = explain.pred_index
        WHERE samples.status <> 'removed'
    """


def class_names(run: Run, samples: pa.Table) -> pa.Table:
    """Table class_index, name: the model's classes as the maps record them, else the samples' labels."""
    for method in run.methods():
        for target in run.targets(method):
            names = run.maps(target, method).attributes.get("class_names")
            if names:
                return _names(enumerate(names))
    pairs = zip(samples["class_index"].to_pylist(), samples["label"].to_pylist(), strict=True)
    return _names({index: label for index, label in pairs if index is not None}.items())


def _names(pairs: Iterable[tuple[int, str]]) -> pa.Table:
    rows = list(pairs)
    return pa.table(
        {
            "class_index": pa.array([index for index, _ in rows], pa.int32()),
            "name": pa.array([name for _, name in rows], pa.string()),
        }
    )


def run_query(run: Run, sql: str) -> pa.Table:
    """Rows that ``sql`` answers; raises UserError for a mistake in it."""
    with connect(run) as connection:
        return execute(connection, sql)


def execute(connection: duckdb.DuckDBPyConnection, sql: str, where: str = "SQL") -> pa.Table:
    """Rows that ``sql`` answers; a mistake in it raises UserError that begins with ``where``."""
    try:
        relation = connection.sql(sql)
        if relation is not None:
            return relation.to_arrow_table()
    except duckdb.Error as error:
        raise UserError(f"{where}: {_mistake(connection, str(error))}; {LIST_HINT}") from None
    raise UserError(f"{where}: the statement answers no rows; write a SELECT. {LIST_HINT}")


def _mistake(connection: duckdb.DuckDBPyConnection, message: str) -> str:
    """DuckDB's message in one line, with the nearest names that exist."""
    short = re.split(r"\n\s*\n|\nLINE \d+:|\nCandidate bindings|\nDid you mean", message)[0]
    short = " ".join(short.split()).removesuffix("!").removeprefix("Catalog Error: ").removeprefix("Binder Error: ")
    if "disabled by configuration" in short:
        return f"{short}. A query sees the run's own tables only"
    unknown = re.search(r'[Cc]olumn "([^"]+)" not found|Table with name "?(\w+)"? does not exist', short)
    if unknown is None:
        return short
    name = unknown[1] or unknown[2]
    if name in SCHEMAS:
        return f"this run has no table {name} yet, the stage that writes it has not run"
    known = connection.sql(
        "SELECT DISTINCT column_name FROM duckdb_columns() WHERE NOT internal"
        if unknown[1]
        else "SELECT view_name FROM duckdb_views() WHERE NOT internal"
    ).fetchall()
    near = get_close_matches(name, [row[0] for row in known], n=3, cutoff=0.5)
    return f"{short}; nearest: {', '.join(near)}" if near else short


@dataclass(frozen=True)
class CannedQuery:
    """A question an auditor asks, and its SQL."""

    name: str
    title: str
    answers: str
    sql: str


def list_queries() -> list[CannedQuery]:
    """The canned queries, by name."""
    folder = resources.files("stages.audit") / "queries"
    files = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".sql")), key=lambda file: file.name)
    queries = []
    for file in files:
        sql = file.read_text(encoding="utf-8")
        title, answers = (line.removeprefix("--").strip() for line in sql.splitlines()[:2])
        queries.append(CannedQuery(file.name.removesuffix(".sql"), title, answers, sql))
    return queries


def load_query(name: str) -> CannedQuery:
    """The canned query of that name; raises UserError with the nearest names if there is none."""
    queries = {query.name: query for query in list_queries()}
    if name not in queries:
        near = get_close_matches(name, queries, n=3, cutoff=0.4) or list(queries)
        raise UserError(f"no canned query {name!r}; did you mean {', '.join(near)}? {LIST_HINT}")
    return queries[name]


def render(table: pa.Table, format: str, stream: IO[Any]) -> None:
    """Write ``table`` as ``table`` (for people), ``csv``, ``json`` (an array of records), ``markdown`` or ``parquet``.

    Nested values become JSON text in CSV; a NaN becomes null in JSON. Parquet is binary: a text stream must
    have a ``buffer``, as standard output does. Raises UserError for another format.
    """
    if format == "table":
        _render_text(table, stream)
    elif format == "csv":
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(table.column_names)
        writer.writerows([_cell(value) for value in row.values()] for row in _short_floats(table).to_pylist())
    elif format == "json":
        rows = _short_floats(table).to_pylist()
        records = ",\n".join(json.dumps(_plain(row), default=str, ensure_ascii=False) for row in rows)
        stream.write(f"[\n{records}\n]\n" if records else "[]\n")
    elif format == "markdown":
        _render_markdown(table, stream)
    elif format == "parquet":
        sink = io.BytesIO()
        pq.write_table(table, sink)
        getattr(stream, "buffer", stream).write(sink.getvalue())
    else:
        near = get_close_matches(format, FORMATS, n=1) or FORMATS
        raise UserError(f"no format {format!r}; did you mean {', '.join(near)}? Formats are {', '.join(FORMATS)}")


def _short_floats(table: pa.Table) -> pa.Table:
    """The float32 columns as float64 with the digits that float32 has: .9, where a plain cast has .8999999761581421."""
    fields = [pa.field(field.name, pa.float64()) if field.type == pa.float32() else field for field in table.schema]
    columns = [
        column.cast(pa.string()).cast(pa.float64()) if column.type == pa.float32() else column
        for column in table.columns
    ]
    return pa.table(columns, schema=pa.schema(fields))


def _plain(value: Any) -> Any:
    """A value that JSON has; a number that is not finite becomes null."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _cell(value: Any) -> Any:
    if isinstance(value, dict | list):
        return json.dumps(_plain(value), default=str, ensure_ascii=False)
    return "" if value is None else value


def _render_text(table: pa.Table, stream: IO[str]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(file=stream, width=None if stream.isatty() else 200, highlight=False)
    records = table.slice(0, SHOWN_ROWS).to_pylist()
    numeric = {field.name for field in table.schema if _is_number(field.type)}
    if 8 * table.num_columns > console.width:
        # Too many columns for the width: a block a row instead.
        for record in records:
            block = Table(show_header=False, box=None, pad_edge=False)
            for name, value in record.items():
                block.add_row(name, Text(_shown(value)))
            console.print(block)
            console.print()
    else:
        grid = Table()
        for name in table.column_names:
            grid.add_column(name, justify="right" if name in numeric else "left", overflow="fold")
        for record in records:
            grid.add_row(*(Text(_shown(value)) for value in record.values()))
        console.print(grid)
    rest = table.num_rows - len(records)
    count = f"{table.num_rows} row{'' if table.num_rows == 1 else 's'}"
    console.print(f"{count}, {rest} not shown: --format csv writes all" if rest else count)


def _render_markdown(table: pa.Table, stream: IO[str]) -> None:
    rows = [table.column_names, ["---"] * table.num_columns]
    rows += [[_shown(value) for value in row.values()] for row in table.slice(0, SHOWN_ROWS).to_pylist()]
    for row in rows:
        stream.write("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |\n")
    if table.num_rows > SHOWN_ROWS:
        stream.write(f"\n{table.num_rows - SHOWN_ROWS} more rows: `sightline query ... --format csv` writes all\n")


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind))


def _shown(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(_cell(value))
