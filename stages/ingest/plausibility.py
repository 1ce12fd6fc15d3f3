"""Whether a dataset's boxes fit the form that they are read in. All boxes are judged together: one row may just be bad.

Nothing is corrected here. Where only another reading is possible the dataset is refused, with the key that reads it so;
where it is likely, a line says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import get_args

from stages.ingest.boxes import Numbers, read_box, scaled, written
from stages.ingest.facts import ImageFacts
from stages.ingest.record import Box, BoxForm, Record
from storage.errors import UserError, quoted

FEW = 5
"""A form is doubted from this number of boxes on; fewer may be bad rows."""
ALIKE = 10
"""From this number of images on, boxes that are all the same are reported."""

_TOLERANCE = 0.01
"""How far a box may pass the border of its image and still fit, as a share of the side."""
_SURE = 0.8
"""Below this share of boxes that fit, and with another form that fits, the form is wrong."""
_DOUBTED = 0.95
_FITS = 0.95
"""Share of boxes that fit from which on another form is the likely one."""

_MEANING = {
    "xyxy": "x0, y0, x1, y1",
    "xywh": "x, y, width, height",
    "cxcywh": "centre x, centre y, width, height",
    "yxyx": "y0, x0, y1, x1",
    "voc": "x0, y0, x1, y1 from 1, both included",
}


@dataclass(frozen=True, slots=True)
class _Seen:
    """A box as it was read, in pixels or fractions as the dataset has it, and its image."""

    box: Box
    form: BoxForm
    relative: bool
    width: int
    height: int

    @property
    def numbers(self) -> Numbers:
        """The box as the dataset wrote it."""
        return written(self.box, self.form)

    def fits(self, form: BoxForm) -> bool:
        """Whether the numbers, read in ``form``, are a box with an area within the image."""
        box = read_box(self.numbers, form)
        if self.relative:
            box = scaled(box, self.width, self.height)
        dx, dy = 1 + _TOLERANCE * self.width, 1 + _TOLERANCE * self.height
        inside = -dx <= box.x0 and -dy <= box.y0 and box.x1 <= self.width + dx and box.y1 <= self.height + dy
        return inside and box.x0 < box.x1 and box.y0 < box.y1


def check_boxes(records: Sequence[Record], facts: Sequence[ImageFacts], *, insisted: bool = False) -> list[str]:
    """Lines about boxes that are not likely what they are read as; raises UserError where they cannot be that.

    ``insisted``: the user says how boxes are written; another form is then only told.
    """
    seen = [
        _Seen(box, record.form, record.relative, known.width, known.height)
        for record, known in zip(records, facts, strict=True)
        if known.width is not None and known.height is not None
        for box in record.boxes
    ]
    lines = _sizes(records, facts)
    if seen:
        _check_unit(seen)
        lines += _forms(seen, insisted)
        lines += _first_pixel(seen)
        lines += _alike(records, seen)
    lines += _labels(records)
    return lines


def _check_unit(seen: Sequence[_Seen]) -> None:
    """Fractions that were read as pixels, and pixels as fractions."""
    pixels = [entry.numbers for entry in seen if not entry.relative]
    in_unit = [all(0 <= value <= 1 for value in numbers) for numbers in pixels]
    if pixels and all(in_unit) and any(value % 1 for numbers in pixels for value in numbers):
        raise UserError(
            f"dataset.relative: all {len(pixels)} boxes lie in [0, 1], such as {quoted(pixels[0])}: they are fractions "
            "of the image, not pixels; set dataset.relative: true"
        )
    shares = [entry.numbers for entry in seen if entry.relative]
    beyond = [numbers for numbers in shares if max(numbers) > 2]
    if len(beyond) * 2 > len(shares) > 0:
        raise UserError(
            f"dataset.relative: {len(beyond)} of {len(shares)} boxes have numbers above 2, such as "
            f"{quoted(beyond[0])}: they are pixels, not fractions of the image; set dataset.relative: false"
        )


def _forms(seen: Sequence[_Seen], insisted: bool) -> list[str]:
    """Corners that are widths, or the other way round, or whose x is y."""
    form = seen[0].form
    if len(seen) < FEW:
        return []
    fit = {name: sum(entry.fits(name) for entry in seen) / len(seen) for name in get_args(BoxForm)}
    others = {name: share for name, share in fit.items() if name not in (form, "voc") and name != _same(form)}
    best = max(others.values())
    if fit[form] >= _DOUBTED or best < _FITS or best <= fit[form]:
        return []
    likely = [name for name, share in others.items() if share == best]
    wrong = next(entry for entry in seen if not entry.fits(form))
    forms = " or ".join(f"{name} ({_MEANING[name]})" for name in likely)
    told = (
        f"{100 * fit[form]:.0f}% of {len(seen)} boxes fit their images as {form} ({_MEANING[form]}), and "
        f"{100 * best:.0f}% as {forms}; such as {quoted(tuple(round(value, 4) for value in wrong.numbers))} in "
        f"{wrong.width} x {wrong.height}"
    )
    if fit[form] < _SURE and not insisted:
        raise UserError(f"dataset.boxes: {told}; set dataset.boxes: {likely[0]}, or dataset.boxes: {form} to insist")
    return [f"dataset.boxes: {told}; dataset.boxes: {likely[0]} reads them so"]


def _same(form: BoxForm) -> BoxForm:
    return "xyxy" if form == "voc" else form


def _first_pixel(seen: Sequence[_Seen]) -> list[str]:
    """Corners that count from 1 where they were read from 0, or the other way round."""
    numbers = [entry.numbers for entry in seen if entry.form in ("xyxy", "voc") and not entry.relative]
    firsts = Counter(value for entry in numbers for value in entry[:2] if value in (0, 1))
    if not numbers:
        return []
    if seen[0].form == "voc" and firsts[0]:
        return [
            f"dataset.boxes: {firsts[0]} corners are 0, and VOC counts from 1: perhaps these count from 0; "
            "dataset.boxes: xyxy reads them so"
        ]
    ends = any(entry.numbers[2] == entry.width or entry.numbers[3] == entry.height for entry in seen)
    whole = all(value % 1 == 0 for entry in numbers for value in entry)
    if seen[0].form == "xyxy" and firsts[1] >= ALIKE and not firsts[0] and ends and whole:
        return [
            f"dataset.boxes: {firsts[1]} corners are 1 and none is 0: perhaps pixels count from 1, both ends included; "
            "dataset.boxes: voc reads them so"
        ]
    return []


def _alike(records: Sequence[Record], seen: Sequence[_Seen]) -> list[str]:
    images = sum(bool(record.boxes) for record in records)
    if images < ALIKE:
        return []
    if len({entry.box[:4] for entry in seen}) == 1:
        return [f"all {len(seen)} boxes are the same, {quoted(seen[0].numbers)}: perhaps a placeholder"]
    pixels = [(scaled(e.box, e.width, e.height) if e.relative else e.box, e.width, e.height) for e in seen]
    if all(x0 <= 0 and y0 <= 0 and x1 >= w and y1 >= h for (x0, y0, x1, y1, *_), w, h in pixels):
        return [f"all {len(seen)} boxes are the whole image: nothing lies outside them, and nothing can be found there"]
    return []


def _sizes(records: Iterable[Record], facts: Iterable[ImageFacts]) -> list[str]:
    """Images of another size than their annotation says: its boxes belong to another picture, or to one not turned."""
    differing = [
        (record, (known.width, known.height))
        for record, known in zip(records, facts, strict=True)
        if record.size is not None and known.width is not None and record.size != (known.width, known.height)
    ]
    if not differing:
        return []
    record, size = differing[0]
    turned = sum(record.size == found[::-1] for record, found in differing)
    why = (
        f"; {turned} are turned by their EXIF data, perhaps since they were annotated, and their boxes would be "
        "of the picture on its side"
        if turned
        else ""
    )
    return [
        f"{len(differing)} images are of another size than their annotation says, such as {record.sample_id}, "
        f"{size[0]} x {size[1]} where {record.place} says {record.size[0]} x {record.size[1]}{why}"  # type: ignore[index]
    ]


def _labels(records: Iterable[Record]) -> list[str]:
    """Images whose class no box of any image bears."""
    labels: dict[str, None] = {}
    on_boxes: dict[str, None] = {}
    for record in records:
        if record.label is None or any(box.label is None for box in record.boxes):
            return []
        labels[record.label] = None
        on_boxes.update((str(box.label), None) for box in record.boxes)
    if not on_boxes or labels.keys() & on_boxes.keys():
        return []
    return [
        f"no box bears a label of an image: images are {_some(labels)}, boxes {_some(on_boxes)}; dataset.labels: each "
        "takes the boxes' own"
    ]


def _some(names: Iterable[str]) -> str:
    listed = sorted(names)
    return ", ".join(map(quoted, listed[:5])) + (", ..." if len(listed) > 5 else "")
