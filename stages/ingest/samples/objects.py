"""What one sample is: an image, a class that an image has objects of, or an object."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from stages.ingest.boxes import place_boxes, scaled
from stages.ingest.labels import LabelResolver
from stages.ingest.record import Box, Record, Records, Shape
from stages.ingest.settings import Labels
from stages.ingest.shapes import CutOut
from storage.media.containers import Crop


def choose_labels(asked: Labels, records: Records, *, of_objects: bool = False) -> Labels:
    """What ``auto`` means for a dataset: ``each`` where objects have classes and no image has one, else ``image``.

    ``of_objects``: the format has no classes of images, so that this holds even where no object is left.
    """
    if asked != "auto":
        return asked
    if _any(records.column("label")):
        return "image"
    return "each" if _any(records.box_labels()) or of_objects else "image"


def _any(column: pa.ChunkedArray) -> bool:
    return bool(column.null_count < len(column))


def samples_of(record: Record, how: Labels, labels: LabelResolver) -> list[Record]:
    """The samples of an image.

    ``each`` gives one for each class of the model that its boxes bear, named ``path#label``; of several labels that are
    one class, the first in the alphabet names it. ``crop`` gives one for each box, named ``path#number``, which
    :func:`cut_out` then makes a picture of its own. An image without such boxes is one sample, without a label.
    """
    if how == "image":
        return [record]
    if how == "crop":
        labelled = [(number, box.label or record.label) for number, box in enumerate(record.boxes, 1)]
        return [_of_class(record, name, f"#{number}") for number, name in labelled] or [record]
    named = [box for box in record.boxes if box.label is not None]
    if not named:
        return [record]
    if how == "largest_box":
        return [_of_class(record, max(named, key=_area).label)]
    classes: dict[object, list[str]] = {}
    for label in sorted({_composed(str(box.label)) for box in named}):
        found = labels.resolve(label)
        classes.setdefault(label if found.class_index is None else found.class_index, []).append(label)
    return [_of_class(record, names[0], f"#{names[0]}") for names in classes.values()]


def cut_out(samples: Sequence[Record], width: int, height: int, context: float) -> list[Record]:
    """The samples of an image of ``width`` x ``height`` px, of ``labels: crop``, each as the crop around its object.

    ``context`` is what is left around it on each side, as a share of its sides. A crop shows the other boxes that reach
    into it; those of its own class are its own, since they are evidence for it. A box without area is left to
    the image itself, as a sample without a box.
    """

    def cut(shape: Shape | None, around: Box, edges: tuple[int, int, int, int]) -> Shape | None:
        return None if shape is None else CutOut(shape, around, (width, height), edges)

    image = samples[0]
    boxes = [scaled(box, width, height) for box in image.boxes] if image.relative else image.boxes
    crops = []
    for sample, box in zip(samples, boxes, strict=True):
        if not place_boxes([box], width, height)[0]:
            crops.append(replace(sample, boxes=(box,), relative=False))
            continue
        x0, y0, x1, y1 = edges = _around(box, width, height, context)
        inside = [it for it in boxes if it.x0 < x1 and it.x1 > x0 and it.y0 < y1 and it.y1 > y0]
        moved = [
            Box(it.x0 - x0, it.y0 - y0, it.x1 - x0, it.y1 - y0, it.label, cut(it.shape, it, edges)) for it in inside
        ]
        uri, shape = Crop(edges, sample.uri).url, cut(sample.shape, Box(0, 0, width, height), edges)
        crops.append(replace(sample, uri=uri, boxes=tuple(moved), shape=shape, relative=False, size=None, notes=()))
    return crops


def _of_class(record: Record, label: str | None, name: str = "") -> Record:
    """The record as a sample of a class, ``name`` added to its own; a shape of the image's class is no other's."""
    shape = record.shape if label == record.label else None
    return replace(record, sample_id=record.sample_id + name, label=label, shape=shape)


def _around(box: Box, width: int, height: int, context: float) -> tuple[int, int, int, int]:
    """Whole pixels around a box and its context, within the image."""
    x, y = context * (box.x1 - box.x0), context * (box.y1 - box.y0)
    # Cut before they are rounded: corners of hundreds of digits have an infinite context.
    left, top = math.floor(max(0, box.x0 - x)), math.floor(max(0, box.y0 - y))
    return left, top, math.ceil(min(width, box.x1 + x)), math.ceil(min(height, box.y1 + y))


def used_labels(records: Records) -> list[str]:
    """Every label of images and boxes, once."""
    labels = pa.chunked_array([*records.column("label").chunks, *records.box_labels().chunks], pa.string())
    return [str(label) for label in pc.unique(labels.drop_null()).to_pylist()]


def _area(box: Box) -> float:
    """Area of a box; -1 where a number is not finite."""
    area = (box.x1 - box.x0) * (box.y1 - box.y0)
    return area if 0 <= area < float("inf") else -1.0


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)
