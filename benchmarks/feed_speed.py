"""What a worker does beside its device: decoding, host time between tensor operations, storing and scoring, per map.

    python -m benchmarks.feed_speed [--images FOLDER] [--count 64] [--repeats 5] [--out feed_speed.md]

Times are those of the processor, of the one thread that computes, so other work on the machine counts little. The
network costs next to nothing (two convolutions to a 7 x 7 grid of 1280 channels), so what is left is what every network
pays. ``tensor operations`` are timed one by one, within them (a dispatch mode of torch); ``host`` is the rest of the
task, measured without that mode: Python, numpy, scipy and the store, during which a GPU has nothing new to do unless it
is behind. Rounds of all rows are interleaved; each number is the median of the rounds.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pyarrow as pa
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.explain_speed import markdown
from benchmarks.load_speed import CLASSES, draw_pictures
from stages.explain import ModelSettings, load_classifier
from stages.explain.explain import explain_shard
from stages.explain.network.view import ViewSettings, render_view
from stages.explain.plan import ExplainPlan, create_map_arrays, make_plan, shard_samples
from stages.explain.settings import ExplainSettings
from stages.ingest.ingest import ingest
from stages.ingest.recognise import open_dataset
from stages.ingest.settings import DatasetSettings
from stages.score.part import score_part
from stages.score.settings import ScoreSettings
from storage import Run
from storage.samples import own_boxes, read_unchanged

MODEL = ModelSettings(source="python:benchmarks.feed_speed:network")
VIEW = ViewSettings()


def network() -> nn.Module:
    """A classifier of negligible cost: a 7 x 7 grid of 1280 channels at 224 px."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 32, stride=32), nn.Conv2d(4, 1280, 1), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, CLASSES))


class _Clock(TorchDispatchMode):
    """Seconds within tensor operations, and their number."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds, self.operations = 0.0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        began = time.thread_time()
        try:
            return func(*args, **(kwargs or {}))
        finally:
            self.seconds += time.thread_time() - began
            self.operations += 1


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", help="a dataset of real photos, in any form that Sightline reads")
    parser.add_argument("--count", type=int, default=64, help="images")
    parser.add_argument("--repeats", type=int, default=5, help="rounds")
    parser.add_argument("--out", type=Path, help="also write the table to this Markdown file")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        plan, samples = prepare(Path(folder), options.images, options.count)
        page = table(plan, samples, options.repeats)
    print(page)
    if options.out:
        options.out.write_text(page, encoding="utf-8")


def prepare(folder: Path, images: str | None, count: int) -> tuple[ExplainPlan, pa.Table]:
    """A run of one shard whose samples are read, and its plan."""
    run = Run.create(str(folder / "run"))
    classifier = load_classifier(MODEL, VIEW.size)
    settings = DatasetSettings(path=images or str(write_dataset(folder, count)), limit=count)
    dataset = open_dataset(settings)
    if images:  # the classes that there are, as many as the network has
        names = sorted({record.label for record in dataset.reader.records() if record.label is not None})
        classifier.class_names = tuple(names[:CLASSES] + [f"other {index}" for index in range(CLASSES - len(names))])
    else:
        classifier.class_names = tuple(f"class {index}" for index in range(CLASSES))
    samples = ingest(dataset, classifier.class_names, run)
    explain = ExplainSettings(shard_size=32 * -(-samples.num_rows // 32))
    plan = make_plan(run, classifier, MODEL, VIEW, explain, samples.num_rows, "cpu")
    create_map_arrays(run, plan)
    return plan, shard_samples(plan, samples, 0)


def write_dataset(folder: Path, count: int) -> Path:
    """Photo-sized pictures with a box each, as a manifest."""
    sizes = draw_pictures(folder, count, np.random.default_rng(0))
    lines = ["path,label,boxes"]
    for row, (width, height) in enumerate(sizes):
        box = f"[[{width // 4}, {height // 4}, {3 * width // 4}, {3 * height // 4}]]"
        lines.append(f'{row:06d}.jpg,class {row % CLASSES},"{box}"')
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    return folder / "manifest.csv"


def table(plan: ExplainPlan, samples: pa.Table, repeats: int) -> str:
    """Milliseconds a map, or an image, of each step."""
    run, rows = Run.open(plan.run_url), samples.to_pylist()
    explain_shard(plan, 0, samples)  # loads the network
    rounds: list[dict[str, float]] = []
    for _ in range(repeats):
        found = decoding(rows)
        run.discard_part(plan.part(0))  # or the next task keeps the maps
        began = time.thread_time()
        maps = explain_shard(plan, 0, samples).maps
        explained = time.thread_time()
        score_part(run, plan.part(0), samples, ScoreSettings())
        scored = time.thread_time()
        run.discard_part(plan.part(0))
        with _Clock() as clock:
            explain_shard(plan, 0, samples)
        found |= {
            "task": 1000 * (explained - began) / maps,
            "operations": 1000 * clock.seconds / maps,
            "host": 1000 * (explained - began - clock.seconds) / maps,
            "count": clock.operations / maps,
            "scoring": 1000 * (scored - explained) / maps,
        }
        rounds.append(found)
    middle = {name: statistics.median(found[name] for found in rounds) for name in rounds[0]}
    captions = {
        "read": "read, decode and compare with the digest, ms an image",
        "cover": "boxes to the view's pixels, ms an image",
        "render": "resize to the view, ms an image",
        "task": "maps, probes, evidence and the part, ms a map",
        "operations": "-- of it, tensor operations",
        "host": "-- of it, host",
        "count": "tensor operations, number a map",
        "scoring": "scores, ms a map",
    }
    return markdown(["step", "median"], [[captions[name], f"{middle[name]:.2f}"] for name in captions])


def decoding(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Milliseconds an image of the steps of decoding."""
    seconds = dict.fromkeys(("read", "cover", "render"), 0.0)

    def timed(name: str, work: Callable[[], Any]) -> Any:
        began = time.thread_time()
        made = work()
        seconds[name] += time.thread_time() - began
        return made

    usable = [row for row in rows if row["status"] in ("ok", "no_box")]
    for row in usable:
        image = timed("read", lambda row=row: read_unchanged(row))
        transform = VIEW.transform(*image.size)
        timed("cover", lambda row=row, transform=transform: transform.coverage(own_boxes(row)))
        timed("render", lambda image=image: render_view(image, VIEW))
    return {name: 1000 * spent / len(usable) for name, spent in seconds.items()}


if __name__ == "__main__":
    main()
