"""Annotation faults planted in a manifest: wrong labels, boxes that are wrong, objects without a box."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

Box = tuple[float, float, float, float]

Fault = Literal["label_double", "label_any", "box_moved", "box_shrunk", "box_grown", "box_dropped"]
FAULTS: tuple[Fault, ...] = get_args(Fault)
LABELS: tuple[Fault, ...] = ("label_double", "label_any")
BOXES: tuple[Fault, ...] = ("box_moved", "box_shrunk", "box_grown")

SHARES: Mapping[Fault, float] = {
    "label_double": 0.03,
    "label_any": 0.03,
    "box_moved": 0.05 / 3,
    "box_shrunk": 0.05 / 3,
    "box_grown": 0.05 / 3,
    "box_dropped": 0.05,
}
"""Share of the pictures that get each fault; a picture gets one at most."""

WRONG = 0.5
"""A box whose IoU with the object's is below this is wrong."""


@dataclass(frozen=True)
class Annotation:
    """A picture as its dataset describes it. Boxes are half-open px; ``size`` is (width, height)."""

    sample_id: str
    label: str
    boxes: tuple[Box, ...]
    size: tuple[int, int]
    fault: Fault | None = None


def plant(
    annotations: Sequence[Annotation],
    *,
    spared: set[str],
    doubles: Mapping[str, str],
    classes: Sequence[str],
    seed: int,
) -> list[Annotation]:
    """The annotations with faults in them, in their order.

    ``spared`` names samples that get none (shortcuts, whose findings are judged elsewhere), ``doubles`` the class that
    a class is easily taken for. A dropped box is one of two boxes: pictures with two objects get that fault alone.
    """
    rng = np.random.default_rng((seed, 4))
    order = [int(k) for k in rng.permutation(len(annotations)) if annotations[k].sample_id not in spared]
    planted = list(annotations)
    for fault, share in SHARES.items():
        fits = [
            k
            for k in order
            if planted[k].fault is None
            and (len(planted[k].boxes) == 2) == (fault == "box_dropped")
            and (fault != "label_double" or planted[k].label in doubles)
        ]
        for k in fits[: round(share * len(annotations))]:
            planted[k] = _with_fault(planted[k], fault, doubles, classes, rng)
    return planted


def _with_fault(
    one: Annotation, fault: Fault, doubles: Mapping[str, str], classes: Sequence[str], rng: np.random.Generator
) -> Annotation:
    label, boxes = one.label, one.boxes
    if fault == "label_double":
        label = doubles[label]
    elif fault == "label_any":
        label = str(rng.choice([name for name in classes if name not in (label, doubles.get(label))]))
    elif fault == "box_dropped":
        boxes = (boxes[rng.integers(2)],)
    else:
        boxes = (wrong_box(boxes[0], fault, one.size, rng),)
    return replace(one, label=label, boxes=boxes, fault=fault)


def wrong_box(box: Box, fault: Fault, size: tuple[int, int], rng: np.random.Generator) -> Box:
    """The box moved by .4 to .9 of its sides, shrunk to .45 to .65 of them, or grown to 1.5 to 2.2 of them.

    It stays in the picture, and is drawn again until its IoU with the true box is below :data:`WRONG`.
    """
    low, high = np.array(box[:2], dtype=float), np.array(box[2:], dtype=float)
    sides, limit = high - low, np.array(size, dtype=float)
    while True:
        if fault == "box_moved":
            corner = np.clip(low + rng.uniform(0.4, 0.9, 2) * sides * rng.choice((-1, 1), 2), 0, limit - sides)
            corners = corner, corner + sides
        elif fault == "box_shrunk":
            small = sides * rng.uniform(0.45, 0.65, 2)
            corner = low + rng.uniform(0, 1, 2) * (sides - small)
            corners = corner, corner + small
        else:
            grown = sides * rng.uniform(1.5, 2.2, 2)
            corner = low - rng.uniform(0, 1, 2) * (grown - sides)
            corners = np.maximum(corner, 0), np.minimum(corner + grown, limit)
        x0, y0, x1, y1 = (float(round(value)) for value in np.concatenate(corners))
        if iou((x0, y0, x1, y1), box) < WRONG:
            return x0, y0, x1, y1


def iou(a: Box, b: Box) -> float:
    """Intersection over union of two boxes."""
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(wide, 0) * max(high, 0)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)
