"""Gaussian blur of images as two matrix products: exact, and quick for a wide kernel."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

BLUR_SIGMA = 0.1
"""Standard deviation of the blur that replaces hidden pixels, as a share of the view's side."""


@lru_cache(maxsize=8)
def _blur_matrix(side: int, sigma: float) -> Tensor:
    """Gaussian blur of a line of ``side`` pixels as a matrix, mirrored at the ends, cut at 4 sigma, float64."""
    reach = math.ceil(4 * sigma)
    offsets = np.arange(-reach, reach + 1)
    kernel = np.exp(-0.5 * (offsets / sigma) ** 2)
    kernel /= kernel.sum()
    # Mirror without repeating the edge pixel: ... 2 1 0 1 2 ...
    period = max(2 * (side - 1), 1)
    source = (np.arange(side)[:, None] + offsets) % period
    source = np.where(source >= side, period - source, source)
    matrix = np.zeros((side, side))
    np.add.at(matrix, (np.arange(side)[:, None], source), np.broadcast_to(kernel, source.shape))
    return torch.from_numpy(matrix)


def blur(images: Tensor) -> Tensor:
    """Gaussian blur of images (N, 3, H, W), sigma = 10% of the view's longer side."""
    height, width = images.shape[2:]
    sigma = BLUR_SIGMA * max(height, width)
    rows = _blur_matrix(height, sigma).to(images)
    columns = _blur_matrix(width, sigma).to(images)
    return torch.matmul(torch.matmul(rows, images), columns.T)
