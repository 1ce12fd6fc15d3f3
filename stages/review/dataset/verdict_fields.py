"""Verdicts and corrected boxes in FiftyOne: fields that loading a run never touches but to bring back what is stored.

``verdicts`` is a list of embedded documents, one a (target, rule, reviewer): a second verdict of the same reviewer on
the same finding replaces the first. ``corrected_boxes`` are detections that people draw; ground truth is left alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import fiftyone as fo
from fiftyone import ViewField
from pymongo import WriteConcern

from stages.review.dataset.fields import KEY, targets_of_findings
from stages.review.verdicts.boxes import Box, same_boxes
from stages.review.verdicts.table import WITHDRAWN, Key, Review, latest, now, of_sample
from storage.errors import UserError

VERDICTS = "verdicts"
CORRECTED = "corrected_boxes"

_PARTS = {
    "target": (fo.StringField, "Which class's map the finding is about."),
    "rule": (fo.StringField, "Rule of the finding."),
    "reviewer": (fo.StringField, "Who says so."),
    "verdict": (fo.StringField, "confirmed, false_alarm, fix_box, fix_label or unsure."),
    "label": (fo.StringField, "With fix_label: the right class."),
    "note": (fo.StringField, "Free text."),
    "time": (fo.DateTimeField, "When, UTC."),
}


@dataclass(frozen=True)
class Found:
    """What people left in a dataset."""

    reviews: list[Review]
    without_verdict: int
    """Samples on which boxes were drawn while no verdict fix_box stands; those boxes are not in ``reviews``."""


def declare_verdicts(dataset: Any, classes: Sequence[str]) -> None:
    """Add the two fields to a dataset that lacks them, and let the App's annotation mode edit ``corrected_boxes``.

    ``classes`` are the labels that it offers for a box.
    """
    if not dataset.has_sample_field(VERDICTS):
        document = fo.EmbeddedDocumentField(fo.DynamicEmbeddedDocument)
        said = fo.ListField(document, description="What reviewers say of the findings.")
        drawn = "Boxes as they should be, all of them; they count with the verdict fix_box."
        # As in fields.declare: the public add_sample_field reloads the dataset at every call.
        dataset._merge_sample_field_schema(
            {VERDICTS: said, CORRECTED: fo.EmbeddedDocumentField(fo.Detections, description=drawn)}
        )
        dataset._merge_sample_field_schema(
            {f"{VERDICTS}.{name}": kind(description=description) for name, (kind, description) in _PARTS.items()}
        )
    if CORRECTED not in dataset.label_schemas and classes:
        schema = {"type": "detections", "component": "dropdown", "classes": list(classes), "attributes": []}
        dataset.update_label_schema(CORRECTED, schema)
        dataset.activate_label_schemas(CORRECTED)


def give(
    dataset: Any,
    sample_key: str,
    *,
    rule: str,
    verdict: str,
    reviewer: str,
    target: str | None = None,
    label: str | None = None,
    note: str | None = None,
    time: datetime | None = None,
) -> Review:
    """Give a verdict on a finding, in place of the one that the reviewer gave on it before.

    The same verdict again changes nothing. ``target`` None is that of the sample's finding. ``label`` is the right
    class, with fix_label. Of verdicts that are given on one sample at once, none is lost; when this returns, MongoDB's
    journal on the disk has it. Raises UserError for an unknown sample, finding or verdict.
    """
    sample = _sample(dataset, sample_key)
    if target is None:
        targets = targets_of_findings(sample)
        if rule not in targets:
            has = ", ".join(targets) or "none"
            raise UserError(f"{sample_key} has no finding {rule!r} to judge; it has {has}")
        target = targets[rule]
    given = Review(sample_key, target, rule, verdict, reviewer, label=label, note=note or None, time=time or now())
    before = next((review for review in verdicts_of(sample) if review.key == given.key), None)
    if before is not None and before.says(given):
        return before
    document = {"_cls": "DynamicEmbeddedDocument", **_document(given)}
    others = {
        "$filter": {
            "input": {"$ifNull": [f"${VERDICTS}", []]},
            "cond": {
                "$not": {
                    "$and": [
                        {"$eq": [f"$$this.{name}", {"$literal": document[name]}]}
                        for name in ("target", "rule", "reviewer")
                    ]
                }
            },
        }
    }
    # Replaced by the server in one step: FiftyOne's own save writes the whole list back as this process last read it.
    _journalled(dataset).update_one(
        {"_id": sample._id},
        [
            {
                "$set": {
                    VERDICTS: {"$concatArrays": [others, [{"$literal": document}]]},
                    "last_modified_at": "$$NOW",
                }
            }
        ],
    )
    sample.reload()
    return given


def withdraw(dataset: Any, review: Review) -> None:
    """Take a verdict out of the dataset again; nothing happens if it is not there."""
    sample = _sample(dataset, review.sample_id)
    finding = {"target": review.target, "rule": review.rule, "reviewer": review.reviewer}
    _journalled(dataset).update_one(
        {"_id": sample._id}, {"$pull": {VERDICTS: finding}, "$currentDate": {"last_modified_at": True}}
    )
    sample.reload()


def verdicts_of(sample: Any) -> list[Review]:
    """The verdicts on a sample, one a (target, rule, reviewer); without boxes, which are the sample's."""
    return [_review(sample[KEY], document) for document in sample[VERDICTS] or ()]


