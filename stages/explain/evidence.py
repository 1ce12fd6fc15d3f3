"""The probes of one batch as values of the table ``explain``: which are defined, and whose proposal cost most."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stages.explain.blur import blur
from stages.explain.probes import PROBES, hide, outside_of, probe

MAP_PROBES = (
    "p_saliency",
    "p_saliency_in_box",
    "p_saliency_in_context",
    "p_hide_outside",
    "p_hide_inside",
    "p_crop",
)
"""Probes that a constant map leaves undefined."""


@dataclass(frozen=True)
class Explained:
    """A batch of N images with the maps of one class each, on the network's device."""

    images: Tensor
    """(N, 3, H, W) in [0, 1]."""
    targets: Tensor
    """Index of each image's explained class, (N,)."""
    maps: Tensor
    """The method's maps, (N, H, W) in [0, 1]."""
    second: Tensor
    """The maps of the second opinion on what to hide, (N, H, W), of any scale."""
    coverage: Tensor
    """Share of each pixel inside the ground-truth boxes, (N, H, W)."""
    has_box: Tensor
    """Whether a box is in view, (N,)."""
    seeds: Sequence[int]
    """Seed of each image's random blob."""
    status: Sequence[str]
    """Status of each map, of at least the first images."""


@torch.no_grad()
def evidence(
    softmax: Callable[[Tensor], Tensor], batch: Explained, grid: tuple[int, int], method: str
) -> list[dict[str, float | str | None]]:
    """Columns of ``explain`` that need forward passes, one dict an image that has a status.

    ``softmax`` takes images (N, 3, H, W) in [0, 1] to the probabilities of the classes (N, C). ``grid`` is that of the
    maps, ``method`` the name of what made them. Every forward pass is one of N images: a convolution rounds differently
    from one batch size to another.
    """

    def probabilities(pictures: Tensor) -> Tensor:
        return softmax(pictures).gather(1, batch.targets[:, None])[:, 0]

    found = probe(probabilities, batch.images, batch.maps, batch.coverage, batch.has_box, batch.seeds, grid)
    outside = outside_of(batch.coverage, batch.has_box)
    second = hide(probabilities, batch.images, blur(batch.images), batch.second, outside).tolist()
    columns = {name: found[name].tolist() for name in PROBES}
    rows = []
    for place, status in enumerate(batch.status):
        row: dict[str, float | str | None] = {name: defined(columns[name][place]) for name in PROBES}
        if status == "non_finite":
            row = dict.fromkeys(PROBES)
        elif status == "degenerate_map":
            row |= dict.fromkeys(MAP_PROBES)
        if row["p_hide_outside"] is not None:
            # Two maps propose what to hide; the one whose proposal costs more is the evidence.
            better = second[place] < columns["p_hide_outside"][place]
            row["hide_locator"] = "grad_cam" if better else method
            if better:
                row["p_hide_outside"] = second[place]
        rows.append(row)
    return rows


def defined(value: float | None) -> float | None:
    """None for NaN and infinity, the value otherwise."""
    return None if value is None or not math.isfinite(value) else value
