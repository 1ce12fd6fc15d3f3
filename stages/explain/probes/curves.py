"""Insertion and deletion curves: p of the class while pixels appear, or vanish, in the order of their saliency.

Petsiuk, Das, Saenko, "RISE: Randomized input sampling for explanation of black-box models", BMVC 2018.
"""

from __future__ import annotations

import torch
from torch import Tensor

from stages.explain.opticam.blur import rise_blur
from stages.explain.probes.probes import Probabilities

STEP = 224
"""Pixels that change between two points of a curve."""


@torch.no_grad()
def insertion_deletion(
    probabilities: Probabilities, images: Tensor, maps: Tensor, step: int = STEP
) -> tuple[Tensor, Tensor]:
    """Areas under the insertion and the deletion curve of each image: (N,) and (N,), in [0, 1].

    ``images`` (N, 3, H, W) are in [0, 1], ``maps`` (N, H, W) of any scale; the most salient pixels come first, ties by
    index. Insertion starts from the blurred image and puts pixels back; deletion turns pixels black. The area is the
    trapezoid rule's over the share of changed pixels. A curve is 1 + ceil(H W / step) forward passes of the N images.
    """
    ranks = saliency_ranks(maps)
    steps = -(-maps[0].numel() // step)

    def area(start: Tensor, finish: Tensor) -> Tensor:
        curve = torch.stack(
            [
                probabilities(torch.where((ranks < done * step)[:, None], finish, start)).double()
                for done in range(steps + 1)
            ]
        )
        return (curve.sum(0) - (curve[0] + curve[-1]) / 2) / steps

    return area(rise_blur(images), images), area(images, torch.zeros_like(images))


def saliency_ranks(maps: Tensor) -> Tensor:
    """Place of each pixel of maps (N, H, W) in its map's order, 0 for the most salient; ties by index."""
    order = maps.flatten(1).argsort(dim=1, descending=True, stable=True)
    places = torch.arange(order.shape[1], device=order.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, places).view(maps.shape)
