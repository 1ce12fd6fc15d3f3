"""The probes of one batch as values of the table ``explain``: which are defined, and whose proposal cost most."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stages.explain.opticam.blur import blur
from stages.explain.opticam.objective import normalize
from stages.explain.probes.curves import insertion_deletion
from stages.explain.probes.pooling import pool
from stages.explain.probes.probes import (
    ClassProbabilities,
    crop_outside,
    hide,
    most_salient,
    outside_of,
    probe,
    random_blobs,
)
from stages.explain.probes.scan import Window, scan
from stages.explain.probes.surroundings import Donors, transplants, without_surroundings
from stages.explain.settings import ExplainSettings
from stages.geometry import Boxes, ViewTransform, clip_boxes, largest_component_box
from stages.masks import hidden_pixels
from storage.columns import needing

MATTERS = 0.02
"""What hides something that matters costs the class this much more than hiding a random tenth does."""


@dataclass(frozen=True)
class Explained:
    """A batch of N images with the maps of one class each, on the network's device.

    A short batch is padded: ``status`` and ``transforms`` are of the first images, the ones that count.
    """

    images: Tensor
    """(N, 3, H, W) in [0, 1]."""
    features: Tensor
    """The layer's feature maps of the images, (N, K, h, w)."""
    targets: Tensor
    """Index of each image's explained class, (N,)."""
    maps: Tensor
    """The method's maps, (N, H, W) in [0, 1]."""
    second: Tensor
    """The second opinion on what to hide, (N, H, W), of any scale; constant where there is none."""
    coverage: Tensor
    """Share of each pixel inside the ground-truth boxes, (N, H, W)."""
    has_box: Tensor
    """Whether a box is in view, (N,)."""
    boxes: Sequence[Boxes]
    """The boxes in view of each image that counts, (n, 4) view px."""
    neutral: Tensor
    """The colour that says nothing to the network, (3, 1, 1): the mean of its training set."""
    seeds: Sequence[int]
    """A number that is each image's own: the seed of its random blob."""
    status: Sequence[str]
    """Status of each map."""
    transforms: Sequence[ViewTransform]
    """From each image to its view."""
    outside_map: Tensor | None = None
    """What outside the boxes carries the class, (N, H, W) in [0, 1], where that was asked."""
    others: Tensor | None = None
    """Share of each pixel that is another class's object, (N, H, W): neither inside nor outside. None: of no pixel."""

    @property
    def covered(self) -> Tensor:
        """Share of each pixel that is an object with a box, of whatever class, (N, H, W)."""
        return self.coverage if self.others is None else self.coverage + self.others


@torch.no_grad()
def evidence(
    class_probabilities: ClassProbabilities,
    batch: Explained,
    donors: Donors,
    grid: tuple[int, int],
    settings: ExplainSettings,
) -> list[dict[str, Any]]:
    """The columns of ``explain`` that need forward passes, as a dict an image; what is left out is undefined.

    ``grid`` is that of the maps. Every forward pass is one of N images: a convolution rounds differently from one batch
    size to another.
    """
    columns, pointed = _columns(class_probabilities, batch, donors, grid, settings)
    constant = (batch.maps.amax((1, 2)) == batch.maps.amin((1, 2))).tolist()
    rows: list[dict[str, Any]] = []
    for place, status in enumerate(batch.status):
        row = {name: values[place] for name, values in columns.items()}
        if status == "degenerate_map":
            row |= dict.fromkeys(needing("mask"))
        if status == "degenerate_map" or constant[place]:
            row |= dict.fromkeys(needing("place"))
        rows.append({} if status == "non_finite" else row | _costliest(row, settings.method))
    return [row | what for row, what in zip(rows, _what_was_hidden(batch, pointed, rows, grid), strict=True)]


def _columns(
    class_probabilities: ClassProbabilities,
    batch: Explained,
    donors: Donors,
    grid: tuple[int, int],
    settings: ExplainSettings,
) -> tuple[dict[str, list[Any]], dict[str, Tensor]]:
    """Name to a value an image, whatever the status of its map; None where undefined. And locator to the map
    (N, H, W), in [0, 1], by which it proposes what to hide."""

    def probabilities(pictures: Tensor) -> Tensor:
        return class_probabilities(pictures).gather(1, batch.targets[:, None])[:, 0]

    images, maps, coverage, has_box = batch.images, batch.maps, batch.coverage, batch.has_box
    blurred, outside, others = blur(images), outside_of(batch.covered, has_box), batch.others
    found = probe(probabilities, images, blurred, maps, batch.second, coverage, has_box, batch.seeds, grid, others)
    found |= without_surroundings(probabilities, images, blurred, batch.neutral, coverage, has_box, others)
    found |= transplants(
        class_probabilities, images, batch.boxes, batch.targets, batch.seeds, donors, batch.neutral, others
    )
    columns: dict[str, list[Any]] = {name: _values(numbers) for name, numbers in found.items()}

    columns["image_features"] = _vectors(batch.features.mean((2, 3)))
    p_crop, predicted, parts = crop_outside(class_probabilities, images, maps, batch.covered, batch.targets, outside)
    columns["p_crop_outside"] = _values(p_crop)
    columns["pred_crop_outside"] = [
        None if p is None else index for p, index in zip(columns["p_crop_outside"], predicted.tolist(), strict=True)
    ]
    columns["crop_outside_box"] = _in_image(parts.tolist(), batch.transforms)
    pointed: dict[str, Tensor] = {"grad_cam": normalize(batch.second), settings.method: maps}
    if batch.outside_map is not None:
        pointed["outside_map"] = batch.outside_map
        columns["p_hide_outside_map"] = _values(hide(probabilities, images, blurred, batch.outside_map, outside))
    if settings.scan:
        # Undefined where the maps' proposals are: a tenth of the view must lie outside.
        enough = outside.flatten(1).sum(1) >= hidden_pixels(*outside.shape[1:])
        enough[len(batch.status) :] = False
        allowed = outside & enough[:, None, None]
        p_scan, windows = scan(class_probabilities, images, batch.targets, blurred, allowed)
        columns["p_hide_scan"] = _values(p_scan)
        columns["scan_box"] = _in_image(windows, batch.transforms)
        pointed["scan"] = _lit(windows, maps)
    if settings.curves:
        insertion, deletion = insertion_deletion(probabilities, images, maps)
        columns |= {"insertion": _values(insertion), "deletion": _values(deletion)}
    return columns, pointed


