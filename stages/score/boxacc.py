"""BoxAcc and MaxBoxAccV2: how many boxes maps find at the one threshold that suits the whole dataset best.

The threshold is never chosen per image. IoUs are collected batch by batch, then judged together:

>>> ious = [threshold_ious(maps, boxes, THRESHOLDS, "all") for maps, boxes in batches]   # doctest: +SKIP
>>> max_box_acc(np.concatenate(ious), THRESHOLDS).mean                                   # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage

from stages.geometry import EIGHT_NEIGHBOURS, Boxes, largest_component_box
from stages.score.localization import intersection_over_union
from stages.score.ratio import Maps, Values

THRESHOLDS = np.arange(0, 1, 0.01)
"""Thresholds eta on maps in [0, 1]."""

IOU_LEVELS = (0.3, 0.5, 0.7)
"""IoUs delta from which a box counts as found."""


@dataclass(frozen=True)
class BoxAccuracy:
    """Share of samples whose box is found, at each IoU level, each with the dataset's best threshold."""

    levels: tuple[float, ...]
    accuracy: tuple[float, ...]
    thresholds: tuple[float, ...]
    samples: int

    @property
    def mean(self) -> float:
        """Mean over the levels, in [0, 1]."""
        return float(np.mean(self.accuracy))


def threshold_ious(
    maps: Maps, boxes: Boxes, thresholds: ArrayLike, contours: Literal["largest", "all"] = "largest"
) -> Values:
    """Highest IoU of a box of the map S > eta with a ground-truth box, for each threshold eta (T,): (N, T).

    ``largest`` takes the box of the largest connected component (MaxBoxAcc), ``all`` the boxes of every one
    (MaxBoxAccV2). Maps (N, H, W) in [0, 1], boxes (N, K, 4) in view px padded with NaN. 0 where the threshold leaves
    nothing of the map; NaN where undefined: no box, a constant map.
    """
    cuts = np.asarray(thresholds, dtype=np.float64)
    flat = maps.reshape(len(maps), -1)
    defined = (flat.max(axis=1) > flat.min(axis=1)) & ~np.isnan(boxes).all(axis=(1, 2))
    found = np.where(defined[:, None], np.zeros(len(cuts)), np.nan)
    for place, cut in enumerate(cuts):
        if contours == "largest":
            best = _best(largest_component_box(maps, cut)[:, None], boxes)
            found[:, place] = np.where(defined, np.nan_to_num(best), np.nan)
        else:
            for index in np.flatnonzero(defined):
                own = _component_boxes(maps[index] > cut)
                if len(own):
                    found[index, place] = _best(own[None], boxes[index : index + 1])[0]
    return found


def max_box_acc(ious: Values, thresholds: ArrayLike, levels: Sequence[float] = IOU_LEVELS) -> BoxAccuracy:
    """BoxAcc at the best threshold for the whole dataset, for each IoU level; MaxBoxAccV2 is its mean.

    ``ious`` (N, T) of :func:`threshold_ious`; samples of NaN are left out. Ties go to the lowest threshold. Accuracy
    is NaN without a sample.
    """
    cuts = np.asarray(thresholds, dtype=np.float64)
    known = ious[~np.isnan(ious).any(axis=1)]
    if not len(known):
        nothing = (float("nan"),) * len(levels)
        return BoxAccuracy(tuple(levels), nothing, nothing, 0)
    shares = [(known >= level).mean(axis=0) for level in levels]
    return BoxAccuracy(
        levels=tuple(levels),
        accuracy=tuple(float(share.max()) for share in shares),
        thresholds=tuple(float(cuts[share.argmax()]) for share in shares),
        samples=len(known),
    )


def _best(map_boxes: Boxes, boxes: Boxes) -> Values:
    """Highest IoU between map boxes (N, M, 4) and boxes (N, K, 4)."""
    overlaps = intersection_over_union(map_boxes[:, :, None], boxes[:, None])
    return np.asarray(np.fmax.reduce(overlaps.reshape(len(boxes), -1), axis=1))


def _component_boxes(bright: np.ndarray[tuple[int, int], np.dtype[np.bool_]]) -> Boxes:
    labels, _ = ndimage.label(bright, structure=EIGHT_NEIGHBOURS)
    places = ndimage.find_objects(labels)
    boxes = [(columns.start, rows.start, columns.stop, rows.stop) for rows, columns in places]
    return np.array(boxes, dtype=np.float64).reshape(-1, 4)
