from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from storage.maps import MapAttributes
from storage.run import Part, Run
from storage.tables import EXPLAIN, METRICS, SAMPLES, SCORES

CLASSES = ("mug", "cat", "dog")

# A sample that no rule finds: right, on its box, unharmed by what lies outside.
QUIET = {
    "label": "mug",
    "class_index": 0,
    "target": "label",
    "method": "opti_cam",
    "pred_index": 0,
    "pred_prob": 0.9,
    "p_full": 0.9,
    "p_box": 0.88,
    "p_blank": 0.2,
    "p_hide_outside": 0.88,
    "p_hide_random": 0.89,
    "p_hide_context": 0.55,
    "p_hide_context_neutral": 0.8,
    "p_hide_far": 0.9,
    "p_transplant": 0.07,
    "p_transplant_null": 0.08,
    "hide_locator": "opti_cam",
    "ad": 0.0,
    "ai": 1.0,
    "ag": 0.5,
    "energy_in": 0.6,
    "box_area_frac": 0.3,
    "energy_lift": 2.0,
    "outside_effect": 0.02,
    "outside_room": 0.9,
    "drop_outside": 0.02,
    "drop_inside": 0.5,
    "drop_random": 0.01,
    "pointing_hit": True,
    "pointing_hit_tol": True,
    "context_reliance": 0.1,
    "box_kept_frac": 1.0,
    "border_energy": 0.1,
    "entropy": 0.9,
    "n_boxes": 1,
    "evaluable": True,
}

Build = Callable[..., Run]


def fill(schema: pa.Schema, records: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(
        [{name: record.get(name) for name in schema.names} for record in records], schema=schema
    )


def measured(metric: str, value: float, **changes: Any) -> dict[str, Any]:
    """A row of the table ``metrics``."""
    row = {"method": "opti_cam", "target": "label", "metric": metric, "value": value, "n": 4}
    return row | changes


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """Make a run of quiet rows, each changed by a dict; rows of one sample_id are targets of one sample."""

    def make(*changes: dict[str, Any], name: str = "run", metrics: Sequence[dict[str, Any]] = ()) -> Run:
        run = Run.create(str(tmp_path / name))
        numbers: dict[str, int] = {}
        rows = []
        for index, change in enumerate(changes):
            row = {**QUIET, "sample_id": f"{index}.jpg", **change}
            row["row"] = numbers.setdefault(row["sample_id"], len(numbers))
            rows.append(row)
        samples = {
            row["sample_id"]: {"uri": row["sample_id"], **row, "status": row.get("samples_status", "ok")}
            for row in rows
        }
        run.write_table("samples", fill(SAMPLES, list(samples.values())))
        for method in {row["method"] for row in rows}:
            of_method = [row for row in rows if row["method"] == method]
            explain = [
                {
                    **row,
                    "status": row.get("explain_status", "ok"),
                    "class_index": row.get("explained", row["class_index"]),
                }
                for row in of_method
            ]
            scores = [{**row, "status": row.get("scores_status", "ok")} for row in of_method]
            run.write_part(Part("explain", method, 0), fill(EXPLAIN, explain), {})
            run.write_part(Part("scores", method, 0), fill(SCORES, scores), {})
            attributes = MapAttributes(method, "label", size=8, class_names=tuple(CLASSES))
            run.create_maps(attributes, rows=len(samples), grid=(2, 2))
        run.write_table("metrics", fill(METRICS, list(metrics)))
        return run

    return make
