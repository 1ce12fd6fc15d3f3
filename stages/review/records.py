"""What is shown of each sample: a run's tables and maps as plain values, one record a sample."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stages.geometry import ViewTransform
from stages.review.boxes import Box
from stages.review.fields import KEY, PREDICTED, numbers, severity_path
from stages.review.heatmaps import Heatmap, write_heatmaps
from stages.review.maps import shown_method, view_transforms
from stages.review.settings import ReviewSettings
from storage.errors import UserError
from storage.maps import MapStore
from storage.run import Run
from storage.tables import CUES, EXPLAIN, SCHEMAS, SCORES, without_vectors

TARGETS = ("label", "predicted")
NOT_SHOWN = ("unreadable", "removed")
SALIENT = "salient"
HIDDEN = "hidden"
VIEW = "view"

ROUNDING = 0.01
"""Less of an image than this, px, is not lost by a view but by rounding."""

Record = dict[str, Any]


@dataclass(frozen=True)
class Sample:
    """A sample that can be shown, and where its image lies."""

    key: str
    row: int
    path: Path
    width: int
    height: int
    values: dict[str, Any]
    """Its row of the table ``samples``."""


@dataclass(frozen=True)
class Measured:
    """Rows of ``explain`` and ``scores`` of one method and target, by sample."""

    values: dict[str, dict[str, Any]]

    def get(self, key: str) -> dict[str, Any]:
        """Columns of a sample; empty if it was not explained."""
        return self.values.get(key, {})


@dataclass(frozen=True)
class Cue:
    """A cue that the audit found, and the samples that rely on it."""

    cue_id: str
    classes: tuple[str, ...]
    """Classes that it is more frequent in; there may be none."""
    mean_drop: float
    samples: tuple[str, ...]


@dataclass
class Contents:
    """All that is read of a run before its samples are shown, worst findings first."""

    method: str
    samples: list[Sample]
    skipped: Counter[str]
    """Samples that are not shown, by reason."""
    known: set[str]
    """Keys of all samples of the run that were not removed from it."""
    measured: dict[str, Measured]
    findings: dict[str, list[dict[str, Any]]]
    """Findings by sample, worst first."""
    maps: dict[str, MapStore]
    class_names: Sequence[str]
    only: frozenset[str] | None = None
    """Keys of the samples that were asked for; None: all."""
    views: dict[str, ViewTransform] = field(default_factory=dict)
    cues: list[Cue] = field(default_factory=list)
    """The costliest first."""

    @property
    def rules(self) -> list[str]:
        """Rules with a finding among the samples that are shown."""
        shown = {sample.key for sample in self.samples}
        return sorted({found["rule"] for key in shown for found in self.findings.get(key, ())})

    @property
    def crops(self) -> bool:
        """Whether a view shows less than its image."""
        return any(not _is_whole(view) for view in self.views.values())


def read_contents(run: Run, settings: ReviewSettings, only: frozenset[str] | None = None) -> Contents:
    """Read what a run has to show, of the samples ``only`` if given.

    Raises UserError for a run without maps, images that the App cannot serve, or ``only`` samples that cannot be shown.
    """
    method = shown_method(run, settings)
    samples, skipped, known = _showable(run, only)
    if only is not None and not samples:
        raise UserError(
            f"review.select: none of the {len(only)} samples that it selects can be shown; `sightline query RUN "
            '"SELECT sample_id, status FROM samples"` lists the samples of the run'
        )
    targets = [target for target in TARGETS if target in run.targets(method)]
    maps = {target: run.maps(target, method) for target in targets}
    store = next(iter(maps.values()))
    findings = _findings(run, method, only)
    samples.sort(key=lambda sample: (-_priority(findings.get(sample.key, [])), sample.row))
    views = view_transforms(store, [(sample.width, sample.height) for sample in samples])
    return Contents(
        method=method,
        samples=samples,
        skipped=skipped,
        known=known,
        measured={target: _measured(run, method, target, only) for target in targets},
        findings=findings,
        maps=maps,
        class_names=store.attributes.get("class_names") or (),
        only=only,
        views=dict(zip([sample.key for sample in samples], views, strict=True)),
        cues=_cues(run, method),
    )


def make_heatmaps(run: Run, contents: Contents, settings: ReviewSettings) -> dict[str, dict[str, Heatmap]]:
    """Write the heatmaps of the samples that are shown; by target, then sample.

    The predicted class has one only where it is not the label: elsewhere it is the same map.
    """
    directory = run.local_path("heatmaps")
    found: dict[str, dict[str, Heatmap]] = {}
    for target, maps in contents.maps.items():
        samples = [sample for sample in contents.samples if sample.row < maps.shape[0]]
        if target == "predicted" and "label" in found:
            samples = [s for s in samples if s.key not in found["label"] or _is_other_class(contents, s.key)]
        heatmaps = write_heatmaps(
            directory,
            maps,
            [sample.row for sample in samples],
            [contents.views[sample.key] for sample in samples],
            long_side=settings.heatmap_side,
            threads=settings.thread_count,
        )
        found[target] = {s.key: heatmap for s, heatmap in zip(samples, heatmaps, strict=True) if heatmap is not None}
    return found


def records(contents: Contents, heatmaps: dict[str, dict[str, Heatmap]]) -> Iterator[tuple[Sample, Record]]:
    """Each sample with its values by field, as plain values (see :func:`stages.review.fields.encode`)."""
    own = next(iter(contents.measured))
    cue_of = {key: cue.cue_id for cue in contents.cues for key in cue.samples}
    for sample in contents.samples:
        main = contents.measured[own].get(sample.key)
        other = contents.measured["predicted"].get(sample.key) if "predicted" in contents.measured else {}
        record: Record = {KEY: sample.key, "split": sample.values["split"], "cue": cue_of.get(sample.key)}
        record |= _classes(contents, sample, main, other)
        record |= _audit(contents.findings.get(sample.key, []))
        record |= _regions(contents, sample, main, heatmaps)
        record |= _statuses(sample, main)
        for name in _NUMBERS:
            record[name] = main.get(name)
        if own == "label" and other and _is_other_class(contents, sample.key):
            for name in _NUMBERS:
                record[PREDICTED + name] = other.get(name)
        yield sample, record


_NUMBERS = tuple({**numbers(EXPLAIN), **numbers(SCORES)})


def _showable(run: Run, only: frozenset[str] | None) -> tuple[list[Sample], Counter[str], set[str]]:
    table = run.table("samples").filter(pc.field("status") != "removed")
    shown, skipped, known = [], Counter[str](), set(table["sample_id"].to_pylist())
    for values in _of(table, only).to_pylist():
        path = _served_path(values["uri"])
        if values["status"] in NOT_SHOWN or not values["width"] or not values["height"]:
            skipped[values["status"]] += 1
        elif not path.is_file():
            skipped["missing file"] += 1
        else:
            shown.append(Sample(values["sample_id"], values["row"], path, values["width"], values["height"], values))
    return shown, skipped, known


def _served_path(uri: str) -> Path:
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return Path(uri).absolute()
    if scheme in ("file", "local"):
        return Path(rest).absolute()
    raise UserError(
        f"the App cannot show {uri}: it serves images from a local disk only; copy or mount them to a local folder "
        "(rclone, `aws s3 sync`), set dataset.path to it and run again"
    )


def _of(table: pa.Table, only: frozenset[str] | None) -> pa.Table:
    """The rows of the samples ``only``; all if that is None."""
    return table if only is None else table.filter(pc.is_in(table["sample_id"], pa.array(sorted(only), pa.string())))


def _measured(run: Run, method: str, target: str, only: frozenset[str] | None) -> Measured:
    merged: dict[str, dict[str, Any]] = defaultdict(dict)
    for name in ("explain", "scores"):
        if not run.has_table(name):
            continue
        table = _of(run.table(name, without_vectors(SCHEMAS[name])), only)
        table = table.filter((pc.field("method") == method) & (pc.field("target") == target))
        for values in _without_nan(table).to_pylist():
            row = merged[values["sample_id"]]
            row |= {f"{name}_{key}" if key in ("status", "reason") else key: value for key, value in values.items()}
    return Measured(dict(merged))


def _without_nan(table: pa.Table) -> pa.Table:
    """NaN and infinities as null: MongoDB would keep them, and the App's histograms fail on them."""
    for index, column in enumerate(table.schema):
        if pa.types.is_floating(column.type):
            values = table.column(index)
            finite = pc.if_else(pc.is_finite(values), values, pa.scalar(None, column.type))
            table = table.set_column(index, column, finite)
    return table


