"""A batch of images: their maps and probes, and the rows that a shard keeps of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.explain.decoding import View
from stages.explain.donors import image_seed
from stages.explain.methods.methods import TRACE, MethodMaps, maps_of
from stages.explain.opticam.opticam import OptiCam, to_masks, upsample
from stages.explain.plan import ExplainPlan
from stages.explain.probes.evidence import Explained, defined, evidence
from stages.explain.probes.probes import outside_of
from stages.explain.probes.surroundings import Donors
from stages.explain.settings import rank_of
from storage.tables import EXPLAIN

T = TypeVar("T")

_REASONS = {
    "degenerate_map": "the map is constant: the layer's feature maps single out no place for this class",
    "non_finite": "the network gives NaN or infinity on this image, whole or masked",
}


@dataclass(frozen=True)
class Item:
    """One map to make: an image, a class, and the targets that this class answers."""

    view: View
    image: Tensor
    features: Tensor
    class_index: int
    targets: tuple[str, ...]
    shared: dict[str, Any]
    first: bool
    """Whether it is the first map of its image."""


@dataclass
class Output:
    """Rows and maps of the shard, filled batch by batch."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    maps: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    outside: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    """Maps of what outside the boxes carries the class, where that is asked."""


@dataclass(frozen=True)
class Kept:
    """Maps that stay valid although the probes do not."""

    maps: dict[str, NDArray[np.float32]]
    rows: dict[tuple[int, str], dict[str, Any]]

    def of(self, items: list[Item], first_row: int, size: int, device: torch.device) -> MethodMaps:
        """The maps of a batch, padded to ``size``, as its method would make them again."""
        stored = [self.rows[item.view.sample["row"], item.targets[0]] for item in items]
        grids = [self.maps[item.targets[0]][item.view.sample["row"] - first_row] for item in items]
        return MethodMaps(
            grid=_pad(torch.from_numpy(np.stack(grids)).to(device), size),
            status=tuple(row["status"] for row in stored),
            trace=tuple({name: row[name] for name in TRACE} for row in stored),
        )


def items_of(plan: ExplainPlan, opticam: OptiCam, decoded: Iterator[View], output: Output) -> Iterator[Item]:
    """Run the feature pass batch by batch, and yield the maps to make; what gets none is a row of ``output``."""
    for views in batched(decoded, plan.explain.batch_size):
        images = _to_tensor([view.pixels for view in views], plan.explain.batch_size, opticam)
        features = opticam.features(images)
        # The network of every other probe: the folded copy differs from the plain one in the last bits.
        probabilities = opticam.probabilities(images)
        for place, view in enumerate(views):
            label, ranking = view.sample["class_index"], probabilities[place].argsort(descending=True, stable=True)
            best = int(ranking[0])
            if not bool(probabilities[place].isfinite().all()):
                for target in plan.explain.targets:
                    output.rows.append(row_of(plan, view.sample, target, "non_finite", _REASONS["non_finite"]))
                continue
            shared: dict[str, Any] = {"pred_index": best, "pred_prob": float(probabilities[place, best])}
            if opticam.sigmoid:
                shared["class_probabilities"] = probabilities[place].tolist()
            wanted: dict[int, list[str]] = {}
            for target in plan.explain.targets:
                class_index = label if target == "label" else _ranked(ranking, target)
                if class_index is None:
                    reason = view.sample["reason"] or "the sample has no class of the model"
                    output.rows.append(row_of(plan, view.sample, target, "no_class", reason, **shared))
                else:
                    wanted.setdefault(class_index, []).append(target)
            for number, (class_index, targets) in enumerate(wanted.items()):
                full = {**shared, "p_full": float(probabilities[place, class_index])}
                yield Item(view, images[place], features.maps[place], class_index, tuple(targets), full, number == 0)


def _ranked(ranking: Tensor, target: str) -> int:
    """The class that ``predicted`` or ``topK`` names."""
    return int(ranking[rank_of(target) - 1])


def explain_batch(
    plan: ExplainPlan,
    opticam: OptiCam,
    donors: Donors,
    items: list[Item],
    first_row: int,
    output: Output,
    kept: Kept | None,
) -> None:
    """Write maps and probes of one batch of the shard that begins at ``first_row`` to ``output``.

    A short batch is padded with its first image: a convolution rounds differently from one batch size to another, and
    the same image must give the same bytes.
    """
    size = plan.explain.batch_size
    images = _pad(torch.stack([item.image for item in items]), size)
    targets = _pad(torch.tensor([item.class_index for item in items], device=opticam.device), size)
    features = _pad(torch.stack([item.features for item in items]), size)
    if kept is None:
        made = maps_of(plan.explain.method, opticam, images, features, targets, len(items))
    else:
        made = kept.of(items, first_row, size, opticam.device)
    explained, outside = _with_boxes(plan, opticam, items, images, features, targets, made)
    probes = evidence(opticam.probabilities, explained, donors, plan.layer.grid, plan.explain)
    _take_down(plan, items, first_row, made, outside, probes, output)


def _with_boxes(
    plan: ExplainPlan,
    opticam: OptiCam,
    items: list[Item],
    images: Tensor,
    features: Tensor,
    targets: Tensor,
    made: MethodMaps,
) -> tuple[Explained, Tensor | None]:
    """The batch with its boxes and all of its locators, and the grids of what outside the boxes carries the class."""
    size, view_size = len(images), (plan.view.size, plan.view.size)
    maps = to_masks(made.grid, view_size, plan.explain.map_normalization).nan_to_num(nan=0.0)
    coverage = _pad(torch.from_numpy(np.stack([item.view.coverage for item in items])).to(maps), size)
    others = None
    if any(item.view.others.any() for item in items):
        others = _pad(torch.from_numpy(np.stack([item.view.others for item in items])).to(maps), size)
    has_box = _pad(torch.tensor([item.view.has_box for item in items], device=opticam.device), size)
    # For method grad_cam there is no second locator; a constant map switches it off.
    second = torch.zeros_like(maps)
    if plan.explain.method != "grad_cam":
        second = upsample(opticam.grad_cam(images, targets), view_size)
    carriers = None
    if plan.explain.outside:
        covered = coverage if others is None else coverage + others
        carriers = opticam.maximize_outside(images, features, targets, outside_of(covered, has_box))
    padded = items + items[:1] * (size - len(items))
    explained = Explained(
        images,
        features,
        targets,
        maps,
        second,
        coverage,
        has_box,
        boxes=[item.view.boxes for item in items],
        neutral=opticam.mean[0],
        seeds=[image_seed(item.view.sample["digest"]) for item in padded],
        status=made.status[: len(items)],
        transforms=[item.view.transform for item in items],
        outside_map=None if carriers is None else carriers.maps().nan_to_num(nan=0.0),
        others=others,
    )
    return explained, None if carriers is None else carriers.grid


def _take_down(
    plan: ExplainPlan,
    items: list[Item],
    first_row: int,
    made: MethodMaps,
    outside: Tensor | None,
    probes: Sequence[dict[str, Any]],
    output: Output,
) -> None:
    """Write a batch's maps and rows to ``output``."""
    grids = made.grid[: len(items)].float().cpu().numpy().copy()
    # Where the network returned NaN half-way there is a best iterate, but it cannot be trusted.
    grids[[status == "non_finite" for status in made.status[: len(items)]]] = np.nan
    outside_grids = None if outside is None else outside.float().cpu().numpy()
    for place, item in enumerate(items):
        row, status = item.view.sample["row"] - first_row, made.status[place]
        trace = {name: defined(value) for name, value in made.trace[place].items()}
        values = {**item.shared, **probes[place], **trace}
        for target in item.targets:
            output.maps[target][row] = grids[place]
            if outside_grids is not None and probes[place].get("p_hide_outside_map") is not None:
                output.outside[target][row] = outside_grids[place]
            told = row_of(plan, item.view.sample, target, status, _REASONS.get(status), **values)
            if not item.first or target != item.targets[0]:
                told["image_features"] = None  # the image's, stored once
            output.rows.append({**told, "class_index": item.class_index})


