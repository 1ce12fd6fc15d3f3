"""What a map would score without looking: energy against the boxes' area and against other places.

Shapes and what is undefined are as in :mod:`stages.score.localization`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import fft

from stages.score.ratio import Maps, Values, mass, ratio

SHARE_CLAMP = 0.01
"""Energy and area are kept this far from 0 and 1 before their log-odds are taken."""

TIE = 1e-6
"""Energies that differ by less than this share of the map's mass are equal: maps have float32's precision."""

GRID = 56
"""Moves of the boxes behind ``energy_null_pct`` are multiples of a side over this number."""


def energy_lift(energy: ArrayLike, area: ArrayLike) -> Values:
    """Energy over its null, the boxes' area: 1 for a map that looks everywhere, at most 1 / area."""
    return ratio(energy, area)


def energy_logodds(energy: ArrayLike, area: ArrayLike) -> Values:
    """logit(energy) - logit(area), both clamped to [.01, .99]: bounded by 9.2, also for big boxes."""
    return log_odds(energy, SHARE_CLAMP) - log_odds(area, SHARE_CLAMP)


def log_odds(probability: ArrayLike, clamp: float) -> Values:
    """Natural log of p / (1 - p) with p clamped to [clamp, 1 - clamp]."""
    kept = np.clip(np.asarray(probability, dtype=np.float64), clamp, 1 - clamp)
    return np.log(kept) - np.log1p(-kept)


MOST = 0.5
"""Share of the boxes' area that must lie beside other classes' objects where the boxes are moved to."""


def energy_null_pct(maps: Maps, coverage: Maps, grid: int = GRID, others: Maps | None = None) -> Values:
    """Share of other places in the view where the same boxes would hold less of the map's mass, in [0, 1].

    The boxes move together, without turning, as far as their bounding rectangle stays in the view, by multiples of
    ``side // grid`` px on each axis (at least 1 px; 4 px for a view of 224): their own place is left out, a tie counts
    half, so the uniform map scores one half. Mass is summed in blocks of that many pixels beforehand. Undefined where
    there is no other place.

    What lies on other classes' objects, the share ``others`` (N, H, W) of each pixel, does not count. Where the moved
    boxes lie on them in part, the mass per area that is left is compared; such a place counts if :data:`MOST` of the
    boxes' area is left.
    """
    height, width = maps.shape[1:]
    step_y, step_x = max(1, height // grid), max(1, width // grid)
    energy = _blocks(maps if others is None else maps * (1 - others), step_y, step_x)
    inside = _blocks(coverage, step_y, step_x) / (step_y * step_x)
    # Cross-correlation: entry k is the mass under the boxes moved by k blocks. The moves that are counted keep the
    # boxes in view, so nothing wraps around.
    spectrum = fft.rfft2(energy) * np.conj(fft.rfft2(inside))
    moved = fft.irfft2(spectrum, s=energy.shape[1:])
    rows, columns = coverage.max(axis=2) > 0, coverage.max(axis=1) > 0
    down, across = _moves(rows, step_y, moved.shape[1]), _moves(columns, step_x, moved.shape[2])
    counted = down[:, :, None] & across[:, None, :]
    counted[:, 0, 0] = False
    whole = mass(maps if others is None else maps * (1 - others))
    if others is not None and others.any():
        free = _blocks(1 - others, step_y, step_x)
        left = fft.irfft2(fft.rfft2(free) * np.conj(fft.rfft2(inside)), s=energy.shape[1:])
        own = left[:, :1, :1]
        partly = (mass(others) > 0)[:, None, None]
        least = (MOST - TIE) * own  # the transform rounds
        counted &= ~partly | (left >= least)
        moved = np.where(partly, moved * own / np.maximum(left, np.maximum(least, TIE)), moved)
    gap = moved - moved[:, :1, :1]
    margin = (TIE * whole)[:, None, None]
    less = (counted & (gap < -margin)).sum(axis=(1, 2))
    ties = (counted & (np.abs(gap) <= margin)).sum(axis=(1, 2))
    percentile = ratio(less + 0.5 * ties, counted.sum(axis=(1, 2)))
    return np.where(rows.any(axis=1) & (whole > 0), percentile, np.nan)


def _blocks(maps: Maps, step_y: int, step_x: int) -> NDArray[np.float64]:
    """Sums over blocks of step_y x step_x pixels; the last block of a side may be cut short by the map's edge."""
    count, height, width = maps.shape
    rows, columns = -(-height // step_y), -(-width // step_x)
    if (rows * step_y, columns * step_x) != (height, width):
        missing = ((0, 0), (0, rows * step_y - height), (0, columns * step_x - width))
        maps = np.pad(maps, missing)
    by_row = np.einsum("nrsc->nrc", maps.reshape(count, rows, step_y, columns * step_x))
    blocks = np.einsum("nrcs->nrc", by_row.reshape(count, rows, columns, step_x))
    return np.asarray(blocks, dtype=np.float64)


def _moves(occupied: NDArray[np.bool_], step: int, places: int) -> NDArray[np.bool_]:
    """Which moves by 0, 1, ..., -2, -1 blocks keep the occupied pixels (N, side) of an axis inside: (N, places)."""
    before = occupied.argmax(axis=1)
    after = occupied[:, ::-1].argmax(axis=1)
    forward = np.arange(places)
    ahead = forward <= (after // step)[:, None]
    back = forward >= (places - before // step)[:, None]
    return np.asarray(ahead | back)
