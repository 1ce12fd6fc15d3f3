"""Tables in order, however much text they hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

AT_ONCE = 10_000
"""Rows of a chunk of a sorted table."""


def sorted_by(table: pa.Table, order: Sequence[tuple[str, str]]) -> pa.Table:
    """The rows in an order, in chunks of :data:`AT_ONCE`; ``order`` names columns, each ascending or descending.

    ``Table.sort_by`` puts a column into one array first, which holds at most 2 GiB of text: the masks of a million or
    two images are more.
    """
    places = pc.sort_indices(table.select([name for name, _ in order]), sort_keys=list(order))
    wide = table.cast(pa.schema([field.with_type(_wide(field.type)) for field in table.schema])).combine_chunks()
    parts = [wide.take(places.slice(start, AT_ONCE)) for start in range(0, table.num_rows, AT_ONCE)]
    return pa.concat_tables([table.slice(0, 0), *(part.cast(table.schema) for part in parts)])


def _wide(kind: Any) -> Any:
    """The type with 64 bits for the places of its texts."""
    if pa.types.is_string(kind):
        return pa.large_string()
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_wide(kind.value_type)))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_wide(field.type)) for field in kind])
    return kind
