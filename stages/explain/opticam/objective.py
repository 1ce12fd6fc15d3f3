"""What is maximised, and how a saliency map becomes a mask (paper, sections 3.2 to 3.4)."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

Objective = Literal["mask", "diff", "iomask", "iodiff", "margin"]
Normalization = Literal["range", "max", "sigmoid"]

NEEDS_COMPLEMENT: tuple[Objective, ...] = ("iomask", "iodiff")
"""Objectives that look at the network on the complement of the mask too."""

SCALE_INVARIANT: tuple[Normalization, ...] = ("range", "max")
"""Normalisations that do not change when S is multiplied by a positive number."""

DEGENERATE_RANGE = 1e-30
"""A map whose range (or maximum) is not above this is constant: it gives the zero mask and no gradient."""


def objective_value(
    objective: Objective, targets: Tensor, full: Tensor, masked: Tensor, complement: Tensor | None = None
) -> Tensor:
    """The objective F of each image, (N,), logits.

    ``full``, ``masked`` and ``complement`` are logits (N, C) of f(x), f(x * m) and f(x * (1 - m)); g is the logit of
    ``targets`` (N,).

    - ``mask``: g(f(x * m)), equation 10.
    - ``diff``: -|g(f(x)) - g(f(x * m))|.
    - ``iomask``: g(f(x * m)) - g(f(x * (1 - m))).
    - ``iodiff``: diff + |g(f(x)) - g(f(x * (1 - m)))|.
    - ``margin``: g(f(x * m)) minus the highest other logit of f(x * m); not in the paper.
    """
    inside = _logit(masked, targets)
    if objective == "mask":
        return inside
    if objective == "margin":
        others = masked.scatter(1, targets[:, None], -torch.inf)
        return inside - others.amax(1)
    if objective == "diff":
        return -(_logit(full, targets) - inside).abs()
    if complement is None:
        raise ValueError(f"the objective {objective!r} needs the logits on the complement of the mask")
    outside = _logit(complement, targets)
    if objective == "iomask":
        return inside - outside
    if objective == "iodiff":
        whole = _logit(full, targets)
        return (whole - outside).abs() - (whole - inside).abs()
    raise ValueError(f"objective {objective!r} is unknown; there are {', '.join(get_args(Objective))}")


def _logit(logits: Tensor, targets: Tensor) -> Tensor:
    return logits.gather(1, targets[:, None])[:, 0]


def normalize(maps: Tensor, kind: Normalization = "range") -> Tensor:
    """Masks of maps (N, H, W), section 3.3; zero, and without gradient, where nothing stands out.

    - ``range``: (S - min) / (max - min), in [0, 1].
    - ``max``: S / max, at most 1; in [0, 1] for maps that are not negative. Zero where the maximum is not positive.
    - ``sigmoid``: 1 / (1 + exp(-S)).
    """
    if kind == "sigmoid":
        return maps.sigmoid()
    high = maps.amax((1, 2), keepdim=True)
    low = maps.amin((1, 2), keepdim=True) if kind == "range" else torch.zeros_like(high)
    span = high - low
    flat = span <= DEGENERATE_RANGE
    return torch.where(flat, torch.zeros_like(maps), (maps - low) / torch.where(flat, torch.ones_like(span), span))
