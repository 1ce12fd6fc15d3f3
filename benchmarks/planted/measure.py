"""What each way of looking says about each audit picture: scores to rank by, from the project's own kernels.

A locator proposes what to hide: a map, or, to see what maps are worth, something that is none. Everything is computed
in memory; a test shows that ``drop_outside`` is the number that the pipeline stores.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stages.explain.donors import A_CLASS, AT_MOST, as_donors, largest_part
from stages.explain.methods.methods import Method, map_normalization, maps_of
from stages.explain.opticam.blur import blur
from stages.explain.opticam.opticam import OptiCam, to_masks, upsample
from stages.explain.probes.pooling import pool
from stages.explain.probes.probes import crop_outside, hide, most_salient, outside_of, random_blobs
from stages.explain.probes.scan import LATTICE, windows
from stages.explain.probes.surroundings import Donors, grown, transplants, without_surroundings
from stages.geometry import Boxes
from stages.masks import HIDDEN_FRACTION
from stages.score.faithfulness import outside_effect, outside_room
from stages.score.measures import measure_maps, measure_probes
from storage.columns import columns_of

BATCH = 16
AREAS = (0.025, 0.05, 0.1, 0.2)
"""Shares of the view that the ablation hides; the audit hides .1."""
FILLS = ("blur", "black", "mean")
"""What the ablation puts in the place of hidden pixels; the audit takes the blur."""
BLEED = 16
"""px: half a cell of a 7 x 7 grid in a view of 224, as far as a map bleeds out of the box that it lights up."""
CELLS = {
    **{f"{area:.1%}, blurred": (area, "blur", 0) for area in AREAS},
    **{f"10.0%, {fill}": (HIDDEN_FRACTION, fill, 0) for fill in FILLS[1:]},
    **{f"{area:.1%}, blurred, {gap} px off the boxes": (area, "blur", gap) for gap in (16, 32) for area in (0.1, 0.2)},
}
"""What the ablation hides: area, fill, and the gap in px that it leaves around the boxes."""
OFF_THE_BOXES = f"10.0%, blurred, {BLEED} px off the boxes"
GRADIENT_FREE = ("score_cam", "ablation_cam")
UNINFORMED = ("random", "uniform")
SCORES = (
    "drop_outside_logit", "context_reliance", "context_minus_box", "energy_in", "energy_lift", "energy_logodds",
    "energy_null_pct", "pointing_hit", "iou_best", "pixel_f1", "border_energy", "entropy", "p_crop_outside",
    "crop_outside_is_label",
)  # fmt: skip
"""What a map is scored by beside ``drop_outside``."""

Columns = dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Audited:
    """Audit pictures as the network sees them."""

    views: NDArray[np.uint8]
    """(N, 3, H, W)."""
    coverage: NDArray[np.float32]
    """Share of each pixel inside the boxes, (N, H, W)."""
    boxes: Boxes
    """In view px, (N, K, 4), padded with NaN."""
    labels: NDArray[np.int64]
    """(N,)."""
    seeds: tuple[int, ...]
    """Seeds of the random blobs, (N,)."""

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, places: NDArray[np.intp]) -> Audited:
        """Some of the pictures."""
        seeds = tuple(self.seeds[place] for place in places)
        return Audited(self.views[places], self.coverage[places], self.boxes[places], self.labels[places], seeds)


@dataclass(frozen=True)
class Batch:
    """Pictures on the device; ``softmax`` gives the probabilities of all classes."""

    audited: Audited
    images: Tensor
    blurred: Tensor
    coverage: Tensor
    outside: Tensor
    targets: Tensor
    softmax: Callable[[Tensor], Tensor]
    p_full: Tensor
    features: Tensor
    """The layer's feature maps, (N, K, h, w)."""

    def probabilities(self, pictures: Tensor) -> Tensor:
        """p of each picture's label, (N,)."""
        return _of_targets(self.softmax(pictures), self.targets)


@dataclass(frozen=True)
class Proposal:
    """A map (N, H, W) to rank pixels by and what it cost, in passes through the network, (N,) each."""

    ranking: Tensor
    forward: Tensor
    backward: Tensor


