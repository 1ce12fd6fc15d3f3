"""A dataset's boxes to what the image can show of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from stages.ingest.record import Box


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
                kept.append(Box(*cut, box.label))
        if fault:
            dropped.append(f"box {number} ({x0:g}, {y0:g}, {x1:g}, {y1:g}) {fault}")
    return kept, dropped


def _cut(value: float, side: int) -> float:
    return float(np.float32(min(max(value, 0.0), float(side))))
