"""Probes: the probability of a class on masked versions of the image, which say what the network needs.

A handful of forward passes beside the hundred iterations of a map. Where a map points is a description; what happens
to the probability when the pointed-at part is hidden is evidence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from stages.explain.blur import blur
from stages.explain.opticam import upsample
from stages.geometry import largest_component_box

PROBES_VERSION = 2
HIDDEN_FRACTION = 0.1
"""Share of the view's pixels that the hiding probes replace."""

PROBES = (
    "p_saliency",
    "p_box",
    "p_context",
    "p_saliency_in_box",
    "p_saliency_in_context",
    "p_hide_outside",
    "p_hide_inside",
    "p_hide_random",
    "p_crop",
)

Probabilities = Callable[[Tensor], Tensor]
"""Images (N, 3, H, W) in [0, 1] to the probability of each image's explained class, (N,)."""


@torch.no_grad()
def probe(
    probabilities: Probabilities,
    images: Tensor,
    maps: Tensor,
    coverage: Tensor,
    has_box: Tensor,
    seeds: Sequence[int],
    grid: tuple[int, int],
) -> dict[str, Tensor]:
    """Every probe of a batch: name to (N,), NaN where it is undefined.

    ``images`` (N, 3, H, W) and ``maps`` (N, H, W) are in [0, 1], ``coverage`` (N, H, W) is the share of each pixel
    inside the ground-truth boxes, ``has_box`` (N,) says whether a box is in view. ``seeds`` and ``grid`` shape the
    random blobs: one seed an image, blobs as smooth as a map of that grid. A probe of the boxes is undefined without a
    box; hiding 10% of the view outside (inside) is undefined where fewer pixels lie outside (inside).
    """
    mask, inside = maps[:, None], coverage[:, None]
    nan = torch.full_like(maps[:, 0, 0], torch.nan)
    blurred = blur(images)
    outside_pixels = outside_of(coverage, has_box)
    inside_pixels = (coverage >= 1 - 1e-6) & has_box[:, None, None]

    def boxed(picture: Tensor) -> Tensor:
        return torch.where(has_box, probabilities(picture), nan)

    def hiding(saliency: Tensor, allowed: Tensor) -> Tensor:
        return hide(probabilities, images, blurred, saliency, allowed)

    return {
        "p_saliency": probabilities(images * mask),
        "p_box": boxed(images * inside),
        "p_context": boxed(images * (1 - inside)),
        "p_saliency_in_box": boxed(images * mask * inside),
        "p_saliency_in_context": boxed(images * mask * (1 - inside)),
        "p_hide_outside": hiding(maps, outside_pixels),
        "p_hide_inside": hiding(maps, inside_pixels),
        "p_hide_random": hiding(random_blobs(seeds, grid, maps), outside_pixels),
        "p_crop": probabilities(crops(images, maps)),
    }


def outside_of(coverage: Tensor, has_box: Tensor) -> Tensor:
    """Pixels (N, H, W) that lie wholly outside the boxes; none where there is no box."""
    return (coverage <= 1e-6) & has_box[:, None, None]


@torch.no_grad()
def hide(probabilities: Probabilities, images: Tensor, blurred: Tensor, saliency: Tensor, allowed: Tensor) -> Tensor:
    """p (N,) with the most salient of the allowed pixels blurred, 10% of the view; NaN if fewer are allowed."""
    hidden, defined = most_salient(saliency, allowed, hidden_pixels(*saliency.shape[1:]))
    p = probabilities(torch.where(hidden[:, None], blurred, images))
    return torch.where(defined, p, torch.nan)


def hidden_pixels(height: int, width: int) -> int:
    """How many pixels the hiding probes replace: exactly 10% of the view, rounded."""
    return round(HIDDEN_FRACTION * height * width)


def most_salient(saliency: Tensor, allowed: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The ``count`` allowed pixels of highest saliency in each map (N, H, W), ties by index.

    Returns the hidden pixels (N, H, W), bool, and whether there are that many allowed ones, (N,); where there are not,
    nothing is hidden.
    """
    flat = torch.where(allowed, saliency, -torch.inf).flatten(1)
    order = flat.sort(dim=1, descending=True, stable=True).indices[:, :count]
    defined = allowed.flatten(1).sum(1) >= count
    hidden = torch.zeros_like(flat, dtype=torch.bool).scatter_(1, order, True)
    return hidden.view_as(allowed) & defined[:, None, None], defined


def random_blobs(seeds: Sequence[int], grid: tuple[int, int], like: Tensor) -> Tensor:
    """Seeded uniform noise at ``grid``, upsampled as a map is: (N, H, W) like ``like``."""
    noise = [np.random.default_rng(seed).random(grid, dtype=np.float64) for seed in seeds]
    return upsample(torch.from_numpy(np.stack(noise)).to(like), (like.shape[1], like.shape[2]))


def crops(images: Tensor, maps: Tensor) -> Tensor:
    """Each image's crop to the box of the largest component of S > mean(S), resized to the view.

    A map without such a component keeps the whole view.
    """
    size = (images.shape[2], images.shape[3])
    boxes = largest_component_box(maps.float().cpu().numpy())
    pictures = []
    for image, box in zip(images, boxes, strict=True):
        x0, y0, x1, y1 = (0, 0, size[1], size[0]) if np.isnan(box).any() else (int(edge) for edge in box)
        pictures.append(F.interpolate(image[None, :, y0:y1, x0:x1], size=size, mode="bilinear", align_corners=False))
    return torch.cat(pictures)
