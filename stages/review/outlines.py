"""Masks as polygons: their outlines, or one polygon for formats that have nothing else."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import approximate_polygon, find_contours

from stages.geometry import bounding_window
from storage.media.object_masks import ObjectMask

Polygon = NDArray[np.float64]
"""Corners (n, 2) x, y, px of the image; the last one is joined with the first."""

TOLERANCE = 0.35
"""How far the polygon may leave the line between pixel centres, px; a corner of a pixel, .354 px from it, stays."""


def outlines(mask: ObjectMask) -> list[Polygon]:
    """The polygons around the parts of a mask (height, width) that covers a pixel, and those around its holes."""
    rows, columns = bounding_window(mask)  # most of an image is none of its objects
    # A frame of zeros, so that a part that reaches the edge is closed there.
    found = find_contours(np.pad(mask[rows, columns], 1).astype(np.float32), 0.5, fully_connected="high")
    # Index i of the framed mask is the centre of pixel i - 1, which lies at i - .5.
    corner = np.array([columns.start, rows.start]) - 0.5
    return [_opened(approximate_polygon(line, TOLERANCE), line)[:, ::-1] + corner for line in found]


def one_polygon(mask: ObjectMask) -> Polygon:
    """The polygon around a mask (height, width) that covers a pixel; what lies in a hole is within it.

    Of several parts, which touch not even by corners, the polygon runs from one to the next and back along one line
    between their nearest corners, which covers nothing.
    """
    joined, *others = sorted(outlines(_filled(mask)), key=_extent, reverse=True)
    for part in others:
        apart = np.linalg.norm(joined[:, None] - part[None], axis=2)
        here, there = np.unravel_index(int(apart.argmin()), apart.shape)
        bridge = np.roll(part, -int(there), axis=0)
        joined = np.concatenate([joined[: here + 1], bridge, bridge[:1], joined[here:]])
    return joined


def has_hole(mask: ObjectMask) -> bool:
    """Whether a polygon around the mask covers more than it does."""
    return bool((_filled(mask) & ~mask).any())


def _filled(mask: ObjectMask) -> ObjectMask:
    window = bounding_window(mask)
    filled = mask.copy()
    filled[window] = ndimage.binary_fill_holes(mask[window])
    return filled


def _opened(polygon: Polygon, line: Polygon) -> Polygon:
    """A closed line without its last corner, the first again; the exact one where what is left of it has no area."""
    return polygon[:-1] if len(polygon) > 3 else line[:-1]


def _extent(polygon: Polygon) -> float:
    return float(np.ptp(polygon, axis=0).prod())
