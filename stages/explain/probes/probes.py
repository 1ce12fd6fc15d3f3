"""Probes: the probability of a class on masked versions of the image, which say what the network needs.

A handful of forward passes beside the hundred iterations of a map. Where a map points is a description; what happens
to the probability when the pointed-at part is hidden is evidence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from itertools import islice
from operator import mul

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from stages.explain.opticam.opticam import upsample
from stages.geometry import EIGHT_NEIGHBOURS, Boxes, largest_component_box
from stages.masks import hidden_pixels, kept_parts

PROBES_VERSION = 7
OTHERS_VERSION = 1
"""The same for what probes do with other classes' objects; shards without any have their digest as ever."""
Probabilities = Callable[[Tensor], Tensor]
"""Images (N, 3, H, W) in [0, 1] to the probability of each image's explained class, (N,)."""

ClassProbabilities = Callable[[Tensor], Tensor]
"""Images (N, 3, H, W) in [0, 1] to the probabilities of the classes, (N, C)."""


@torch.no_grad()
def probe(
    probabilities: Probabilities,
    images: Tensor,
    blurred: Tensor,
    maps: Tensor,
    second: Tensor,
    coverage: Tensor,
    has_box: Tensor,
    seeds: Sequence[int],
    grid: tuple[int, int],
    others: Tensor | None = None,
) -> dict[str, Tensor]:
    """Every probe of a batch: name to (N,), NaN where it is undefined.

    ``images`` (N, 3, H, W) and ``maps`` (N, H, W) are in [0, 1], ``blurred`` (N, 3, H, W) is what hidden pixels
    become, ``second`` (N, H, W) is the second opinion on what to hide, of any scale, ``coverage`` (N, H, W) the share
    of each pixel inside the ground-truth boxes, and ``has_box`` (N,) says whether a box is in view. ``seeds`` and
    ``grid`` shape the random blobs: one seed an image, blobs as smooth as a map of that grid. A probe of the boxes is
    undefined without a box; hiding 10% of the view outside (inside) is undefined where fewer pixels lie outside
    (inside), and where the second opinion is a constant map.

    ``others`` (N, H, W) is the share of each pixel that is another class's object; None: of no pixel. It is neither
    inside nor outside: a probe that keeps a part does not keep it, and one that hides a part does not hide it.
    """
    others = torch.zeros_like(coverage) if others is None else others
    mask, inside, beside = maps[:, None], coverage[:, None], others[:, None]
    nan = torch.full_like(maps[:, 0, 0], torch.nan)
    outside_pixels = outside_of(coverage + others, has_box)
    inside_pixels = (coverage >= 1 - 1e-6) & has_box[:, None, None]

    def boxed(picture: Tensor) -> Tensor:
        return torch.where(has_box, probabilities(picture), nan)

    def keeping(masks: tuple[Tensor, ...]) -> Tensor:
        return reduce(mul, masks, images)

    def hiding(saliency: Tensor, allowed: Tensor) -> Tensor:
        return hide(probabilities, images, blurred, saliency, allowed)

    parts = kept_parts(mask, inside, beside)
    whole_map = probabilities(keeping(parts.pop("p_saliency")))
    return {
        "p_saliency": whole_map,
        **{name: boxed(keeping(masks)) for name, masks in parts.items()},
        "p_hide_map": hiding(maps, outside_pixels),
        "p_hide_second": torch.where(second.amax((1, 2)) > second.amin((1, 2)), hiding(second, outside_pixels), nan),
        "p_hide_inside": hiding(maps, inside_pixels),
        "p_hide_random": hiding(random_blobs(seeds, grid, maps), outside_pixels),
        "p_hide_context": boxed(images * (inside + beside) + blurred * (1 - inside - beside)),
        "p_crop": probabilities(crops(images, largest_component_box(_on_host(maps)))),
    }


