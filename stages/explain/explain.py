"""One explain task: a shard of samples to maps, probes and a commit."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import islice
from threading import Lock
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.explain.decoding import Decoder, View
from stages.explain.donors import image_seed, load_donors
from stages.explain.methods.methods import TRACE, MethodMaps, maps_of
from stages.explain.network.device import batch_for, halving, pick_device
from stages.explain.opticam.opticam import OptiCam, to_masks, upsample
from stages.explain.plan import (
    ExplainPlan,
    load_plan_classifier,
    maps_checksum,
)
from stages.explain.probes.evidence import Explained, defined, evidence
from stages.explain.probes.probes import outside_of
from stages.explain.probes.surroundings import Donors
from stages.explain.settings import rank_of
from storage import Run
from storage.media.images import ImageError
from storage.run import MAPS_CHECKSUM
from storage.tables import EXPLAIN

T = TypeVar("T")


@dataclass(frozen=True)
class ShardTimes:
    """Where the time of a task went, s."""

    turn: float = 0.0
    """Waiting for the device, which another task of the same worker used."""
    images: float = 0.0
    """The device's turn, waiting for images to be decoded."""
    network: float = 0.0
    """The rest of the device's turn: maps, probes and what is computed from them."""
    storing: float = 0.0
    scoring: float = 0.0
    decoding: float = 0.0
    """Of the threads that decode, beside all of these."""


@dataclass(frozen=True)
class ShardReport:
    """What a task tells the driver."""

    index: int
    samples: int
    maps: int
    seconds: float
    statuses: dict[str, int]
    times: ShardTimes = ShardTimes()


