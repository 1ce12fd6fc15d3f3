import importlib.util
import logging
import os

import pytest
from distributed.comm import CommClosedError

from pipeline import cluster
from pipeline.cluster import ClusterSettings, connect
from storage.errors import UserError


def environment(name):
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
        with connect(ClusterSettings(kind="address", address=address)) as client:
            assert client.scheduler.address == address
            assert client.submit(sum, [1, 2, 3]).result() == 6
        with Client(address) as again:
            assert again.submit(sum, [4, 5]).result() == 9


def test_local_workers_keep_their_memory_and_compute_with_their_share_of_the_cores(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)  # what a user sets would win
    with connect(ClusterSettings(kind="local", workers=1, threads=2)) as client:
        assert client.submit(environment, "OMP_NUM_THREADS").result() == "2"
        assert client.submit(environment, "MALLOC_TRIM_THRESHOLD_").result() == str(2**34)
        assert "//127.0.0.1:" in client.dashboard_link


def log(error):
    """Log an error as a worker's heartbeat does."""
    try:
        raise error
    except type(error):
        logging.getLogger("distributed.worker").exception("During the heartbeat: %s", error)


def test_a_worker_does_not_tell_of_the_connection_that_its_driver_closed_but_of_what_else_goes_wrong(capfd):
    with connect(ClusterSettings(kind="local", workers=1)) as client:
        client.submit(log, CommClosedError("closed")).result()
        client.submit(log, OSError("no space left")).result()
    told = capfd.readouterr().err
    assert "OSError: no space left" in told
    assert "closed" not in told


def test_a_scheduler_that_does_not_answer_is_a_mistake_with_a_remedy(monkeypatch):
    monkeypatch.setattr(cluster, "_TIMEOUT", "1s")
    with (
        pytest.raises(UserError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9"),
        connect(ClusterSettings(kind="address", address="tcp://127.0.0.1:9")),
    ):
        pass


@pytest.mark.parametrize(
    ("cores", "settings", "expected"),
    # Up to 8 workers of one thread each; then the workers' threads fill the cores.
    [
        (2, {}, (2, 1)),
        (8, {}, (8, 1)),
        (64, {}, (8, 8)),
        (16, {"workers": 2}, (2, 8)),
        (16, {"threads": 4}, (4, 4)),
        (1, {"threads": 4}, (1, 4)),
    ],
)
def test_workers_fill_the_cores(monkeypatch, cores, settings, expected):
    monkeypatch.setattr("dask.system.CPU_COUNT", cores)
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
        connect(ClusterSettings(kind="cuda")),
    ):
        pass


@pytest.mark.parametrize("settings", [{"kind": "address"}, {"address": "tcp://x:1"}, {"workers": 0}])
def test_settings_that_do_not_go_together_are_refused(settings):
    with pytest.raises(ValueError, match=r"go together|at least 1"):
        ClusterSettings(**settings)