def in_passes(class_probabilities: ClassProbabilities, pictures: Iterable[Tensor], size: int) -> list[Tensor]:
    """The probabilities of the classes, (C,), on each of the pictures (3, H, W).

    In forward passes of ``size`` pictures, the last one filled up: a convolution rounds by the size of its batch.
    """
    pending, found = iter(pictures), list[Tensor]()
    while chunk := list(islice(pending, size)):
        found += class_probabilities(torch.stack(chunk + chunk[:1] * (size - len(chunk))))[: len(chunk)]
    return found


def of_targets(table: Sequence[Tensor], targets: Sequence[int]) -> list[float]:
    """From each of some tables of probabilities, (C,), that of one class; the device is waited for once."""
    if not table:
        return []
    return torch.stack(list(table)).gather(1, torch.tensor(targets, device=table[0].device)[:, None])[:, 0].tolist()


def outside_of(coverage: Tensor, has_box: Tensor) -> Tensor:
    """Pixels (N, H, W) that lie wholly outside what is covered, boxes and others'; none where there is no box."""
    return (coverage <= 1e-6) & has_box[:, None, None]


@torch.no_grad()
def hide(probabilities: Probabilities, images: Tensor, blurred: Tensor, saliency: Tensor, allowed: Tensor) -> Tensor:
    """p (N,) with the most salient of the allowed pixels blurred, 10% of the view; NaN if fewer are allowed."""
    hidden, defined = most_salient(saliency, allowed, hidden_pixels(*saliency.shape[1:]))
    p = probabilities(torch.where(hidden[:, None], blurred, images))
    return torch.where(defined, p, torch.nan)


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


@torch.no_grad()
def crop_outside(
    class_probabilities: ClassProbabilities,
    images: Tensor,
    maps: Tensor,
    coverage: Tensor,
    targets: Tensor,
    allowed: Tensor,
) -> tuple[Tensor, Tensor, Boxes]:
    """What the network sees in the part outside the boxes that lights up most, shown alone.

    That part's box is cut out, what it contains of what ``coverage`` covers is made black, and it is resized to the
    view.
    Returns p of ``targets`` on it (N,), the predicted class (N,), and the box (N, 4), half-open view px; NaN, a class
    without meaning, and NaN where nothing lights up outside (:func:`salient_part`).
    """
    boxes = salient_part(maps, allowed)
    probabilities = class_probabilities(crops(images * (1 - coverage[:, None]), boxes))
    p = probabilities.gather(1, targets[:, None])[:, 0]
    nothing = torch.from_numpy(np.isnan(boxes[:, 0])).to(p.device)
    return torch.where(nothing, torch.nan, p), probabilities.argmax(1), boxes


def salient_part(maps: Tensor, allowed: Tensor) -> Boxes:
    """Box (N, 4) of the connected part of S > mean(S), among the ``allowed`` pixels, that holds most of the map's mass.

    Half-open map px; the mean is that of the whole map, pixels touch by sides and corners, ties go to the first in
    reading order. NaN where no allowed pixel is above the mean.
    """
    boxes = np.full((len(maps), 4), np.nan)
    for index, (own, free) in enumerate(zip(_on_host(maps), allowed.cpu().numpy(), strict=True)):
        labels, count = ndimage.label((own > own.mean(dtype=np.float64)) & free, structure=EIGHT_NEIGHBOURS)
        if count:
            heaviest = np.bincount(labels.ravel(), weights=own.ravel())[1:].argmax()
            rows, columns = ndimage.find_objects(labels)[heaviest]
            boxes[index] = columns.start, rows.start, columns.stop, rows.stop
    return boxes


def crops(images: Tensor, boxes: Boxes) -> Tensor:
    """Each image's crop to its box (N, 4), half-open view px, resized to the view; the whole view where it is NaN."""
    size = (images.shape[2], images.shape[3])
    pictures = []
    for image, box in zip(images, boxes, strict=True):
        x0, y0, x1, y1 = (0, 0, size[1], size[0]) if np.isnan(box).any() else (int(edge) for edge in box)
        pictures.append(F.interpolate(image[None, :, y0:y1, x0:x1], size=size, mode="bilinear", align_corners=False))
    return torch.cat(pictures)


def _on_host(maps: Tensor) -> NDArray[np.float32]:
    return maps.float().cpu().numpy()