def start_correction(samples: Any, more: Mapping[str, Sequence[Box]] | None = None) -> int:
    """Copy the ground truth of a dataset or view into ``corrected_boxes``, for people to edit, where that is empty.

    ``more``: by sample, boxes to add to the copy, image px. A copy that nobody changes counts as nothing drawn, one
    with such a box as drawn. Returns how many samples got one.
    """
    empty = samples.match(ViewField(f"{CORRECTED}.detections").length() == 0)
    paths = [KEY, "ground_truth.detections", "label.label", "metadata.width", "metadata.height"]
    copies = {}
    for key, truth, label, width, height in zip(*empty.values(paths), strict=True):
        added = [replace(box, label=box.label or label) for box in (more or {}).get(key, ())]
        own = [box.copy() for box in truth or ()]
        copies[key] = fo.Detections(detections=[*own, *_detections(added, (width, height)).detections])
    if copies:
        empty.set_values(CORRECTED, copies, key_field=KEY)
    return len(copies)


def adopt_corrections(samples: Any, rule: str, reviewer: str) -> int:
    """Give the verdict fix_box on the finding of ``rule`` to the samples of a view whose boxes were changed.

    For boxes that came from elsewhere, an annotation tool say. Returns how many samples they are.
    """
    keys = [key for key, boxes, *_ in _touched(samples) if boxes is not None]
    for key in keys:
        give(samples._dataset, key, rule=rule, verdict="fix_box", reviewer=reviewer)
    return len(keys)


def find_reviews(dataset: Any) -> Found:
    """All verdicts of a dataset; those of fix_box with the boxes that were drawn on their sample.

    Drawn boxes have no time of their own, so such a verdict is as late as the last change to its sample.
    """
    if not dataset.has_sample_field(VERDICTS):
        return Found([], 0)
    reviews: list[Review] = []
    without_verdict = 0
    for key, boxes, documents, modified in _touched(dataset):
        given = [_review(key, document) for document in documents or ()]
        without_verdict += boxes is not None and all(review.verdict != "fix_box" for review in given)
        for review in given:
            if boxes is not None and review.verdict == "fix_box":
                review = replace(review, boxes=boxes, time=max(review.time, _aware(modified)))
            reviews.append(review)
    return Found(reviews, without_verdict)


