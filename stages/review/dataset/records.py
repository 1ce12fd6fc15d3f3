"""What is shown of each sample, as plain values: columns of a run's tables become one record a sample, in batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from stages.review.dataset.contents import OUTSIDE_MAP, Contents, Finding, Sample, is_whole, priority, worst_flag
from stages.review.dataset.fields import (
    CLASSES,
    KEY,
    NUMBERS,
    OUTLINES,
    PREDICTED,
    PRIORITY,
    RECORD,
    TARGETS_OF_FINDINGS,
    WORST,
    number_columns,
    severity_path,
)
from stages.review.outlines import outlines
from stages.review.verdicts.boxes import Box
from storage.run import class_name
from storage.samples import edges, is_correct, object_masks

HIDDEN = "hidden"
VIEW = "view"

BATCH = 1000
"""Samples whose records are in memory at once."""

Record = dict[str, Any]


@dataclass(frozen=True)
class Outline:
    """The lines around an object's pixels, without its label, which stands at its box."""

    rings: tuple[tuple[tuple[float, float], ...], ...]
    """Corners x, y of each closed line, fractions of the image."""


def records(contents: Contents, heatmaps: dict[str, list[Path | None]]) -> Iterator[list[tuple[Sample, Record]]]:
    """Batches of samples, each with its values by field (see :func:`stages.review.dataset.documents.encode`)."""
    cue_of = {key: cue.cue_id for cue in contents.cues for key in cue.samples}
    for start in range(0, len(contents.samples), BATCH):
        yield list(_batch(contents, heatmaps, cue_of, start))


def _batch(
    contents: Contents, heatmaps: dict[str, list[Path | None]], cue_of: dict[str, str], start: int
) -> Iterator[tuple[Sample, Record]]:
    samples = contents.samples[start : start + BATCH]
    sample_rows = contents.table.slice(start, BATCH).to_pylist()
    own = next(iter(contents.measured))
    columns = {target: _columns(table.slice(start, BATCH)) for target, table in contents.measured.items()}
    numbers = [column.name for column in number_columns()]
    other = contents.other_class[start : start + BATCH].tolist()
    for index, (sample, values) in enumerate(zip(samples, sample_rows, strict=True)):
        main = {name: column[index] for name, column in columns[own].items()}
        record: Record = {KEY: sample.key, f"{RECORD}.split": values["split"], "cue": cue_of.get(sample.key)}
        record |= _classes(contents, values, main, columns, index)
        record |= _audit(contents.findings.get(sample.key, ()))
        record |= _regions(contents, values, main, start + index, heatmaps)
        record |= _statuses(values, main)
        record |= {f"{NUMBERS}.{name}": main.get(name) for name in numbers}
        if other[index]:
            predicted = columns["predicted"]
            record |= {f"{PREDICTED}.{name}": predicted[name][index] for name in numbers if name in predicted}
        yield sample, record


def _columns(table: pa.Table) -> dict[str, list[Any]]:
    """Columns as plain lists. NaN and infinities are null: MongoDB would keep them, and the App's histograms fail."""
    return {name: _values(table[name]) for name in table.column_names}


def _values(column: pa.ChunkedArray) -> list[Any]:
    if not pa.types.is_floating(column.type):
        return list(column.to_pylist())
    # By way of numpy: a tenth of the time of to_pylist.
    values = column.to_numpy()
    finite = np.isfinite(values)
    if finite.all():
        return list(values.tolist())
    nullable = values.astype(object)
    nullable[~finite] = None
    return list(nullable.tolist())


def _audit(findings: Sequence[Finding]) -> Record:
    return {
        "findings": [found.rule for found in findings],
        TARGETS_OF_FINDINGS: [found.target for found in findings],
        f"{RECORD}.why": "\n".join(f"{found.rule}: {found.reason}." for found in findings) or None,
        WORST: worst_flag(findings),
        PRIORITY: priority(findings),
        **{severity_path(found.rule): found.severity for found in findings},
    }


def _classes(
    contents: Contents,
    values: dict[str, Any],
    main: dict[str, Any],
    columns: dict[str, dict[str, list[Any]]],
    index: int,
) -> Record:
    label = values["label"]
    predicted, confidence = main.get("pred_index"), main.get("pred_prob")
    if predicted is None and "predicted" in columns:
        # Of a label that the model does not know there is no map, but the prediction's has a row of its own.
        predicted, confidence = (columns["predicted"][name][index] for name in ("pred_index", "pred_prob"))
    seen_as = None if predicted is None else class_name(contents.class_names, predicted)
    return {
        "label": None if label is None else (label, None),
        "prediction": None if seen_as is None else (seen_as, confidence),
        CLASSES: label if seen_as in (None, label) else f"{label or '?'} \N{RIGHTWARDS ARROW} {seen_as}",
        f"{NUMBERS}.correct": is_correct(values, predicted),
    }


def _regions(
    contents: Contents,
    values: dict[str, Any],
    main: dict[str, Any],
    place: int,
    heatmaps: dict[str, list[Path | None]],
) -> Record:
    own, outside, predicted = (
        heatmaps[name][place] if name in heatmaps else None for name in ("label", OUTSIDE_MAP, "predicted")
    )
    label = values["label"] or "object"
    view = contents.views[place]
    return {
        "saliency": str(own) if own else None,
        "saliency_outside": str(outside) if outside else None,
        "saliency_predicted": str(predicted) if predicted else None,
        "ground_truth": [Box(box["label"] or label, *edges(box)) for box in values["boxes"] or ()],
        OUTLINES: _outlines(values) or None,
        "hidden_box": [Box(HIDDEN, **main["hidden_box"])] if main.get("hidden_box") else None,
        "view_box": None if is_whole(view) else [Box(VIEW, *view.view_box)],
    }


def _outlines(values: dict[str, Any]) -> list[Outline]:
    """Around the sample's own objects that have masks."""
    if values["mask"] is None:
        return []
    size = np.array([values["width"], values["height"]])
    return [
        Outline(tuple(tuple(map(tuple, (ring / size).tolist())) for ring in outlines(mask)))
        for box, mask in zip(values["boxes"] or (), object_masks(values), strict=True)
        if mask is not None and mask.any() and box["label"] in (None, values["label"])
    ]


def _statuses(values: dict[str, Any], main: dict[str, Any]) -> Record:
    reasons = [values["reason"], main.get("explain_reason"), main.get("scores_reason")]
    return {
        f"{RECORD}.sample_status": values["status"],
        f"{RECORD}.explain_status": main.get("explain_status"),
        f"{RECORD}.scores_status": main.get("scores_status"),
        f"{RECORD}.remarks": [reason for reason in reasons if reason],
        f"{RECORD}.hide_locator": main.get("hide_locator"),
    }
