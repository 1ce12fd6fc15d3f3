"""What a map points at, as the network sees it: feature maps averaged under the map."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


@torch.no_grad()
def pool(features: Tensor, maps: Tensor) -> Tensor:
    """Feature maps (N, K, h, w) averaged under maps (N, H, W) of the view, which are nowhere negative: (N, K).

    sum over places of A_k(place) w(place), with w the map's mean over each place's cell, scaled to sum to 1. NaN where
    the map has no mass.
    """
    weights = F.interpolate(maps[:, None].to(features), size=features.shape[2:], mode="area").flatten(1)
    weights = weights / weights.sum(1, keepdim=True)
    pooled: Tensor = torch.bmm(features.flatten(2), weights[:, :, None])[:, :, 0]
    return pooled
