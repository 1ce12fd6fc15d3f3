"""A row of the samples table: what a record of the dataset and the facts of its image file say together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stages.geometry import bounding_window
from stages.ingest.boxes import place_boxes, scaled
from stages.ingest.facts import ImageFacts
from stages.ingest.labels import LabelResolver, ResolvedLabel
from stages.ingest.record import Box, Record
from stages.ingest.samples.mask_remarks import MaskRemarks
from stages.ingest.settings import Labels
from stages.ingest.shapes import Masks, mask_of
from storage.errors import on_one_line, quoted, shortened
from storage.media.object_masks import ObjectMask, encode_mask
from storage.samples import OTHER_SIZE

Row = dict[str, Any]

_MOST = 10
"""Reasons that a row names; the gravest come first."""


@dataclass(frozen=True, slots=True)
class _Objects:
    """A sample's objects in px of its upright image. A box with a label is of another class than the sample's."""

    boxes: Sequence[Box] = ()
    mask: ObjectMask | None = None
    """The pixels of its own objects; None where the boxes say it."""
    each: Sequence[ObjectMask | None] | None = None
    """The pixels of each box's object; None where no box has any of its own."""
    left_out: Sequence[str] = ()
    """What was left out of boxes and masks, and why."""

    @property
    def own(self) -> bool:
        """Whether a box is of the sample's class."""
        return any(box.label is None for box in self.boxes)


def sample_row(
    record: Record,
    facts: ImageFacts,
    labels: LabelResolver,
    remarks: MaskRemarks | None = None,
    how: Labels = "image",
) -> Row:
    """One row of the samples table, but its number. Of several faults the gravest is the status; the reason names all.

    ``remarks`` gets what is to be said of masks. ``how`` says what a sample is: where its class is that of the image's
    objects, an image without any has no box, not no label; and where the other objects are samples of their own, their
    masks are left to these.
    """
    label = labels.resolve(record.label)
    objects = _objects(record, facts, label, labels, remarks, how)
    status, reasons = _judged(record, facts, label, objects, how)
    return {
        "sample_id": record.sample_id,
        "uri": record.uri,
        "digest": facts.digest,
        "size_bytes": facts.size_bytes,
        "mtime_ns": facts.mtime_ns,
        "width": facts.width,
        "height": facts.height,
        "label": label.name,
        "class_index": label.class_index,
        "boxes": [dict(zip(Box._fields[:5], box, strict=False)) for box in objects.boxes],
        "mask": None if objects.mask is None else encode_mask(objects.mask),
        "object_masks": (
            None if objects.each is None else [None if one is None else encode_mask(one) for one in objects.each]
        ),
        "split": record.split,
        "status": status,
        "reason": _joined(reasons),
    }


def other_size(record: Record, facts: ImageFacts) -> str | None:
    """The note on an image whose annotation says another size; None where it is the same, or nothing is said."""
    if record.size is None or facts.width is None or record.size == (facts.width, facts.height):
        return None
    return f"the image, {facts.width} x {facts.height}, is {OTHER_SIZE}, {record.size[0]} x {record.size[1]}"


def _objects(
    record: Record,
    facts: ImageFacts,
    label: ResolvedLabel,
    labels: LabelResolver,
    remarks: MaskRemarks | None,
    how: Labels,
) -> _Objects:
    if facts.width is None or facts.height is None:
        return _Objects()
    named = [box._replace(label=_box_label(box.label, label, labels)) for box in record.boxes]
    if record.relative:
        named = [scaled(box, facts.width, facts.height) for box in named]
    boxes, dropped = place_boxes(named, facts.width, facts.height)
    own = [box for box in boxes if box.label is None]
    found = mask_of(own, record.shape, facts.width, facts.height)
    if remarks is not None:
        remarks.add(record.place, found)
    each = None if record.shape is not None else _each(boxes, found, facts.width, facts.height, others=how != "each")
    if found.whole is not None and not own:
        boxes.append(_around(found.whole))
    return _Objects(boxes, found.whole, each, [*dropped, *found.faults, *found.notes])


def _each(
    boxes: Sequence[Box], found: Masks, width: int, height: int, *, others: bool
) -> Sequence[ObjectMask | None] | None:
    """The pixels of each box's object: as ``found`` for the sample's own, drawn for others where they are wanted.

    None where no box has any.
    """
    own = iter(found.each)
    each = [
        next(own, None) if box.label is None else mask_of([box], None, width, height).whole if others else None
        for box in boxes
    ]
    return None if all(one is None for one in each) else each


def _judged(
    record: Record, facts: ImageFacts, label: ResolvedLabel, objects: _Objects, how: Labels
) -> tuple[str, Sequence[str]]:
    """Status and reasons of a sample."""
    of_the_file = [note for note in (facts.note, other_size(record, facts)) if note is not None]
    told = [*of_the_file, *record.notes, *objects.left_out]
    if facts.problem is not None:
        return "unreadable", [facts.problem]
    if how != "image" and record.label is None:
        return "no_box", told or ["the image has no box with a class"]
    if label.class_index is None:
        return "no_class", [str(label.problem), *told]
    if objects.own:
        return "ok", told
    if not record.boxes:
        return "no_box", ["the sample has no box", *told]
    if not objects.boxes:
        return "no_box", told
    others = sorted({str(box.label) for box in objects.boxes})
    shown = ", ".join(map(quoted, others[:5])) + (", ..." if len(others) > 5 else "")
    return "no_box", [f"no box bears the label {quoted(label.name)}, only {shown}", *told]


def _around(mask: ObjectMask) -> Box:
    """The box around a mask's pixels."""
    rows, columns = bounding_window(mask)
    return Box(columns.start, rows.start, columns.stop, rows.stop)


def _box_label(name: str | None, sample: ResolvedLabel, labels: LabelResolver) -> str | None:
    """A box's label in the model's words; None where it is the sample's own."""
    if name is None:
        return None
    resolved = labels.resolve(name).name
    return None if resolved == sample.name else resolved


def _joined(reasons: Sequence[str]) -> str | None:
    if not reasons:
        return None
    more = [f"... and {len(reasons) - _MOST} more"] if len(reasons) > _MOST else []
    # A path may hold a line break.
    return on_one_line("; ".join([*map(shortened, reasons[:_MOST]), *more])) or None
