"""A command in the background of a test."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def in_background(
    command: Sequence[str], folder: Path, output: Path, environment: dict[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """``command`` in ``folder``, what it prints in the file ``output``; its process group ends with the context.

    ``environment``: all of its variables.
    """
    with output.open("w") as file:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
