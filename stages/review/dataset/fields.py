"""Fields of the FiftyOne dataset: their names, kinds, descriptions and places in the sidebar.

Numbers keep the names of the run's columns. Where the prediction differs from the label, the numbers of the predicted
class stand beside the label's as ``predicted_<column>``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import fiftyone as fo

from storage.columns import EVIDENCE, FAITHFULNESS, GEOMETRY, LOCALISATION, PREDICTION, RECORD, Column, columns_of

Kind = Literal["real", "integer", "flag", "text", "texts", "classification", "detections", "heatmap"]

_KINDS: dict[str, Kind] = {"real": "real", "integer": "integer", "flag": "flag"}

KEY = "sample_key"
DIGEST = "load_digest"
PREDICTED = "predicted_"

IMAGE = "on the image"
AUDIT = "audit"
OTHER_CLASS = "the predicted class, where it is not the label"

GROUPS = (IMAGE, AUDIT, PREDICTION, EVIDENCE, LOCALISATION, FAITHFULNESS, GEOMETRY, OTHER_CLASS, RECORD)
"""Groups of the sidebar, in order. The App draws what stands higher over what stands lower: boxes over maps."""

EXPANDED = (IMAGE, AUDIT, PREDICTION, EVIDENCE)
"""Groups that are open at first."""


@dataclass(frozen=True)
class Field:
    """One field of a sample."""

    path: str
    kind: Kind
    group: str
    description: str


def number_columns() -> tuple[Column, ...]:
    """Columns of the run that are numbers of a sample, the scores before what they are made from."""
    return tuple(column for column in columns_of("scores", "explain") if column.is_number)


def number_fields(prefix: str = "") -> list[Field]:
    """A field for each of these columns, those of a group together."""
    fields = [
        Field(prefix + column.name, _KINDS[column.kind], OTHER_CLASS if prefix else column.group, _describe(column))
        for column in number_columns()
    ]
    return sorted(fields, key=lambda field: GROUPS.index(field.group))


def severity_path(rule: str) -> str:
    """Field that holds the severity of a rule's finding; null where the rule found nothing."""
    return "severity_" + re.sub(r"\W", "_", rule)


def fields_of(rules: Iterable[str], *, crops: bool, both_targets: bool) -> list[Field]:
    """All fields of a dataset. ``crops``: views show a part of the image; ``both_targets``: label and predicted."""
    return [
        Field("prediction", "classification", IMAGE, "Most probable class on the whole view."),
        Field("label", "classification", IMAGE, "Ground-truth class."),
        Field("ground_truth", "detections", IMAGE, "Ground-truth boxes."),
        Field("salient_box", "detections", IMAGE, "Box of the largest part of the map above its mean."),
        *(
            [Field("view_box", "detections", IMAGE, "What the network saw; no map can lie outside it.")]
            if crops
            else []
        ),
        Field("hidden_box", "detections", IMAGE, "Largest part that was hidden outside the boxes, for drop_outside."),
        Field("saliency", "heatmap", IMAGE, "Map of the label's class."),
        Field("saliency_predicted", "heatmap", IMAGE, "Map of the predicted class, where it is not the label."),
        Field("correct", "flag", PREDICTION, "The prediction is the label."),
        Field("findings", "texts", AUDIT, "Rules that found this sample, worst first."),
        Field("finding_targets", "texts", AUDIT, "Which class's map each of them is about: label, predicted."),
        Field("why", "text", AUDIT, "What each of them found, in words."),
        Field("worst", "real", AUDIT, "Highest severity among findings that are evidence; 0 if there is none."),
        Field(
            "priority",
            "real",
            AUDIT,
            "What to look at first: 1 + worst where there is evidence, else the highest severity of what is described.",
        ),
        Field("cue", "text", AUDIT, "Cue that the sample relies on: others have the same kind of thing hidden."),
        *(Field(severity_path(rule), "real", AUDIT, f"Severity of the finding {rule}.") for rule in rules),
        *number_fields(),
        *(number_fields(PREDICTED) if both_targets else []),
        Field(KEY, "text", RECORD, "sample_id of the run: path relative to the dataset's root."),
        Field("split", "text", RECORD, "Part of the dataset."),
        Field("sample_status", "text", RECORD, "Whether the sample can be used."),
        Field("explain_status", "text", RECORD, "Whether there is a map."),
        Field("scores_status", "text", RECORD, "Whether the scores are defined."),
        Field("remarks", "texts", RECORD, "Why a status is not ok."),
        Field("hide_locator", "text", RECORD, "Who said what to hide: the method, grad_cam or scan."),
        Field(DIGEST, "text", RECORD, "Digest of what was loaded: a sample that did not change is not written again."),
    ]


def declare(dataset: Any, fields: Sequence[Field]) -> None:
    """Add to the dataset's schema what it lacks. Inserting is several times faster into a declared schema."""
    schema = dataset.get_field_schema()
    missing = {field.path: _fiftyone_field(field) for field in fields if field.path not in schema}
    if missing:
        # The public add_sample_field reloads the dataset at every call: 6 s for a hundred fields, against .3 s.
        dataset._merge_sample_field_schema(missing)
    if "metadata.width" not in dataset.get_field_schema(flat=True):
        dataset.add_sample_field("metadata", fo.EmbeddedDocumentField, embedded_doc_type=fo.ImageMetadata)


def _fiftyone_field(field: Field) -> Any:
    plain = {"real": fo.FloatField, "integer": fo.IntField, "flag": fo.BooleanField, "text": fo.StringField}
    if field.kind in plain:
        return plain[field.kind](description=field.description)
    if field.kind == "texts":
        return fo.ListField(fo.StringField(), description=field.description)
    labels = {"classification": fo.Classification, "detections": fo.Detections, "heatmap": fo.Heatmap}
    return fo.EmbeddedDocumentField(labels[field.kind], description=field.description)


def _describe(column: Column) -> str:
    parts = [column.description]
    parts += [f"Unit: {column.unit}."] if column.unit else []
    parts += [f"Range: {column.range}."] if column.range else []
    return " ".join(parts)
