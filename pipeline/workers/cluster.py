"""Where the work runs: Dask workers on this machine's CPU or GPUs, or any scheduler that is already there."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pipeline.workers.environment import environment
from stages.explain.network.device import Device
from storage.errors import SightlineError, UserError

_MOST_WORKERS = 8
_MEMORY_A_WORKER = 4 * 2**30
"""Bytes: 16 images of 224 px take 2.3 GiB with mobilenet_v2 or resnet50, and 4.0 GiB with vgg16 (measured)."""
TASKS_A_GPU = 2
"""Tasks that the worker of a GPU runs at a time: they take turns on the device, and while one has it the other decodes
its images, or stores and scores its maps."""
_CONNECT_WITHIN_S = 10.0
_WORKERS_WITHIN_S = 60.0
_END_WITHIN_S = 10.0
_MEMORY_TOPIC = "worker-restart-memory"  # Dask's nanny tells of it there


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
    """Worker processes; by default the cores divided by ``threads``, at most 8 and one for 4 GiB of memory (kind
    ``local``)."""
    threads: int | None = None
    """Threads a worker computes with; by default so that the workers fill the cores (kind ``local``)."""
    retries: int = 1
    """How often a shard that failed is tried again."""

    def __post_init__(self) -> None:
        if (self.kind == "address") != (self.address is not None):
            raise ValueError("kind address and the key address go together: give both or neither")
        if any(number is not None and number < 1 for number in (self.workers, self.threads)):
            raise ValueError("workers and threads must be at least 1")
        if self.retries < 0:
            raise ValueError(f"retries is {self.retries}; take 0 or more")

    def resolved(self) -> Literal["local", "cuda", "address"]:
        """The kind, with ``auto`` decided by the GPUs that torch sees and whether dask-cuda is installed."""
        if self.kind != "auto":
            return self.kind
        import torch

        has_package = importlib.util.find_spec("dask_cuda") is not None
        return "cuda" if torch.cuda.is_available() and has_package else "local"

    @property
    def device(self) -> Device:
        """Where this process computes as the workers would."""
        devices: dict[str, Device] = {"local": "cpu", "cuda": "cuda", "address": "auto"}
        return devices[self.resolved()]

    def layout(self) -> tuple[int, int]:
        """(workers, threads a worker) on this machine's cores and memory."""
        from dask.system import CPU_COUNT as cores  # knows affinity and the quota of a container
        from distributed.system import MEMORY_LIMIT as memory  # likewise

        most = self.workers or max(1, min(_MOST_WORKERS, round(memory / _MEMORY_A_WORKER)))
        threads = self.threads or max(1, cores // most)
        return self.workers or max(1, min(most, cores // threads)), threads


@contextmanager
def connect(settings: ClusterSettings, say: Callable[[str], None]) -> Iterator[Any]:
    """A ``distributed.Client`` with at least one worker; a cluster that began with the context ends with it.

    ``say`` takes a line of news. How a cluster ends is never an error: what does not end in 10 s is killed, since no
    worker holds anything that is not committed.

    Raises UserError if the scheduler cannot be reached, no worker comes within a minute, a worker there cannot compute
    what this process asks for, or the package for GPUs is missing.
    """
    from distributed import Client

    kind = settings.resolved()
    if kind == "address":
        client, cluster = _remote_client(str(settings.address)), None
    else:
        cluster = _local_cluster(settings) if kind == "local" else _cuda_cluster()
        client = Client(cluster)
    try:
        client.subscribe_topic(_MEMORY_TOPIC, lambda event: say(_over_memory(event[1])))
        if cluster is not None:
            client.register_worker_callbacks(_end_with_the_driver)
        _wait_for_workers(client)
        if cluster is None:
            _check_environments(client, say)
        yield client
    finally:
        _end(client, cluster, say)


def _wait_for_workers(client: Any) -> None:
    try:
        client.wait_for_workers(1, timeout=_WORKERS_WITHIN_S)
    except TimeoutError:
        raise UserError(
            f"cluster: the scheduler at {client.scheduler.address} has no workers; start some with "
            f"`dask worker {client.scheduler.address}` on machines that have Sightline and see the images"
        ) from None
    except OSError as error:
        raise SightlineError(
            f"cluster: the scheduler at {client.scheduler.address} ended ({type(error).__name__}); start it and its "
            "workers again, then the same command goes on"
        ) from error


def _check_environments(client: Any, say: Callable[[str], None]) -> None:
    """Refuse a scheduler or workers without Sightline or with other code of it; name packages of other versions.

    The scheduler needs the code too, since Dask unpickles the tasks there.
    """
    own = environment()
    try:
        found = client.sync(client.run, environment, on_error="return", callback_timeout=_WORKERS_WITHIN_S)
    except OSError as error:
        raise SightlineError(
            f"cluster: not all workers at {client.scheduler.address} answer ({type(error).__name__}); the dashboard "
            "shows when each was last seen: end those that hang, then run again"
        ) from error
    try:
        scheduler = client.run_on_scheduler(environment)
    except Exception as error:
        scheduler = error
    for what, where, other in [
        ("scheduler", client.scheduler.address, scheduler),
        *(("worker", worker, other) for worker, other in found.items()),
    ]:
        if isinstance(other, BaseException):
            raise UserError(
                f"cluster: the {what} at {where} cannot import Sightline ({other}); install the same version there, "
                f"and start `dask {what}` from that environment"
            )
        if other["sightline"] != own["sightline"]:
            raise UserError(
                f"cluster: the {what} at {where} has other code of Sightline (digest {other['sightline']}, here "
                f"{own['sightline']}); install the same version there, and start `dask {what}` again"
            )
    for name in own:
        for version in {other[name] for other in found.values()} - {own[name]}:
            workers = [worker for worker, other in found.items() if other[name] == version]
            say(
                f"{len(workers)} of {len(found)} workers have {name} {version or 'missing'} (here "
                f"{own[name] or 'missing'}), for example {workers[0]}: maps may differ"
            )


def _over_memory(event: dict[str, Any]) -> str:
    return (
        f"the worker at {event['worker']} took {event['rss'] / 2**30:.1f} GiB, more than its share of the memory, and "
        "was started anew; a smaller explain.batch_size or fewer cluster.workers need less"
    )


def _end(client: Any, cluster: Any, say: Callable[[str], None]) -> None:
    """Close in order; what does not close within 10 s, or is interrupted, is left, and worker processes are killed."""
    from distributed.core import Status

    deadline = time.monotonic() + _END_WITHIN_S
    nannies = [] if cluster is None else list(cluster.workers.values())
    processes = {nanny.pid for nanny in nannies}

    def left() -> float:
        return max(deadline - time.monotonic(), 0.1)

    async def close_workers() -> None:
        # By default Dask gives a killed worker 1 s to be gone, and raises where a busy machine takes longer.
        await asyncio.gather(*(nanny.close(timeout=0.8 * left()) for nanny in nannies))

    try:
        client.close(timeout=left())
        if cluster is not None:
            cluster.sync(close_workers, callback_timeout=left())
            cluster.close(timeout=left())
    except BaseException as error:
        if cluster is not None:
            for process in multiprocessing.active_children():
                if process.pid in processes:
                    process.kill()
            cluster.status = Status.closed  # or Dask tries for 10 s more when this process ends
        if not isinstance(error, Exception):
            raise
        how = f"did not end in order ({type(error).__name__})"
        if cluster is None:
            say(f"the connection to the scheduler {how}")
        else:
            say(f"the workers {how} and were killed; what they made is committed")


def _end_with_the_driver() -> None:
    """On a worker, ignore Ctrl-C, because the driver stops the worker, and log no closed connection that follows."""
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
    variables = {
        "OMP_NUM_THREADS": threads,
        "OMP_WAIT_POLICY": "PASSIVE",
        "MALLOC_MMAP_MAX_": 0,
        "MALLOC_TRIM_THRESHOLD_": 2**34,
        "CUDA_VISIBLE_DEVICES": "",
    }
    # Dask gives each worker an equal share of the memory and restarts one that is above it. A worker spills nothing,
    # since results are small, and does not pause at 80%: by the malloc settings above, freed memory stays with the
    # process, so the pause would have no end.
    memory = {f"distributed.worker.memory.{what}": False for what in ("target", "spill", "pause")}
    with dask.config.set({"distributed.nanny.pre-spawn-environ": variables, **memory}):
        return LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.ERROR,
        )


def _cuda_cluster() -> Any:
    try:
        from dask_cuda import LocalCUDACluster
    except ImportError:
        raise UserError(
            "cluster.kind cuda needs the extra `cuda` (pip install -e '.[cuda]'); kind local works without"
        ) from None
    return LocalCUDACluster(
        threads_per_worker=TASKS_A_GPU,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        silence_logs=logging.ERROR,
    )


def _remote_client(address: str) -> Any:
    from distributed import Client

    # Of a lost scheduler Dask logs two tracebacks; the map over its workers raises it in one line.
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)
    try:
        return Client(address, timeout=_CONNECT_WITHIN_S)
    except (OSError, TypeError, ValueError) as error:  # TypeError: tls:// without a certificate
        raise UserError(
            f"cluster.address: no Dask scheduler answers at {address} ({error}); start one with `dask scheduler`"
        ) from None
