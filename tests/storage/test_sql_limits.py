"""Queries that would take all time or memory of a machine are stopped, and leave nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from storage import Run
from storage.errors import UserError
from storage.info import RunInfo
from storage.sql import Limits, run_query

ENDLESS = "SELECT count(*) FROM range(10000000) a, range(10000000) b WHERE a.range * b.range % 7 = 3"
HUNGRY = "SELECT list(range) FROM range(400000000)"
LONG = "SELECT range FROM range(100000000000)"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    run = Run.create(str(tmp_path / "run"))
    run.write_info(RunInfo())
    return run


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    return tmp_path / "scratch"


def test_a_query_is_stopped_when_its_time_is_up(run: Run, scratch: Path) -> None:
    with pytest.raises(UserError, match=r"SQL: stopped after 0\.5 s; --timeout gives a query more"):
        run_query(run, ENDLESS, Limits(seconds=0.5))
    assert list(scratch.iterdir()) == []
    assert run_query(run, "SELECT 1 AS one").to_pylist() == [{"one": 1}]


def test_a_query_gets_its_memory_and_no_more(run: Run, scratch: Path) -> None:
    with pytest.raises(UserError, match=r"Out of Memory.*--memory gives a query more"):
        run_query(run, HUNGRY, Limits(gigabytes=0.2))
    assert list(scratch.iterdir()) == []


def test_an_answer_gets_its_memory_and_no_more(run: Run) -> None:
    with pytest.raises(UserError, match=r"its answer takes more than 0\.1 GB; write a LIMIT, or --memory"):
        run_query(run, LONG, Limits(gigabytes=0.1))


def test_what_needs_more_memory_than_it_gets_is_spilled_and_right(run: Run, scratch: Path) -> None:
    rows = 4_000_000  # of 16 bytes: more than a tenth of a gigabyte with the sort's own
    placed = f"SELECT i, row_number() OVER (ORDER BY -i) AS position FROM range({rows}) t(i)"
    sql = f"SELECT sum(position * i) AS found FROM ({placed})"
    # i is at position rows - i, so the sum is that of i * (rows - i).
    expected = sum(i * (rows - i) for i in range(rows))
    assert run_query(run, sql, Limits(gigabytes=0.1)).to_pylist() == [{"found": expected}]
    assert list(scratch.iterdir()) == []


def test_an_answer_has_the_types_and_the_order_of_the_query(run: Run) -> None:
    table = run_query(run, "SELECT i::INTEGER AS i, 'x' || i AS t FROM range(250000) t(i) ORDER BY i DESC")
    assert [str(kind) for kind in table.schema.types] == ["int32", "string"]
    assert table["i"].to_pylist() == list(range(249_999, -1, -1))
    assert run_query(run, "SELECT 1 AS none WHERE false").num_rows == 0


@pytest.mark.parametrize("limits", [{"seconds": 0}, {"gigabytes": 0.001}, {"seconds": float("nan")}])
def test_limits_that_no_query_keeps_are_refused(limits: dict[str, float]) -> None:
    with pytest.raises(UserError, match=next(iter(limits))):
        Limits(**limits)


def test_ctrl_c_ends_a_query_within_seconds(run: Run, scratch: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(scratch)}
    command = [sys.executable, "-m", "pipeline", "query", run.url, ENDLESS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as query:
        deadline = time.monotonic() + 60
        while not list(scratch.glob("sightline-query-*")) and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.5)
        query.send_signal(signal.SIGINT)
        said, errors = query.communicate(timeout=60)  # far below the ten minutes that the query may take
    assert query.returncode == 130, errors
    assert "Traceback" not in errors
    assert said == ""
    assert list(scratch.iterdir()) == []
