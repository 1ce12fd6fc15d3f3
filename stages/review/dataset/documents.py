"""Samples as the documents that FiftyOne keeps in MongoDB: added, and brought up to date, in bulk.

``Dataset.add_samples`` makes two objects of every label and every sample, and checks each value twice: half of the time
of a first load. Documents are made here instead, from patterns that FiftyOne itself wrote; that it reads back what
``add_samples`` would have stored is a test.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import fiftyone as fo
from bson import ObjectId
from fiftyone.core.odm.sample import _generate_rand
from pymongo import UpdateOne

from stages.review.dataset.contents import Sample
from stages.review.dataset.fields import KEY, Field, Kind
from stages.review.dataset.records import Record

Document = dict[str, Any]

PLAIN = ("real", "integer", "flag", "text", "texts")
"""Kinds of fields whose values MongoDB keeps as they are."""

PEOPLES = ("_id", "tags")
"""Parts of a stored label that loading leaves alone: FiftyOne gives its id, people its tags."""

_CLASSIFICATION = fo.Classification().to_dict()
_DETECTIONS = fo.Detections().to_dict()
_DETECTION = fo.Detection().to_dict()
_POLYLINES = fo.Polylines().to_dict()
_POLYLINE = fo.Polyline(closed=True, filled=False).to_dict()
_HEATMAP = fo.Heatmap().to_dict()
_METADATA = fo.ImageMetadata().to_dict()


def encode(kind: Kind, value: Any, size: tuple[int, int]) -> Any:
    """A plain value of a record as FiftyOne stores it; ``size`` is (width, height) of the image, px."""
    if value is None or kind in PLAIN:
        return value
    if kind == "classification":
        label, confidence = value
        return {**_CLASSIFICATION, "_id": ObjectId(), "label": label, "confidence": confidence}
    if kind == "heatmap":
        return {**_HEATMAP, "_id": ObjectId(), "map_path": value}
    if kind == "polylines":
        lines = [
            {
                **_POLYLINE,
                "_id": ObjectId(),
                "points": [list(map(list, ring)) for ring in one.rings],
            }
            for one in value
        ]
        return {**_POLYLINES, "polylines": lines}
    boxes = [{**_DETECTION, "_id": ObjectId(), "label": box.label, "bounding_box": box.relative(size)} for box in value]
    return {**_DETECTIONS, "detections": boxes}


def add(dataset: Any, fields: Sequence[Field], batch: Sequence[tuple[Sample, Record]]) -> None:
    """Add samples that the dataset does not have. Its schema has all of the fields."""
    if not batch:
        return
    now = datetime.now(UTC)
    blank = dataset._make_dict(fo.Sample(filepath=batch[0][0].path), created_at=now, last_modified_at=now)
    dataset._sample_collection.insert_many(
        [{**blank, "_rand": _generate_rand(), **_document(fields, sample, record)} for sample, record in batch]
    )


def update(dataset: Any, fields: Sequence[Field], batch: Sequence[tuple[Sample, Record]]) -> None:
    """Bring samples of the dataset up to date. A label that did not change keeps its id and the tags that it got."""
    if not batch:
        return
    paths = list(dict.fromkeys(field.path.partition(".")[0] for field in fields))
    keys = [sample.key for sample, _ in batch]
    stored = {
        document[KEY]: document
        for document in dataset._sample_collection.find({KEY: {"$in": keys}}, [*paths, "filepath", "metadata"])
    }
    now = datetime.now(UTC)
    writes, ids = [], []
    for sample, record in batch:
        before, after = stored[sample.key], _document(fields, sample, record)
        changed = {path: value for path, value in after.items() if _content(value) != _content(before.get(path))}
        gone = dict.fromkeys((path for path in paths if path not in after and before.get(path) is not None), "")
        change: Document = {"$set": {**changed, "last_modified_at": now}}
        writes.append(UpdateOne({"_id": before["_id"]}, change | ({"$unset": gone} if gone else {})))
        ids.append(str(before["_id"]))
    # FiftyOne's own, which also reloads the samples that this process holds.
    dataset._bulk_write(writes, ids=ids)


def _document(fields: Sequence[Field], sample: Sample, record: Record) -> Document:
    """Path, size and fields; without null, which to FiftyOne is the same as absent."""
    size = (sample.width, sample.height)
    document: Document = {}
    for field in fields:
        value = encode(field.kind, record.get(field.path), size)
        if value is None:
            continue
        parent, _, name = field.path.rpartition(".")
        place = document.setdefault(parent, {"_cls": "DynamicEmbeddedDocument"}) if parent else document
        place[name] = value
    document["filepath"] = sample.path
    document["metadata"] = {
        **_METADATA,
        "size_bytes": sample.size_bytes,
        "width": sample.width,
        "height": sample.height,
    }
    return document


def _content(value: Any) -> Any:
    """What of a stored value is loaded."""
    if isinstance(value, dict):
        return {name: _content(part) for name, part in value.items() if name not in PEOPLES and part is not None}
    return [_content(part) for part in value] if isinstance(value, list) else value
