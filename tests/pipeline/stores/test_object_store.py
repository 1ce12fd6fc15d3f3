"""Every command on a run and a dataset that lie in a bucket, behind a server that speaks S3 on loopback."""

import io
import logging
import re
from contextlib import contextmanager

import fsspec
import pytest

from pipeline import runner
from pipeline.config import load_config
from pipeline.show.console import plain_console
from pipeline.workers.cluster import ClusterSettings, connect
from storage import Run
from storage.sql import run_query
from tests.pipeline.datasets import write_config, write_images, write_manifest
from tests.s3 import KEY, SECRET, log_in

pytest.importorskip("s3fs", reason="needs the extra `s3`")
moto_server = pytest.importorskip("moto.server", reason="needs moto")

COUNT = 40


def store_of(url):
    """The file system of a URL, without a memory of what was listed before others wrote."""
    return fsspec.core.url_to_fs(url, use_listings_cache=False)[0]


@pytest.fixture(scope="module")
def requests():
    """Lines of the server's log."""
    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    logger = logging.getLogger("werkzeug")
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)


@pytest.fixture(scope="module")
def bucket(tmp_path_factory, requests):
    """URL of a bucket with a dataset; the environment alone says where it is and who may read it."""
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    with pytest.MonkeyPatch.context() as environment:
        host, port = server.get_host_and_port()
        log_in(environment, AWS_ENDPOINT_URL=f"http://{host}:{port}")
        folder = tmp_path_factory.mktemp("dataset")
        write_manifest(folder, write_images(folder, range(COUNT)))
        store = store_of("s3://bucket")
        store.mkdir("bucket")
        store.put(f"{folder}/", "bucket/dataset/", recursive=True)
        yield "s3://bucket"
    server.stop()


@pytest.fixture(scope="module")
def client(bucket):
    with connect(ClusterSettings(kind="local", workers=2, threads=1), print) as client:  # processes of their own
        yield client


@pytest.fixture(scope="module")
def run(bucket, client, tmp_path_factory):
    """Runs the pipeline in the bucket, on the workers; returns what was printed."""
    folder = tmp_path_factory.mktemp("config")
    config = write_config(folder, f"{bucket}/dataset/audit.csv", dataset={"images": f"{bucket}/dataset"})

    @contextmanager
    def shared(*_):
        yield client

    def run(name, *overrides):
        console = plain_console(io.StringIO())
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(runner, "connect", shared)
            runner.run_pipeline(load_config(config, [f"run={bucket}/runs/{name}", *overrides]), console)
        return console.file.getvalue()

    return run


@pytest.fixture(scope="module")
def first(bucket, run):
    """URL of a finished run."""
    assert "2 of 2 shards computed, 0 were done" in run("first")
    return f"{bucket}/runs/first"


def secrets_in(text):
    return [secret for secret in (KEY, SECRET) if secret in text]


def test_a_second_run_makes_nothing_new_and_reads_footers_alone(first, run, requests):
    requests.clear()
    said = run("first")
    assert "0 of 2 shards computed, 2 were done" in said
    assert "0 shards scored, 2 were done" in said
    read = [line for line in requests if re.match(r'.*"GET /bucket/runs/first/maps.zarr/\S+/c/', line)]
    assert read == []


def test_the_tables_are_those_of_the_same_run_on_a_disk(first, run, tmp_path):
    run("first")
    store = store_of(first)
    store.get(f"{first}/", f"{tmp_path}/copy/", recursive=True)
    near, far = Run.open(str(tmp_path / "copy")), Run.open(first)
    for name in ("samples", "explain", "scores", "metrics", "findings", "classes", "cues"):
        assert far.table(name).equals(near.table(name)), name
    sql = "SELECT label, count(*) AS n, avg(drop_outside) AS d FROM audit GROUP BY label ORDER BY label"
    assert run_query(far, sql).equals(run_query(near, sql))


def test_every_command_reads_the_bucket(command, first, run, tmp_path):
    run("second", "explain.steps=2")
    second = first.replace("first", "second")
    commands = [
        ("query", first, "SELECT count(*) AS n FROM audit", "--format", "csv"),
        ("report", first),
        ("compare", first, second),
        ("export", first, tmp_path / "coco", "--format", "coco", "--copy-images"),
        ("verify", first),
    ]
    printed = {}
    for arguments in commands:
        status, out, err = command(*arguments)
        assert status == 0, (arguments, err)
        printed[arguments[0]] = out
        assert secrets_in(out + err) == []
    assert printed["query"].split() == ["n", str(COUNT)]
    assert f"{first}: every file is what was written" in printed["verify"]
    assert len(list((tmp_path / "coco").rglob("*.png"))) == COUNT
    store = store_of(first)
    assert store.cat_file(f"{first}/report.html").startswith(b"<!doctype html>")


def test_credentials_are_in_no_file_and_no_error(command, first, bucket, monkeypatch):
    store = store_of(first)
    files = store.find(first)
    assert f"{first.removeprefix('s3://')}/run.json" in files
    assert [name for name in files if secrets_in(store.cat_file(name).decode(errors="replace"))] == []
    status, out, err = command("query", "s3://nobodys-bucket/run", "SELECT 1")
    assert status != 0
    assert "s3://nobodys-bucket/run" in err
    assert secrets_in(out + err) == []