def bring_back(dataset: Any, last: Mapping[Key, Review]) -> int:
    """Write what was said last into the dataset where it has other verdicts or none: after an import, or in a new
    database. Verdicts that were withdrawn are taken out.

    Boxes that a fix_box came with are drawn again where the sample has none. Returns how many samples were written.
    """
    stored = of_sample(last.values())
    samples = dataset.select_by(KEY, list(stored))
    paths = [KEY, VERDICTS, f"{CORRECTED}.detections", "metadata.width", "metadata.height"]
    verdicts: dict[str, list[Any]] = {}
    corrected: dict[str, Any] = {}
    for key, documents, drawn, width, height in zip(*samples.values(paths), strict=True):
        there = {review.key: review for review in (_review(key, document) for document in documents or ())}
        said = there | {review.key: replace(review, boxes=None) for review in stored[key]}
        wanted = {name: review for name, review in said.items() if review.verdict != WITHDRAWN}
        if wanted.keys() != there.keys() or any(not there[name].says(review) for name, review in wanted.items()):
            verdicts[key] = [fo.DynamicEmbeddedDocument(**_document(review)) for review in wanted.values()]
        corrector = latest(review for review in stored[key] if review.boxes is not None)
        if corrector is not None and not drawn:
            corrected[key] = _detections(corrector.boxes or (), (width, height))
    for path, values in ((VERDICTS, verdicts), (CORRECTED, corrected)):
        if values:
            dataset.set_values(path, values, key_field=KEY, expand_schema=False, validate=False)
    return len(verdicts.keys() | corrected.keys())


def _touched(samples: Any) -> Iterator[tuple[str, tuple[Box, ...] | None, Any, datetime]]:
    """Key, drawn boxes, verdicts and last change of the samples that have verdicts or drawn boxes."""
    drawn = ViewField(f"{CORRECTED}.detections").length() > 0
    touched = samples.match((ViewField(VERDICTS).length() > 0) | drawn)
    paths = [KEY, VERDICTS, f"{CORRECTED}.detections", "ground_truth.detections"]
    paths += ["metadata.width", "metadata.height", "last_modified_at"]
    for key, documents, corrected, truth, width, height, modified in zip(*touched.values(paths), strict=True):
        yield key, _drawn(corrected, truth, (width, height)), documents, modified


def _journalled(dataset: Any) -> Any:
    """The collection of the dataset's samples; a write to it returns when it is in the journal on the disk."""
    samples = dataset._sample_collection
    return samples.with_options(write_concern=WriteConcern(**{**samples.write_concern.document, "j": True}))


def _sample(dataset: Any, sample_key: str) -> Any:
    try:
        return dataset.one(ViewField(KEY) == sample_key)
    except ValueError:
        raise UserError(f"FiftyOne's dataset {dataset.name!r} has no sample {sample_key!r}") from None


def _document(review: Review) -> dict[str, Any]:
    return {name: getattr(review, name) for name in _PARTS}


def _review(key: str, document: Any) -> Review:
    values: dict[str, Any] = {name: getattr(document, name, None) for name in _PARTS}
    return Review(**{**values, "sample_id": key, "time": _aware(values["time"])})


def _aware(time: datetime) -> datetime:
    """FiftyOne gives UTC without a zone, unless its ``timezone`` is set."""
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def _drawn(corrected: Any, truth: Any, size: tuple[int, int]) -> tuple[Box, ...] | None:
    """Boxes that were drawn, image px; None for none, or an unchanged copy of the ground truth."""
    boxes = _boxes(corrected, size)
    return None if not boxes or same_boxes(boxes, _boxes(truth, size)) else boxes


def _boxes(detections: Any, size: tuple[int, int]) -> tuple[Box, ...]:
    boxes = (Box.of_relative(box.label, box.bounding_box, size) for box in detections or ())
    return tuple(box for box in boxes if box is not None)


def _detections(boxes: Iterable[Box], size: tuple[int, int]) -> Any:
    return fo.Detections(detections=[fo.Detection(label=box.label, bounding_box=box.relative(size)) for box in boxes])
