"""Verdicts from a CSV, checked against what the run has to judge."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import pyarrow as pa

from stages.audit.rules import every_rule
from stages.audit.settings import audit_settings
from stages.review.verdicts.boxes import Box
from stages.review.verdicts.table import Review, now, read_reviews, to_milliseconds
from storage.errors import UserError, quoted
from storage.run import Run
from storage.tables import FINDINGS

REQUIRED = ("sample_id", "rule", "verdict", "reviewer")
OPTIONAL = ("target", "label", "note", "boxes", "time")
_OPTIONS = ", ".join(OPTIONAL)


@dataclass(frozen=True)
class Judged:
    """What verdicts on a run can be about."""

    sizes: Mapping[str, tuple[int | None, int | None]]
    """(width, height), px, of each sample."""
    targets: Mapping[str, Sequence[str]]
    """Of each rule the targets that its findings are about; the first is that of a verdict which names none."""
    elsewhere: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """By sample and rule the target of a finding, where the rule found nothing on its first one."""

    @classmethod
    def of(cls, run: Run) -> Judged:
        """The samples of a run, its rules, and those that its findings or verdicts are of."""
        samples = run.table("samples", ["sample_id", "width", "height"]).to_pylist()
        targets = {rule.id: list(rule.targets) for rule in every_rule(audit_settings(run.info))}
        keys = ["sample_id", "rule", "target"]
        findings = run.table("findings", keys) if run.has_table("findings") else FINDINGS.empty_table().select(keys)
        found = findings.group_by(keys[1:], use_threads=False).aggregate([]).to_pylist()
        said = [{"rule": review.rule, "target": review.target} for review in read_reviews(run)]
        for one in (*found, *said):
            of_rule = targets.setdefault(one["rule"], [])
            if one["target"] not in of_rule:
                of_rule.append(one["target"])
        sizes = {row["sample_id"]: (row["width"], row["height"]) for row in samples}
        return cls(sizes, targets, _elsewhere(findings, targets))


def _elsewhere(findings: pa.Table, targets: Mapping[str, Sequence[str]]) -> dict[tuple[str, str], str]:
    columns = [findings[name].to_pylist() for name in ("sample_id", "rule", "target")]
    found: dict[tuple[str, str], str] = {}
    for sample, rule, target in zip(*columns, strict=True):
        if target != targets[rule][0]:
            found.setdefault((sample, rule), target)
    for sample, rule, target in zip(*columns, strict=True):
        if target == targets[rule][0]:
            found.pop((sample, rule), None)
    return found


def read_csv(path: Path, known: Judged) -> list[Review]:
    """Verdicts in a CSV with the columns ``sample_id, rule, verdict, reviewer`` and, if wanted, ``target`` (else
    that of the rule's finding on the sample), ``label``, ``note``, ``boxes`` (JSON as in a manifest) and ``time`` (ISO
    8601, UTC if it names no zone; else now).

    Raises UserError with file and line for anything that does not fit what is ``known`` of the run.
    """
    try:
        content = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; give a CSV with {', '.join(REQUIRED)}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no CSV in UTF-8 (byte {error.start}); save it as one") from None
    imported = now()
    reader = csv.DictReader(io.StringIO(content, newline=""), strict=True)
    try:
        columns = reader.fieldnames or ()
        faults = [f"no column {name!r}" for name in REQUIRED if name not in columns]
        faults += [f"an unknown column {name!r}" for name in columns if name not in REQUIRED + OPTIONAL]
        if faults:
            raise UserError(f"{path} has {faults[0]}; its header is {','.join(REQUIRED)}, then any of {_OPTIONS}")
        return [_of_line(f"{path}, line {reader.line_num}", row, known, imported) for row in reader]
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.reader.line_num}: not CSV: {error}; quote the cell") from None


def _of_line(place: str, row: dict[str, Any], known: Judged, imported: datetime) -> Review:
    if None in row or None in row.values():
        raise UserError(f"{place}: not as many fields as in the header; put cells with commas in double quotes")
    cells = {name: value.strip() for name, value in row.items()}
    if cells["sample_id"] not in known.sizes:
        near = get_close_matches(cells["sample_id"], known.sizes, n=1)
        hint = f"did you mean {near[0]}?" if near else "sample_id is the path below the dataset's root"
        raise UserError(f"{place}: the run has no sample {cells['sample_id']!r}; {hint}")
    try:
        return Review(
            sample_id=cells["sample_id"],
            target=_target(cells["sample_id"], cells["rule"], cells.get("target"), known),
            rule=cells["rule"],
            verdict=cells["verdict"],
            reviewer=cells["reviewer"],
            label=cells.get("label") or None,
            boxes=_boxes(cells.get("boxes", ""), known.sizes[cells["sample_id"]]),
            note=cells.get("note") or None,
            time=_time(cells["time"]) if cells.get("time") else imported,
        )
    except UserError as error:
        raise UserError(f"{place}: {error}") from None


def _target(sample: str, rule: str, given: str | None, known: Judged) -> str:
    targets = known.targets
    if rule not in targets:
        near = get_close_matches(rule, targets, n=1)
        hint = f"did you mean {near[0]}?" if near else f"rules are {', '.join(targets)}"
        raise UserError(f"the run has no rule {quoted(rule)}; {hint}")
    if given and given not in targets[rule]:
        raise UserError(f"findings of {rule} are about {' and '.join(targets[rule])}, not {quoted(given)}")
    return given or known.elsewhere.get((sample, rule), targets[rule][0])


def _boxes(cell: str, size: tuple[int | None, int | None]) -> tuple[Box, ...] | None:
    if not cell:
        return None
    form = '[[x0, y0, x1, y1], ...] or [{"x0": .., "y0": .., "x1": .., "y1": .., "label": ..}, ...]'
    try:
        entries = json.loads(cell)
        boxes = tuple(
            Box(entry.get("label"), *(float(entry[name]) for name in ("x0", "y0", "x1", "y1")))
            if isinstance(entry, dict)
            else Box(None, *map(float, entry))
            for entry in entries
        )
    except (ValueError, TypeError, KeyError):
        raise UserError(f"boxes are not understood: {cell}; write {form}") from None
    width, height = size
    for box in boxes:
        if not (all(map(math.isfinite, box.edges)) and box.x0 < box.x1 and box.y0 < box.y1 and _is_text(box.label)):
            raise UserError(f"a box without area, or a label that is no text: {cell}; write {form}")
        if min(box.x0, box.y0) < 0 or box.x1 > (width or 0) or box.y1 > (height or 0):
            raise UserError(f"a box reaches out of the image of {width} x {height} px: {cell}; cut it to the image")
    if not boxes:
        raise UserError("boxes are [], and that an image has no box cannot be said; leave the cell empty")
    return boxes


def _is_text(label: object) -> bool:
    return label is None or isinstance(label, str)


def _time(cell: str) -> datetime:
    try:
        time = datetime.fromisoformat(cell)
    except ValueError:
        raise UserError(f"time {cell!r} is not understood; write 2026-05-31T14:30:00+00:00") from None
    return to_milliseconds(time if time.tzinfo else time.replace(tzinfo=UTC))
