"""A run on workers of other machines that share no folder with the driver: dataset and run lie in an object store."""

import csv
import io

import pytest

from tests.pipeline.datasets import write_config, write_images, write_manifest
from tests.pipeline.stores.machines import HUB, network, wait_for, why_not
from tests.s3 import ACCOUNT

pytest.importorskip("s3fs", reason="needs the extra `s3`")
pytest.importorskip("moto.server", reason="needs moto")
if reason := why_not():
    pytest.skip(reason, allow_module_level=True)

COUNT = 70
FILL = """
import sys, fsspec
store, _ = fsspec.core.url_to_fs("s3://bucket")
store.mkdir("bucket")
store.put(sys.argv[1] + "/", "bucket/dataset/", recursive=True)
"""


@pytest.fixture(scope="module")
def machines(tmp_path_factory):
    """The network, with a store and a scheduler on the hub and a worker on each of the others."""
    folder = tmp_path_factory.mktemp("driver")
    dataset = folder / "dataset"
    dataset.mkdir()
    write_manifest(dataset, write_images(dataset, range(COUNT)))
    with (
        network(folder, AWS_ENDPOINT_URL=f"http://{HUB}:5000", **ACCOUNT) as machines,
        machines.running(machines.hub, "-m", "moto.server", "-H", HUB, "-p", "5000") as store,
        machines.running(machines.hub, "-m", "dask", "scheduler", "--host", HUB, "--no-dashboard") as scheduler,
    ):
        wait_for(store, "Running on")
        filled = machines.run(machines.hub, "-c", FILL, str(dataset))
        assert filled.returncode == 0, filled.stderr
        wait_for(scheduler, "Scheduler at")
        worker = ("-m", "dask", "worker", f"tcp://{HUB}:8786", "--nthreads", "1", "--no-dashboard")
        with machines.running(machines.workers[0], *worker), machines.running(machines.workers[1], *worker):
            yield machines


def run(machines, name, dataset):
    """Runs the pipeline on the hub; what it printed."""
    config = write_config(machines.folder, f"{dataset}/audit.csv", dataset={"images": str(dataset)})
    settings = ["cluster.kind=address", f"cluster.address=tcp://{HUB}:8786", "cluster.workers=null"]
    settings += ["cluster.threads=null", f"run=s3://bucket/{name}"]
    done = machines.run(
        machines.hub, "-m", "pipeline", "run", str(config), *(word for one in settings for word in ("--set", one))
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def ask(machines, name, sql):
    done = machines.run(machines.hub, "-m", "pipeline", "query", f"s3://bucket/{name}", sql, "--format", "csv")
    assert done.returncode == 0, done.stderr
    return list(csv.reader(io.StringIO(done.stdout)))[1:]


def test_a_run_needs_no_folder_that_driver_and_workers_share(machines):
    said = run(machines, "run", "s3://bucket/dataset")
    assert "2 workers" in said
    assert "3 of 3 shards computed, 0 were done" in said
    assert ask(machines, "run", "SELECT status, count(*) FROM explain WHERE target = 'label' GROUP BY status") == [
        ["ok", str(COUNT)]
    ]
    verified = machines.run(machines.hub, "-m", "pipeline", "verify", "s3://bucket/run")
    assert "every file is what was written" in verified.stdout


def test_workers_see_no_file_of_the_driver(machines):
    """That the test above shows what it says: with the dataset in the driver's folder, no worker finds an image."""
    run(machines, "near", machines.folder / "dataset")
    rows = ask(machines, "near", "SELECT DISTINCT status, reason LIKE '%no such file%' FROM explain")
    assert rows == [["unreadable", "True"]]
