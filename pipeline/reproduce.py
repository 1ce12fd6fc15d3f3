"""A few shards of a finished run made again in a temporary place, and compared with what is stored, byte by byte."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from pipeline.check import load
from pipeline.config import Config, stored_config
from pipeline.workers.environment import checkout, circumstances
from stages.explain.donors import settle_donors
from stages.explain.explain import explain_shard
from stages.explain.network.device import Device, pick_device
from stages.explain.plan import ExplainPlan, create_map_arrays, make_plan, shard_samples
from stages.score.part import score_part, scores_of
from storage import MapStore, Run
from storage.errors import UserError
from storage.maps import checksum, outside_maps_of
from storage.run import ROWS_DIGEST, Part

NOT_RECORDED = "not recorded"


@dataclass(frozen=True)
class Compared:
    """An array of maps, or a column of a table, as stored and as made again."""

    name: str
    rows: int
    different: int = 0
    """Rows of which a byte differs."""
    largest: float | None = None
    """The largest absolute difference of two numbers; None where they agree or are none."""


@dataclass(frozen=True)
class Reproduction:
    """What came of making shards again."""

    method: str
    shards: tuple[int, ...]
    of: int
    compared: tuple[Compared, ...]
    """Arrays and tables; of a table that differs, each column that does."""
    changed: Mapping[str, tuple[str, str]]
    """What the bytes can depend on and is not as it was: its name, and what it was and is."""
    commits: tuple[str, str] = (NOT_RECORDED, NOT_RECORDED)
    """The commits of the code that made the run and of the code that runs now, in words."""

    @property
    def differing(self) -> tuple[Compared, ...]:
        """What is not the same to the last byte."""
        return tuple(one for one in self.compared if one.different)


def reproduce(run: Run, shards: int, seed: int, progress: Callable[[int, int], object]) -> Reproduction:
    """Make a seeded choice of the shards of a run's last method again, maps, probes and scores, and compare them.

    Nothing is written to ``run``. Images, model and settings are those that the run names, the device and the threads
    those that it records, where this machine has them.

    Raises UserError for a run that was not finished, or a number of shards below 1.
    """
    if shards < 1:
        raise UserError(f"--shards is {shards}; take at least 1")
    config = stored_config(run)
    stored = sorted(run.parts("explain", config.explain.method), key=lambda part: part.index)
    if not stored:
        raise UserError(f"{run.url} has no maps of {config.explain.method}; `sightline run CONFIG` makes them")
    chosen = sorted(random.Random(seed).sample(stored, min(shards, len(stored))), key=lambda part: part.index)
    device, threads = _computes_as(run)
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        with tempfile.TemporaryDirectory(prefix="sightline-") as folder:
            again, samples = Run.create(folder), run.table("samples")
            plan = _plan(run, again, samples, config, device)
            changed = _changed(run, plan)
            compared: dict[str, Compared] = {}
            for done, part in enumerate(chosen, start=1):
                own = shard_samples(plan, samples, part.index)
                changed |= _other_basis(run, part, plan, own)
                explain_shard(plan, part.index, own)
                score_part(again, part, own, config.score)
                for one in _compare(run, again, plan, part):
                    compared[one.name] = _sum(compared.get(one.name), one)
                progress(done, len(chosen))
    finally:
        torch.set_num_threads(before)
    return Reproduction(
        config.explain.method,
        tuple(part.index for part in chosen),
        len(stored),
        tuple(compared.values()),
        changed,
        _commits(run),
    )


def _commits(run: Run) -> tuple[str, str]:
    then, now = run.info.explained, checkout()
    return (
        _commit(then.commit, bool(then.commit_changed)) if then.commit else NOT_RECORDED,
        _commit(now.commit, now.changed) if now else "of no git checkout",
    )


def _commit(commit: str, changed: bool) -> str:
    return f"{commit[:12]}, with changes" if changed else commit[:12]


def _computes_as(run: Run) -> tuple[Device, int | None]:
    """The device and the threads that the run records; a CPU where this machine has no such device."""
    recorded = run.info.explained.made_with
    on_gpu = recorded.get("device", "cpu") != "cpu" and torch.cuda.is_available()
    threads = recorded.get("threads", "")
    return ("cuda" if on_gpu else "cpu"), int(threads) if threads.isdigit() else None


def _plan(run: Run, again: Run, samples: pa.Table, config: Config, device: Device) -> ExplainPlan:
    """The run's plan, but for the place; the arrays of its maps are made there."""
    again.write_table("samples", samples)
    if run.has_table("donors"):
        again.write_table("donors", run.table("donors"))
    classifier, view = load(config)
    donors = settle_donors(again, samples)
    plan = make_plan(again, classifier, config.model, view, config.explain, samples.num_rows, device, donors)
    create_map_arrays(again, plan)
    return plan


