"""How a map spreads over the view, boxes aside. Maps (N, H, W) in [0, 1]; NaN for a map without mass."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from stages.geometry import ViewTransform
from stages.score.ratio import Maps, Values, mass, ratio

BORDER_WIDTH = 0.05
"""Width of the frame of ``border_energy``, as a share of the view's side."""


def border_energy(maps: Maps, width: float = BORDER_WIDTH) -> Values:
    """Share of the map's mass in the outer frame of the view, in [0, 1].

    The frame is ``width`` of the view's height wide at top and bottom and ``width`` of its width at the sides, partial
    pixels by area. The uniform map scores 1 - (1 - 2 width)^2, .19 by default.
    """
    return ratio(mass(maps, _frame(maps.shape[1], maps.shape[2], width)), mass(maps))


def entropy(maps: Maps) -> Values:
    """Entropy of the map as a distribution over pixels, over log of their number: 0 for one pixel, 1 for all alike."""
    pixels = maps.shape[1] * maps.shape[2]
    if pixels == 1:
        return np.where(mass(maps) > 0, 0.0, np.nan)
    whole = mass(maps)
    # -sum p log p with p = S / mass is log mass - sum(S log S) / mass, and S log S is 0 where S is.
    logs = np.maximum(maps, np.finfo(maps.dtype).tiny)
    expected = ratio(mass(maps, np.log(logs, out=logs)), whole)
    log_mass = np.log(whole, out=np.full(whole.shape, np.nan), where=whole > 0)
    return np.asarray(np.clip((log_mass - expected) / np.log(pixels), 0, 1))


@lru_cache(maxsize=8)
def _frame(height: int, width: int, share: float) -> NDArray[np.float32]:
    whole = ViewTransform(width, height, width, height, 1.0, 1.0, 0.0, 0.0)
    inner = [share * width, share * height, (1 - share) * width, (1 - share) * height]
    frame = 1 - whole.coverage([inner])
    frame.flags.writeable = False
    return frame