def row_of(
    plan: ExplainPlan, sample: dict[str, Any], target: str, status: str, reason: str | None, **values: Any
) -> dict[str, Any]:
    """A row of the table ``explain``: one sample and target, with ``values`` of further columns."""
    row: dict[str, Any] = dict.fromkeys(EXPLAIN.names)
    row |= {
        "sample_id": sample["sample_id"],
        "row": sample["row"],
        "target": target,
        "method": plan.explain.method,
    }
    row |= {"status": status, "reason": reason} | values
    if target != plan.explain.targets[0]:
        row["class_probabilities"] = None  # the image's, stored once
    return row


def _to_tensor(pixels: Sequence[NDArray[np.uint8]], size: int, opticam: OptiCam) -> Tensor:
    """Views (N, 3, H, W) in [0, 1] on the device, padded to ``size`` images."""
    stacked = _pad(torch.from_numpy(np.stack(pixels)), size)
    if opticam.device.type == "cuda":  # from pinned memory the copy does not wait for what the device is doing
        stacked = stacked.pin_memory()
    return opticam.prepare(stacked.to(opticam.device, non_blocking=True).to(opticam.dtype) / 255)


def _pad(batch: Tensor, size: int) -> Tensor:
    """``batch`` with its first entry repeated up to ``size`` entries."""
    missing = size - len(batch)
    return batch if missing <= 0 else torch.cat([batch, batch[:1].expand(missing, *batch.shape[1:])])


def batched(stream: Iterator[T], size: int) -> Iterator[list[T]]:
    """Lists of ``size`` consecutive elements; the last may be shorter."""
    while batch := list(islice(stream, size)):
        yield batch
