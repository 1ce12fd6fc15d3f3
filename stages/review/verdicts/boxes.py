"""Labelled boxes: as FiftyOne shows them, as tables hold them, and whether two sets of them are the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SAME = 0.05
"""Boxes whose edges differ by less, px, are the same: FiftyOne keeps fractions of the image, tables float32, and
annotation tools round to hundredths. Nobody draws that finely."""


@dataclass(frozen=True)
class Box:
    """A half-open box, image px."""

    label: str | None
    """None: the sample's own label."""
    x0: float
    y0: float
    x1: float
    y1: float

    @property
    def edges(self) -> tuple[float, float, float, float]:
        """(x0, y0, x1, y1), px."""
        return self.x0, self.y0, self.x1, self.y1

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Box:
        """A box of the struct that tables hold."""
        return cls(values["label"], values["x0"], values["y0"], values["x1"], values["y1"])

    @classmethod
    def of_relative(cls, label: str | None, box: Sequence[float], size: tuple[int, int]) -> Box | None:
        """A box of FiftyOne's (x, y, width, height), fractions of an image of ``size`` = (width, height) px.

        It is cut to the image; None if nothing of it is left.
        """
        width, height = size
        x, y, across, down = box
        x0, x1 = max(0.0, x * width), min(float(width), (x + across) * width)
        y0, y1 = max(0.0, y * height), min(float(height), (y + down) * height)
        return cls(label, x0, y0, x1, y1) if x1 > x0 and y1 > y0 else None

    def relative(self, size: tuple[int, int]) -> list[float]:
        """FiftyOne's [x, y, width, height], fractions of an image of ``size`` = (width, height) px."""
        width, height = size
        return [self.x0 / width, self.y0 / height, (self.x1 - self.x0) / width, (self.y1 - self.y0) / height]

    def struct(self) -> dict[str, Any]:
        """What tables hold."""
        return {"x0": self.x0, "y0": self.y0, "x1": self.x1, "y1": self.y1, "label": self.label}


def same_boxes(one: Iterable[Box] | None, other: Iterable[Box] | None) -> bool:
    """Whether two sets of boxes, in any order, agree to :data:`SAME` px and in their labels. None is no set."""
    if one is None or other is None:
        return one is other
    rest = list(other)
    for box in one:
        match = next((place for place, candidate in enumerate(rest) if _same(box, candidate)), None)
        if match is None:
            return False
        rest.pop(match)
    return not rest


def _same(one: Box, other: Box) -> bool:
    near = all(abs(a - b) < SAME for a, b in zip(one.edges, other.edges, strict=True))
    return near and one.label == other.label
