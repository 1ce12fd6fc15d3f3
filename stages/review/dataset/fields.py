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
import pyarrow as pa

from storage.tables import EXPLAIN, SCORES

Kind = Literal["real", "integer", "flag", "text", "texts", "classification", "detections", "heatmap"]

KEY = "sample_key"
DIGEST = "load_digest"
PREDICTED = "predicted_"

IMAGE = "on the image"
AUDIT = "audit"
EVIDENCE = "evidence: what hiding costs"
BOX_METRICS = "map against boxes"
FAITHFULNESS = "faithfulness of the map"
GEOMETRY = "geometry"
PREDICTION = "prediction"
OTHER_CLASS = "the predicted class, where it is not the label"
RECORD = "record"

GROUPS = (IMAGE, AUDIT, PREDICTION, EVIDENCE, BOX_METRICS, FAITHFULNESS, GEOMETRY, OTHER_CLASS, RECORD)
"""Groups of the sidebar, in order. The App draws what stands higher over what stands lower: boxes over maps."""

EXPANDED = (IMAGE, AUDIT, PREDICTION, EVIDENCE)
"""Groups that are open at first."""

_GROUP_OF = {
    **dict.fromkeys(("pred_prob", "p_full"), PREDICTION),
    **dict.fromkeys(
        (
            *("drop_outside", "drop_outside_logit", "drop_inside", "drop_random", "context_reliance"),
            *(
                "p_hide_outside",
                "p_hide_map",
                "p_hide_second",
                "p_hide_scan",
                "p_hide_inside",
                "p_hide_random",
                "p_hide_context",
            ),
            *("p_crop_outside", "p_box", "p_context", "p_saliency_in_box", "p_saliency_in_context"),
        ),
        EVIDENCE,
    ),
    **dict.fromkeys(
        (
            *("energy_in", "energy_lift", "energy_logodds", "energy_null_pct", "pointing_hit", "pointing_hit_tol"),
            *("localization_error", "official_metric", "pixel_f1", "iou_best", "centroid_distance"),
        ),
        BOX_METRICS,
    ),
    **dict.fromkeys(
        ("ad", "ai", "ag", "insertion", "deletion", "p_saliency", "p_crop", "saliency_metric", "entropy"), FAITHFULNESS
    ),
    **dict.fromkeys(("n_boxes", "box_area_frac", "box_kept_frac", "border_energy", "evaluable"), GEOMETRY),
}

_NOT_NUMBERS = ("row", "class_index", "pred_index", "pred_crop_outside")


@dataclass(frozen=True)
class Field:
    """One field of a sample."""

    path: str
    kind: Kind
    group: str
    description: str


def numbers(schema: pa.Schema) -> dict[str, Kind]:
    """Columns of a table that hold a number of a sample, and their kinds."""
    return {field.name: _kind(field.type) for field in schema if _is_number(field)}


def number_fields(prefix: str = "") -> list[Field]:
    """A field for each number of the tables ``explain`` and ``scores``, grouped."""
    columns = {field.name: field for field in (*EXPLAIN, *SCORES) if _is_number(field)}
    # In the order of the groups, the telling ones first; what no group names goes to the end.
    order = [name for name in _GROUP_OF if name in columns] + [name for name in columns if name not in _GROUP_OF]
    return [
        Field(
            prefix + name,
            _kind(columns[name].type),
            OTHER_CLASS if prefix else _GROUP_OF.get(name, RECORD),
            _describe(columns[name]),
        )
        for name in order
    ]


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


def _is_number(field: pa.Field) -> bool:
    numeric = pa.types.is_floating(field.type) or pa.types.is_integer(field.type) or pa.types.is_boolean(field.type)
    return numeric and field.name not in _NOT_NUMBERS


def _kind(kind: pa.DataType) -> Kind:
    if pa.types.is_boolean(kind):
        return "flag"
    return "real" if pa.types.is_floating(kind) else "integer"


def _describe(field: pa.Field) -> str:
    metadata = {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
    parts = [metadata.get("description", field.name)]
    parts += [f"{key.capitalize()}: {metadata[key]}." for key in ("unit", "range") if key in metadata]
    return " ".join(parts)
