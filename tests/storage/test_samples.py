from __future__ import annotations

from typing import Any

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from storage.samples import bytes_digest
from storage.tables import SAMPLES

COLUMNS = ["row", "digest", "status", "class_index", "label", "boxes", "mask"]

number = st.floats(0, 4096, width=32)
box = st.fixed_dictionaries(
    {"x0": number, "y0": number, "x1": number, "y1": number, "label": st.none() | st.sampled_from(["cat", "dog"])}
)
row = st.fixed_dictionaries(
    {
        "row": st.integers(0, 10**9),
        "digest": st.none() | st.text("0123456789abcdef", max_size=6),
        "status": st.sampled_from(["ok", "no_box"]),
        "class_index": st.none() | st.integers(0, 999),
        "label": st.none() | st.text(max_size=4),
        "boxes": st.lists(box, max_size=3),
        "mask": st.none() | st.text("0123 ", max_size=6),
    }
)


def table(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=SAMPLES)


@given(st.lists(row, max_size=6), st.lists(row, max_size=5), st.lists(row, max_size=5), st.integers(1, 3))
def test_the_digest_is_of_the_rows_wherever_they_stand_and_however_they_are_cut(
    rows: list[dict[str, Any]], before: list[dict[str, Any]], after: list[dict[str, Any]], cut: int
) -> None:
    wanted = bytes_digest(table(rows), COLUMNS)
    among = table([*before, *rows, *after]).slice(len(before), len(rows))
    pieces = [table(rows[place : place + cut]) for place in range(0, len(rows), cut)]
    assert bytes_digest(among, COLUMNS) == wanted
    assert bytes_digest(pa.concat_tables([table([]), *pieces]), COLUMNS) == wanted


@given(st.lists(row, max_size=4), st.lists(row, max_size=4))
def test_two_digests_are_the_same_for_the_same_rows_alone(
    rows: list[dict[str, Any]], others: list[dict[str, Any]]
) -> None:
    same = table(rows).select(COLUMNS).to_pylist() == table(others).select(COLUMNS).to_pylist()
    assert (bytes_digest(table(rows), COLUMNS) == bytes_digest(table(others), COLUMNS)) is same
