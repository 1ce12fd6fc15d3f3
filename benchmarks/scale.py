"""What a run costs by its number of samples: seconds, memory of the driver, files and bytes, stage by stage.

    python -m benchmarks.scale [--samples 10000 100000] [--shard 64] [--channels 1280] [--out scale.md]
    python -m benchmarks.scale --plot scale.svg --table scale.md

Every stage runs in a process of its own, as the driver runs it; its imports are not timed. Real: the image files (each
a hard link to one of 64 photo-sized JPEGs), ingest, plan, score, audit, the queries, and how parts and maps are
written. Synthetic: what the network would have measured. ``explain`` writes parts with every column, two targets a
sample, vectors of ``--channels`` numbers and 7 x 7 maps, with the fingerprints of a plan, so that a restart finds them
done: it is the cost of storing, not of explaining. ``query`` is the slowest of the canned queries. ``restart`` is the
same command again on the finished run: ingest looks at the files; plan, score and audit look at the footers.
``memory`` is the peak of the resident size of the process; what `plan` shows are its imports.

``--plot`` draws the first table of a page: seconds and memory by the number of samples, on logarithmic axes, on which
what is proportional to the number is a straight line of slope 1.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import torch
from torch import nn

from benchmarks.load_speed import CLASSES, draw_pictures, measured_columns, peak_memory, vectors
from pipeline.workers.environment import environment
from stages.audit.audit import audit
from stages.audit.canned import list_queries
from stages.audit.settings import AuditSettings
from stages.explain import Classifier, ModelSettings, load_classifier
from stages.explain.network.view import ViewSettings
from stages.explain.plan import (
    ExplainPlan,
    create_map_arrays,
    make_plan,
    pending_shards,
    shard_samples,
)
from stages.explain.settings import ExplainSettings
from stages.ingest.ingest import ingest
from stages.ingest.recognise import open_dataset
from stages.ingest.settings import DatasetSettings
from stages.score.score import score
from stages.score.settings import ScoreSettings
from storage import Run
from storage.sql import run_query
from storage.tables import EXPLAIN

MODEL = ModelSettings(source="python:benchmarks.scale:network")
VIEW = ViewSettings()
GRID = 7


def network() -> nn.Module:
    """A classifier of negligible cost whose last layer is a 7 x 7 grid at 224 px."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 16, 32, stride=32), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, CLASSES)]
    return nn.Sequential(*layers)


class Stages:
    """The stages on the run of ``samples`` images below ``folder``."""

    def __init__(self, folder: Path, samples: int, shard: int, channels: int) -> None:
        self.folder, self.samples, self.channels = folder, samples, channels
        self.explain_settings = ExplainSettings(shard_size=shard)
        self.run = Run.create(str(folder / "run"))
        self.classifier: Classifier = load_classifier(MODEL, VIEW.size)
        self.classifier.class_names = tuple(f"class {index}" for index in range(CLASSES))

    def ingest(self) -> None:
        """Samples from the manifest and the image files."""
        dataset = open_dataset(DatasetSettings(path=str(self.folder / "manifest.csv")))
        ingest(dataset, self.classifier.class_names, self.run)

    def plan(self) -> list[int]:
        """Pending shards."""
        return pending_shards(self.run, self._plan(), self.run.table("samples"))

    def explain(self) -> None:
        """Synthetic parts and maps of every pending shard."""
        plan, samples = self._plan(), self.run.table("samples")
        method, targets = plan.explain.method, plan.explain.targets
        stores = {target: self.run.maps(target, method, mode="r+") for target in targets}
        outside_stores = {target: self.run.outside_maps(target, method, mode="r+") for target in targets}
        for index in pending_shards(self.run, plan, samples):
            generator = np.random.default_rng(index)
            own, rows = shard_samples(plan, samples, index), plan.shard(index)
            sizes = np.stack([own["width"].to_numpy(), own["height"].to_numpy()], axis=1)
            label = own["class_index"].to_numpy()
            predicted = np.where(generator.random(len(rows)) < 0.8, label, (label + 1) % CLASSES).astype(np.int32)
            maps, outside = (
                {target: generator.random((len(rows), GRID, GRID), dtype=np.float32) ** 3 for target in targets}
                for _ in range(2)
            )
            tables = []
            for target, classes in (("label", label), ("predicted", predicted)):
                columns = measured_columns(
                    own["sample_id"].to_pylist(), np.array(rows), sizes, classes, predicted, generator
                )
                columns |= vectors(len(rows), self.channels, image=target == "label", generator=generator)
                columns["target"] = pa.array([target] * len(rows))
                tables.append(pa.table({name: columns[name] for name in EXPLAIN.names}, schema=EXPLAIN))
                stores[target].write(rows.start, maps[target])
                outside_stores[target].write(rows.start, outside[target])
            vouched = plan.fingerprints(own).metadata(rows, maps, outside)
            self.run.write_part(plan.part(index), pa.concat_tables(tables), vouched)

    def score(self) -> None:
        """Scores and metrics, on all cores of this process."""
        score(self.run, ScoreSettings())

    def audit(self) -> None:
        """Rules, classes and cues."""
        audit(self.run, AuditSettings(), environment())

    def query(self) -> float:
        """Seconds of the slowest canned query."""
        seconds = []
        for query in list_queries():
            began = time.perf_counter()
            run_query(self.run, query.of(self.run))
            seconds.append(time.perf_counter() - began)
        return max(seconds)

    def restart(self) -> None:
        """All of it again; nothing is pending."""
        self.ingest()
        if self.plan():
            raise SystemExit("restart: shards are pending in a finished run")
        self.score()
        self.audit()

    def _plan(self) -> ExplainPlan:
        samples = self.run.table("samples", ["row"]).num_rows
        plan = make_plan(self.run, self.classifier, MODEL, VIEW, self.explain_settings, samples, "cpu")
        create_map_arrays(self.run, plan)
        return plan


