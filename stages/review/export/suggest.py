"""Boxes that the maps suggest: where a reviewer said that the boxes are wrong and drew none, and where none are."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from stages.geometry import ViewTransform, largest_component_box
from stages.review.settings import ReviewSettings, shown_method
from stages.review.verdicts.boxes import Box
from stages.score.suggestion import BoxSource
from storage.run import Run
from storage.samples import Edges, edges

READ_ROWS = 256
"""Maps that are held in memory at once."""

Finding = tuple[str, str, str]
"""(sample_id, target, rule)"""

NAMED = "crop_outside_box"
"""The part outside the boxes that a finding of ``missing_box`` is about, in its evidence."""


@dataclass(frozen=True)
class Suggestion:
    """A box for a sample that has none."""

    box: Box
    """In image px, of the sample's own label."""
    score: float
    """p of the label on the whole image, [0, 1]."""


def boxes_of_unboxed(run: Run, source: BoxSource, samples: Mapping[str, Mapping[str, Any]]) -> dict[str, Suggestion]:
    """A box for each of the ``samples``, rows of the table, that has a label and no box, from the map of its label.

    Samples whose map is constant or missing are left out.
    """
    where = (pc.field("method") == source.method) & (pc.field("target") == "label") & (pc.field("status") == "ok")
    table = run.table("explain", ["sample_id", "p_full"], where)
    p_full = dict(zip(table["sample_id"].to_pylist(), table["p_full"].to_pylist(), strict=True))
    unboxed = [key for key, row in samples.items() if row["status"] == "no_box" and row["label"] is not None]
    keys = sorted(key for key in unboxed if p_full.get(key) is not None)
    boxes = _salient_boxes(run, source.method, "label", keys, samples, source.threshold)
    return {key: Suggestion(Box(None, *corners), p_full[key]) for key, corners in boxes.items()}


def suggest_boxes(
    run: Run, settings: ReviewSettings, findings: Iterable[Finding], samples: Mapping[str, Mapping[str, Any]]
) -> dict[Finding, Box]:
    """A box for each finding, image px: the one that the finding names, else the largest component of S > mean(S).

    ``samples`` are rows of the table ``samples``. The box bears the class whose map it is from, None for the sample's
    own. A finding without a map, or with a constant one, is left out. Raises UserError for a run without maps.
    """
    findings = sorted(set(findings))
    if not findings:
        return {}
    method = shown_method(run, settings)
    named = _named_boxes(run, method)
    labels = _labels(run, method, {target for _, target, _ in findings} - {"label"})
    boxes = {finding: named[finding] for finding in findings if finding in named}
    by_target: dict[str, set[str]] = defaultdict(set)
    for finding in findings:
        if finding not in boxes:
            by_target[finding[1]].add(finding[0])
    for target, keys in by_target.items():
        found = _salient_boxes(run, method, target, sorted(keys), samples)
        boxes |= {finding: found[finding[0]] for finding in findings if finding[1] == target and finding[0] in found}
    return {finding: Box(labels.get((finding[1], finding[0])), *edges) for finding, edges in sorted(boxes.items())}


def missing_boxes(run: Run, settings: ReviewSettings, findings: pa.Table) -> dict[Finding, Box]:
    """The box that may be missing, image px, of each of the ``findings`` that names one."""
    columns = (findings[name].to_pylist() for name in ("sample_id", "target", "rule"))
    wanted = set(zip(*columns, strict=True))
    method = shown_method(run, settings)
    named = {finding: box for finding, box in _named_boxes(run, method).items() if finding in wanted}
    labels = _labels(run, method, {target for _, target, _ in named} - {"label"})
    return {finding: Box(labels.get((finding[1], finding[0])), *corners) for finding, corners in named.items()}


def _named_boxes(run: Run, method: str) -> dict[Finding, Edges]:
    if not run.has_table("findings"):
        return {}
    named = {}
    for finding in run.table("findings").filter(pc.field("method") == method).to_pylist():
        box = json.loads(finding["evidence"]).get(NAMED)
        if box is not None:
            key = finding["sample_id"], finding["target"], finding["rule"]
            named[key] = edges(box)
    return named


def _labels(run: Run, method: str, targets: set[str]) -> dict[tuple[str, str], str]:
    """Name of the class that was explained, by target and sample."""
    labels = {}
    for target in targets & set(run.targets(method)):
        names = run.maps(target, method).attributes.class_names
        where = (pc.field("method") == method) & (pc.field("target") == target)
        table = run.table("explain", ["sample_id", "class_index"], where)
        for row in table.to_pylist():
            index = row["class_index"]
            if index is not None and index < len(names):
                labels[target, row["sample_id"]] = names[index]
    return labels


def _salient_boxes(
    run: Run,
    method: str,
    target: str,
    keys: Sequence[str],
    samples: Mapping[str, Mapping[str, Any]],
    threshold: float | None = None,
) -> dict[str, Edges]:
    if target not in run.targets(method):
        return {}
    maps = run.maps(target, method)
    keys = [key for key in keys if samples[key]["row"] < maps.shape[0]]
    found: dict[str, Edges] = {}
    for start in range(0, len(keys), READ_ROWS):
        batch = keys[start : start + READ_ROWS]
        views = [ViewTransform.of_maps(maps.attributes, samples[key]["width"], samples[key]["height"]) for key in batch]
        own = maps.read([samples[key]["row"] for key in batch], size=maps.view_size)
        boxes = largest_component_box(own, threshold)
        for key, view, box in zip(batch, views, boxes, strict=True):
            if (placed := view.box_in_image(box)) is not None:
                found[key] = placed
    return found
