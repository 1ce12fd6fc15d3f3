"""How many requests a run makes of an object store, step by step.

    python -m benchmarks.object_store [--shards 4] [--shard 64] [--out object_store.md]

Dataset and run lie in a bucket behind a server that speaks S3, on loopback (moto, of the extra `dev`), whose log is
counted. The classifier costs next to nothing: a convolution on 224 px, and two steps of Opti-CAM with two targets. A
shard is what one task does: it explains and scores. Seconds would be those of the server here, so there are none.
"""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec
from moto.server import ThreadedMotoServer

from benchmarks.scale import MODEL, VIEW, write_dataset
from stages.audit.audit import audit
from stages.audit.settings import AuditSettings
from stages.explain import load_classifier
from stages.explain.explain import explain_shard
from stages.explain.plan import create_map_arrays, make_plan, pending_shards, shard_samples
from stages.explain.settings import ExplainSettings
from stages.ingest.ingest import ingest
from stages.ingest.recognise import open_dataset
from stages.ingest.settings import DatasetSettings
from stages.score.part import score_part
from stages.score.score import unscored, write_metrics
from stages.score.settings import ScoreSettings
from storage import Run
from storage.integrity.damage import find_damage
from storage.sql import run_query

VERBS = ("GET", "HEAD", "PUT", "DELETE")
_ACCOUNT = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any", "AWS_DEFAULT_REGION": "us-east-1"}


class _Log(logging.Handler):
    """Requests by verb, as the server's log has them; listings are GETs of a bucket."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        line = record.getMessage()
        self.counts["list" if "list-type" in line else next(verb for verb in VERBS if verb in line)] += 1


def measure(shards: int, shard: int, log: _Log) -> list[tuple[str, Counter[str]]]:
    """Requests of each step of a run, by verb."""
    steps = list[tuple[str, Counter[str]]]()

    @contextmanager
    def counted(step: str) -> Iterator[None]:
        log.counts.clear()
        yield
        steps.append((step, log.counts.copy()))

    run = Run.create("s3://bucket/run")
    dataset = open_dataset(DatasetSettings(path="s3://bucket/manifest.csv"))
    classifier = load_classifier(MODEL, VIEW.size)
    classifier.class_names = tuple(f"class {index}" for index in range(100))
    with counted("ingest"):
        samples = ingest(dataset, classifier.class_names, run)
    settings = ExplainSettings(shard_size=shard, steps=2)
    plan = make_plan(run, classifier, MODEL, VIEW, settings, samples.num_rows, "cpu")
    with counted("plan"):
        create_map_arrays(run, plan)
    for index in range(shards):
        own = shard_samples(plan, samples, index)
        with counted(f"explain shard {index}"):
            explain_shard(plan, index, own)
        with counted(f"score shard {index}"):
            score_part(run, plan.part(index), own, ScoreSettings())
    with counted("metrics"):
        write_metrics(run)
    with counted("audit"):
        audit(run, AuditSettings())
    with counted("query"):
        run_query(run, "SELECT count(*), avg(drop_outside) FROM audit")
    with counted("restart: plan"):
        pending_shards(run, plan, samples)
    with counted("restart: score"):
        unscored(run, ScoreSettings())
    with counted("verify"):
        list(find_damage(run))
    return steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--shard", type=int, default=64, help="samples a shard")
    parser.add_argument("--out", type=Path, help="write the table to this Markdown file too")
    options = parser.parse_args()
    log = _Log()
    logging.getLogger("werkzeug").addHandler(log)  # before the server's first word, or it prints what it says
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    os.environ |= _ACCOUNT | {"AWS_ENDPOINT_URL": "http://{}:{}".format(*server.get_host_and_port())}
    store, _ = fsspec.core.url_to_fs("s3://bucket")
    store.mkdir("bucket")
    with tempfile.TemporaryDirectory() as folder:
        write_dataset(Path(folder), options.shards * options.shard)
        store.put(f"{folder}/", "bucket/", recursive=True)
    columns = (*VERBS, "list")
    page = [
        "# Requests of an object store\n",
        f"    python -m benchmarks.object_store --shards {options.shards} --shard {options.shard}\n",
        f"{options.shards} shards of {options.shard} samples, two targets.\n",
        f"| step | {' | '.join(columns)} |",
        f"|---|{'---:|' * len(columns)}",
        *(
            f"| {step} | {' | '.join(str(counts[column]) for column in columns)} |"
            for step, counts in measure(options.shards, options.shard, log)
        ),
    ]
    print("\n".join(page))
    if options.out:
        options.out.write_text("\n".join(page) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
