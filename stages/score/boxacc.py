"""BoxAcc and MaxBoxAccV2: how many boxes maps find at the one threshold that suits the whole dataset best.

The threshold is never chosen per image. What each threshold finds is counted batch by batch, then judged together:

>>> counts = [count_found(threshold_ious(maps, boxes).every) for maps, boxes in batches]   # doctest: +SKIP
>>> best_thresholds(sum(counts, start=NOTHING_FOUND)).mean                                 # doctest: +SKIP

Choe, Oh, Lee, Chun, Akata, Shim, "Evaluating weakly supervised object localization methods right", CVPR 2020.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from stages.geometry import EIGHT_NEIGHBOURS, Boxes
from stages.score.localization import intersection_over_union
from stages.score.ratio import Maps, Values

THRESHOLDS = np.arange(0, 1, 0.01)
"""Thresholds eta on maps in [0, 1]."""

IOU_LEVELS = (0.3, 0.5, 0.7)
"""IoUs delta from which a box counts as found."""


@dataclass(frozen=True)
class ThresholdIous:
    """Highest IoU of a box of the map S > eta with a ground-truth box, for each threshold eta: (N, T) each."""

    largest: Values
    """Of the box of the largest connected component (BoxAcc)."""
    every: Values
    """Of the boxes of all components (MaxBoxAccV2)."""


@dataclass(frozen=True)
class FoundCounts:
    """How many of ``samples`` samples have their box found, at each IoU level and threshold: (levels, T)."""

    samples: int
    found: NDArray[np.int64]

    def __add__(self, other: FoundCounts) -> FoundCounts:
        return FoundCounts(self.samples + other.samples, self.found + other.found)


NOTHING_FOUND = FoundCounts(0, np.zeros((len(IOU_LEVELS), len(THRESHOLDS)), dtype=np.int64))


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


def threshold_ious(maps: Maps, boxes: Boxes, thresholds: ArrayLike = THRESHOLDS) -> ThresholdIous:
    """What the maps (N, H, W) in [0, 1] find of the boxes (N, K, 4), view px padded with NaN, at each threshold.

    0 where the threshold leaves nothing of the map; NaN where undefined: no box, a constant map. Raises ValueError for
    thresholds that do not rise.
    """
    cuts = np.asarray(thresholds, dtype=np.float64)
    if (np.diff(cuts) <= 0).any():
        raise ValueError("thresholds must rise")
    flat = maps.reshape(len(maps), -1)
    defined = (flat.max(axis=1) > flat.min(axis=1)) & ~np.isnan(boxes).all(axis=(1, 2))
    shape = (len(maps), len(cuts))
    largest, every = (np.where(defined[:, None], np.zeros(shape), np.nan) for _ in range(2))
    for index in np.flatnonzero(defined):
        found = list(_components(maps[index], cuts))
        if not found:
            continue
        places, leads, own = (np.array(column) for column in zip(*found, strict=True))
        overlaps = np.fmax.reduce(intersection_over_union(own[:, None], boxes[index]), axis=1)
        largest[index, places[leads]] = overlaps[leads]
        np.maximum.at(every[index], places, overlaps)
    return ThresholdIous(largest, every)


def count_found(ious: Values, levels: tuple[float, ...] = IOU_LEVELS) -> FoundCounts:
    """Counts of a batch from its IoUs (N, T); samples of NaN are left out."""
    known = ious[~np.isnan(ious).any(axis=1)]
    return FoundCounts(len(known), np.stack([(known >= level).sum(axis=0) for level in levels]))


def best_thresholds(
    counts: FoundCounts, thresholds: ArrayLike = THRESHOLDS, levels: tuple[float, ...] = IOU_LEVELS
) -> BoxAccuracy:
    """BoxAcc at the best threshold for the whole dataset, for each IoU level; MaxBoxAccV2 is its mean.

    Ties go to the lowest threshold. Accuracy is NaN without a sample.
    """
    cuts = np.asarray(thresholds, dtype=np.float64)
    if not counts.samples:
        nothing = (float("nan"),) * len(levels)
        return BoxAccuracy(levels, nothing, nothing, 0)
    return BoxAccuracy(
        levels=levels,
        accuracy=tuple(float(found.max() / counts.samples) for found in counts.found),
        thresholds=tuple(float(cuts[found.argmax()]) for found in counts.found),
        samples=counts.samples,
    )


def _components(one: Maps, cuts: Values) -> Iterator[tuple[int, bool, tuple[int, int, int, int]]]:
    """Components of one map (H, W) above each cut: place of the cut, whether it is the largest there, its box.

    What is above a cut lies within what is above a lower one, so the part that is searched shrinks with every cut.
    """
    near = cuts.astype(one.dtype)
    # Rounded down to the map's precision: comparing there then decides as with the exact cut.
    near = np.where(near.astype(np.float64) > cuts, np.nextafter(near, one.dtype.type(-np.inf)), near)
    top = left = 0
    for place, cut in enumerate(near):
        bright = one > cut
        rows, columns = np.flatnonzero(bright.any(axis=1)), np.flatnonzero(bright.any(axis=0))
        if not len(rows):
            return
        window = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        one, bright, top, left = one[window], bright[window], top + rows[0], left + columns[0]
        labels, count = ndimage.label(bright, structure=EIGHT_NEIGHBOURS)
        if count == 1:
            yield place, True, (left, top, left + bright.shape[1], top + bright.shape[0])
            continue
        lead = np.bincount(labels.ravel())[1:].argmax()
        for index, (down, across) in enumerate(ndimage.find_objects(labels)):
            box = (left + across.start, top + down.start, left + across.stop, top + down.stop)
            yield place, index == lead, box