@dataclass(frozen=True)
class _Item:
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
class _Output:
    """Rows and maps of the shard, filled batch by batch."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    maps: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    outside: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    """Maps of what outside the boxes carries the class, where that is asked."""


@dataclass
class _Worker:
    """What a worker process keeps from shard to shard."""

    opticam: OptiCam
    batch: int
    """Images at a time: what the settings say or the device holds, halved where that was too many."""
    donors: Donors
    lock: Lock = field(default_factory=Lock)
    """Held while the network is in use: threads of a worker share it, and a hook would see the passes of the others."""


_loading = Lock()


def _worker(plan: ExplainPlan, device: torch.device) -> _Worker:
    """The model of this worker process, loaded once, although several tasks may ask for it at the same time."""
    with _loading:
        return _load_worker(plan, device)


@lru_cache(maxsize=1)
def _load_worker(plan: ExplainPlan, device: torch.device) -> _Worker:
    opticam = load_plan_classifier(plan, device)[1]
    batch = plan.explain.batch_size or batch_for(opticam, plan.view.size)
    return _Worker(opticam, batch, load_donors(plan.donors, plan.view, opticam, batch))


def explain_shard(
    plan: ExplainPlan, index: int, samples: pa.Table, progress: Callable[[int], object] = lambda images: None
) -> ShardReport:
    """Make the maps and probes of a shard and commit them.

    The old part is removed before its maps are rewritten, and the new one is written last: it is the commit. Where only
    the boxes changed, the maps are kept and the probes alone are made again. ``progress`` takes the number of images
    that are done, after each batch.
    """
    began = time.perf_counter()
    run = Run.open(plan.run_url)
    part, rows = plan.part(index), plan.shard(index)
    fingerprints = plan.fingerprints(samples)
    kept = _reusable(run, plan, index, fingerprints.maps, samples)
    worker = _worker(plan, pick_device(plan.device))
    listed = samples.to_pylist()
    usable = [sample for sample in listed if sample["status"] not in ("unreadable", "removed")]

    # The decoder begins before the device is free: a worker with two tasks decodes the next shard beside this one.
    with Decoder(usable, plan.view, 2 * worker.batch, worker.opticam.device) as decoder:

        def explain(batch_size: int) -> _Output:
            sized = replace(plan, explain=replace(plan.explain, batch_size=batch_size))
            return _explain_samples(sized, worker, rows, listed, decoder, kept, progress)

        asked = time.perf_counter()
        with worker.lock:
            granted = time.perf_counter()
            output, worker.batch = halving(explain, worker.batch)
            freed = time.perf_counter()
    if kept is None or output.outside:
        run.discard_part(part)
    for target, maps in output.maps.items() if kept is None else ():
        run.maps(target, plan.explain.method, mode="r+").write(rows.start, maps)
    for target, maps in output.outside.items():
        run.outside_maps(target, plan.explain.method, mode="r+").write(rows.start, maps)
    output.rows.sort(key=lambda row: (row["row"], row["target"]))
    # The checksums of the maps that this task made, not of those on disk: another task may have written there since.
    metadata = fingerprints.metadata(rows, output.maps if kept is None else kept.maps, output.outside)
    run.write_part(part, pa.Table.from_pylist(output.rows, schema=EXPLAIN), metadata)
    ended = time.perf_counter()
    return ShardReport(
        index=index,
        samples=len(rows),
        maps=sum(row["status"] == "ok" for row in output.rows),
        seconds=ended - began,
        statuses=dict(Counter(row["status"] for row in output.rows)),
        times=ShardTimes(
            turn=granted - asked,
            images=decoder.waited,
            network=freed - granted - decoder.waited,
            storing=ended - freed,
            decoding=decoder.worked,
        ),
    )


def _explain_samples(
    plan: ExplainPlan,
    worker: _Worker,
    rows: range,
    samples: list[dict[str, Any]],
    decoder: Decoder,
    kept: _Kept | None,
    progress: Callable[[int], object],
) -> _Output:
    def empty(grid: tuple[int, int]) -> dict[str, NDArray[np.float32]]:
        return {target: np.full((len(rows), *grid), np.nan, np.float32) for target in plan.explain.targets}

    def refuse(sample: dict[str, Any], error: ImageError) -> None:
        output.rows += [_row(plan, sample, target, error.status, error.reason) for target in plan.explain.targets]

    output = _Output(maps=empty(plan.store_shape), outside=empty(plan.layer.grid) if plan.explain.outside else {})
    for sample in samples:
        if sample["status"] == "unreadable":
            refuse(sample, ImageError("unreadable", sample["reason"]))
    items = _items(plan, worker.opticam, decoder.views(refuse), output)
    for batch in _batched(items, plan.explain.batch_size):
        _explain_batch(plan, worker, batch, rows.start, output, kept)
        progress(len(output.rows) // len(plan.explain.targets))
    return output


@dataclass(frozen=True)
class _Kept:
    """Maps that stay valid although the probes do not."""

    maps: dict[str, NDArray[np.float32]]
    rows: dict[tuple[int, str], dict[str, Any]]


def _reusable(run: Run, plan: ExplainPlan, index: int, fingerprint: str, samples: pa.Table) -> _Kept | None:
    metadata = run.part_metadata(plan.part(index))
    if metadata is None or metadata.get("maps_fingerprint") != fingerprint:
        return None
    rows = plan.shard(index)
    if metadata.get(MAPS_CHECKSUM) != maps_checksum(run, plan, rows):
        return None
    stored = run.read_part(plan.part(index)).to_pylist()
    unreadable = {sample["row"] for sample in samples.to_pylist() if sample["status"] == "unreadable"}
    if any(row["status"] == "unreadable" and row["row"] not in unreadable for row in stored):
        return None  # a file that could not be decoded then may be decodable now, and has no map
    region = slice(rows.start, rows.stop)
    maps = {str(t): run.maps(t, plan.explain.method).read(region) for t in plan.explain.targets}
    return _Kept(maps, {(row["row"], row["target"]): row for row in stored})


def _items(plan: ExplainPlan, opticam: OptiCam, decoded: Iterator[View], output: _Output) -> Iterator[_Item]:
    """Run the feature pass batch by batch, and yield the maps to make."""
    for views in _batched(decoded, plan.explain.batch_size):
        images = _to_tensor([view.pixels for view in views], plan.explain.batch_size, opticam)
        features = opticam.features(images)
        # The network of every other probe: the folded copy differs from the plain one in the last bits.
        probabilities = opticam.probabilities(images)
        for place, view in enumerate(views):
            label, ranking = view.sample["class_index"], probabilities[place].argsort(descending=True, stable=True)
            best = int(ranking[0])
            if not bool(probabilities[place].isfinite().all()):
                for target in plan.explain.targets:
                    output.rows.append(_row(plan, view.sample, target, "non_finite", _REASONS["non_finite"]))
                continue
            shared: dict[str, Any] = {"pred_index": best, "pred_prob": float(probabilities[place, best])}
            if opticam.sigmoid:
                shared["class_probabilities"] = probabilities[place].tolist()
            wanted: dict[int, list[str]] = {}
            for target in plan.explain.targets:
                class_index = label if target == "label" else _ranked(ranking, target)
                if class_index is None:
                    reason = view.sample["reason"] or "the sample has no class of the model"
                    output.rows.append(_row(plan, view.sample, target, "no_class", reason, **shared))
                else:
                    wanted.setdefault(class_index, []).append(target)
            for number, (class_index, targets) in enumerate(wanted.items()):
                full = {**shared, "p_full": float(probabilities[place, class_index])}
                yield _Item(view, images[place], features.maps[place], class_index, tuple(targets), full, number == 0)


def _ranked(ranking: Tensor, target: str) -> int:
    """The class that ``predicted`` or ``topK`` names."""
    return int(ranking[rank_of(target) - 1])


def _explain_batch(
    plan: ExplainPlan,
    worker: _Worker,
    items: list[_Item],
    first_row: int,
    output: _Output,
    kept: _Kept | None,
) -> None:
    """Maps and probes of one batch. A short batch is padded with its first image: a convolution rounds differently
    from one batch size to another, and the same image must give the same bytes."""
    opticam, size = worker.opticam, plan.explain.batch_size
    images = _pad(torch.stack([item.image for item in items]), size)
    targets = _pad(torch.tensor([item.class_index for item in items], device=opticam.device), size)
    features = _pad(torch.stack([item.features for item in items]), size)
    if kept is None:
        made = maps_of(plan.explain.method, opticam, images, features, targets, len(items))
    else:
        stored = [kept.rows[item.view.sample["row"], item.targets[0]] for item in items]
        grids = [kept.maps[item.targets[0]][item.view.sample["row"] - first_row] for item in items]
        made = MethodMaps(
            grid=_pad(torch.from_numpy(np.stack(grids)).to(opticam.device), size),
            status=tuple(row["status"] for row in stored),
            trace=tuple({name: row[name] for name in TRACE} for row in stored),
        )

    view_size = (plan.view.size, plan.view.size)
    maps = to_masks(made.grid, view_size, plan.explain.map_normalization).nan_to_num(nan=0.0)
    coverage = _pad(torch.from_numpy(np.stack([item.view.coverage for item in items])).to(maps), size)
    others = None
    if any(item.view.others.any() for item in items):
        others = _pad(torch.from_numpy(np.stack([item.view.others for item in items])).to(maps), size)
    has_box = _pad(torch.tensor([item.view.has_box for item in items], device=opticam.device), size)
    padded = items + items[:1] * (size - len(items))
    seeds = [image_seed(item.view.sample["digest"]) for item in padded]

    # For method grad_cam there is no second locator; a constant map switches it off.
    second = torch.zeros_like(maps)
    if plan.explain.method != "grad_cam":
        second = upsample(opticam.grad_cam(images, targets), view_size)
    carriers = None
    if plan.explain.outside:
        covered = coverage if others is None else coverage + others
        carriers = opticam.maximize_outside(images, features, targets, outside_of(covered, has_box))
    own = made.status[: len(items)]
    transforms = [item.view.transform for item in items]
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
        seeds=seeds,
        status=own,
        transforms=transforms,
        outside_map=None if carriers is None else carriers.maps().nan_to_num(nan=0.0),
        others=others,
    )
    probes = evidence(opticam.probabilities, explained, worker.donors, plan.layer.grid, plan.explain)
    # Where the network returned NaN half-way there is a best iterate, but it cannot be trusted.
    grids_out = made.grid[: len(items)].float().cpu().numpy().copy()
    grids_out[[word == "non_finite" for word in own]] = np.nan
    outside_grids = None if carriers is None else carriers.grid.float().cpu().numpy()
    for place, item in enumerate(items):
        trace = {name: defined(value) for name, value in made.trace[place].items()}
        values = {**item.shared, **probes[place], **trace}
        for target in item.targets:
            output.maps[target][item.view.sample["row"] - first_row] = grids_out[place]
            if outside_grids is not None and probes[place].get("p_hide_outside_map") is not None:
                output.outside[target][item.view.sample["row"] - first_row] = outside_grids[place]
            row = _row(plan, item.view.sample, target, own[place], _REASONS.get(own[place]), **values)
            if not item.first or target != item.targets[0]:
                row["image_features"] = None  # the image's, stored once
            output.rows.append({**row, "class_index": item.class_index})


_REASONS = {
    "degenerate_map": "the map is constant: the layer's feature maps single out no place for this class",
    "non_finite": "the network gives NaN or infinity on this image, whole or masked",
}


def _row(
    plan: ExplainPlan, sample: dict[str, Any], target: str, status: str, reason: str | None, **values: Any
) -> dict[str, Any]:
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


def _batched(stream: Iterator[T], size: int) -> Iterator[list[T]]:
    """Lists of ``size`` consecutive elements; the last may be shorter."""
    while batch := list(islice(stream, size)):
        yield batch
