"""What a run will take: time measured on a few images, memory as the process took it, disk by the sizes of arrays."""

from __future__ import annotations

import resource
from dataclasses import dataclass, replace

import pyarrow as pa

from stages.explain.donors import settle_donors
from stages.explain.explain import explain_shard
from stages.explain.network.device import Device, pick_device
from stages.explain.network.model import Classifier, ModelSettings
from stages.explain.network.view import ViewSettings
from stages.explain.plan import create_map_arrays, make_plan
from stages.explain.settings import ExplainSettings
from storage import Run

TIMED = {"cpu": 2, "cuda": 16}
"""Images that are explained; on a GPU a batch, since one image leaves most of it idle."""


@dataclass(frozen=True)
class Cost:
    """What a sample takes, on one worker."""

    layer: str
    grid: tuple[int, int]
    device: str
    seconds: float
    """Of explain, a sample."""
    memory: int
    """Bytes that this process held at most, with the network and ``timed`` images in work."""
    disk: int
    """Bytes of maps and features, a sample, before compression."""
    timed: int


def measure_cost(
    url: str,
    classifier: Classifier,
    model: ModelSettings,
    view: ViewSettings,
    explain: ExplainSettings,
    samples: pa.Table,
    device: Device = "auto",
) -> Cost | None:
    """Explain a few samples in a run of its own at ``url``, twice: the first time loads and warms up.

    None where no sample can be explained.
    """
    place = pick_device(device).type
    usable = [row for row in samples.to_pylist() if row["status"] in ("ok", "no_box")][: TIMED.get(place, 2)]
    if not usable:
        return None
    few = pa.Table.from_pylist([row | {"row": number} for number, row in enumerate(usable)], schema=samples.schema)
    run = Run.create(url)
    run.write_table("samples", few)
    settings, donors = replace(explain, batch_size=len(usable)), settle_donors(run, samples)
    plan = make_plan(run, classifier, model, view, settings, len(usable), device, donors)
    create_map_arrays(run, plan)
    explain_shard(plan, 0, few)
    run.discard_part(plan.part(0))
    report = explain_shard(plan, 0, few)
    height, width = plan.store_shape
    targets = len(explain.targets)
    return Cost(
        layer=str(plan.layer),
        grid=plan.layer.grid,
        device=place,
        seconds=report.seconds / len(usable),
        memory=1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        disk=4 * targets * height * width + 2 * (targets + 1) * plan.layer.channels,
        timed=len(usable),
    )
