"""Where the work runs: Dask workers on this machine's CPU or GPUs, or any scheduler that is already there."""

from __future__ import annotations

import importlib.util
import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from storage.errors import UserError

_MOST_WORKERS = 8
_TIMEOUT = "10s"


@dataclass(frozen=True)
class ClusterSettings:
    """Which workers do the explaining."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    kind: Literal["auto", "local", "cuda", "address"] = "auto"
    """``cuda``: one worker per GPU. ``local``: processes on the CPU. ``address``: a running scheduler. ``auto``: cuda
    where there are GPUs and dask-cuda is installed, local otherwise."""
    address: str | None = None
    """Scheduler address, for example ``tcp://10.0.0.1:8786`` (kind ``address``)."""
    workers: int | None = None
    """Worker processes; by default the cores divided by ``threads``, at most 8 (kind ``local``)."""
    threads: int | None = None
    """Threads a worker computes with; by default so that the workers fill the cores (kind ``local``)."""
    retries: int = 1
    """How often a shard that failed is tried again."""

    def __post_init__(self) -> None:
        if (self.kind == "address") != (self.address is not None):
            raise ValueError("kind address and the key address go together: give both or neither")
        if any(number is not None and number < 1 for number in (self.workers, self.threads)):
            raise ValueError("workers and threads must be at least 1")

    def resolved(self) -> Literal["local", "cuda", "address"]:
        """The kind, with ``auto`` decided by the GPUs that torch sees and whether dask-cuda is installed."""
        if self.kind != "auto":
            return self.kind
        import torch

        has_package = importlib.util.find_spec("dask_cuda") is not None
        return "cuda" if torch.cuda.is_available() and has_package else "local"

    def layout(self) -> tuple[int, int]:
        """(workers, threads a worker) on this machine's cores."""
        from dask.system import CPU_COUNT as cores  # knows affinity and the quota of a container

        threads = self.threads or max(1, cores // (self.workers or _MOST_WORKERS))
        return self.workers or max(1, min(_MOST_WORKERS, cores // threads)), threads


@contextmanager
def connect(settings: ClusterSettings) -> Iterator[Any]:
    """A ``distributed.Client`` of the settings' kind; the cluster ends with the context if it began with it.

    Raises UserError if the scheduler cannot be reached or the package for GPUs is missing.
    """
    kind = settings.resolved()
    if kind == "address":
        with _remote_client(str(settings.address)) as client:
            yield client
        return
    with _local_cluster(settings) if kind == "local" else _cuda_cluster() as cluster:
        from distributed import Client

        with Client(cluster) as client:
            client.register_worker_callbacks(_end_with_the_driver)
            yield client


def _end_with_the_driver() -> None:
    """A terminal sends Ctrl-C to the workers too; to end them is the driver's business, and no news when it happens."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.getLogger("distributed.worker").addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    """False for a lost connection: the scheduler is the driver's own, and a heartbeat was under way as it closed."""
    from distributed.comm import CommClosedError

    return not (record.exc_info and isinstance(record.exc_info[1], (CommClosedError, ConnectionError)))


def _local_cluster(settings: ClusterSettings) -> Any:
    import dask
    from distributed import LocalCluster

    workers, threads = settings.layout()
    # The environment that a worker process starts with. Dask's own default makes glibc's malloc give memory back to the
    # system at once, and every iteration would page-fault it in again: more than half of the time (measured).
    environment = {
        "OMP_NUM_THREADS": threads,
        "OMP_WAIT_POLICY": "PASSIVE",
        "MALLOC_MMAP_MAX_": 0,
        "MALLOC_TRIM_THRESHOLD_": 2**34,
        "CUDA_VISIBLE_DEVICES": "",
    }
    with dask.config.set({"distributed.nanny.pre-spawn-environ": environment}):
        return LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            memory_limit=0,
            silence_logs=logging.ERROR,
        )


def _cuda_cluster() -> Any:
    try:
        from dask_cuda import LocalCUDACluster
    except ImportError:
        raise UserError(
            "cluster.kind cuda needs the extra `cuda` (pip install -e '.[cuda]'); kind local works without"
        ) from None
    return LocalCUDACluster(host="127.0.0.1", dashboard_address="127.0.0.1:0", silence_logs=logging.ERROR)


def _remote_client(address: str) -> Any:
    from distributed import Client

    try:
        return Client(address, timeout=_TIMEOUT)
    except (OSError, ValueError) as error:
        raise UserError(
            f"cluster.address: no Dask scheduler answers at {address} ({error}); start one with `dask scheduler`"
        ) from None
