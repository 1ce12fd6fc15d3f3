"""Two real Dask workers that the tests of a module share."""

from contextlib import contextmanager

import pytest

from pipeline import runner
from pipeline.workers.cluster import ClusterSettings, connect


@pytest.fixture(scope="module")
def client():
    with connect(ClusterSettings(kind="local", workers=2, threads=1), print) as client:
        assert len(client.scheduler_info(n_workers=-1)["workers"]) == 2
        yield client


@pytest.fixture
def shared_cluster(client, monkeypatch):
    @contextmanager
    def shared(*_):
        yield client

    monkeypatch.setattr(runner, "connect", shared)
