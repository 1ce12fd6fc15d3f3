"""How long the score stage takes: synthetic 7x7 maps with boxes, end to end through a run on disk.

    python -m benchmarks.score_speed [--maps 50000] [--workers 2] [--out speed.md]

Forward passes and crops belong to explain and are no part of it; BoxAcc and the curves are left out. Beside the seconds
of the wall stand those of the processor, which a busy machine stretches less: two workers on two free cores take about
half of them.
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from stages.score.score import score
from stages.score.settings import ScoreSettings
from storage import Run
from storage.maps import MapAttributes
from storage.run import Part
from storage.tables import EXPLAIN, SAMPLES

SHARD = 512
VIEW = MapAttributes("opti_cam", "label", size=224, geometry="resize_crop", resize=256)


def make_run(run: Run, maps: int, seed: int = 0) -> None:
    """A run of ``maps`` samples with photo-sized images, one to three boxes each, smooth maps and random probes."""
    generator = np.random.default_rng(seed)
    width, height = generator.integers(300, 600, (2, maps))
    samples = []
    for row in range(maps):
        corners = generator.random((generator.integers(1, 4), 2, 2)) * [width[row], height[row]]
        boxes = [(*corner.min(axis=0), *corner.max(axis=0)) for corner in corners]
        samples.append(
            {
                "sample_id": f"{row:06d}.jpg",
                "row": row,
                "width": int(width[row]),
                "height": int(height[row]),
                "label": "thing",
                "class_index": 0,
                "boxes": [dict(zip(("x0", "y0", "x1", "y1"), box, strict=True)) for box in boxes],
                "status": "ok",
            }
        )
    run.write_table("samples", pa.Table.from_pylist(samples, schema=SAMPLES))
    store = run.create_maps(VIEW, rows=maps, grid=(7, 7))
    probes = [field.name for field in EXPLAIN if field.name.startswith("p_")]
    for index, start in enumerate(range(0, maps, SHARD)):
        rows = range(start, min(start + SHARD, maps))
        store.write(start, generator.random((len(rows), 7, 7), dtype=np.float32) ** 2)
        explain = [
            {
                "sample_id": f"{row:06d}.jpg",
                "row": row,
                "target": "label",
                "method": "opti_cam",
                "class_index": 0,
                "pred_index": int(generator.integers(2)),
                "status": "ok",
                **dict(zip(probes, generator.random(len(probes)), strict=True)),
            }
            for row in rows
        ]
        run.write_part(Part("explain", "opti_cam", index), pa.Table.from_pylist(explain, schema=EXPLAIN), {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--maps", type=int, default=50_000)
    parser.add_argument("--workers", type=int, default=2, help="threads of the score stage")
    parser.add_argument("--out", type=Path, help="also write the table to this Markdown file")
    arguments = parser.parse_args()
    steps: list[tuple[str, float, float]] = []

    def timed(step: str, work: Callable[[], Any]) -> Any:
        wall, processor = time.perf_counter(), time.process_time()
        result = work()
        steps.append((step, time.perf_counter() - wall, time.process_time() - processor))
        return result

    with tempfile.TemporaryDirectory() as directory:
        run = Run.create(directory)
        make_run(run, arguments.maps)
        load = os.getloadavg()[0]
        first = timed("score", lambda: score(run, ScoreSettings(), workers=arguments.workers))
        timed("score again: up to date", lambda: score(run, ScoreSettings(), workers=arguments.workers))
        rows = timed("read the table", lambda: run.table("scores").num_rows)
    statuses = ", ".join(f"{count} {status}" for status, count in sorted(first.statuses.items()))
    lines = [
        "# Speed of the score stage",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, load average {load:.1f} before and "
        f"{os.getloadavg()[0]:.1f} after, Python {platform.python_version()}, numpy {np.__version__}.",
        f"{rows} maps of 7 x 7 in a view of {VIEW.size} px, {arguments.workers} threads: {statuses}.",
        "",
        f"    python -m benchmarks.score_speed {shlex.join(sys.argv[1:])}".rstrip(),
        "",
        "| step | wall, s | processor, s | maps/s by wall | maps/s by processor |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {step} | {wall:.1f} | {processor:.1f} | {rows / wall:.0f} | {rows / max(processor, 1e-9):.0f} |"
        for step, wall, processor in steps
    ]
    print("\n".join(lines))
    if arguments.out is not None:
        arguments.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
