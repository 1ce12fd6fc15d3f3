"""How long a run takes to load into FiftyOne, and how much memory: the first time, again, and after a change.

python -m benchmarks.load_speed [--samples 1000 10000 50000]

Loads are made as ``sightline app`` makes them, each in a process of its own, into a private MongoDB of its own. What is
synthetic: the pictures (64 photo-sized ones; every sample is a file of its own, a hard link to one of them) and every
number. What is as in a real run: the tables with all their columns, two targets a sample, a prediction that differs
from the label on one sample of five, boxes, findings of eight rules, cues, smooth 7x7 maps all different, and vectors
of ``--channels`` numbers. Nothing of the network runs. Columns: ``wall`` and ``CPU`` seconds of the loading process,
its import of FiftyOne left out; ``samples/s`` is by wall time; ``process`` and ``mongod`` are peaks of resident memory.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from storage import Run
from storage.maps import MapAttributes
from storage.run import Part
from storage.tables import BOX, CUES, EXPLAIN, FINDINGS, REGION, SAMPLES, SCORES

SHARD = 512
CLASSES = 100
PICTURES = 64
SIZES = ((500, 375), (500, 333), (375, 500), (640, 480), (333, 500), (500, 400))
RULES = (
    ("relies_on_outside", "flag", 0.05),
    ("needs_context", "flag", 0.03),
    ("may_rely_on_outside", "description", 0.05),
    ("missing_box", "description", 0.1),
    ("label_suspect", "description", 0.03),
    ("wrong_but_on_object", "description", 0.05),
    ("looks_elsewhere_but_right", "description", 0.03),
    ("misses_box", "description", 0.3),
)
"""Rule, kind, and the share of samples that it finds."""

CUES_EVERY = 1000
"""Samples for each cue; a cue has up to 20 of them."""

CHANGED = 0.01


def make_run(directory: Path, samples: int, channels: int, seed: int = 0, shard: int = SHARD) -> Run:
    """A run of ``samples`` images with every table, map and vector that the App's dataset is made of."""
    generator = np.random.default_rng(seed)
    run = Run.create(str(directory / "runs" / f"load-{samples}"))
    sizes = draw_pictures(directory / "images", samples, generator)
    label = generator.integers(0, CLASSES, samples).astype(np.int32)
    predicted = np.where(generator.random(samples) < 0.8, label, (label + 1) % CLASSES).astype(np.int32)
    keys = [f"images/{row:06d}.jpg" for row in range(samples)]
    run.write_table("samples", _samples(directory, keys, sizes, label, generator))
    for index, start in enumerate(range(0, samples, shard)):
        rows = np.arange(start, min(start + shard, samples))
        own, other = (
            measured_columns(keys[start : start + shard], rows, sizes[rows], classes[rows], predicted[rows], generator)
            for classes in (label, predicted)
        )
        same = (label == predicted)[rows]
        for name, schema in (("explain", EXPLAIN), ("scores", SCORES)):
            tables = []
            for target, columns in (("label", own), ("predicted", other)):
                shown = {
                    column: pa.array(np.where(same, own[column], values)) if isinstance(values, np.ndarray) else values
                    for column, values in columns.items()
                }
                shown["target"] = pa.array([target] * len(rows))
                if name == "explain":
                    shown |= vectors(len(rows), channels, image=target == "label", generator=generator)
                tables.append(pa.table({column: shown[column] for column in schema.names}, schema=schema))
            run.write_part(Part(name, "opti_cam", index), pa.concat_tables(tables), {})
    for target, classes in (("label", label), ("predicted", predicted)):
        names = tuple(f"class {index}" for index in range(CLASSES))
        store = run.create_maps(
            MapAttributes("opti_cam", target, size=224, class_names=names), rows=samples, grid=(7, 7)
        )
        maps = np.random.default_rng(seed + 1).random((samples, 7, 7), dtype=np.float32) ** 3
        other_class = (classes != label)[:, None, None]
        store.write(0, np.where(other_class, maps[:, ::-1], maps))
    _audit(run, keys, generator)
    return run


def change(run: Run, share: float = CHANGED) -> int:
    """Give ``share`` of the samples another score, as a later run might; returns how many."""
    changed = 0
    for part in list(run.parts("scores")):
        table = run.read_part(part)
        row = table["row"].to_numpy()
        hit = row % round(1 / share) == 0
        values = np.where(hit, table["drop_outside"].to_numpy() * 0.5 + 0.1, table["drop_outside"].to_numpy())
        index = table.schema.get_field_index("drop_outside")
        run.write_part(part, table.set_column(index, "drop_outside", pa.array(values, pa.float32())), {})
        changed += len(np.unique(row[hit]))
    return changed


