"""Gaussian blurs of images as two matrix products: exact, and quick for a wide kernel."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

BLUR_SIGMA = 0.1
"""Standard deviation of the blur that replaces hidden pixels, as a share of the view's side."""

RISE_KERNEL, RISE_SIGMA = 11, 5.0
"""Width and standard deviation, px, of the blur from which RISE's insertion starts."""


def blur(images: Tensor) -> Tensor:
    """Gaussian blur of images (N, 3, H, W), sigma = 10% of the view's longer side, cut at 4 sigma."""
    height, width = images.shape[2:]
    sigma = BLUR_SIGMA * max(height, width)
    return _separable(images, _gaussian_matrix(height, sigma), _gaussian_matrix(width, sigma))


def rise_blur(images: Tensor) -> Tensor:
    """The blur of RISE's evaluation (Petsiuk et al., 2018) of images (N, 3, H, W): 11 x 11 px, sigma 5.

    The kernel is theirs: a Gaussian with the tails beyond 11 px folded back in. At the view's edge the image is
    mirrored; theirs is padded with the mean colour of the training set.
    """
    return _separable(images, _rise_matrix(images.shape[2]), _rise_matrix(images.shape[3]))


def _separable(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    return torch.matmul(torch.matmul(rows.to(images), images), columns.to(images).T)


@lru_cache(maxsize=8)
def _gaussian_matrix(side: int, sigma: float) -> Tensor:
    reach = math.ceil(4 * sigma)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    return _matrix(side, kernel / kernel.sum())


@lru_cache(maxsize=4)
def _rise_matrix(side: int) -> Tensor:
    impulse = np.zeros(RISE_KERNEL)
    impulse[RISE_KERNEL // 2] = 1
    return _matrix(side, ndimage.gaussian_filter1d(impulse, RISE_SIGMA))


def _matrix(side: int, kernel: NDArray[np.float64]) -> Tensor:
    """Convolution of a line of ``side`` pixels with an odd kernel as a matrix, mirrored at the ends, float64."""
    offsets = np.arange(len(kernel)) - len(kernel) // 2
    # Mirror without repeating the edge pixel: ... 2 1 0 1 2 ...
    period = max(2 * (side - 1), 1)
    source = (np.arange(side)[:, None] + offsets) % period
    source = np.where(source >= side, period - source, source)
    matrix = np.zeros((side, side))
    np.add.at(matrix, (np.arange(side)[:, None], source), np.broadcast_to(kernel, source.shape))
    return torch.from_numpy(matrix)
