"""Files looked at by real worker processes."""

import io

import pyarrow as pa
import pytest
from distributed import get_worker

from pipeline import runner
from pipeline.config import load_config
from pipeline.show.console import plain_console
from pipeline.workers.cluster import ClusterSettings, connect
from pipeline.workers.files import look_on_workers
from stages.ingest import facts
from storage.errors import SightlineError
from tests.pipeline.datasets import contents, write_bad_images, write_config, write_images, write_manifest


@pytest.fixture(scope="module")
def client():
    with connect(ClusterSettings(kind="local", workers=2, threads=1), print) as client:
        yield client


@pytest.fixture
def config(tmp_path):
    names = [*write_images(tmp_path, range(20)), *write_bad_images(tmp_path)]
    return write_config(tmp_path, write_manifest(tmp_path, names))


def test_the_workers_find_what_this_process_finds_and_a_later_run_reads_nothing_again(config, tmp_path, monkeypatch):
    runner.run_pipeline(load_config(config, []), plain_console(io.StringIO()))
    here = contents(tmp_path / "run")
    (tmp_path / "run").rename(tmp_path / "here")

    monkeypatch.setattr(facts, "HANDED", 3)
    monkeypatch.setattr(runner, "_FOR_WORKERS", 1)
    monkeypatch.setattr(facts, "read_bytes", lambda uri: pytest.fail(f"{uri} was read in this process"))
    console = plain_console(io.StringIO())
    run = runner.run_pipeline(load_config(config, []), console)
    assert "the workers look at the 29 new images" in console.file.getvalue()
    assert contents(tmp_path / "run") == here
    assert 0 < run.info.timings["ingest"] < sum(run.info.timings.values())
    bad = {row["uri"] for row in run.table("samples").to_pylist() if row["status"] == "unreadable"}

    # Bad files alone are read again.
    monkeypatch.undo()
    read = []
    monkeypatch.setattr(facts, "read_bytes", lambda uri: read.append(uri) or b"")
    runner.run_pipeline(load_config(config, []), plain_console(io.StringIO()))
    assert len(bad) == 5
    assert set(read) == {uri for uri in bad if not uri.endswith("missing.jpg")}


def fail_on_the_second(asked):
    if "0.png" in asked["uri"][0].as_py():
        raise ValueError(f"{get_worker().name} cannot")
    return asked


def test_a_task_that_fails_is_named_with_its_images(client, monkeypatch):
    monkeypatch.setattr("pipeline.workers.files.look_at", fail_on_the_second)
    asked = (pa.table({"uri": [f"{number}.png"]}) for number in (1, 0))
    with pytest.raises(SightlineError, match=r"ingest: looking at images 128 to 255 failed: ValueError: \d cannot"):
        list(look_on_workers(client, asked, retries=0, say=print))
