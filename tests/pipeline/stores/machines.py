"""Machines of a private network on this one: network namespaces, of which the workers' see no file of the driver."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.pipeline.background import in_background

ROOT = Path(__file__).parents[3]
HUB = "10.77.1.1"
"""Address of the machine of the driver, the scheduler and the store. Nothing outside the namespaces can reach it."""

_WITHOUT_FOLDER = 'mount -t tmpfs none "$0" && mkdir "$0/work" && cd "$0/work" && exec "$@"'


@dataclass(frozen=True)
class Network:
    """A machine ``hub``, and two machines ``workers`` that reach it and have an empty folder where ``folder`` is."""

    hub: str
    workers: tuple[str, ...]
    folder: Path
    environment: dict[str, str]
    """Variables of all that runs there."""

    @contextmanager
    def running(self, machine: str, *arguments: str) -> Iterator[Path]:
        """Python with ``arguments`` on a machine, ended with the context; yields the file of its output."""
        output = self.folder / f"{machine}.{arguments[1]}.txt"
        with in_background(self._command(machine, arguments), self.folder, output, self._variables()):
            yield output

    def run(self, machine: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Python with ``arguments`` on a machine, until it ends."""
        return subprocess.run(
            self._command(machine, arguments),
            env=self._variables(),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=300,
        )

    def _command(self, machine: str, arguments: tuple[str, ...]) -> list[str]:
        there = ["ip", "netns", "exec", machine]
        if machine in self.workers:
            there += ["unshare", "--mount", "sh", "-c", _WITHOUT_FOLDER, str(self.folder)]
        return [*there, sys.executable, *arguments]

    def _variables(self) -> dict[str, str]:
        return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "COLUMNS": "120", **self.environment}


def why_not() -> str | None:
    """Why this machine cannot make others; None where it can."""
    if os.geteuid() != 0 or shutil.which("ip") is None or shutil.which("unshare") is None:
        return "needs root, ip and unshare"
    made = subprocess.run(
        ["unshare", "--net", "--mount", "ip", "link", "add", "end0", "type", "veth"], capture_output=True
    )
    return f"cannot make a network: {made.stderr.decode().strip()}" if made.returncode else None


@contextmanager
def network(folder: Path, **environment: str) -> Iterator[Network]:
    """Three machines, which end with the context."""
    name = f"sightline-{os.getpid()}"
    hub, workers = f"{name}-hub", (f"{name}-1", f"{name}-2")
    with ExitStack() as stack:
        for machine in (hub, *workers):
            _ip("netns", "add", machine)
            stack.callback(_ip, "netns", "delete", machine)
            _ip("-netns", machine, "link", "set", "lo", "up")
        for number, worker in enumerate(workers, start=1):
            ends = f"to{number}", "tohub"
            _ip("-netns", hub, "link", "add", ends[0], "type", "veth", "peer", "name", ends[1], "netns", worker)
            for machine, end, host in ((hub, ends[0], 1), (worker, ends[1], 2)):
                _ip("-netns", machine, "address", "add", f"10.77.{number}.{host}/24", "dev", end)
                _ip("-netns", machine, "link", "set", end, "up")
            _ip("-netns", worker, "route", "add", "default", "via", f"10.77.{number}.1")
        yield Network(hub, workers, folder, environment)


def wait_for(output: Path, word: str, seconds: float = 60.0) -> None:
    """Until a process has printed ``word``."""
    deadline = time.monotonic() + seconds
    while word not in output.read_text():
        assert time.monotonic() < deadline, output.read_text()
        time.sleep(0.1)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
