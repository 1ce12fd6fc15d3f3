"""Whether a dataset's boxes fit the form that they are read in. All boxes are judged together: one row may just be bad.

Nothing is corrected here. Where only another reading is possible the dataset is refused, with the key that reads it so;
where it is likely, a line says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import get_args

from stages.ingest.boxes import Numbers, read_box, scaled, written
from stages.ingest.facts import ImageFacts
from stages.ingest.record import Box, BoxForm, Record
from stages.words import counted
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


def check_boxes(records: Iterable[Record], facts: Iterable[ImageFacts], *, insisted: bool = False) -> list[str]:
    """Lines about boxes that are not likely what they are read as; raises UserError where they cannot be that.

    ``insisted``: the user says how boxes are written; another form is then only told. Each record is read once, and
    counts alone are kept.
    """
    sizes, unit, forms, first_pixel, alike, labels = _Sizes(), _Unit(), _Forms(), _FirstPixel(), _Alike(), _Labels()
    for record, known in zip(records, facts, strict=True):
        alike.images += bool(record.boxes)
        labels.add(record)
        if known.width is None or known.height is None:
            continue
        sizes.add(record, (known.width, known.height))
        for box in record.boxes:
            seen = _Seen(box, record.form, record.relative, known.width, known.height)
            for check in (unit, forms, first_pixel, alike):
                check.add(seen)
    unit.refuse()
    return [*sizes.lines(), *forms.lines(insisted), *first_pixel.lines(), *alike.lines(), *labels.lines()]


class _Unit:
    """Fractions that were read as pixels, and pixels as fractions."""

    def __init__(self) -> None:
        self.pixels = self.in_unit = self.shares = self.beyond = 0
        self.broken = False
        self.first: Numbers | None = None
        self.first_beyond: Numbers | None = None

    def add(self, seen: _Seen) -> None:
        numbers = seen.numbers
        if seen.relative:
            self.shares += 1
            if max(numbers) > 2:
                self.beyond += 1
                self.first_beyond = self.first_beyond or numbers
        else:
            self.pixels += 1
            self.first = self.first or numbers
            self.in_unit += all(0 <= value <= 1 for value in numbers)
            self.broken = self.broken or any(value % 1 for value in numbers)

    def refuse(self) -> None:
        """Raise UserError where all boxes, or most, are of the other unit."""
        if self.pixels and self.in_unit == self.pixels and self.broken:
            raise UserError(
                f"dataset.relative: all {self.pixels} boxes lie in [0, 1], such as {quoted(self.first)}: they are "
                "fractions of the image, not pixels; set dataset.relative: true"
            )
        if self.beyond * 2 > self.shares > 0:
            raise UserError(
                f"dataset.relative: {self.beyond} of {self.shares} boxes have numbers above 2, such as "
                f"{quoted(self.first_beyond)}: they are pixels, not fractions of the image; set dataset.relative: false"
            )


class _Forms:
    """Corners that are widths, or the other way round, or whose x is y."""

    def __init__(self) -> None:
        self.boxes = 0
        self.fitting: Counter[BoxForm] = Counter()
        self.form: BoxForm = "xyxy"
        self.wrong: _Seen | None = None

    def add(self, seen: _Seen) -> None:
        if not self.boxes:
            self.form = seen.form
        self.boxes += 1
        for form in get_args(BoxForm):
            self.fitting[form] += seen.fits(form)
        if self.wrong is None and not seen.fits(self.form):
            self.wrong = seen

    def lines(self, insisted: bool) -> list[str]:
        """A line where another form is the likely one; raises UserError where it is sure, unless ``insisted``."""
        form, wrong = self.form, self.wrong
        if self.boxes < FEW or wrong is None:
            return []
        fit = {name: self.fitting[name] / self.boxes for name in get_args(BoxForm)}
        others = {name: share for name, share in fit.items() if name not in (form, "voc") and name != _same(form)}
        best = max(others.values())
        if fit[form] >= _DOUBTED or best < _FITS or best <= fit[form]:
            return []
        likely = [name for name, share in others.items() if share == best]
        forms = " or ".join(f"{name} ({_MEANING[name]})" for name in likely)
        told = (
            f"{100 * fit[form]:.0f}% of {self.boxes} boxes fit their images as {form} ({_MEANING[form]}), and "
            f"{100 * best:.0f}% as {forms}; such as {quoted(tuple(round(value, 4) for value in wrong.numbers))} in "
            f"{wrong.width} x {wrong.height}"
        )
        if fit[form] < _SURE and not insisted:
            raise UserError(
                f"dataset.boxes: {told}; set dataset.boxes: {likely[0]}, or dataset.boxes: {form} to insist"
            )
        return [f"dataset.boxes: {told}; dataset.boxes: {likely[0]} reads them so"]


def _same(form: BoxForm) -> BoxForm:
    return "xyxy" if form == "voc" else form


class _FirstPixel:
    """Corners that count from 1 where they were read from 0, or the other way round."""

    def __init__(self) -> None:
        self.form: BoxForm | None = None
        self.firsts: Counter[float] = Counter()
        self.ends, self.whole, self.any = False, True, False

    def add(self, seen: _Seen) -> None:
        numbers = seen.numbers
        self.form = self.form or seen.form
        self.ends = self.ends or numbers[2] == seen.width or numbers[3] == seen.height
        if seen.form in ("xyxy", "voc") and not seen.relative:
            self.any = True
            self.firsts.update(value for value in numbers[:2] if value in (0, 1))
            self.whole = self.whole and all(value % 1 == 0 for value in numbers)

    def lines(self) -> list[str]:
        """A line where the other count is likely."""
        if not self.any:
            return []
        if self.form == "voc" and self.firsts[0]:
            return [
                f"dataset.boxes: {self.firsts[0]} corners are 0, and VOC counts from 1: perhaps these count from 0; "
                "dataset.boxes: xyxy reads them so"
            ]
        if self.form == "xyxy" and self.firsts[1] >= ALIKE and not self.firsts[0] and self.ends and self.whole:
            return [
                f"dataset.boxes: {self.firsts[1]} corners are 1 and none is 0: perhaps pixels count from 1, both ends "
                "included; dataset.boxes: voc reads them so"
            ]
        return []


class _Alike:
    """Boxes that are all the same, or all the whole image."""

    def __init__(self) -> None:
        self.images = self.boxes = 0
        """Images that have boxes, and boxes of those that can be read."""
        self.first: _Seen | None = None
        self.same = self.whole = True

    def add(self, seen: _Seen) -> None:
        self.boxes += 1
        self.first = self.first or seen
        self.same = self.same and seen.box[:4] == self.first.box[:4]
        x0, y0, x1, y1 = (scaled(seen.box, seen.width, seen.height) if seen.relative else seen.box)[:4]
        self.whole = self.whole and x0 <= 0 and y0 <= 0 and x1 >= seen.width and y1 >= seen.height

    def lines(self) -> list[str]:
        """A line where boxes say nothing."""
        if self.images < ALIKE or self.first is None:
            return []
        if self.same:
            return [f"all {self.boxes} boxes are the same, {quoted(self.first.numbers)}: perhaps a placeholder"]
        if self.whole:
            return [
                f"all {self.boxes} boxes are the whole image: nothing lies outside them, and nothing can be found there"
            ]
        return []


class _Sizes:
    """Images of another size than their annotation says: its boxes belong to another picture, or to one not turned."""

    def __init__(self) -> None:
        self.differing = self.turned = 0
        self.first: tuple[Record, tuple[int, int]] | None = None

    def add(self, record: Record, size: tuple[int, int]) -> None:
        if record.size is not None and record.size != size:
            self.differing += 1
            self.turned += record.size == size[::-1]
            self.first = self.first or (record, size)

    def lines(self) -> list[str]:
        """A line where sizes differ."""
        if self.first is None:
            return []
        record, size = self.first
        why = (
            f"; {self.turned} are turned by their EXIF data, perhaps since they were annotated, and their boxes would "
            "be of the picture on its side"
            if self.turned
            else ""
        )
        images = counted(self.differing, "image is", "images are")
        return [
            f"{images} of another size than the annotation says, such as {record.sample_id}, "
            f"{size[0]} x {size[1]} where {record.place} says {record.size[0]} x {record.size[1]}{why}"  # type: ignore[index]
        ]


class _Labels:
    """Images whose class no box of any image bears."""

    def __init__(self) -> None:
        self.labels: set[str] = set()
        self.on_boxes: set[str] = set()
        self.all_named = True

    def add(self, record: Record) -> None:
        if record.label is None or any(box.label is None for box in record.boxes):
            self.all_named = False
        if self.all_named:
            self.labels.add(str(record.label))
            self.on_boxes.update(str(box.label) for box in record.boxes)

    def lines(self) -> list[str]:
        """A line where the classes of images and of boxes have none in common."""
        if not self.all_named or not self.on_boxes or self.labels & self.on_boxes:
            return []
        return [
            f"no box bears a label of an image: images are {_some(self.labels)}, boxes {_some(self.on_boxes)}; "
            "dataset.labels: each takes the boxes' own"
        ]


def _some(names: Iterable[str]) -> str:
    listed = sorted(names)
    return ", ".join(map(quoted, listed[:5])) + (", ..." if len(listed) > 5 else "")
