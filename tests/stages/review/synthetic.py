"""Small runs whose maps are known: each lights up one cell of its grid, on a cue at a known place of the image."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import ExifTags, Image, ImageDraw

from stages.geometry import ViewTransform
from storage.maps import MapAttributes
from storage.run import Part, Run
from storage.tables import CUES, FINDINGS, SAMPLES, SCHEMAS, SCORES

CLASSES = ("cat", "dog", "owl")
GRID = 7
SIZE, RESIZE = 224, 256


RELYING = {
    "p_full": 0.9375,
    "p_saliency": 0.75,
    "p_box": 0.25,
    "p_context": 0.5,
    "p_saliency_in_box": 0.125,
    "p_saliency_in_context": 0.625,
    "p_hide_outside": 0.0625,
    "p_hide_random": 0.875,
    "p_hide_context": 0.125,
    "p_hide_context_neutral": 0.25,
    "p_hide_far": 0.5,
    "p_transplant": 0.75,
    "p_transplant_null": 0.0625,
}
"""Probes of a sample that relies on something outside its boxes; float32 holds these numbers exactly."""


@dataclass(frozen=True)
class Planted:
    """An image and what its map looks at. ``cell`` is (row, column) of the hot cell of the 7 x 7 grid."""

    name: str
    width: int = 400
    height: int = 300
    cell: tuple[int, int] = (1, 5)
    label: int = 0
    predicted: int = 0
    predicted_cell: tuple[int, int] | None = None
    drop_outside: float = 0.1
    rules: tuple[tuple[str, str, float], ...] = ()
    """(rule, kind, severity)"""
    hidden_box: dict[str, float] | None = None
    probes: dict[str, Any] | None = None
    """More columns of the sample's row of ``explain`` for its label."""
    status: str = "ok"
    turned: bool = False
    """The file stores the picture on its side, and its EXIF orientation says so."""


def view_of(planted: Planted, geometry: Any) -> ViewTransform:
    return ViewTransform.make(geometry, planted.width, planted.height, size=SIZE, resize=RESIZE)


def cue_box(planted: Planted, geometry: Any, cell: tuple[int, int] | None = None) -> tuple[float, float, float, float]:
    """The hot cell of the map in image px, (x0, y0, x1, y1)."""
    row, column = cell or planted.cell
    step = SIZE / GRID
    box = [[column * step, row * step, (column + 1) * step, (row + 1) * step]]
    x0, y0, x1, y1 = view_of(planted, geometry).boxes_to_image(box)[0]
    return float(x0), float(y0), float(x1), float(y1)


def object_box(planted: Planted) -> tuple[float, float, float, float]:
    return (planted.width * 0.35, planted.height * 0.5, planted.width * 0.6, planted.height * 0.85)


def make_run(
    directory: Path,
    planted: list[Planted],
    geometry: str = "squash",
    *,
    name: str = "synthetic",
    method: str = "opti_cam",
) -> Run:
    """A run with images, samples, maps, explain, scores and findings, written through storage alone."""
    images = directory / "images"
    images.mkdir(parents=True, exist_ok=True)
    run = Run.create(str(directory / "runs" / name))
    samples, explained, scored, findings = [], [], [], []
    grids = {target: np.full((len(planted), GRID, GRID), np.nan, np.float32) for target in ("label", "predicted")}
    for row, one in enumerate(planted):
        path = images / one.name
        # A second run of the same images is another model's, whose maps light other cells.
        if one.status == "ok" and not path.exists():
            _draw(one, geometry, path)
        samples.append(_sample(row, one, path))
        for target, grid in grids.items():
            index = one.label if target == "label" else one.predicted
            keys = {"sample_id": one.name, "row": row, "target": target, "method": method}
            explained.append(
                keys
                | {
                    "class_index": index,
                    "status": one.status,
                    "pred_index": one.predicted,
                    "pred_prob": 0.75,
                    "p_full": 0.75 if index == one.predicted else 0.125,
                    "p_hide_context": 0.0625,
                    "hidden_box": one.hidden_box,
                }
                | ((one.probes or {}) if target == "label" else {})
            )
            scored.append(keys | {"status": one.status, "drop_outside": one.drop_outside, "pointing_hit": False})
            if one.status == "ok":
                cell = one.predicted_cell if target == "predicted" and one.predicted_cell else one.cell
                grid[row] = 0
                grid[row, cell[0], cell[1]] = 1
        for rule, kind, severity in one.rules:
            keys = {"sample_id": one.name, "row": row, "target": "label", "method": method}
            found = {"rule": rule, "kind": kind, "severity": severity, "reason": f"because of {rule}"}
            findings.append(keys | found | {"evidence": "{}"})
    run.write_table("samples", _table(samples, SAMPLES))
    for target, grid in grids.items():
        attributes = MapAttributes(
            method, target, size=SIZE, geometry=geometry, resize=RESIZE, class_names=tuple(CLASSES)
        )
        store = run.create_maps(attributes, rows=len(planted), grid=(GRID, GRID))
        store.write(0, grid)
    run.write_part(Part("explain", method, 0), _table(explained, SCHEMAS["explain"]), {})
    run.write_part(Part("scores", method, 0), _table(scored, SCORES), {})
    run.write_table("findings", _table(findings, FINDINGS))
    return run


