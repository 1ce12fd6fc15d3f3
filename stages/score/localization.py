"""How a map lies to the ground truth: energy, pointing game, the box of the map, pixel F1.

Maps (N, H, W) are in [0, 1] at the view's resolution. ``coverage`` (N, H, W) is the share of each pixel inside U, a
sample's mask or else the union of its boxes; ``boxes`` (N, K, 4) are the boxes themselves in view px, rows of NaN where
a sample has fewer, and ``places`` (N, M, 4) likewise: the boxes, or of a mask :func:`pixel_runs`. ``others`` (N, H, W)
is the share of each pixel that is another class's object, which is neither U nor background; None: of no pixel.
Results are (N,), NaN where undefined: no box in view, a map without mass, a constant map where a maximum is asked for.
Definitions: the paper's Appendix B.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from stages.geometry import EIGHT_NEIGHBOURS, Boxes, bounding_window
from stages.score.ratio import Maps, Values, mass, ratio

POINTING_TOLERANCE = 15.0
"""Distance from a box at which ``pointing_hit_tol`` still counts the map's maximum as inside, view px."""
LARGEST_PLATEAU = 0.05
"""Share of the view that tied maxima may cover and still be a place."""


def pad_boxes(boxes: Sequence[Boxes]) -> Boxes:
    """Boxes (n_i, 4) of N samples as one array (N, K, 4), K the largest n_i and at least 1, padded with NaN."""
    padded = np.full((len(boxes), max([1, *map(len, boxes)]), 4), np.nan)
    for index, own in enumerate(boxes):
        padded[index, : len(own)] = own
    return padded


def pixel_runs(inside: NDArray[np.float32]) -> Boxes:
    """The pixels (H, W) of which at least half is ``inside``, as boxes (n, 4) of the runs of each row.

    Of an object so thin that no pixel is, those of which most is inside. None where nothing is.
    """
    most = float(inside.max())
    within = np.pad(inside >= min(0.5, most), ((0, 0), (1, 1))) if most > 0 else np.zeros_like(inside, dtype=bool)
    edges = np.diff(within.astype(np.int8), axis=1)
    (row, start), (_, stop) = np.nonzero(edges > 0), np.nonzero(edges < 0)
    return np.stack([start, row, stop, row + 1], axis=1).astype(np.float64)


def counted(maps: Maps, others: Maps | None) -> Maps:
    """The maps without what of them lies on other classes' objects."""
    return maps if others is None else maps * (1 - others)


def box_area_frac(coverage: Maps, others: Maps | None = None) -> Values:
    """Area of U as a share of the view without other classes' objects, in (0, 1]: the energy of a uniform map."""
    pixels = coverage.shape[1] * coverage.shape[2]
    area = mass(coverage) / (pixels if others is None else pixels - mass(others))
    return np.where(area > 0, area, np.nan)


def energy_in(maps: Maps, coverage: Maps, others: Maps | None = None) -> Values:
    """Share of the map's mass inside U, in [0, 1]: EP, and the precision P of pixel F1."""
    in_view = mass(coverage) > 0
    return np.where(in_view, ratio(mass(maps, coverage), mass(counted(maps, others))), np.nan)


def pixel_f1(maps: Maps, coverage: Maps, others: Maps | None = None) -> Values:
    """Harmonic mean of P = mass in U / mass and R = mass in U / area of U, in [0, 1]."""
    # 2 P R / (P + R) with both written out; unlike the quotient it needs no case for a map that misses U.
    area, whole = mass(coverage), mass(counted(maps, others))
    return ratio(2 * mass(maps, coverage), np.where((area > 0) & (whole > 0), whole + area, np.nan))


def pointing_distance(maps: Maps, places: Boxes, others: Maps | None = None) -> Values:
    """Distance of the map's maximum from the nearest of a sample's ``places``, view px; 0 where it lies in one.

    The maximum is a place, not a pixel: upsampling repeats the border cells of a grid, so a map that is highest there
    has a plateau of tied maxima at the view's edge. The largest connected plateau counts (pixels touch by sides and
    corners; of plateaus alike in size, the farthest), and its distance is the least within which at least half of its
    pixels lie, each measured from its centre. Undefined where that plateau covers more than ``LARGEST_PLATEAU`` of the
    view: such a map, a constant one among them, points nowhere. Undefined too where at least half of it lies on other
    classes' objects, pixels that are theirs by half: it is no hit, and no miss into the background.
    """
    count, height, width = maps.shape
    distance = np.full(count, np.nan)
    placed = ~np.isnan(places).all(axis=(1, 2))
    for index in np.flatnonzero(placed & np.isfinite(maps).all(axis=(1, 2))):
        highest = maps[index] == maps[index].max()
        window = bounding_window(highest)
        plateaus, _ = ndimage.label(highest[window], structure=EIGHT_NEIGHBOURS)
        sizes = np.bincount(plateaus.ravel())[1:]
        if sizes.max() <= LARGEST_PLATEAU * height * width:
            largest = 1 + np.flatnonzero(sizes == sizes.max())
            top, left = window[0].start, window[1].start
            theirs = np.zeros_like(plateaus, dtype=bool) if others is None else others[index][window] >= 0.5
            if any(2 * theirs[plateaus == plateau].sum() >= sizes[plateau - 1] for plateau in largest):
                continue
            distance[index] = max(
                _half_within(row + top + 0.5, column + left + 0.5, places[index])
                for row, column in (np.nonzero(plateaus == plateau) for plateau in largest)
            )
    return distance


