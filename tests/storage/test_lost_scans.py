"""A store that ends while DuckDB reads from it through pyarrow is told, however the threads meet."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

SCANS = """
import random, time

import duckdb, pyarrow as pa

from storage import Run
from storage.files import _Remote
from storage.run import Part
from storage.sql import _connection
from storage.tables import SCORES

run = Run.create("memory://lost/run")
row = dict.fromkeys(SCORES.names) | {"sample_id": "a.png", "row": 0, "target": "label", "method": "opti_cam"}
for index in range(4):
    run.write_part(Part("scores", "opti_cam", index), pa.Table.from_pylist([row], schema=SCORES), {})


def ended(self, path):
    time.sleep(random.random() * 0.002)  # so that Arrow's threads meet in every way
    raise ConnectionError("the store ended")


with _connection(run) as connection:
    assert connection.sql("SELECT count(*), max(sample_id) FROM scores").fetchall() == [(4, "a.png")]
    assert connection.sql("SELECT count(*) FROM scores WHERE row > 0").fetchall() == [(0,)]
    _Remote.open_input_file = ended
    for _ in range(200):
        try:
            connection.sql("SELECT sum(row) FROM scores").fetchall()
            raise SystemExit("answered")
        except duckdb.Error as error:
            assert "the store ended" in str(error), error
print("told")
"""


def test_a_scan_of_a_store_that_ended_never_waits_for_ever() -> None:
    # In a process of its own, since nothing can interrupt one that hangs; pyarrow's own reader does in every run.
    done = subprocess.run([sys.executable, "-c", SCANS], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "told", done.stderr[-2000:]