def draw_pictures(folder: Path, samples: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Files of the samples, links to a few pictures; returns (width, height) of each, (samples, 2) px."""
    (folder / "pictures").mkdir(parents=True)
    sizes = [SIZES[index % len(SIZES)] for index in range(PICTURES)]
    for index, (width, height) in enumerate(sizes):
        coarse = generator.integers(0, 255, (6, 8, 3), dtype=np.uint8)
        picture = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        picture.save(folder / "pictures" / f"{index}.jpg", quality=85)
    chosen = np.arange(samples) % PICTURES
    for row in range(samples):
        os.link(folder / "pictures" / f"{chosen[row]}.jpg", folder / f"{row:06d}.jpg")
    return np.array(sizes)[chosen]


def _samples(
    directory: Path,
    keys: list[str],
    sizes: NDArray[np.int64],
    label: NDArray[np.int32],
    generator: np.random.Generator,
) -> pa.Table:
    count = len(keys)
    start = generator.random((count, 2)) * 0.5
    corners = np.concatenate([start, start + 0.1 + generator.random((count, 2)) * 0.4], axis=1)
    edges = (corners * np.concatenate([sizes, sizes], axis=1)).astype(np.float32)
    boxes = pa.StructArray.from_arrays(
        [*(pa.array(edges[:, index]) for index in range(4)), pa.nulls(count, pa.string())],
        fields=list(BOX),
    )
    columns: dict[str, Any] = {
        "sample_id": keys,
        "row": np.arange(count),
        "uri": [str(directory / key) for key in keys],
        "digest": [f"{row:064x}" for row in range(count)],
        "size_bytes": np.full(count, 20_000),
        "mtime_ns": np.zeros(count, np.int64),
        "width": sizes[:, 0].astype(np.int32),
        "height": sizes[:, 1].astype(np.int32),
        "label": [f"class {index}" for index in label],
        "class_index": label,
        "boxes": pa.ListArray.from_arrays(np.arange(count + 1, dtype=np.int32), boxes),
        "split": ["val"] * count,
        "status": ["ok"] * count,
        "reason": pa.nulls(count, pa.string()),
    }
    nulls = {field.name: pa.nulls(count, field.type) for field in SAMPLES if field.name not in columns}
    return pa.table(columns | nulls, schema=SAMPLES)


def measured_columns(
    keys: list[str],
    rows: NDArray[np.int64],
    sizes: NDArray[np.int64],
    classes: NDArray[np.int32],
    predicted: NDArray[np.int32],
    generator: np.random.Generator,
) -> dict[str, Any]:
    """Columns of ``explain`` and ``scores`` of some rows, one entry of each argument a row; vectors are left out."""
    count = len(rows)
    region = _regions(sizes, generator)
    columns: dict[str, Any] = {
        "sample_id": pa.array(keys),
        "row": rows,
        "method": pa.array(["opti_cam"] * count),
        "class_index": classes,
        "pred_index": predicted,
        "pred_crop_outside": predicted,
        "status": pa.array(["ok"] * count),
        "reason": pa.nulls(count, pa.string()),
        "hide_locator": pa.array(["opti_cam"] * count),
        "hidden_box": region,
        "scan_box": region,
        "crop_outside_box": region,
        "class_probabilities": pa.nulls(count, EXPLAIN.field("class_probabilities").type),
    }
    for field in (*EXPLAIN, *SCORES):
        if field.name in columns or pa.types.is_list(field.type) or field.name == "target":
            continue
        if pa.types.is_floating(field.type):
            columns[field.name] = generator.random(count, dtype=np.float32)
        elif pa.types.is_boolean(field.type):
            columns[field.name] = generator.random(count) < 0.6
        else:
            columns[field.name] = generator.integers(1, 100, count).astype(np.int32)
    return columns


def _regions(sizes: NDArray[np.int64], generator: np.random.Generator) -> pa.Array:
    start = generator.random((len(sizes), 2)) * 0.6
    edges = np.concatenate([start * sizes, (start + 0.3) * sizes], axis=1).astype(np.float32)
    return pa.StructArray.from_arrays([pa.array(edges[:, index]) for index in range(4)], fields=list(REGION))


def vectors(count: int, channels: int, *, image: bool, generator: np.random.Generator) -> dict[str, pa.Array]:
    def drawn() -> pa.Array:
        values = generator.random(count * channels, dtype=np.float32).astype(np.float16)
        return pa.ListArray.from_arrays(np.arange(0, len(values) + 1, channels, dtype=np.int32), pa.array(values))

    nothing = pa.nulls(count, EXPLAIN.field("image_features").type)
    return {"outside_features": drawn(), "image_features": drawn() if image else nothing}


def _audit(run: Run, keys: list[str], generator: np.random.Generator) -> None:
    findings = []
    for rule, kind, share in RULES:
        for row in np.nonzero(generator.random(len(keys)) < share)[0].tolist():
            severity = float(generator.random())
            reason = f"hiding 10% of the view outside the boxes lowers p(class) from .98 to {1 - severity:.2f}"
            found = {"sample_id": keys[row], "row": row, "target": "label", "method": "opti_cam", "rule": rule}
            findings.append(found | {"kind": kind, "severity": severity, "reason": reason, "evidence": '{"p": 0.5}'})
    run.write_table("findings", _table(findings, FINDINGS))
    relying = [found["sample_id"] for found in findings if found["rule"] == "relies_on_outside"]
    cues = max(1, len(keys) // CUES_EVERY)
    rows = [
        {
            "cue_id": f"cue-{index:04x}",
            "method": "opti_cam",
            "rank": index + 1,
            "mean_drop": 0.9 - index / (2 * cues),
            "classes": [{"label": f"class {index % CLASSES}", "n": 10, "p": 0.001, "q": 0.01}],
            "sample_ids": relying[index::cues][:20],
        }
        for index in range(cues)
    ]
    run.write_table("cues", _table(rows, CUES))


def _table(rows: list[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    return pa.Table.from_pylist([{name: row.get(name) for name in schema.names} for row in rows], schema=schema)


def load_once(run: str, database: str) -> None:
    """Load a run in this process, and print what it took as JSON."""
    from stages.review.app.database import database as mongo
    from stages.review.settings import ReviewSettings

    settings = ReviewSettings(database=database)
    with mongo(settings.database_directory):
        import fiftyone as fo

        from stages.review.review import load

        server = psutil.Process(int((Path(database) / "mongod.pid").read_text()))
        before = server.cpu_times()
        reports: list[Any] = []
        with peak_memory(psutil.Process()) as process, peak_memory(server) as mongod:
            began, cpu = time.perf_counter(), time.process_time()
            load(Run.open(run), settings, tell=reports.append)
            wall, cpu = time.perf_counter() - began, time.process_time() - cpu
        after = server.cpu_times()
        stored = fo.load_dataset(reports[0].dataset).stats()["total_bytes"]
    report = reports[0]
    print(
        json.dumps(
            {
                "wall": wall,
                "cpu": cpu,
                "mongod_cpu": after.user + after.system - before.user - before.system,
                "process": process[0],
                "mongod": mongod[0],
                "stored": stored,
                "report": f"{report.added} added, {report.updated} updated, {report.unchanged} unchanged",
            }
        )
    )


@contextmanager
def peak_memory(process: psutil.Process) -> Iterator[list[float]]:
    """Peak of the resident memory within the block, GB, looked at ten times a second."""
    peak, done = [process.memory_info().rss / 1e9], threading.Event()

    def look() -> None:
        while not done.wait(0.1):
            peak[0] = max(peak[0], process.memory_info().rss / 1e9)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()


def _load_apart(run: Run, directory: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.load_speed", "--load", run.url, str(directory / "mongo")]
    environment = {**os.environ, "HOME": str(directory)}
    environment.pop("FIFTYONE_DATABASE_URI", None)
    told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
    return dict(json.loads(told.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, nargs="+", default=[1000, 10_000, 50_000])
    parser.add_argument("--channels", type=int, default=512, help="numbers in a vector of features")
    parser.add_argument("--load", nargs=2, metavar=("RUN", "DATABASE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.load:
        load_once(*arguments.load)
        return
    print("| samples | load | wall, s | CPU, s | mongod CPU, s | samples/s | process, GB | mongod, GB | what it did |")
    print("|---:|---|---:|---:|---:|---:|---:|---:|---|")
    for samples in arguments.samples:
        with tempfile.TemporaryDirectory(prefix="load-speed-") as name:
            directory = Path(name)
            run = make_run(directory, samples, arguments.channels)
            for load in ("first", "again", f"{CHANGED:.0%} changed"):
                if "changed" in load:
                    change(run)
                took = _load_apart(run, directory)
                print(
                    f"| {samples:,} | {load} | {took['wall']:.1f} | {took['cpu']:.1f} | {took['mongod_cpu']:.1f} "
                    f"| {samples / took['wall']:,.0f} | {took['process']:.2f} | {took['mongod']:.2f} "
                    f"| {took['report']} |",
                    flush=True,
                )
            pictures = sum(path.stat().st_size for path in run.local_path("heatmaps").iterdir())
            print(f"{took['stored'] / samples:,.0f} bytes a sample in MongoDB, {pictures / samples:,.0f} of heatmaps")
    load_average = ", ".join(f"{load:.1f}" for load in os.getloadavg())
    print(f"{os.cpu_count()} cores; load average at the end {load_average}")


if __name__ == "__main__":
    main()
