"""Sums over maps, and quotients that may be undefined."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Values = NDArray[np.float64]
Maps = NDArray[np.floating[Any]]


def ratio(numerator: ArrayLike, denominator: ArrayLike) -> Values:
    """Numerator over denominator; NaN where the denominator is not above zero or either is undefined."""
    top, bottom = np.broadcast_arrays(
        np.asarray(numerator, dtype=np.float64), np.asarray(denominator, dtype=np.float64)
    )
    return np.asarray(np.divide(top, bottom, out=np.full(top.shape, np.nan), where=bottom > 0))


def mass(maps: Maps, weights: Maps | None = None) -> Values:
    """Sum of each map (N, H, W), each pixel times its weight (N, H, W) or (H, W) if given: (N,).

    Raises ValueError if shapes do not fit.
    """
    if maps.ndim != 3:
        raise ValueError(f"maps of shape {maps.shape}; give a batch (N, H, W)")
    if weights is None:
        by_row = np.einsum("nhw->nh", maps)
    elif weights.shape == maps.shape:
        by_row = np.einsum("nhw,nhw->nh", maps, weights)
    elif weights.shape == maps.shape[1:]:
        by_row = np.einsum("nhw,hw->nh", maps, weights)
    else:
        raise ValueError(f"weights of shape {weights.shape} for maps of shape {maps.shape}")
    # Rows in the maps' own precision, their sum in double: as exact as needed at half the time.
    return np.asarray(by_row.sum(axis=1, dtype=np.float64))
