"""FiftyOne's server as a process: started behind the door, waited for while it lives, quoted where it ends too soon."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections import deque
from contextlib import suppress
from typing import IO, Any

import psutil

from stages.review.app import server
from storage.errors import LONGEST, SightlineError, on_one_line, shortened

ADDRESS = "127.0.0.1"

LINES = 3
"""Lines of the server's output that a message quotes, at most."""

LOOK_SECONDS = 0.25
"""How often is looked whether the server answers."""

LAST_WORDS_SECONDS = 2.0
"""How long the output of a server that has ended is read: a process that it started may keep it open."""


def start_server(service: Any) -> None:
    """What FiftyOne's ``ServerService`` does to start: our server, on the service's port.

    FiftyOne's own start would take any server that answers on the port for its own, and prints what a server says that
    ends. This one keeps our working folder, so that relative paths of the environment, of PYTHONPATH say, are what they
    are for us. Raises SightlineError if the process ends before it answers.
    """
    service.child = child = psutil.Popen(
        [sys.executable, *server.COMMAND, "--port", str(service.port), "--address", ADDRESS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        # Ctrl-C is for us: the server ends when its standard input does.
        start_new_session=True,
    )
    try:
        wait(child, service.port, LastLines(child.stdout))
    except BaseException:
        child.stdin.close()
        with suppress(psutil.NoSuchProcess):
            child.kill()
        raise


def wait(child: Any, port: int, output: LastLines) -> None:
    """Return when a process listens on a port, which may take minutes on a slow machine.

    Raises SightlineError if the process ends first; the message quotes the end of its output.
    """
    while (status := child.poll()) is None:
        if _listens(child, port):
            return
        with suppress(psutil.TimeoutExpired):
            child.wait(LOOK_SECONDS)
    lines = output.wait()
    ended = f"ended (exit status {status})" if status >= 0 else f"was killed ({signal.Signals(-status).name})"
    words = " | ".join(lines) or "it said nothing"
    raise SightlineError(
        f"FiftyOne's server {ended} before it answered on port {port}: {words}; {_remedy(words, status)}"
    )


def _remedy(words: str, status: int) -> str:
    """What to do after a server that said ``words`` at its end."""
    if "address already in use" in words.lower():
        return "another program took the port meanwhile: start again, with another --port or none"
    if "ModuleNotFoundError" in words or "ImportError" in words:
        return f"install it for {sys.executable} or mend PYTHONPATH; `sightline doctor` lists the packages"
    if status == -signal.SIGKILL:
        return "the system kills where memory runs out: end other programs and start again"
    return "`sightline doctor` lists what this machine has; with FIFTYONE_LOGGING_LEVEL=DEBUG the server says more"


def _listens(process: Any, port: int) -> bool:
    from fiftyone.service.util import get_listening_tcp_ports

    with suppress(psutil.Error):
        return port in get_listening_tcp_ports(process)
    return False


class LastLines:
    """The end of what a process says, read as long as it speaks, so that it never waits for a reader."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._lines: deque[str] = deque(maxlen=LINES)
        self._reader = threading.Thread(target=self._read, name="output of FiftyOne's server", daemon=True)
        self._reader.start()

    def wait(self) -> list[str]:
        """The last lines of a process that has ended, on one line each; empty ones and marks below code left out."""
        self._reader.join(LAST_WORDS_SECONDS)
        return list(self._lines)

    def _read(self) -> None:
        with self._stream:
            while said := self._stream.readline(10 * LONGEST):
                line = on_one_line(said.decode(errors="replace").strip())
                if line.strip("^~ "):
                    self._lines.append(shortened(line))
