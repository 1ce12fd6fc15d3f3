"""The rows that a query answers, as a table for people, CSV, JSON, Markdown or Parquet."""

from __future__ import annotations

import csv
import io
import json
import math
from decimal import Decimal
from difflib import get_close_matches
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.show.console import plain_console
from stages.words import CONTROL, counted, visible
from storage.errors import UserError

FORMATS = ("table", "csv", "json", "markdown", "parquet")
SHOWN_ROWS = 100
"""Rows that the format ``table`` shows; the other formats write all."""


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
        cell = _visible_cell if stream.isatty() else _cell
        writer.writerows([cell(value) for value in row.values()] for row in _short_floats(table).to_pylist())
    elif format == "json":
        rows = _short_floats(table).to_pylist()
        records = ",\n".join(_json(row) for row in rows)
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
    """A value that JSON has; a number that is not finite becomes null. A MAP is a list of its pairs."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Decimal):  # DuckDB's sum of whole numbers is one too
        return int(value) if value == value.to_integral_value() else float(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _cell(value: Any) -> Any:
    if isinstance(value, dict | list):
        return _json(value)
    return "" if value is None else value


def _json(value: Any) -> str:
    """JSON in which a control character is written as JSON writes it, those above ASCII included."""
    text = json.dumps(_plain(value), default=str, ensure_ascii=False)
    return CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _visible_cell(value: Any) -> Any:
    shown = _cell(value)
    return visible(shown) if isinstance(shown, str) else shown


def _render_text(table: pa.Table, stream: IO[str]) -> None:
    from rich.table import Table

    console = plain_console(stream, width=None if stream.isatty() else 200)
    records = table.slice(0, SHOWN_ROWS).to_pylist()
    numeric = {field.name for field in table.schema if _is_number(field.type)}
    if 8 * table.num_columns > console.width:
        # Too many columns for the width: a block a row instead.
        for record in records:
            block = Table(show_header=False, box=None, pad_edge=False)
            for name, value in record.items():
                block.add_row(name, _shown(value))
            console.print(block, soft_wrap=False)
            console.print()
    else:
        grid = Table()
        for name in table.column_names:
            grid.add_column(name, justify="right" if name in numeric else "left", overflow="fold")
        for record in records:
            grid.add_row(*(_shown(value) for value in record.values()))
        console.print(grid, soft_wrap=False)
    rest = table.num_rows - len(records)
    count = counted(table.num_rows, "row")
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
    return f"{value:.3f}" if isinstance(value, float) else str(_visible_cell(value))
