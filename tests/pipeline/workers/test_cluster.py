import asyncio
import importlib.util
import logging
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from types import SimpleNamespace

import dask
import psutil
import pytest
from distributed import LocalCluster
from distributed.comm import CommClosedError
from distributed.nanny import WorkerProcess

from pipeline.workers import cluster, environment
from pipeline.workers.bounded_map import bounded_map
from pipeline.workers.cluster import ClusterSettings, connect
from storage.errors import SightlineError, UserError
from tests.pipeline.datasets import ROOT, write_config, write_images, write_manifest
from tests.pipeline.schedulers import dask_cluster


def variable(name):
    return os.environ.get(name)


def test_a_running_scheduler_is_used_and_left_running():
    from distributed import Client, LocalCluster

    with LocalCluster(
        n_workers=1,
        threads_per_worker=1,
        processes=False,
        protocol="tcp",
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
    ) as running:
        address = running.scheduler_address
        with connect(ClusterSettings(kind="address", address=address), print) as client:
            assert client.scheduler.address == address
            assert client.submit(sum, [1, 2, 3]).result() == 6
        with Client(address) as again:
            assert again.submit(sum, [4, 5]).result() == 9


def test_local_workers_keep_their_memory_and_compute_with_their_share_of_the_cores(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)  # what a user sets would win
    with connect(ClusterSettings(kind="local", workers=1, threads=2), print) as client:
        assert client.submit(variable, "OMP_NUM_THREADS").result() == "2"
        assert client.submit(variable, "MALLOC_TRIM_THRESHOLD_").result() == str(2**34)
        assert "//127.0.0.1:" in client.dashboard_link


def log(error):
    """Log an error as a worker's heartbeat does."""
    try:
        raise error
    except type(error):
        logging.getLogger("distributed.worker").exception("During the heartbeat: %s", error)


def test_a_worker_does_not_tell_of_the_connection_that_its_driver_closed_but_of_what_else_goes_wrong(capfd):
    with connect(ClusterSettings(kind="local", workers=1), print) as client:
        client.submit(log, CommClosedError("closed")).result()
        client.submit(log, OSError("no space left")).result()
    told = capfd.readouterr().err
    assert "OSError: no space left" in told
    assert "closed" not in told


def never(*_, **__):
    return asyncio.sleep(600)


async def late(*_, **__):
    raise TimeoutError


def stopped_cluster(said):
    """A cluster of which one worker is stopped when it is to end; and the workers' process ids."""
    with connect(ClusterSettings(kind="local", workers=2), said.append) as client:
        workers = list(client.run(os.getpid).values())
        os.kill(workers[0], signal.SIGSTOP)
    return workers


def test_a_worker_that_is_stopped_does_not_keep_the_cluster_from_ending():
    said = []
    workers = stopped_cluster(said)
    assert said == []
    assert not any(map(psutil.pid_exists, workers))


@pytest.mark.parametrize("fails", [late, never])  # as on a busy machine Dask's own closing of a worker does
def test_what_does_not_close_in_time_is_killed_and_told_in_one_line(monkeypatch, fails):
    monkeypatch.setattr(WorkerProcess, "kill", fails)
    monkeypatch.setattr(cluster, "_END_WITHIN_S", 2)
    said = []
    workers = stopped_cluster(said)
    assert said == ["the workers did not end in order (TimeoutError) and were killed; what they made is committed"]
    psutil.wait_procs([psutil.Process(worker) for worker in workers if psutil.pid_exists(worker)], timeout=60)
    assert not any(map(psutil.pid_exists, workers))


def test_the_first_error_is_the_one_that_is_raised(monkeypatch):
    monkeypatch.setattr(WorkerProcess, "kill", late)
    said = []
    with pytest.raises(ZeroDivisionError), connect(ClusterSettings(kind="local", workers=1), said.append):
        1 / 0  # noqa: B018
    assert len(said) == 1


def take(gibibytes):
    """Fill memory step by step."""
    return sum(map(len, [b"x" * 2**26 for _ in range(16 * gibibytes)])) / 2**30


def test_a_worker_above_its_share_of_the_memory_is_restarted_and_the_remedy_is_told(monkeypatch):
    monkeypatch.setattr("distributed.system.MEMORY_LIMIT", 6 * 2**30)  # of the machine, for two workers
    said = []
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        connect(ClusterSettings(kind="local", workers=2), said.append) as client,
    ):
        ((_, outcome),) = bounded_map(client, take, [(0, (6,))], say=said.append)
        assert list(bounded_map(client, take, [(0, (1,))], say=said.append)) == [(0, 1)]
    assert isinstance(outcome, SightlineError)
    # On a busy machine the new worker may not end in order, which is told too.
    (line,) = [line for line in said if "memory" in line]
    assert "more than its share of the memory, and was started anew; a smaller explain.batch_size" in line


def remote(address):
    return connect(ClusterSettings(kind="address", address=address), print)


def test_a_worker_with_other_code_is_refused(tmp_path):
    for package in ("pipeline", "stages", "storage"):
        shutil.copytree(ROOT / package, tmp_path / "other" / package, ignore=shutil.ignore_patterns("__pycache__"))
    with (tmp_path / "other" / "storage" / "files.py").open("a") as file:
        file.write("# one more line\n")
    with (
        dask_cluster(tmp_path, path=str(tmp_path / "other")) as (address, _),
        pytest.raises(
            UserError, match=r"the worker at tcp://\S+ has other code of Sightline .*install the same version"
        ),
        remote(address),
    ):
        pass


