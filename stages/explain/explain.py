"""One explain task: a shard of samples to maps, probes and a commit."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from stages.explain.batch import Kept, Output, batched, explain_batch, items_of, row_of
from stages.explain.decoding import Decoder
from stages.explain.donors import load_donors
from stages.explain.network.device import batch_for, halving, pick_device
from stages.explain.opticam.opticam import OptiCam
from stages.explain.plan import (
    DONORS_LACKING,
    ExplainPlan,
    load_plan_classifier,
    maps_checksum,
)
from stages.explain.probes.surroundings import Donors
from storage import Run
from storage.media.images import ImageError
from storage.run import MAPS_CHECKSUM
from storage.tables import EXPLAIN


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
    donors_lacking: int = 0
    """Donors whose files could not be read, so that its probes were made without them."""
    times: ShardTimes = ShardTimes()


@dataclass
class _Worker:
    """What a worker process keeps from shard to shard."""

    opticam: OptiCam
    batch: int
    """Images at a time: what the settings say or the device holds, halved where that was too many."""
    lock: Lock = field(default_factory=Lock)
    """Held while the network is in use: threads of a worker share it, and a hook would see the passes of the others."""
    _donors: Donors | None = None

    def donors(self, plan: ExplainPlan) -> Donors:
        """The plan's donors, which the network looks at; they are read anew as long as the file of one cannot be."""
        if self._donors is None or self._donors.lacking:
            self._donors = load_donors(plan.donors, plan.view, self.opticam, self.batch)
        return self._donors


_loading = Lock()


def _worker(plan: ExplainPlan, device: torch.device) -> _Worker:
    """The model of this worker process, loaded once, although several tasks may ask for it at the same time."""
    with _loading:
        return _load_worker(plan, device)


@lru_cache(maxsize=1)
def _load_worker(plan: ExplainPlan, device: torch.device) -> _Worker:
    opticam = load_plan_classifier(plan, device)[1]
    batch = plan.explain.batch_size or batch_for(opticam, plan.view.size)
    return _Worker(opticam, batch)


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

        def explain(batch_size: int) -> Output:
            sized = replace(plan, explain=replace(plan.explain, batch_size=batch_size))
            return _explain_samples(sized, worker.opticam, donors, rows, listed, decoder, kept, progress)

        asked = time.perf_counter()
        with worker.lock:
            granted = time.perf_counter()
            donors = worker.donors(plan)
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
    if donors.lacking:
        metadata[DONORS_LACKING] = str(donors.lacking)
    run.write_part(part, pa.Table.from_pylist(output.rows, schema=EXPLAIN), metadata)
    ended = time.perf_counter()
    return ShardReport(
        index=index,
        samples=len(rows),
        maps=sum(row["status"] == "ok" for row in output.rows),
        seconds=ended - began,
        statuses=dict(Counter(row["status"] for row in output.rows)),
        donors_lacking=donors.lacking,
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
    opticam: OptiCam,
    donors: Donors,
    rows: range,
    samples: list[dict[str, Any]],
    decoder: Decoder,
    kept: Kept | None,
    progress: Callable[[int], object],
) -> Output:
    def empty(grid: tuple[int, int]) -> dict[str, NDArray[np.float32]]:
        return {target: np.full((len(rows), *grid), np.nan, np.float32) for target in plan.explain.targets}

    def refuse(sample: dict[str, Any], error: ImageError) -> None:
        output.rows += [row_of(plan, sample, target, error.status, error.reason) for target in plan.explain.targets]

    output = Output(maps=empty(plan.store_shape), outside=empty(plan.layer.grid) if plan.explain.outside else {})
    for sample in samples:
        if sample["status"] == "unreadable":
            refuse(sample, ImageError("unreadable", sample["reason"]))
    items = items_of(plan, opticam, decoder.views(refuse), output)
    for batch in batched(items, plan.explain.batch_size):
        explain_batch(plan, opticam, donors, batch, rows.start, output, kept)
        progress(len(output.rows) // len(plan.explain.targets))
    return output


def _reusable(run: Run, plan: ExplainPlan, index: int, fingerprint: str, samples: pa.Table) -> Kept | None:
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
    return Kept(maps, {(row["row"], row["target"]): row for row in stored})