def _costliest(row: Mapping[str, Any], method: str) -> dict[str, Any]:
    """The lowest p of those that the locators' proposals gave, and whose it was; the method's own where they tie."""
    if row["p_hide_map"] is None:
        return {}
    proposals = [
        (row["p_hide_map"], method),
        (row.get("p_hide_outside_map"), "outside_map"),
        (row["p_hide_second"], "grad_cam"),
        (row.get("p_hide_scan"), "scan"),
    ]
    p, locator = min((proposal for proposal in proposals if proposal[0] is not None), key=lambda proposal: proposal[0])
    return {"p_hide_outside": p, "hide_locator": locator}


def _what_was_hidden(
    batch: Explained, pointed: Mapping[str, Tensor], rows: Sequence[Mapping[str, Any]], grid: tuple[int, int]
) -> list[dict[str, Any]]:
    """Where each image's locator hid something, and what the layer's features are there; nothing without a locator.

    Where that costs the class no more than a random tenth does, the place means nothing, and the features are those of
    the random tenth: an arbitrary place outside the boxes, which cues are compared with.
    """
    chosen = torch.zeros_like(batch.maps)
    carries = torch.zeros_like(batch.has_box)
    for place, row in enumerate(rows):
        if row.get("hide_locator"):
            chosen[place] = pointed[row["hide_locator"]][place]
            by_chance = row["p_hide_random"]  # None where the network gives NaN on that picture alone
            carries[place] = by_chance is None or by_chance - row["p_hide_outside"] >= MATTERS
    outside = outside_of(batch.covered, batch.has_box)
    count = hidden_pixels(*outside.shape[1:])
    hidden = most_salient(chosen, outside, count)[0] & (chosen > 0)
    boxes = _in_image(largest_component_box(hidden.float().cpu().numpy()).tolist(), batch.transforms)
    arbitrary = most_salient(random_blobs(batch.seeds, grid, batch.maps), outside, count)[0].to(chosen)
    pooled = torch.where(carries[:, None, None], chosen * (1 - batch.covered), arbitrary)
    vectors = _vectors(pool(batch.features, pooled))
    return [
        {"hidden_box": box, "outside_features": vector} if row.get("hide_locator") else {}
        for row, box, vector in zip(rows, boxes, vectors, strict=False)  # a padded batch has vectors to spare
    ]


def _vectors(features: Tensor) -> list[list[float] | None]:
    """Vectors (N, K) in half precision, one an image; None for one that is not finite there."""
    halves = features.half().cpu().numpy()
    return [half.tolist() if np.isfinite(half).all() else None for half in halves]


def _lit(windows: Sequence[Window | None], like: Tensor) -> Tensor:
    """Maps (N, H, W) like ``like``: 1 in each image's window, 0 elsewhere."""
    maps = torch.zeros_like(like)
    for place, window in enumerate(windows):
        if window is not None:
            x0, y0, x1, y1 = window
            maps[place, y0:y1, x0:x1] = 1
    return maps


def _in_image(
    boxes: Sequence[Sequence[float] | None], transforms: Sequence[ViewTransform]
) -> list[dict[str, float] | None]:
    """Boxes of the view in px of their images; None for None and NaN."""
    placed: list[dict[str, float] | None] = []
    for box, transform in zip(boxes, transforms, strict=False):  # a padded batch has boxes to spare
        if box is None or math.isnan(box[0]):
            placed.append(None)
        else:
            (edges,) = clip_boxes(transform.boxes_to_image([box]), transform.width, transform.height).tolist()
            placed.append(dict(zip(("x0", "y0", "x1", "y1"), edges, strict=True)))
    return placed


def _values(numbers: Tensor) -> list[float | None]:
    return [defined(number) for number in numbers.tolist()]


def defined(value: float | None) -> float | None:
    """None for NaN and infinity, the value otherwise."""
    return None if value is None or not math.isfinite(value) else value