@pytest.mark.parametrize(("what", "path"), [("worker", "path"), ("scheduler", "scheduler_path")])
def test_a_process_that_cannot_import_sightline_is_named(tmp_path, what, path):
    (tmp_path / "other" / "pipeline").mkdir(parents=True)
    (tmp_path / "other" / "pipeline" / "__init__.py").write_text("raise ImportError('another package')")
    with (
        dask_cluster(tmp_path, **{path: str(tmp_path / "other")}) as (address, _),
        pytest.raises(UserError, match=rf"the {what} at tcp://\S+ cannot import Sightline \(.*another package"),
        remote(address),
    ):
        pass


def test_a_package_of_another_version_is_named(tmp_path, monkeypatch, capsys):
    versions = environment.environment()
    with dask_cluster(tmp_path) as (address, _):
        monkeypatch.setattr(environment, "version", lambda name: "2.0+cpu" if name == "torch" else versions[name])
        with remote(address):
            pass
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"1 of 1 workers have torch {versions['torch']} (here 2.0), for example tcp://")


@pytest.fixture(scope="module")
def editable(tmp_path_factory):
    """The Python of an environment in which Sightline is installed as the Makefile does it: editable."""
    folder = tmp_path_factory.mktemp("editable")
    python = folder / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    packages = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    # All packages that the tests have, but not their .pth files: their own editable install is not among them.
    with open(f"{packages}/packages.pth", "w") as file:
        file.write(sysconfig.get_path("purelib") + "\n")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--editable", ROOT], check=True)
    return str(python)


def test_dask_worker_works_from_an_editable_install(editable, tmp_path):
    config = write_config(
        tmp_path, write_manifest(tmp_path, write_images(tmp_path, range(3))), cluster={"workers": None, "threads": None}
    )
    with dask_cluster(tmp_path, python=editable, path="", scheduler_path="") as (address, _):
        done = subprocess.run(
            [
                editable,
                "-m",
                "pipeline",
                "run",
                config,
                "--set",
                "cluster.kind=address",
                "--set",
                f"cluster.address={address}",
            ],
            cwd=tmp_path,
            env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 of 1 shards computed" in done.stdout


def test_a_scheduler_that_does_not_answer_is_a_mistake_with_a_remedy(monkeypatch):
    monkeypatch.setattr(cluster, "_CONNECT_WITHIN_S", 1)
    with (
        pytest.raises(UserError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9"),
        connect(ClusterSettings(kind="address", address="tcp://127.0.0.1:9"), print),
    ):
        pass


@pytest.mark.parametrize(
    ("cores", "gibibytes", "settings", "expected"),
    # Up to 8 workers of one thread each, and one for 4 GiB of memory; then the workers' threads fill the cores.
    [
        (2, 64, {}, (2, 1)),
        (8, 64, {}, (8, 1)),
        (64, 64, {}, (8, 8)),
        (8, 15.5, {}, (4, 2)),
        (8, 1, {}, (1, 8)),
        (16, 64, {"workers": 2}, (2, 8)),
        (16, 64, {"threads": 4}, (4, 4)),
        (16, 8, {"threads": 4}, (2, 4)),
        (8, 8, {"workers": 8}, (8, 1)),
        (1, 64, {"threads": 4}, (1, 4)),
    ],
)
def test_workers_fill_the_cores_and_fit_the_memory(monkeypatch, cores, gibibytes, settings, expected):
    monkeypatch.setattr("dask.system.CPU_COUNT", cores)
    monkeypatch.setattr("distributed.system.MEMORY_LIMIT", gibibytes * 2**30)
    assert ClusterSettings(**settings).layout() == expected


@pytest.mark.parametrize(
    ("gpus", "package", "expected"), [(True, True, "cuda"), (True, False, "local"), (False, True, "local")]
)
def test_auto_takes_the_gpus_where_there_are_some(monkeypatch, gpus, package, expected):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if package else None)
    assert ClusterSettings().resolved() == expected
    assert ClusterSettings(kind="local").resolved() == "local"


def test_gpus_without_their_package_get_the_remedy(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "dask_cuda", None)
    with (
        pytest.raises(UserError, match=r"extra `cuda`.*kind local works without"),
        connect(ClusterSettings(kind="cuda"), print),
    ):
        pass


@pytest.mark.parametrize("settings", [{"kind": "address"}, {"address": "tcp://x:1"}, {"workers": 0}])
def test_settings_that_do_not_go_together_are_refused(settings):
    with pytest.raises(ValueError, match=r"go together|at least 1"):
        ClusterSettings(**settings)


def meet(folder, number):
    """Ends when another call of it is under way in the same process."""
    Path(folder, f"{os.getpid()}-{number}").touch()
    while not list(Path(folder).glob(f"{os.getpid()}-{1 - number}")):
        time.sleep(0.01)
    return number


def test_the_worker_of_a_gpu_has_two_tasks_at_a_time(monkeypatch, tmp_path):
    """By the arguments that dask-cuda gets: its cluster is Dask's, with one worker for each GPU."""
    stand_in = SimpleNamespace(LocalCUDACluster=lambda **arguments: LocalCluster(n_workers=1, **arguments))
    monkeypatch.setitem(sys.modules, "dask_cuda", stand_in)
    with connect(ClusterSettings(kind="cuda"), print) as client:
        tasks = ((number, (str(tmp_path), number)) for number in range(2))
        assert sorted(bounded_map(client, meet, tasks, say=print)) == [(0, 0), (1, 1)]
