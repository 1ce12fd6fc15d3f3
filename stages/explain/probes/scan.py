"""An occlusion scan: windows over the view are hidden one by one, which finds what no map points at.

Zeiler and Fergus, "Visualizing and understanding convolutional networks", ECCV 2014, with a coarse lattice.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from stages.explain.probes.probes import ClassProbabilities, in_passes, of_targets
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
    class_probabilities: ClassProbabilities, images: Tensor, targets: Tensor, blurred: Tensor, allowed: Tensor
) -> tuple[Tensor, list[Window | None]]:
    """Lowest p (N,) of each image's target over the windows, and the window that gave it.

    In each window, the pixels that ``allowed`` (N, H, W) says are replaced by those of ``blurred``. NaN and None where
    no window holds an allowed pixel; of windows alike the first counts. A window in which an image has no such pixel
    takes no forward pass, of N pictures each.
    """
    lattice, inside = windows(*allowed.shape[1:]), allowed.cpu()
    pairs = [
        (place, (x0, y0, x1, y1))
        for place in range(len(images))
        for x0, y0, x1, y1 in lattice
        if inside[place, y0:y1, x0:x1].any()
    ]

    def hidden(place: int, window: Window) -> Tensor:
        x0, y0, x1, y1 = window
        picture = images[place].clone()
        part, hides = picture[:, y0:y1, x0:x1], allowed[place, y0:y1, x0:x1]
        part.copy_(torch.where(hides, blurred[place, :, y0:y1, x0:x1], part))
        return picture

    table = in_passes(class_probabilities, (hidden(*pair) for pair in pairs), len(images))
    own = targets.tolist()
    lowest = [math.inf] * len(images)
    found: list[Window | None] = [None] * len(images)
    for (place, window), p in zip(pairs, of_targets(table, [own[place] for place, _ in pairs]), strict=True):
        if p < lowest[place]:
            lowest[place], found[place] = p, window
    values = [math.nan if window is None else p for p, window in zip(lowest, found, strict=True)]
    return torch.tensor(values, device=images.device), found