def class_probabilities(opticam: OptiCam, views: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Probabilities (N, C) of views (N, 3, H, W)."""
    rows = []
    with torch.no_grad():
        for start in range(0, len(views), BATCH):
            images = opticam.prepare(torch.from_numpy(views[start : start + BATCH]) / 255)
            rows.append(opticam.logits(images).softmax(1))
    return torch.cat(rows).double().cpu().numpy()


def measure_locator(opticam: OptiCam, audited: Audited, name: str, ablate: bool = False) -> Columns:
    """Scores of a locator, one a picture, NaN where undefined; ``passes_forward`` and ``passes_backward`` count what
    the map and the hiding cost; ``features`` (N, K) are the layer's under the map outside the boxes. ``ablate`` adds
    other areas and fills. Of the locators that know nothing, only what hiding their choice does is of interest."""
    parts = []
    for batch in batches(opticam, audited):
        found = propose(opticam, batch, name)
        columns = {"drop_outside": _drop(batch, found.ranking)}
        if name not in UNINFORMED:
            columns |= _scores(batch, found.ranking, columns["drop_outside"])
            columns["features"] = _values(pool(batch.features, _to_unit(found.ranking) * (1 - batch.coverage)))
        if ablate:
            columns |= _ablation(batch, found.ranking)
        columns |= {"passes_forward": _values(found.forward + 1), "passes_backward": _values(found.backward)}
        parts.append(columns)
    return _joined(parts)


def propose(opticam: OptiCam, batch: Batch, name: str) -> Proposal:
    """The proposal of a locator: ``opti_cam`` with the settings of ``opticam``, ``grad_cam``, and two that know
    nothing, ``random`` blobs and a ``uniform`` map, which ranks pixels by their index; or another method of a run."""
    size, none = batch.coverage.shape[1:], torch.zeros(len(batch.images))
    if name == "opti_cam":
        result = opticam.maximize(batch.images, batch.features, batch.targets)
        steps = result.iterations.to(none)
        # One pass for the features, and one objective more than there are steps.
        return Proposal(to_masks(result.grid, size, opticam.settings.normalization), steps + 2, steps)
    if name == "grad_cam":
        return Proposal(upsample(opticam.grad_cam(batch.images, batch.targets), size), none + 1, none + 1)
    if name == "random":
        return Proposal(random_blobs(batch.audited.seeds, opticam.layer.grid, batch.coverage), none, none)
    if name == "uniform":
        return Proposal(torch.ones_like(batch.coverage), none, none)
    if name not in get_args(Method):
        raise ValueError(f"no locator {name!r}; there are random, uniform, {', '.join(get_args(Method))}")
    with _passes(opticam.network) as passes:
        result = maps_of(name, opticam, batch.images, batch.features, batch.targets, len(batch.images))
    forward = none + 1 + sum(passes) / len(batch.images)
    backward = none + (0 if name in GRADIENT_FREE else 1)
    return Proposal(to_masks(result.grid, size, map_normalization(name, "range")), forward, backward)


@contextmanager
def _passes(network: nn.Module) -> Iterator[list[int]]:
    """A list that grows by the number of images in each forward pass of the network."""
    counted: list[int] = []
    handle = network.register_forward_hook(lambda _, inputs, __: counted.append(len(inputs[0])))
    try:
        yield counted
    finally:
        handle.remove()


def donors_of(opticam: OptiCam, audited: Audited) -> Donors:
    """Donors from the pictures themselves, as a run takes them from its samples; by their seeds in place of digests."""
    ranks: Counter[int] = Counter()
    chosen = []
    for place in np.argsort(np.array(audited.seeds), kind="stable").tolist():
        label = int(audited.labels[place])
        chosen.append((ranks[label], place))
        ranks[label] += 1
    places = [place for rank, place in sorted(chosen, key=lambda pair: pair[0]) if rank < A_CLASS][:AT_MOST]
    size = audited.views.shape[2]
    return as_donors(
        opticam,
        [torch.from_numpy(audited.views[place]) for place in places],
        [largest_part(_own(audited.boxes[place]), size) for place in places],
        [int(audited.labels[place]) for place in places],
        [audited.seeds[place] for place in places],
        size,
        BATCH,
    )


def _own(boxes: Boxes) -> Boxes:
    """Boxes (n, 4) without the padding."""
    return boxes[~np.isnan(boxes).any(axis=1)]


def measure_without_maps(opticam: OptiCam, audited: Audited) -> Columns:
    """Scores that need boxes but no map: what the box alone (``minus_p_box``, the rest hidden) and the rest alone
    (``p_context``) do to p, hidden pixels being black, as the pipeline stores them, or blurred; and the largest drop
    over the windows of an occlusion scan outside the boxes, all of the pipeline's (``scan_5x5``) and every second a
    side (``scan_3x3``), with the layer's features in the best window (N, K). And what the surroundings are worth, as
    the pipeline scores it (``outside_effect``), its two halves (``lost_without``, ``given_to_others``) and what it
    could be at most (``outside_room``)."""
    parts, donors = [], donors_of(opticam, audited)
    for batch in batches(opticam, audited):
        inside, p, full = batch.coverage[:, None], batch.probabilities, batch.p_full
        box, context = p(batch.images * inside), p(batch.images * (1 - inside))
        near = _grown(~batch.outside, BLEED)[:, None].to(inside)
        scan = scan_drops(batch)
        columns = {
            "p_full": full,
            "minus_p_box": full - box,
            "minus_p_box_blurred": full - p(batch.images * inside + batch.blurred * (1 - inside)),
            "minus_p_near_blurred": full - p(batch.images * near + batch.blurred * (1 - near)),
            "p_context": context,
            "p_context_blurred": p(batch.images * (1 - inside) + batch.blurred * inside),
            "context_reliance": context / (box + context),
            "scan_5x5": scan.amax((0, 1)),
            "scan_3x3": scan[::2, ::2].amax((0, 1)),
            "scan_features": pool(batch.features, _best_window(batch, scan)),
        }
        parts.append({name: _values(value) for name, value in columns.items()} | _worth(batch, opticam, donors))
    return _joined(parts)


def _worth(batch: Batch, opticam: OptiCam, donors: Donors) -> Columns:
    """What the surroundings are worth."""
    has_box = batch.coverage.flatten(1).any(1)
    boxes = [_own(own) for own in batch.audited.boxes]
    probes = without_surroundings(
        batch.probabilities, batch.images, batch.blurred, opticam.mean[0], batch.coverage, has_box
    )
    probes |= transplants(batch.softmax, batch.images, boxes, batch.targets, batch.audited.seeds, donors)
    p = {"p_full": _values(batch.p_full)} | {name: _values(values) for name, values in probes.items()}
    without = (p["p_hide_context_neutral"] + p["p_hide_far"]) / 2
    return {
        "lost_without": p["p_full"] - without,
        "given_to_others": p["p_transplant"] - p["p_transplant_null"],
        "outside_effect": outside_effect(p["p_full"], without, p["p_transplant"], p["p_transplant_null"]),
        "outside_room": outside_room(p["p_blank"], p["p_transplant_null"]),
    }


def batches(opticam: OptiCam, audited: Audited) -> Iterator[Batch]:
    """The pictures, some at a time."""

    @torch.no_grad()
    def softmax(pictures: Tensor) -> Tensor:
        return opticam.logits(opticam.prepare(pictures)).softmax(1)

    for start in range(0, len(audited), BATCH):
        own = audited.take(np.arange(start, min(start + BATCH, len(audited))))
        images = opticam.prepare(torch.from_numpy(own.views) / 255)
        coverage = torch.from_numpy(own.coverage).to(images)
        targets = torch.from_numpy(own.labels).to(opticam.device)
        outside = outside_of(coverage, coverage.flatten(1).any(1))
        p_full = _of_targets(softmax(images), targets)
        features = opticam.features(images).maps
        yield Batch(own, images, blur(images), coverage, outside, targets, softmax, p_full, features)


def _of_targets(probabilities: Tensor, targets: Tensor) -> Tensor:
    return probabilities.gather(1, targets[:, None])[:, 0]


def _drop(batch: Batch, ranking: Tensor) -> NDArray[np.float64]:
    return _values(batch.p_full - hide(batch.probabilities, batch.images, batch.blurred, ranking, batch.outside))


def _scores(batch: Batch, ranking: Tensor, drop_outside: NDArray[np.float64]) -> Columns:
    """SCORES of a map, as the score stage computes them."""
    inside, p = batch.coverage[:, None], batch.probabilities
    maps = _to_unit(ranking)
    full = _values(batch.p_full)
    unknown = np.full(len(full), np.nan)
    probes = dict.fromkeys((column.name for column in columns_of("explain")), unknown) | {
        "p_full": full,
        "p_hide_outside": full - drop_outside,
        "p_saliency_in_box": _values(p(batch.images * maps[:, None] * inside)),
        "p_saliency_in_context": _values(p(batch.images * maps[:, None] * (1 - inside))),
    }
    columns = measure_maps(maps.cpu().numpy(), batch.audited.coverage, batch.audited.boxes, unknown, unknown)
    columns |= measure_probes(probes)
    p_crop, predicted, _ = crop_outside(batch.softmax, batch.images, maps, batch.coverage, batch.targets, batch.outside)
    columns |= {"p_crop_outside": _values(p_crop), "crop_outside_is_label": _values(predicted == batch.targets)}
    columns["context_minus_box"] = probes["p_saliency_in_context"] - probes["p_saliency_in_box"]
    return {name: columns[name] for name in SCORES}


def _ablation(batch: Batch, ranking: Tensor) -> Columns:
    """The drop of p for other areas (blurred), other fills (at the audit's area), and clear of the boxes."""
    fills = {
        "blur": batch.blurred,
        "black": torch.zeros_like(batch.images),
        "mean": batch.images.mean((2, 3), keepdim=True).expand_as(batch.images),
    }
    columns = {}
    for title, (area, fill, gap) in CELLS.items():
        allowed = ~_grown(~batch.outside, gap)
        columns[title] = _values(_drop_with(batch, ranking, allowed, area, fills[fill]))
    return columns


def _grown(inside: Tensor, gap: int) -> Tensor:
    """Regions (N, H, W), bool, and what lies within ``gap`` px of them along both axes."""
    return grown(inside.float(), gap) > 0


def _drop_with(batch: Batch, ranking: Tensor, allowed: Tensor, area: float, fill: Tensor) -> Tensor:
    hidden, defined = most_salient(ranking, allowed, round(area * ranking[0].numel()))
    left = batch.probabilities(torch.where(hidden[:, None], fill, batch.images))
    return torch.where(defined, batch.p_full - left, torch.nan)


def scan_drops(batch: Batch) -> Tensor:
    """Drop of p for each window of the pipeline's occlusion scan, less what lies in a box: (rows, columns, N); -inf
    where all of it does."""
    drops = []
    for x0, y0, x1, y1 in windows(*batch.coverage.shape[1:]):
        window = torch.zeros_like(batch.outside)
        window[:, y0:y1, x0:x1] = batch.outside[:, y0:y1, x0:x1]
        drop = batch.p_full - batch.probabilities(torch.where(window[:, None], batch.blurred, batch.images))
        drops.append(torch.where(window.flatten(1).any(1), drop, -torch.inf))
    return torch.stack(drops).view(LATTICE, LATTICE, -1)


def _best_window(batch: Batch, scan: Tensor) -> Tensor:
    """The window of the largest drop, less what lies in a box, as a map (N, H, W)."""
    maps = torch.zeros_like(batch.coverage)
    lattice = windows(*batch.coverage.shape[1:])
    for place, index in enumerate(scan.flatten(0, 1).argmax(0).tolist()):
        x0, y0, x1, y1 = lattice[index]
        maps[place, y0:y1, x0:x1] = 1
    return maps * (1 - batch.coverage)


def _to_unit(maps: Tensor) -> Tensor:
    """Maps (N, H, W) with their range moved to [0, 1]; a constant one is left alone."""
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return torch.where(high > low, (maps - low) / (high - low).clamp_min(1e-30), maps)


def _values(tensor: Tensor) -> NDArray[np.float64]:
    return tensor.detach().double().cpu().numpy()


def _joined(parts: Sequence[Columns]) -> Columns:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