STAGES: dict[str, Callable[[Stages], object]] = {
    "ingest": Stages.ingest,
    "plan": Stages.plan,
    "explain (storing)": Stages.explain,
    "score": Stages.score,
    "audit": Stages.audit,
    "query": Stages.query,
    "restart: ingest": Stages.ingest,
    "restart: plan": Stages.plan,
    "restart: score": Stages.score,
    "restart: audit": Stages.audit,
    "restart": Stages.restart,
}
"""In the order in which they are measured."""
HEAD = "| samples | stage | seconds | driver's memory, GB | files after it | GB after it |"


def write_dataset(folder: Path, samples: int) -> None:
    """Images below ``folder`` and a manifest with a label and a box each."""
    generator = np.random.default_rng(0)
    sizes = draw_pictures(folder / "images", samples, generator)
    labels = generator.integers(0, CLASSES, samples)
    with open(folder / "manifest.csv", "w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "label", "boxes"])
        for row, (width, height) in enumerate(sizes.tolist()):
            box = [width // 4, height // 4, width // 4 + 60 + row % 100, height // 4 + 60 + row % 90]
            table.writerow([f"images/{row:06d}.jpg", f"class {labels[row]}", json.dumps([box])])


def measure(stage: str, options: argparse.Namespace) -> dict[str, float]:
    """Seconds and peak memory (GB) of one stage, in this process."""
    stages = Stages(options.folder, options.samples[0], options.shard, options.channels)
    with peak_memory(psutil.Process()) as peak:
        began = time.perf_counter()
        found = STAGES[stage](stages)
        seconds = time.perf_counter() - began
    return {"seconds": found if isinstance(found, float) else seconds, "memory": peak[0]}


def measured(samples: int, options: argparse.Namespace) -> list[str]:
    """Lines of the table for one number of samples."""
    lines = []
    with tempfile.TemporaryDirectory(prefix="sightline-scale-") as name:
        folder = Path(name)
        write_dataset(folder, samples)
        for stage in STAGES:
            sizes = ["--samples", str(samples), "--shard", str(options.shard), "--channels", str(options.channels)]
            command = [sys.executable, "-m", "benchmarks.scale", *sizes, "--folder", name, "--stage", stage]
            printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            took = json.loads(printed.splitlines()[-1])
            files = [path for path in (folder / "run").rglob("*") if path.is_file()]
            gigabytes = sum(path.stat().st_size for path in files) / 1e9
            lines.append(
                f"| {samples:,} | {stage} | {took['seconds']:.1f} | {took['memory']:.2f} | {len(files):,} "
                f"| {gigabytes:.2f} |"
            )
            print(lines[-1], file=sys.stderr, flush=True)
    return lines


def plot(table: str, path: Path) -> None:
    """Draw the first table of a page: seconds of each stage, and memory, by the number of samples."""
    from matplotlib.figure import Figure

    found: dict[str, list[tuple[int, float, float]]] = {}
    for line in table.partition(HEAD)[2].splitlines()[2:]:
        if not line.startswith("| "):
            break
        samples, stage, seconds, memory, *_ = (cell.strip() for cell in line.strip("|").split("|"))
        found.setdefault(stage, []).append((int(samples.replace(",", "")), float(seconds), float(memory)))
    figure = Figure(figsize=(10, 4), layout="constrained")
    axes = figure.subplots(1, 2)
    for place, (stage, rows) in enumerate(found.items()):
        samples, seconds, memories = zip(*sorted(rows), strict=True)
        marker = "os^vD<>pPX"[place % 10]
        axes[0].loglog(samples, [max(value, 0.1) for value in seconds], marker=marker, label=stage)
        axes[1].semilogx(samples, memories, marker=marker)
    for axis, name in zip(
        axes, ("seconds (0.1 and less as 0.1)", "driver's memory, GB, imports included"), strict=True
    ):
        axis.set(xlabel="samples", ylabel=name)
        axis.grid(alpha=0.3)
    axes[1].set_ylim(bottom=0)
    figure.legend(loc="outside right upper")
    figure.savefig(path)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--shard", type=int, default=64)
    parser.add_argument("--channels", type=int, default=1280)
    parser.add_argument("--out", type=Path, help="write the table to this Markdown file too")
    parser.add_argument("--plot", type=Path, help="draw the table of --table to this SVG file, and measure nothing")
    parser.add_argument("--table", type=Path, help="a page with the table")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--stage", choices=list(STAGES), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.plot:
        plot(options.table.read_text(encoding="utf-8"), options.plot)
        return 0
    if options.stage:
        print(json.dumps(measure(options.stage, options)))
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    page = [
        "# A run by its number of samples\n",
        f"{datetime.date.today()}, cores: {cores}, Python {platform.python_version()}; load average "
        f"{os.getloadavg()[0]:.1f} at the start. What is real and what is synthetic stands in `benchmarks/scale.py`.\n",
        f"    python -m benchmarks.scale --samples {' '.join(map(str, options.samples))} --shard {options.shard}\n",
        HEAD,
        "|---:|---|---:|---:|---:|---:|",
    ]
    for samples in options.samples:
        page += measured(samples, options)
    print("\n".join(page))
    if options.out:
        options.out.write_text("\n".join(page) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
