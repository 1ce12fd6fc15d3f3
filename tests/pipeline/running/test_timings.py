"""What a run tells of itself in run.json: where its time went, and which dataset it saw."""

import hashlib
from types import SimpleNamespace

import pyarrow as pa
import pytest

from pipeline import run_info, runner


def test_a_stage_within_another_counts_once(monkeypatch):
    clock = iter([0.0, 10.0, 14.0, 20.0, 20.0, 21.0])
    monkeypatch.setattr(runner, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    timings = runner.Timings()
    with timings.measure("ingest"), timings.measure("workers"):
        pass
    with timings.measure("ingest"):
        pass
    assert timings.seconds == {"workers": 4.0, "ingest": 17.0}


@pytest.mark.parametrize("at_once", [1, 2, 10])
def test_the_digest_of_a_dataset_is_that_of_the_list_of_its_rows(monkeypatch, at_once):
    monkeypatch.setattr(run_info, "_AT_ONCE", at_once)
    rows = [{"sample_id": name, "digest": name * 2, "label": "a", "boxes": [{"x0": 1.5}]} for name in "pqr"]
    samples = pa.Table.from_pylist([row | {"mask": None} for row in rows])
    assert run_info._dataset_digest(samples) == hashlib.sha256(repr(rows).encode()).hexdigest()
