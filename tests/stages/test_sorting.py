"""Sorted tables are those of Arrow's own sort, cut into chunks."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from stages import sorting
from stages.sorting import sorted_by
from storage.tables import FINDINGS, SAMPLES

BOX = {"x0": 1.0, "y0": 2.0, "x1": 3.0, "y1": 4.5}


def samples(rows: int) -> pa.Table:
    """Samples in no order, with texts, nested texts and nulls, in chunks of seven."""
    generator = np.random.default_rng(0)
    blank = dict.fromkeys(SAMPLES.names)
    made = [
        blank
        | {
            "sample_id": f"é{place}.png",
            "row": int(row),
            "status": "ok" if row % 3 else "no_box",
            "boxes": [BOX | {"label": None if row % 2 else f"cat {row}"}] * int(row % 4) if row % 5 else None,
            "mask": f"mask {row}" * int(row % 7) if row % 3 else None,
            "object_masks": ["a", None, "b" * int(row)] if row % 2 else None,
        }
        for place, row in enumerate(generator.permutation(rows))
    ]
    return pa.concat_tables(pa.Table.from_pylist(made[at : at + 7], schema=SAMPLES) for at in range(0, rows, 7))


@pytest.mark.parametrize("at_once", [1, 5, 1000])
def test_the_order_is_that_of_arrow(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sorting, "AT_ONCE", at_once)
    table = samples(40)
    for order in ([("row", "ascending")], [("status", "descending"), ("row", "descending")]):
        found = sorted_by(table, order)
        assert found.schema == SAMPLES
        assert found.to_pylist() == table.sort_by(order).to_pylist()
        assert all(len(chunk) <= at_once for chunk in found["mask"].chunks)


def test_nothing_stays_nothing() -> None:
    assert sorted_by(FINDINGS.empty_table(), [("severity", "descending")]) == FINDINGS.empty_table()
