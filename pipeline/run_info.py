"""What run.json says of a run: what it was made with, and on what."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from dataclasses import fields, replace
from datetime import UTC, datetime

import pyarrow as pa

from pipeline.config import Config
from pipeline.workers.environment import checkout, circumstances, version
from stages.explain.explain import ShardReport, ShardTimes
from stages.explain.methods.methods import optimizes
from stages.explain.network.device import pick_device
from stages.explain.plan import ExplainPlan
from storage import Run
from storage.info import Explained, RunInfo
from storage.samples import truth_of

_AT_ONCE = 10_000
"""Samples that are Python objects at a time."""
_PACKAGES = ("torch", "torchvision", "numpy", "zarr", "pyarrow", "distributed", "fiftyone", "sightline")


def begun(run: Run, config: Config, plan: ExplainPlan, samples: pa.Table, *, makes_maps: bool) -> RunInfo:
    """run.json of a run whose plan stands: what its maps are made with from now on, if it makes any.

    Told before the first map, since files of the code may change meanwhile, and the run may end before its end.
    """
    former = run.info
    return RunInfo(
        config=config.model_dump(mode="json"),
        versions={"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
        weights_digest=plan.weights_digest,
        layer=str(plan.layer),
        optimizer=optimizer(plan) if optimizes(plan.explain.method) else former.optimizer,
        dataset_digest=_dataset_digest(samples),
        explained=_made_with(config, plan) if makes_maps else former.explained,
        misfed=former.misfed,
        tried=former.tried,
    )


def _made_with(config: Config, plan: ExplainPlan) -> Explained:
    workers, threads = config.cluster.layout() if config.cluster.resolved() == "local" else (None, None)
    found = checkout()
    return Explained(
        device=plan.device,
        workers=workers,
        made_with=circumstances(str(pick_device(plan.device)), threads),
        commit=found.commit if found else None,
        commit_changed=found.changed if found else None,
    )


def explained(info: RunInfo, reports: list[ShardReport], seconds: float) -> RunInfo:
    """The same, with what the shards took that were made in ``seconds``."""
    made = replace(
        info.explained,
        images=sum(report.samples for report in reports),
        seconds=seconds,
        spent={
            name: round(sum(getattr(report.times, name) for report in reports), 3)
            for name in (own.name for own in fields(ShardTimes))
        },
    )
    return replace(info, explained=made)


def finished(info: RunInfo, timings: Mapping[str, float]) -> RunInfo:
    """The same of a run that ends now; ``timings``: seconds by stage."""
    return replace(info, timings=dict(timings), finished=datetime.now(UTC).isoformat(timespec="seconds"))


def optimizer(plan: ExplainPlan) -> str:
    """How the plan's maps are optimised, in words."""
    settings = plan.explain.opticam
    name = "Adam" if settings.optimizer == "adam" else "projected Adam"
    said = f"{name} lr {settings.learning_rate:g}, {settings.steps} steps, best iterate"
    default = type(settings)()
    unusual = [
        f"{name} {getattr(settings, name)}"
        for name in ("objective", "normalization", "fill", "precision")
        if getattr(settings, name) != getattr(default, name)
    ]
    return ", ".join([said, *unusual])


def _dataset_digest(samples: pa.Table) -> str:
    # The digest of the text of one list, a few thousand rows of it at a time.
    digest, before = hashlib.sha256(b"["), ""
    for start in range(0, samples.num_rows, _AT_ONCE):
        for row in truth_of(samples.slice(start, _AT_ONCE), ["sample_id", "digest", "label", "boxes"]):
            digest.update(f"{before}{row!r}".encode())
            before = ", "
    digest.update(b"]")
    return digest.hexdigest()
