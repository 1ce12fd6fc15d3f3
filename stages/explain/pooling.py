"""What was hidden, as the network sees it: feature maps averaged over a region of the view."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


@torch.no_grad()
def pool(features: Tensor, region: Tensor) -> Tensor:
    """Feature maps (N, K, h, w) averaged over a region (N, H, W) of the view, weights at least 0: (N, K).

    sum over places of A_k(place) * w(place), with w the region's mean over each place's cell, scaled to sum to 1. NaN
    where the region is empty.
    """
    weights = F.interpolate(region[:, None].to(features), size=features.shape[2:], mode="area").flatten(1)
    weights = weights / weights.sum(1, keepdim=True)
    pooled: Tensor = torch.bmm(features.flatten(2), weights[:, :, None])[:, :, 0]
    return pooled
