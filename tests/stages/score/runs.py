"""Runs on disk with maps and probes written by hand, for the score stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from storage import Run
from storage.maps import MapAttributes
from storage.run import Part
from storage.tables import EXPLAIN, SAMPLES

SIDE = 8
PROBES = {
    "p_full": 0.8,
    "p_saliency": 0.9,
    "p_hide_outside": 0.5,
    "p_hide_inside": 0.2,
    "p_hide_random": 0.7,
    "p_saliency_in_box": 0.6,
    "p_saliency_in_context": 0.2,
    "p_crop": 0.5,
    "p_hide_context_neutral": 0.1,
    "p_hide_far": 0.5,
    "p_transplant": 0.6,
    "p_transplant_null": 0.2,
    "p_blank": 0.3,
}


def box(x0: float, y0: float, x1: float, y1: float, label: str | None = None) -> dict[str, Any]:
    return {"x0": x0, "y0": y0, "x1": x1, "y1": y1, "label": label}


def sample(row: int, boxes: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    return {
        "sample_id": f"{row}.png",
        "row": row,
        "width": 16,
        "height": 16,
        "label": "cat",
        "class_index": 0,
        "boxes": boxes,
        "status": "ok",
        **changes,
    }


def explained(row: int, target: str = "label", **changes: Any) -> dict[str, Any]:
    own = {"class_index": 0, "pred_index": 0, "status": "ok", **PROBES}
    return {"sample_id": f"{row}.png", "row": row, "target": target, "method": "opti_cam", **own, **changes}


def peak(x: int, y: int) -> np.ndarray:
    grid = np.zeros((SIDE, SIDE), dtype=np.float32)
    grid[y, x] = 1
    return grid


def make_run(
    path: Path,
    samples: list[dict[str, Any]],
    rows: list[dict[str, Any]],
    maps: dict[str, list[np.ndarray]],
    geometry: str = "squash",
    normalization: str = "range",
) -> Run:
    run = Run.create(str(path))
    run.write_table("samples", pa.Table.from_pylist(samples, schema=SAMPLES))
    for target, grids in maps.items():
        attributes = MapAttributes("opti_cam", target, size=SIDE, geometry=geometry, normalization=normalization)
        store = run.create_maps(attributes, rows=len(samples), grid=(SIDE, SIDE))
        store.write(0, np.stack(grids))
    commit(run, rows)
    return run


def commit(run: Run, rows: list[dict[str, Any]], index: int = 0) -> None:
    run.write_part(Part("explain", "opti_cam", index), pa.Table.from_pylist(rows, schema=EXPLAIN), {})
