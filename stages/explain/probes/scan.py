"""An occlusion scan: windows over the view are hidden one by one, which finds what no map points at.

Zeiler and Fergus, "Visualizing and understanding convolutional networks", ECCV 2014, with a coarse lattice.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from stages.explain.probes.probes import Probabilities
from stages.masks import HIDDEN_FRACTION

LATTICE = 5
"""Windows along each axis."""

Window = tuple[int, int, int, int]
"""(x0, y0, x1, y1), half-open, view px."""


def windows(height: int, width: int) -> list[Window]:
    """Windows in reading order, evenly spread from edge to edge; each covers at most 10% of the view.

    Their sides are sqrt(10%) of the view's, rounded down: 70 px of 224. Neighbours overlap by almost a half.
    """
    tall, wide = (max(1, math.floor(math.sqrt(HIDDEN_FRACTION) * side)) for side in (height, width))
    rows = np.linspace(0, height - tall, LATTICE).round().astype(int).tolist()
    columns = np.linspace(0, width - wide, LATTICE).round().astype(int).tolist()
    return [(x, y, x + wide, y + tall) for y in rows for x in columns]


@torch.no_grad()
def scan(
    probabilities: Probabilities, images: Tensor, blurred: Tensor, allowed: Tensor
) -> tuple[Tensor, list[Window | None]]:
    """Lowest p (N,) over the windows, and the window of each image that gave it.

    In each window, the pixels that ``allowed`` (N, H, W) says are replaced by those of ``blurred``. NaN and None where
    no window holds an allowed pixel; of windows alike the first counts. One forward pass of the N images a window.
    """
    height, width = allowed.shape[1:]
    lowest = torch.full((len(images),), torch.inf, device=images.device)
    place = torch.full((len(images),), -1, device=images.device)
    lattice = windows(height, width)
    for index, (x0, y0, x1, y1) in enumerate(lattice):
        hidden = torch.zeros_like(allowed)
        hidden[:, y0:y1, x0:x1] = allowed[:, y0:y1, x0:x1]
        p = probabilities(torch.where(hidden[:, None], blurred, images))
        better = hidden.flatten(1).any(1) & (p < lowest)
        lowest = torch.where(better, p.to(lowest), lowest)
        place = torch.where(better, index, place)
    found = [None if index < 0 else lattice[index] for index in place.tolist()]
    return torch.where(place < 0, torch.nan, lowest), found