def replace_findings(run: Run, findings: list[dict[str, Any]]) -> None:
    run.write_table("findings", _table(findings, FINDINGS))


def write_cues(run: Run, cues: list[dict[str, Any]]) -> None:
    """Replace the table of cues; what a dict leaves out is as in a cue without enriched classes."""
    base = {"method": "opti_cam", "mean_drop": 0.5, "classes": [], "exemplars": []}
    run.write_table("cues", _table([base | cue for cue in cues], CUES))


GROUPS = 3
CHANNELS = 16


def add_vectors(run: Run, count: int | None = None, seed: int = 0) -> None:
    """Give the first ``count`` samples vectors: the label's outside_features near the (row % GROUPS)-th direction, at
    any length; the predicted class's near none of these; image_features near another direction every 12 rows."""
    generator = np.random.default_rng(seed)
    directions = np.eye(CHANNELS)
    table = run.read_part(Part("explain", "opti_cam", 0))
    vectors: dict[str, list[Any]] = {"outside_features": [], "image_features": []}
    for row, target in zip(table["row"].to_pylist(), table["target"].to_pylist(), strict=True):
        near = generator.normal(0, 0.02, CHANNELS)
        has = count is None or row < count
        outside = directions[row % GROUPS] if target == "label" else np.ones(CHANNELS)
        whole = directions[GROUPS + row // 12] + near
        vectors["outside_features"].append((outside + near) * generator.uniform(0.5, 5) if has else None)
        vectors["image_features"].append(whole if has and target == "label" else None)
    for name, column in vectors.items():
        values = [None if vector is None else vector.astype(np.float16) for vector in column]
        index = table.schema.get_field_index(name)
        table = table.set_column(index, name, pa.array(values, pa.list_(pa.float16())))
    run.write_part(Part("explain", "opti_cam", 0), table, {})


def _table(rows: list[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    return pa.Table.from_pylist([{name: row.get(name) for name in schema.names} for row in rows], schema=schema)


def _sample(row: int, one: Planted, path: Path) -> dict[str, Any]:
    readable = one.status == "ok"
    x0, y0, x1, y1 = object_box(one)
    return {
        "sample_id": one.name,
        "row": row,
        "uri": str(path),
        "digest": hashlib.sha256(path.read_bytes()).hexdigest() if readable else None,
        "size_bytes": path.stat().st_size if readable else None,
        "width": one.width if readable else None,
        "height": one.height if readable else None,
        "label": CLASSES[one.label],
        "class_index": one.label,
        "boxes": [{"x0": x0, "y0": y0, "x1": x1, "y1": y1, "label": None}] if readable else [],
        "status": one.status,
        "reason": None if readable else "truncated file",
    }


def _draw(one: Planted, geometry: str, path: Path) -> None:
    """A dark picture (any brightness of an overlay shows on it) with an object and a cue."""
    ramp = np.linspace(30, 60, one.width, dtype=np.float32)[None, :] + np.linspace(0, 15, one.height)[:, None]
    image = Image.fromarray(np.repeat(ramp[:, :, None], 3, axis=2).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    draw.rectangle(object_box(one), fill=(70, 80, 95))
    x0, y0, x1, y1 = cue_box(one, geometry)
    draw.ellipse((x0, y0, x1 - 1, y1 - 1), fill=(60, 90, 60))
    if one.turned:
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = 6  # turn the stored picture by 90 degrees clockwise to show it
        image.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif, quality=95)
    else:
        image.save(path)
