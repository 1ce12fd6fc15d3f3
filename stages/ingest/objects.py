"""What one sample is: an image, or a class that an image has objects of."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import replace

from stages.ingest.labels import LabelResolver
from stages.ingest.record import Box, Record
from stages.ingest.settings import Labels


def choose_labels(asked: Labels, records: Sequence[Record], *, of_objects: bool = False) -> Labels:
    """What ``auto`` means for a dataset: ``each`` where objects have classes and no image has one, else ``image``.

    ``of_objects``: the format has no classes of images, so that this holds even where no object is left.
    """
    if asked != "auto":
        return asked
    if any(record.label is not None for record in records):
        return "image"
    named = any(box.label is not None for record in records for box in record.boxes)
    return "each" if named or of_objects else "image"


def samples_of(record: Record, how: Labels, labels: LabelResolver) -> list[Record]:
    """The samples of an image.

    ``each`` gives one for each class of the model that its boxes bear, named ``path#label``; of several labels that are
    one class, the first in the alphabet names it. An image without such boxes is one sample, without a label.
    """
    if how == "image":
        return [record]
    named = [box for box in record.boxes if box.label is not None]
    if not named:
        return [record]
    if how == "largest_box":
        return [replace(record, label=max(named, key=_area).label)]
    classes: dict[object, list[str]] = {}
    for label in sorted({_composed(str(box.label)) for box in named}):
        found = labels.resolve(label)
        classes.setdefault(label if found.class_index is None else found.class_index, []).append(label)
    return [replace(record, sample_id=f"{record.sample_id}#{names[0]}", label=names[0]) for names in classes.values()]


def used_labels(records: Iterable[Record]) -> list[str]:
    """Every label of samples and boxes, once for each time it is used."""
    return [
        label
        for record in records
        for label in (record.label, *(box.label for box in record.boxes))
        if label is not None
    ]


def _area(box: Box) -> float:
    """Area of a box; -1 where a number is not finite."""
    area = (box.x1 - box.x0) * (box.y1 - box.y0)
    return area if 0 <= area < float("inf") else -1.0


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)
