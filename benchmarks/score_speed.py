"""How long the score stage takes: synthetic 7x7 maps with boxes, end to end through a run on disk.

python -m benchmarks.score_speed [--maps 50000] [--workers 2]
"""

from __future__ import annotations

import argparse
import tempfile
import time

import numpy as np
import pyarrow as pa

from stages.score.score import score
from stages.score.settings import ScoreSettings
from storage import Run
from storage.run import Part
from storage.tables import EXPLAIN, SAMPLES

SHARD = 512
VIEW = {"geometry": "resize_crop", "size": 224, "resize": 256}


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
    store = run.create_maps("opti_cam", "label", rows=maps, grid=(7, 7), attributes=VIEW)
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
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        run = Run.create(directory)
        make_run(run, arguments.maps)
        first = score(run, ScoreSettings(), workers=arguments.workers)
        again = score(run, ScoreSettings(), workers=arguments.workers)
        began = time.perf_counter()
        rows = run.table("scores").num_rows
        read = time.perf_counter() - began
    print(f"{'step':24} {'seconds':>8} {'maps/s':>8}")
    for step, seconds in (
        ("score", first.seconds),
        ("score again: up to date", again.seconds),
        ("read the table", read),
    ):
        print(f"{step:24} {seconds:8.1f} {rows / seconds:8.0f}")
    statuses = ", ".join(f"{count} {status}" for status, count in sorted(first.statuses.items()))
    print(f"{rows} maps of 7x7 in a view of {VIEW['size']} px, {arguments.workers} threads: {statuses}")


if __name__ == "__main__":
    main()