def _half_within(y: Values, x: Values, boxes: Boxes) -> float:
    """Least distance, px, from the boxes (K, 4) within which at least half of the points (n,) lie."""
    x0, y0, x1, y1 = boxes.T[:, :, None]
    across = np.maximum(np.maximum(x0 - x, x - x1), 0)
    down = np.maximum(np.maximum(y0 - y, y - y1), 0)
    nearest = np.fmin.reduce(np.hypot(across, down), axis=0)
    return float(np.sort(nearest)[(len(nearest) - 1) // 2])


def pointing_hit(distance: ArrayLike, tolerance: float = 0.0) -> Values:
    """Pointing game (SP): 1 where at least half of the map's maximum lies in a box or up to ``tolerance`` px from one,
    else 0; NaN where the distance is."""
    away = np.asarray(distance, dtype=np.float64)
    return np.where(np.isnan(away), np.nan, away <= tolerance)


def centroid_distance(maps: Maps, coverage: Maps, boxes: Boxes) -> Values:
    """Distance of the map's centre of mass from the nearest of the boxes' centres and U's centre of mass, in [0, 1].

    As a share of the view's diagonal. With U among the candidates, a map that covers two objects alike is not far off,
    although it is centred between them.
    """
    centre = _centre_of_mass(maps)[:, None]
    middles = np.stack([boxes[..., 0] + boxes[..., 2], boxes[..., 1] + boxes[..., 3]], axis=-1) / 2
    candidates = np.concatenate([middles, _centre_of_mass(coverage)[:, None]], axis=1)
    nearest = np.fmin.reduce(np.linalg.norm(centre - candidates, axis=-1), axis=1)
    return np.asarray(nearest / np.hypot(*maps.shape[1:]))


def _centre_of_mass(maps: Maps) -> Values:
    """(x, y) of each map's centre of mass, px: (N, 2); NaN without mass."""
    height, width = maps.shape[1:]
    columns = np.einsum("nhw->nw", maps).astype(np.float64) @ (np.arange(width) + 0.5)
    rows = np.einsum("nhw->nh", maps).astype(np.float64) @ (np.arange(height) + 0.5)
    return ratio(np.stack([columns, rows], axis=1), mass(maps)[:, None])


def intersection_over_union(first: Boxes, second: Boxes) -> Values:
    """IoU of boxes (..., 4) with boxes (..., 4), broadcast against each other; NaN where either is NaN."""
    low = np.maximum(first[..., :2], second[..., :2])
    high = np.minimum(first[..., 2:], second[..., 2:])
    shared = np.clip(high - low, 0, None).prod(axis=-1)
    areas = [(box[..., 2:] - box[..., :2]).prod(axis=-1) for box in (first, second)]
    return ratio(shared, areas[0] + areas[1] - shared)


def iou_best(map_boxes: Boxes, boxes: Boxes) -> Values:
    """Highest IoU of the map's box B_p (N, 4) with a ground-truth box, in [0, 1].

    B_p is ``stages.geometry.largest_component_box``.
    """
    overlaps: Values = np.fmax.reduce(intersection_over_union(map_boxes[:, None], boxes), axis=1)
    return overlaps


def localization_error(best: ArrayLike) -> Values:
    """LE = 1 - highest IoU, in [0, 1]; lower is better."""
    return 1 - np.asarray(best, dtype=np.float64)


def official_metric(best: ArrayLike, correct: ArrayLike) -> Values:
    """OM = 1 - highest IoU where the predicted class is right, else 1. ``correct`` (N,): 1, 0, NaN = unknown."""
    right = np.asarray(correct, dtype=np.float64)
    error = localization_error(best)
    return np.where(np.isnan(right) | np.isnan(error), np.nan, np.where(right > 0, error, 1.0))