def _findings(run: Run, method: str, only: frozenset[str] | None) -> dict[str, list[dict[str, Any]]]:
    """Findings by sample, evidence first, then by severity; the worst target speaks for a rule."""
    if not run.has_table("findings"):
        return {}
    table = _of(run.table("findings").filter(pc.field("method") == method), only)
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for finding in sorted(table.to_pylist(), key=_rank):
        before = found[finding["sample_id"]]
        if all(finding["rule"] != earlier["rule"] for earlier in before):
            before.append(finding)
    return dict(found)


def _cues(run: Run, method: str) -> list[Cue]:
    """Cues of a method, the costliest first; without findings the table is of an earlier audit."""
    if not run.has_table("cues") or not run.has_table("findings"):
        return []
    return [
        Cue(
            row["cue_id"], tuple(found["label"] for found in row["classes"]), row["mean_drop"], tuple(row["sample_ids"])
        )
        for row in run.table("cues", without_vectors(CUES)).to_pylist()
        if row["method"] == method
    ]


def _rank(finding: dict[str, Any]) -> tuple[bool, float]:
    return finding["kind"] != "evidence", -_severity(finding)


def _severity(finding: dict[str, Any]) -> float:
    severity = finding["severity"]
    return float(severity) if severity is not None and math.isfinite(severity) else 0.0


