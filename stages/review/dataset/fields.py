"""Fields of the FiftyOne dataset: their names, kinds and descriptions, and which of them stand in the sidebar.

What people filter by or see on an image is a field of the sample. Everything else lies in four embedded documents,
which the sidebar does not open: ``numbers`` (the run's columns under their names), ``predicted`` (the same of the
predicted class, where that is not the label), ``severity`` (of each rule's finding) and ``record``. Views, histograms
and ``sort_by`` take their paths, ``numbers.drop_outside`` say.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import fiftyone as fo

from storage.columns import Column, columns_of

Kind = Literal["real", "integer", "flag", "text", "texts", "classification", "detections", "polylines", "heatmap"]

_KINDS: dict[str, Kind] = {"real": "real", "integer": "integer", "flag": "flag"}

KEY = "sample_key"
CLASSES = "classes"

NUMBERS = "numbers"
PREDICTED = "predicted"
SEVERITY = "severity"
RECORD = "record"
DOCUMENTS = {
    NUMBERS: "Numbers of the run.",
    PREDICTED: "The same of the predicted class, where that is not the label.",
    SEVERITY: "Severity of each finding.",
    RECORD: "What was loaded, and why a number may be missing.",
}
"""The embedded documents, and what they hold."""

DIGEST = f"{RECORD}.load_digest"
TARGETS_OF_FINDINGS = f"{RECORD}.finding_targets"
WORST = f"{NUMBERS}.worst"
PRIORITY = f"{NUMBERS}.priority"

OUTLINES = "ground_truth_outlines"
"""Lines, since a mask that the App fills hides the object and the map."""

FILTERS = ("findings", "cue", CLASSES, "label", "prediction")
"""Fields of the sidebar to filter by; the verdicts follow them."""

ON_IMAGE = ("hidden_box", "ground_truth", "saliency", "saliency_outside", "saliency_predicted")
"""Fields of the sidebar that are drawn. The App draws what stands higher over what stands lower: boxes over maps."""


@dataclass(frozen=True)
class Field:
    """One field of a sample."""

    path: str
    kind: Kind
    description: str


def number_columns() -> tuple[Column, ...]:
    """Columns of the run that are numbers of a sample, the scores before what they are made from."""
    return tuple(column for column in columns_of("scores", "explain") if column.is_number)


def number_fields(document: str = NUMBERS) -> list[Field]:
    """A field of an embedded document for each of these columns."""
    return [Field(f"{document}.{column.name}", _KINDS[column.kind], _describe(column)) for column in number_columns()]


def severity_path(rule: str) -> str:
    """Field that holds the severity of a rule's finding; null where the rule found nothing."""
    return f"{SEVERITY}." + re.sub(r"\W", "_", rule)


def targets_of_findings(sample: Any) -> dict[str, str]:
    """The rules that found a sample, worst first, and the target that each finding is about."""
    return dict(zip(sample["findings"] or (), sample.get_field(TARGETS_OF_FINDINGS) or (), strict=True))


def fields_of(
    rules: Iterable[str], *, crops: bool, both_targets: bool, outside: bool, masks: bool = False
) -> list[Field]:
    """All fields of a dataset. ``crops``: views show a part of the image; ``both_targets``: label and predicted;
    ``outside``: there are maps of the outside; ``masks``: samples have masks."""
    return [
        Field("label", "classification", "Ground-truth class."),
        Field("prediction", "classification", "Most probable class on the whole view."),
        Field(CLASSES, "text", "The label; where the prediction differs, an arrow and the prediction behind it."),
        Field("ground_truth", "detections", "Ground-truth boxes."),
        *(
            [Field(OUTLINES, "polylines", "Outlines of the ground truth, where the dataset has masks.")]
            if masks
            else []
        ),
        Field("hidden_box", "detections", "Largest part that was hidden outside the boxes, for drop_outside."),
        *([Field("view_box", "detections", "What the network saw; no map can lie outside it.")] if crops else []),
        Field("saliency", "heatmap", "Map of the label's class."),
        *(
            [Field("saliency_outside", "heatmap", "Map of what outside the boxes costs the label's class most.")]
            if outside
            else []
        ),
        Field("saliency_predicted", "heatmap", "Map of the predicted class, where it is not the label."),
        Field("findings", "texts", "Rules that found this sample, worst first."),
        Field("cue", "text", "Cue that the sample relies on: others have the same kind of thing hidden."),
        Field(KEY, "text", "sample_id of the run: path relative to the dataset's root."),
        Field(f"{NUMBERS}.correct", "flag", "The prediction is the label."),
        Field(WORST, "real", "Highest severity among findings that are flags; 0 if there is none."),
        Field(
            PRIORITY,
            "real",
            "What to look at first: 1 + worst where there is a flag, else the highest severity of what is described.",
        ),
        *number_fields(),
        *(number_fields(PREDICTED) if both_targets else []),
        *(Field(severity_path(rule), "real", f"Severity of the finding {rule}.") for rule in rules),
        Field(TARGETS_OF_FINDINGS, "texts", "Which class's map each of the findings is about: label, predicted."),
        Field(f"{RECORD}.why", "text", "What each of the findings says, in words."),
        Field(f"{RECORD}.split", "text", "Part of the dataset."),
        Field(f"{RECORD}.sample_status", "text", "Whether the sample can be used."),
        Field(f"{RECORD}.explain_status", "text", "Whether there is a map."),
        Field(f"{RECORD}.scores_status", "text", "Whether the scores are defined."),
        Field(f"{RECORD}.remarks", "texts", "Why a status is not ok."),
        Field(f"{RECORD}.hide_locator", "text", "Who said what to hide: the method, outside_map, grad_cam or scan."),
        Field(DIGEST, "text", "Digest of what was loaded: a sample that did not change is not written again."),
    ]


def declare(dataset: Any, fields: Sequence[Field]) -> None:
    """Add to the dataset's schema what it lacks. Inserting is several times faster into a declared schema."""
    schema = dataset.get_field_schema(flat=True)
    missing = {field.path: _fiftyone_field(field) for field in fields if field.path not in schema}
    documents = {
        name: fo.EmbeddedDocumentField(fo.DynamicEmbeddedDocument, description=description)
        for name, description in DOCUMENTS.items()
        if name not in schema and any(path.startswith(f"{name}.") for path in missing)
    }
    for part in (documents, missing):
        if part:
            # The public add_sample_field reloads the dataset at every call: 6 s for a hundred fields, against .3 s.
            dataset._merge_sample_field_schema(part)
    if "metadata.width" not in dataset.get_field_schema(flat=True):
        dataset.add_sample_field("metadata", fo.EmbeddedDocumentField, embedded_doc_type=fo.ImageMetadata)


def _fiftyone_field(field: Field) -> Any:
    plain = {"real": fo.FloatField, "integer": fo.IntField, "flag": fo.BooleanField, "text": fo.StringField}
    if field.kind in plain:
        return plain[field.kind](description=field.description)
    if field.kind == "texts":
        return fo.ListField(fo.StringField(), description=field.description)
    labels = {
        "classification": fo.Classification,
        "detections": fo.Detections,
        "polylines": fo.Polylines,
        "heatmap": fo.Heatmap,
    }
    return fo.EmbeddedDocumentField(labels[field.kind], description=field.description)


def _describe(column: Column) -> str:
    parts = [column.description]
    parts += [f"Unit: {column.unit}."] if column.unit else []
    parts += [f"Range: {column.range}."] if column.range else []
    return " ".join(parts)
