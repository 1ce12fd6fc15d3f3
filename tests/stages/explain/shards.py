"""A small dataset on disk as a samples table, its shards explained in this process, and networks for that."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from torch import Tensor, nn

from stages.explain.donors import Donor
from stages.explain.explain import ShardReport, explain_shard
from stages.explain.network.model import IMAGENET_MEAN, IMAGENET_STD, ModelSettings, load_classifier
from stages.explain.network.view import ViewSettings
from stages.explain.plan import (
    ExplainPlan,
    create_map_arrays,
    make_plan,
    pending_shards,
    shard_samples,
)
from stages.explain.settings import ExplainSettings
from storage import Run
from storage.tables import SAMPLES
from tests.stages.explain.networks import tiny

VIEW = ViewSettings(size=32)
CLASSES = 5
COUNT = 70
"""Samples of the run that tests share, in shards of 32."""


class HandMade(nn.Module):
    """Fixed weights written out by hand: an edge detector, a blob detector and two colours, then three classes."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3, stride=4, padding=1), nn.ReLU())
        self.head = nn.Linear(4, 3)
        kernels = torch.zeros(4, 3, 3, 3)
        kernels[0, :, :, 0], kernels[0, :, :, 2] = -0.5, 0.5
        kernels[1] = -0.125
        kernels[1, :, 1, 1] = 1.0
        kernels[2, 0], kernels[2, 2] = 0.25, -0.125
        kernels[3, 1], kernels[3, 0] = 0.25, -0.125
        with torch.no_grad():
            self.features[0].weight.copy_(kernels)
            self.features[0].bias.copy_(torch.tensor([0.0, 0.125, 0.25, 0.25]))
            self.head.weight.copy_(torch.tensor([[2.0, 0.5, 1.5, -1.0], [-1.0, 2.0, -0.5, 2.0], [0.5, -1.0, 0.5, 0.5]]))
            self.head.bias.copy_(torch.tensor([0.0, 0.25, -0.25]))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).mean((2, 3)))


class Fragile(nn.Module):
    """NaN for a gray picture: for a whole one, or for one with something black in it, which a masked one has."""

    def __init__(self, masked: bool) -> None:
        super().__init__()
        self.inner, self.masked = tiny(), masked

    def forward(self, x: Tensor) -> Tensor:
        pixels = x * torch.tensor(IMAGENET_STD).view(3, 1, 1) + torch.tensor(IMAGENET_MEAN).view(3, 1, 1)
        gray = (pixels.amax(1) - pixels.amin(1)).amax((1, 2)) < 0.01
        black = pixels.amin((1, 2, 3)) < 0.01
        return self.inner(x) + torch.where(gray & (black == self.masked), torch.nan, 0.0)[:, None]


def nan_on_whole_gray() -> nn.Module:
    return Fragile(masked=False)


def nan_on_masked_gray() -> nn.Module:
    return Fragile(masked=True)


class Flat(nn.Module):
    """Its last activation is the same everywhere; it tells images apart by their brightness."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = tiny()
        self.inner.features[3].weight.data.zero_()
        self.inner.features[3].bias.data.fill_(0.37)  # not zero: interpolation rounds it

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) + x.mean((1, 2, 3))[:, None] * torch.arange(5)


def flat() -> nn.Module:
    return Flat()


def model(factory: str = "tests.stages.explain.networks:tiny", **settings: object) -> ModelSettings:
    return ModelSettings(source=f"python:{factory}", **settings)  # type: ignore[arg-type]


def picture(seed: int, size: tuple[int, int] = (40, 30)) -> Image.Image:
    generator = np.random.default_rng(seed)
    coarse = Image.fromarray(generator.integers(0, 256, (4, 5, 3), dtype=np.uint8))
    return coarse.resize(size, Image.Resampling.BICUBIC)


def samples_of(folder: Path, seeds: Sequence[int], boxes: Sequence[float] = (5, 5, 25, 20)) -> pa.Table:
    """One image a seed, on disk, and the rows of a samples table for them, in the order of ``seeds``."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for row, seed in enumerate(seeds):
        path = folder / f"{seed}.png"
        if not path.exists():
            picture(seed).save(path)
        rows.append(
            dict.fromkeys(SAMPLES.names)
            | {
                "sample_id": path.name,
                "row": row,
                "uri": str(path),
                "digest": hashlib.sha256(path.read_bytes()).hexdigest(),
                "label": str(seed % CLASSES),
                "class_index": seed % CLASSES,
                "boxes": [dict(zip(("x0", "y0", "x1", "y1"), boxes, strict=True), label=None)],
                "status": "ok",
            }
        )
    return pa.Table.from_pylist(rows, schema=SAMPLES)


def edited(samples: pa.Table, row: int, **values: object) -> pa.Table:
    rows = samples.to_pylist()
    rows[row] |= values
    return pa.Table.from_pylist(rows, schema=SAMPLES)


def settings(**changes: object) -> ExplainSettings:
    return ExplainSettings(
        **({"profile": "paper", "steps": 4, "learning_rate": 0.5, "batch_size": 8, "shard_size": 32} | changes)
    )


def planned(
    url: str,
    samples: pa.Table,
    explain: ExplainSettings | None = None,
    source: ModelSettings | None = None,
    donors: tuple[Donor, ...] = (),
) -> tuple[Run, ExplainPlan]:
    """The run with everything in place that precedes the tasks, as the driver does it."""
    run = Run.create(url)
    run.write_table("samples", samples)
    source = source or model()
    classifier = load_classifier(source, VIEW.size)
    plan = make_plan(run, classifier, source, VIEW, explain or settings(), samples.num_rows, "cpu", donors)
    create_map_arrays(run, plan)
    return run, plan


def explain(
    url: str, samples: pa.Table, explain_settings: ExplainSettings | None = None, source: ModelSettings | None = None
) -> tuple[Run, list[ShardReport]]:
    """Explain what is pending; the run, and a report for each shard that was."""
    run, plan = planned(url, samples, explain_settings, source)
    pending = pending_shards(run, plan, samples)
    return run, [explain_shard(plan, index, shard_samples(plan, samples, index)) for index in pending]


def rows_by_key(run: Run, method: str = "opti_cam") -> dict[tuple[str, str], dict[str, object]]:
    """A method's rows of ``explain`` by sample and target, without the row, which depends on the dataset's order."""
    rows = [row for row in run.table("explain").to_pylist() if row["method"] == method]
    keyed = {(row["sample_id"], row["target"]): {k: v for k, v in row.items() if k != "row"} for row in rows}
    assert len(keyed) == len(rows), "a sample and target has two rows"
    return keyed


def undefined_probes(row: dict[str, object]) -> set[str]:
    """The probes that a row of ``explain`` has no value of."""
    return {name for name, value in row.items() if name.startswith("p_") and value is None}


def maps_by_key(run: Run, method: str = "opti_cam") -> dict[tuple[str, str], bytes]:
    names = run.table("samples", ["sample_id"])["sample_id"].to_pylist()
    return {
        (name, target): grid.tobytes()
        for target in run.targets(method)
        for name, grid in zip(names, run.maps(target, method).read(slice(0, len(names))), strict=True)
    }


def files(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Modification time and content of every file below a folder."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes()) for path in found}
