"""What a second worker gains, and how much of a worker's time is not the network: whole runs of ``explain``.

    python -m benchmarks.workers_speed [--images 64] [--rounds 3] [--model mobilenet_v2] [--out workers_speed.md]

Runs with one worker and with two, each of one thread, take turns; the machine should do nothing else, and needs two
cores. The network has torchvision's architecture and random weights, which cost what trained ones do. Everything else
is the default of a run: ``fast``, both targets, the map of the outside, probes and scores. The seconds are those of the
stage ``explain`` of a run, without the start of the workers.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
import torchvision
from rich.console import Console
from torch import nn

from benchmarks.explain_speed import markdown
from benchmarks.feed_speed import write_dataset
from benchmarks.load_speed import CLASSES
from pipeline.config import load_config
from pipeline.runner import run_pipeline
from storage import Run

SHARD = 32
NOT_NETWORK = ("images", "storing", "scoring")


def network() -> nn.Module:
    """The architecture that is named in the environment, with random weights: the workers build it too."""
    torch.manual_seed(0)
    return torchvision.models.get_model(os.environ["SIGHTLINE_BENCHMARK_MODEL"], weights=None, num_classes=CLASSES)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2 * SHARD, help=f"a multiple of {2 * SHARD}, for even shards")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="mobilenet_v2", help="a classifier of torchvision")
    parser.add_argument("--out", type=Path, help="also write the table to this Markdown file")
    options = parser.parse_args(arguments)
    if options.images % (2 * SHARD):
        parser.error(f"--images is {options.images}, not a multiple of {2 * SHARD}")
    os.environ["SIGHTLINE_BENCHMARK_MODEL"] = options.model
    with tempfile.TemporaryDirectory() as folder:
        config = write_config(Path(folder), options.images)
        runs: dict[int, list[Run]] = {1: [], 2: []}
        for number in range(options.rounds):
            for workers, done in runs.items():
                words = [f"run={folder}/{workers}-{number}", f"cluster.workers={workers}"]
                done.append(run_pipeline(load_config(config, words), Console(file=io.StringIO()), force=True))
                print(f"round {number + 1}, {workers} workers: {done[-1].info.explained.seconds:.1f} s", flush=True)
        page = table(runs, options.images)
    print(page)
    if options.out:
        options.out.write_text(page, encoding="utf-8")


def write_config(folder: Path, count: int) -> Path:
    """A dataset of photo-sized pictures, and the config of a run on it."""
    manifest = write_dataset(folder, count)
    (folder / "classes.txt").write_text("".join(f"class {index}\n" for index in range(CLASSES)))
    config = {
        "run": "run",
        "dataset": {"path": str(manifest)},
        "model": {"source": "python:benchmarks.workers_speed:network", "classes": str(folder / "classes.txt")},
        "explain": {"shard_size": SHARD},
        "cluster": {"kind": "local", "threads": 1},
    }
    path = folder / "pipeline.yaml"
    path.write_text(json.dumps(config))  # JSON is YAML
    return path


def table(runs: dict[int, list[Run]], images: int) -> str:
    """Seconds, their ratio, and where the time went."""
    rows = []
    middle = {workers: statistics.median(run.info.explained.seconds for run in done) for workers, done in runs.items()}
    for workers, done in runs.items():
        seconds = [run.info.explained.seconds for run in done]
        beside = [_beside_network(run) for run in done]
        rows.append(
            [
                str(workers),
                f"{middle[workers]:.1f}",
                f"{min(seconds):.1f} to {max(seconds):.1f}",
                f"{images / middle[workers]:.2f}",
                f"{middle[1] / middle[workers]:.2f}",
                f"{statistics.median(beside):.1%}",
            ]
        )
    header = ["workers", "explain, s", "range", "images/s", "times one worker", "of the workers' time, not network"]
    return markdown(header, rows)


def _beside_network(run: Run) -> float:
    spent = run.info.explained.spent
    beside = sum(spent[name] for name in NOT_NETWORK)
    return beside / (beside + spent["network"])


if __name__ == "__main__":
    main()
