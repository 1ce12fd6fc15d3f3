"""How long each canned query takes on a large run, beside DuckDB alone over the same Parquet files.

    python -m benchmarks.query_speed [--samples 10000 100000] [--shard 64] [--channels 1280] [--repeats 3]

The run is synthetic, as in ``benchmarks.load_speed``: tables with all their columns, two targets a sample, vectors of
``--channels`` numbers that no query reads, parts of ``--shard`` samples. ``sightline`` is ``storage.sql.run_query``,
from opening the connection to the Arrow table of the answer. ``DuckDB`` is a plain connection whose views read the same
files with ``read_parquet``, without Sightline's lock on files and settings. The two take turns; the ratio is one of
medians.
``memory`` is the peak of the process beyond what it had before the first query.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import duckdb
import psutil

from benchmarks.load_speed import make_run
from stages.audit.audit import audit
from stages.audit.canned import list_queries
from stages.audit.settings import AuditSettings
from stages.score.metrics import metrics_table
from storage import Run, sql
from storage.tables import CUE_NAMES, PARTED, SCHEMAS, without_vectors

EXTRA = {"count and mean of audit": "SELECT count(*), avg(drop_outside) FROM audit"}


def plain(run: Run) -> duckdb.DuckDBPyConnection:
    """DuckDB with the views of :func:`storage.sql.connect`, over the files themselves."""
    connection = duckdb.connect()
    root = run.local_path()
    columns = {name: without_vectors(schema) for name, schema in SCHEMAS.items() if run.has_table(name)}
    for name, wanted in columns.items():
        files = f"{root}/{name}/*/*.parquet" if name in PARTED else f"{root}/{name}.parquet"
        connection.execute(f"CREATE VIEW {name} AS SELECT {', '.join(wanted)} FROM read_parquet('{files}')")
    if "cue_names" not in columns:
        connection.register("cue_names", CUE_NAMES.empty_table())
    connection.register("class_names", sql.class_names(run))
    for statement in sql.audit_views(run, {name: columns[name] for name in ("samples", "explain", "scores")}):
        connection.execute(statement)
    return connection


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--shard", type=int, default=64)
    parser.add_argument("--channels", type=int, default=1280)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args(arguments)
    for samples in options.samples:
        with tempfile.TemporaryDirectory(prefix="sightline-query-") as folder:
            began = time.perf_counter()
            run = make_run(Path(folder), samples, options.channels, shard=options.shard)
            run.write_table("metrics", metrics_table(run))
            audit(run, AuditSettings())
            files = sum(len(names) for _, _, names in os.walk(run.local_path()))
            print(f"\n{samples} samples, {files} files, made in {time.perf_counter() - began:.0f} s", file=sys.stderr)
            _table(run, samples, files, options.repeats)
    return 0


def _table(run: Run, samples: int, files: int, repeats: int) -> None:
    process = psutil.Process()
    before = process.memory_info().rss
    peak = before
    print(f"\n### {samples} samples, {files} files\n\n| query | sightline, s | DuckDB, s | ratio |\n|---|---|---|---|")
    queries = EXTRA | {query.name: query.of(run) for query in list_queries()}
    for name, text in queries.items():
        ours, theirs = [], []
        for _ in range(repeats):
            began = time.perf_counter()
            answer = sql.run_query(run, text)
            ours.append(time.perf_counter() - began)
            began = time.perf_counter()
            with plain(run) as connection:
                other = connection.sql(text).to_arrow_table()
            theirs.append(time.perf_counter() - began)
            if answer.num_rows != other.num_rows:
                raise SystemExit(f"{name}: {answer.num_rows} rows against {other.num_rows}")
            peak = max(peak, process.memory_info().rss)
        own, plain_s = statistics.median(ours), statistics.median(theirs)
        print(f"| {name} | {own:.2f} | {plain_s:.2f} | {own / plain_s:.2f} |", flush=True)
    print(f"\nmemory: {(peak - before) / 1e6:.0f} MB beyond the {before / 1e6:.0f} MB before the first query")


if __name__ == "__main__":
    sys.exit(main())
