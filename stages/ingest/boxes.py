"""A dataset's boxes: from the form in which it writes them to what the image can show of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from stages.ingest.record import Box, BoxForm

Numbers = tuple[float, float, float, float]


def read_box(numbers: Sequence[float], form: BoxForm, label: str | None = None) -> Box:
    """The half-open corners of a box that ``numbers`` say in ``form``."""
    a, b, c, d = numbers
    if form == "xywh":
        return Box(a, b, a + c, b + d, label)
    if form == "cxcywh":
        return Box(a - c / 2, b - d / 2, a + c / 2, b + d / 2, label)
    if form == "yxyx":
        return Box(b, a, d, c, label)
    if form == "voc":
        return Box(a - 1, b - 1, c, d, label)
    return Box(a, b, c, d, label)


def written(box: Box, form: BoxForm) -> Numbers:
    """The four numbers that say ``box`` in ``form``: the inverse of :func:`read_box`."""
    x0, y0, x1, y1 = box[:4]
    if form == "xywh":
        return x0, y0, x1 - x0, y1 - y0
    if form == "cxcywh":
        return (x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0
    if form == "yxyx":
        return y0, x0, y1, x1
    if form == "voc":
        return x0 + 1, y0 + 1, x1, y1
    return x0, y0, x1, y1


def scaled(box: Box, width: int, height: int) -> Box:
    """A box of fractions in pixels of an image of ``width`` x ``height``."""
    return box._replace(x0=box.x0 * width, y0=box.y0 * height, x1=box.x1 * width, y1=box.y1 * height)


def as_number(value: Any) -> float | None:
    """A number, or one in quotes, as a float; an integer of hundreds of digits is infinite. None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf  # type: ignore[operator]
    except ValueError:
        return None


def as_size(value: Any) -> int | None:
    """A width or height that an annotation says; None for none, and for what cannot be one."""
    number = as_number(value)
    return int(number) if number is not None and 0 < number < 2**31 else None


def place_boxes(boxes: Sequence[Box], width: int, height: int) -> tuple[list[Box], list[str]]:
    """Boxes cut to ``[0, width) x [0, height)`` px, and why each of the others was dropped.

    A box is dropped if a number is not finite, if it has no area, or if it lies outside the image. Numbers are rounded
    to float32, as they are stored, so that no kept box loses its area on the way.
    """
    kept: list[Box] = []
    dropped: list[str] = []
    for number, box in enumerate(boxes, 1):
        x0, y0, x1, y1 = box[:4]
        fault = None
        if not all(map(math.isfinite, (x0, y0, x1, y1))):
            fault = "is not finite"
        elif x1 <= x0 or y1 <= y0:
            fault = "has no area"
        else:
            cut = (_cut(x0, width), _cut(y0, height), _cut(x1, width), _cut(y1, height))
            if x1 <= 0 or y1 <= 0 or x0 >= width or y0 >= height:
                fault = f"lies outside the image of {width} x {height}"
            elif cut[2] <= cut[0] or cut[3] <= cut[1]:
                fault = "has no area"
            else:
                kept.append(Box(*cut, box.label, box.shape))
        if fault:
            dropped.append(f"box {number} ({x0:g}, {y0:g}, {x1:g}, {y1:g}) {fault}")
    return kept, dropped


def _cut(value: float, side: int) -> float:
    return float(np.float32(min(max(value, 0.0), float(side))))
