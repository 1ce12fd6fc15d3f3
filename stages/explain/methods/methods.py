"""Every saliency method behind one function: Opti-CAM, the methods of the package grad-cam, and the null maps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from stages.explain.opticam.layer import TargetLayer
from stages.explain.opticam.objective import Normalization
from stages.explain.opticam.opticam import OptiCam, statuses

Method = Literal[
    "opti_cam",
    "grad_cam",
    "grad_cam_pp",
    "score_cam",
    "layer_cam",
    "hires_cam",
    "ablation_cam",
    "uniform",
    "fake_cam",
    "center",
]

NULLS: tuple[Method, ...] = ("uniform", "fake_cam", "center")
"""Null maps: methods that use neither image nor network; a method that tells something scores above them."""

CENTER_SIGMA = 0.25
"""Standard deviation of the Gaussian of ``center``, as a share of the view's side."""

TRACE = ("objective_start", "objective_best", "iterations")
"""Columns of ``explain`` that say how a map came about; null for methods that do not iterate."""


@dataclass(frozen=True)
class MethodMaps:
    """The maps of a batch of N images as they are stored, and how they came about."""

    grid: Tensor
    """Raw S, (N, h, w): at the layer's grid, or at the view's size for a null map."""
    status: tuple[str, ...]
    """Per image: ``ok``, ``degenerate_map`` or ``non_finite``."""
    trace: tuple[dict[str, float | int | None], ...]
    """Per image: the columns of ``TRACE``."""


def optimizes(method: Method) -> bool:
    """Whether the optimiser's settings change the method's maps."""
    return method == "opti_cam"


def store_shape(method: Method, layer: TargetLayer, size: int) -> tuple[int, int]:
    """(h, w) of the maps as they are stored; ``size`` is the view's side."""
    return (size, size) if method in NULLS else layer.grid


def map_normalization(method: Method, chosen: Normalization) -> Normalization:
    """How a stored map becomes a mask. A null map is one already: ``max`` leaves it as it is, a constant too."""
    return "max" if method in NULLS else chosen


def require(method: Method) -> None:
    """Raise UserError if the method needs a package that is not installed."""
    if method not in NULLS and not optimizes(method):
        from stages.explain.methods.baselines import load_package

        load_package()


def maps_of(
    method: Method, opticam: OptiCam, images: Tensor, features: Tensor, targets: Tensor, count: int
) -> MethodMaps:
    """Maps of images (N, 3, H, W) in [0, 1] for the classes ``targets`` (N,).

    ``features`` (N, K, h, w) are the images' feature maps. Images from ``count`` on only fill up the batch; methods
    that take image by image leave their maps NaN. N is also the number of masked images in one forward pass of those.
    """
    size = (int(images.shape[2]), int(images.shape[3]))
    if method in NULLS:
        grid = null_map(method, size).to(images).expand(len(images), *size)
        return MethodMaps(grid, ("ok",) * len(images), _no_trace(len(images)))
    if optimizes(method):
        result = opticam.maximize(images, features, targets)
        columns = (result.objective_start, result.objective_best, result.iterations)
        values = zip(*(column.tolist() for column in columns), strict=True)
        return MethodMaps(result.grid, result.status, tuple(dict(zip(TRACE, row, strict=True)) for row in values))
    from stages.explain.methods.baselines import package_maps

    inputs = (opticam.prepare(images) - opticam.mean) / opticam.std
    grid = package_maps(method, opticam.network, opticam.layer, inputs, features, targets, count)
    return MethodMaps(grid, statuses(grid, grid.isfinite().flatten(1).all(1)), _no_trace(len(images)))


def null_map(method: Method, size: tuple[int, int]) -> Tensor:
    """A null map at the view's size (height, width), in [0, 1], float32.

    - ``uniform``: ones.
    - ``fake_cam``: ones but for the top left pixel, which is zero (paper, section 4: it wins AD and AI, not AG).
    - ``center``: a Gaussian in the middle, sigma = 25% of the view's side.
    """
    if method == "center":
        offsets = [(torch.arange(side) + 0.5) / side - 0.5 for side in size]
        rows, columns = (torch.exp(-0.5 * (offset / CENTER_SIGMA) ** 2) for offset in offsets)
        gaussian = rows[:, None] * columns
        return gaussian / gaussian.max()
    ones = torch.ones(size)
    if method == "fake_cam":
        ones[0, 0] = 0
    return ones


def _no_trace(count: int) -> tuple[dict[str, float | int | None], ...]:
    return tuple(dict.fromkeys(TRACE) for _ in range(count))
