"""How alike two saliency maps of one image are, by the three measures of Adebayo et al., NeurIPS 2018."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from skimage.feature import hog
from skimage.metrics import structural_similarity

from stages.statistics import rank_correlation

Map = NDArray[np.floating[Any]]

HOG_CELLS = 14
"""Cells of the histogram of oriented gradients along a side of the view: 16 px each at 224 px."""


def ssim(a: Map, b: Map) -> float:
    """Structural similarity (Wang et al., 2004) of maps (H, W) in [0, 1], windows of 7 x 7 px; NaN if not finite."""
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return np.nan
    return float(structural_similarity(a, b, data_range=1.0))


def hog_correlation(a: Map, b: Map) -> float:
    """Pearson correlation of the maps' histograms of oriented gradients, in [-1, 1].

    9 orientations, 14 cells along a side, each normalised by itself. NaN where a map is constant or not finite.
    """
    if not _vary(a, b):
        return np.nan
    cell = tuple(max(1, side // HOG_CELLS) for side in a.shape)
    first, second = (hog(one, orientations=9, pixels_per_cell=cell, cells_per_block=(1, 1)) for one in (a, b))
    return float(stats.pearsonr(first, second).statistic) if _vary(first, second) else np.nan


METRICS: dict[str, Callable[[Map, Map], float]] = {"spearman": rank_correlation, "ssim": ssim, "hog": hog_correlation}


def _vary(*maps: Map) -> bool:
    return all(bool(np.isfinite(one).all()) and float(np.ptp(one)) > 0 for one in maps)
