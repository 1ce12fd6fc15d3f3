"""A Dask scheduler and a worker started as a user starts them, each in a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.pipeline.background import in_background

ROOT = Path(__file__).parents[2]


@contextmanager
def dask_cluster(
    folder: Path,
    *,
    python: str = sys.executable,
    path: str = str(ROOT),
    scheduler_path: str = str(ROOT),
    nanny: bool = True,
    **environment: str,
) -> Iterator[tuple[str, int]]:
    """Address and process id of a scheduler with one worker.

    ``python`` is for both; ``path`` is the worker's PYTHONPATH, and ``environment`` more of its variables.
    """
    listen = ("--host", "127.0.0.1", "--port", "0")
    with dask(folder / "scheduler", python, {"PYTHONPATH": scheduler_path}, "scheduler", *listen) as scheduler:
        address = _address(scheduler, folder / "scheduler" / "output")
        variables = {"PYTHONPATH": path, "SCHEDULER": str(scheduler.pid), **environment}
        kind = "--nanny" if nanny else "--no-nanny"
        with dask(folder / "worker", python, variables, "worker", address, "--nthreads", "1", kind):
            yield address, scheduler.pid


@contextmanager
def dask(folder: Path, python: str, environment: dict[str, str], *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """``dask ARGUMENTS`` in an empty folder; ends with the context."""
    folder.mkdir(parents=True)
    command = [python, "-m", "dask", *arguments, "--no-dashboard"]
    variables = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    with in_background(command, folder, folder / "output", variables) as process:
        yield process


def _address(scheduler: subprocess.Popen[bytes], output: Path) -> str:
    """What the scheduler prints as its address, once it does."""
    while (found := re.search(r"Scheduler at:\s+(tcp://\S+)", output.read_text())) is None:
        assert scheduler.poll() is None, output.read_text()
        time.sleep(0.05)
    return found[1]