def _priority(findings: list[dict[str, Any]]) -> float:
    """What to look at first: any evidence comes before all that is only described."""
    if any(found["kind"] == "evidence" for found in findings):
        return 1 + _worst(findings, "evidence")
    return _worst(findings, "description")


def _worst(findings: list[dict[str, Any]], kind: str) -> float:
    return max((_severity(found) for found in findings if found["kind"] == kind), default=0.0)


def _audit(findings: list[dict[str, Any]]) -> Record:
    return {
        "findings": [found["rule"] for found in findings],
        "finding_targets": [found["target"] for found in findings],
        "why": "\n".join(f"{found['rule']}: {found['reason']}." for found in findings) or None,
        "worst": _worst(findings, "evidence"),
        "priority": _priority(findings),
        **{severity_path(found["rule"]): _severity(found) for found in findings},
    }


def _classes(contents: Contents, sample: Sample, main: dict[str, Any], other: dict[str, Any]) -> Record:
    label, index = sample.values["label"], sample.values["class_index"]
    predicted = main.get("pred_index") if main.get("pred_index") is not None else other.get("pred_index")
    confidence = main.get("pred_prob") if main.get("pred_prob") is not None else other.get("pred_prob")
    return {
        "label": None if label is None else (label, None),
        "prediction": None if predicted is None else (_class_name(contents, predicted), confidence),
        "correct": None if predicted is None or index is None else predicted == index,
    }


def _regions(
    contents: Contents, sample: Sample, main: dict[str, Any], heatmaps: dict[str, dict[str, Heatmap]]
) -> Record:
    own = heatmaps.get("label", {}).get(sample.key)
    predicted = heatmaps.get("predicted", {}).get(sample.key)
    strongest = own or predicted
    label = sample.values["label"] or "object"
    view = contents.views[sample.key]
    return {
        "saliency": str(own.path) if own else None,
        "saliency_predicted": str(predicted.path) if predicted else None,
        "ground_truth": [
            Box(box["label"] or label, box["x0"], box["y0"], box["x1"], box["y1"])
            for box in sample.values["boxes"] or ()
        ],
        "salient_box": [Box(SALIENT, *strongest.box)] if strongest and strongest.box else None,
        "hidden_box": [Box(HIDDEN, **main["hidden_box"])] if main.get("hidden_box") else None,
        "view_box": None if _is_whole(view) else [Box(VIEW, *view.view_box)],
    }


def _statuses(sample: Sample, main: dict[str, Any]) -> Record:
    reasons = [sample.values["reason"], main.get("explain_reason"), main.get("scores_reason")]
    return {
        "sample_status": sample.values["status"],
        "explain_status": main.get("explain_status"),
        "scores_status": main.get("scores_status"),
        "remarks": [reason for reason in reasons if reason],
        "hide_locator": main.get("hide_locator"),
    }


def _is_other_class(contents: Contents, key: str) -> bool:
    label = contents.measured["label"].get(key).get("class_index")
    predicted = contents.measured["predicted"].get(key).get("class_index")
    return predicted is not None and predicted != label


def _is_whole(view: ViewTransform) -> bool:
    lost = np.abs(np.subtract(view.view_box, (0, 0, view.width, view.height)))
    return bool(lost.max() < ROUNDING)


def _class_name(contents: Contents, index: int) -> str:
    return contents.class_names[index] if index < len(contents.class_names) else f"class {index}"