def _changed(run: Run, plan: ExplainPlan) -> dict[str, tuple[str, str]]:
    """Recorded circumstances that are others now."""
    info = run.info
    if not info.explained.made_with:
        return {"circumstances": (NOT_RECORDED, "unknown; the run is of an earlier version")}
    now = circumstances(str(pick_device(plan.device)), torch.get_num_threads())
    then = {name: info.explained.made_with.get(name, NOT_RECORDED) for name in now}
    then["weights and code"], now["weights and code"] = info.weights_digest[:12], plan.weights_digest[:12]
    return {name: (then[name], value) for name, value in now.items() if value != then[name]}


def _other_basis(run: Run, part: Part, plan: ExplainPlan, samples: pa.Table) -> dict[str, tuple[str, str]]:
    """What the part says it was made from, where that is not what it would be made from today; and damage."""
    vouched = run.part_metadata(part) or {}
    made_from = plan.fingerprints(samples)
    kinds = {
        "images, classes or model": ("basis", made_from.basis),
        "boxes or donors": ("boxes", made_from.boxes),
        "settings of the maps": ("maps_fingerprint", made_from.maps),
        "settings of the probes": ("probes_fingerprint", made_from.probes),
    }
    found = {
        kind: (vouched.get(key, NOT_RECORDED)[:12], today[:12])
        for kind, (key, today) in kinds.items()
        if vouched.get(key) != today
    }
    if not run.has_maps(part.method, vouched):
        found["stored maps"] = ("whole", "damaged: `sightline verify` names and removes them")
    return found


def _compare(run: Run, again: Run, plan: ExplainPlan, part: Part) -> Iterator[Compared]:
    rows = plan.shard(part.index)
    for target in plan.explain.targets:
        for method in (part.method, *((outside_maps_of(part.method),) if plan.explain.outside else ())):
            pair = (MapStore.open(of.directory, target, method) for of in (run, again))
            yield _compare_maps(
                f"maps.zarr/{method}/{target}", *(store.read(slice(rows.start, rows.stop)) for store in pair)
            )
    for one in (part, scores_of(part)):
        yield from _compare_parts(run, again, one)


def _compare_maps(name: str, stored: Any, made: Any) -> Compared:
    if checksum(stored) == checksum(made):
        return Compared(name, len(stored))
    if stored.shape != made.shape:
        return Compared(name, len(stored), len(stored))
    same = (stored == made) | (np.isnan(stored) & np.isnan(made))
    return Compared(name, len(stored), int((~same).any(axis=(1, 2)).sum()), _largest(stored, made))


def _compare_parts(run: Run, again: Run, part: Part) -> Iterator[Compared]:
    """The table as a whole where its rows agree to the byte, else the columns that differ."""
    then, now = (of.part_metadata(part) or {} for of in (run, again))
    stored, made = (of.read_part(part).sort_by([("row", "ascending"), ("target", "ascending")]) for of in (run, again))
    if then.get(ROWS_DIGEST) == now.get(ROWS_DIGEST) and stored.equals(made):
        yield Compared(part.table, stored.num_rows)
        return
    if stored.select(["row", "target"]) != made.select(["row", "target"]):
        yield Compared(f"{part.table}: rows", stored.num_rows, stored.num_rows)
        return
    for name in stored.column_names:
        different = sum(a != b for a, b in zip(stored[name].to_pylist(), made[name].to_pylist(), strict=True))
        if different:
            largest = _largest(_numbers(stored[name]), _numbers(made[name]))
            yield Compared(f"{part.table}.{name}", stored.num_rows, different, largest)


def _numbers(column: pa.ChunkedArray) -> Any:
    """The numbers of a column, those of its lists one after the other; empty for one of other things."""
    while pa.types.is_list(column.type) or pa.types.is_fixed_size_list(column.type):
        column = pc.list_flatten(column)
    if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
        return np.empty(0)
    return column.cast(pa.float64()).to_numpy()


def _largest(stored: Any, made: Any) -> float | None:
    """The largest absolute difference, of those places at which both have a number; None for none."""
    if stored.shape != made.shape:
        return None
    apart = np.abs(stored - made)
    return float(np.nanmax(apart)) if np.isfinite(apart).any() else None


def _sum(before: Compared | None, one: Compared) -> Compared:
    """A shard's comparison added to those of the shards before it."""
    if before is None:
        return one
    largest = [value for value in (before.largest, one.largest) if value is not None]
    return Compared(
        one.name, before.rows + one.rows, before.different + one.different, max(largest) if largest else None
    )
