"""FiftyOne's server as a process: what is told of one that ends before it answers."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from stages.review.app import process, server
from stages.review.app.database import database, free_port
from stages.review.app.process import LastLines, start_server, wait
from storage.errors import SightlineError


@pytest.fixture(scope="module", autouse=True)
def own_database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A home and a database of the tests' own: the server asks it before it answers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        patch.delenv("FIFTYONE_DATABASE_URI", raising=False)
        patch.setenv(server.TOKEN_VARIABLE, "a token")
        with database(tmp_path_factory.mktemp("mongo")):
            yield


def started(code: str, *arguments: str) -> psutil.Popen:
    command = [sys.executable, "-c", code, *arguments]
    return psutil.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def failure(child: psutil.Popen, port: int = 5151) -> str:
    with pytest.raises(SightlineError) as raised:
        wait(child, port, LastLines(child.stdout))
    return str(raised.value)


LISTENS_LATE = """
import socket, sys, time
time.sleep(1)
with socket.socket() as own:
    own.bind(("127.0.0.1", int(sys.argv[1])))
    own.listen()
    time.sleep(60)
"""


def test_a_server_is_waited_for_while_its_process_lives():
    port = free_port()
    child = started(LISTENS_LATE, str(port))
    try:
        wait(child, port, LastLines(child.stdout))
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            assert child.poll() is None
    finally:
        child.kill()
        child.wait()


def test_a_server_that_says_much_is_quoted_by_its_last_lines_each_on_one():
    code = "print('\\n'.join(f'line {n}' for n in range(50_000))); print('\\x1b[31mred\\u202e\\n\\n')"
    message = failure(started(code + "; raise SystemExit(3)"))
    assert message == (
        "FiftyOne's server ended (exit status 3) before it answered on port 5151: line 49998 | line 49999 | "
        "\\x1b[31mred\\u202e; `sightline doctor` lists what this machine has; with FIFTYONE_LOGGING_LEVEL=DEBUG "
        "the server says more"
    )
    assert len(failure(started("print('x' * 100_000); raise SystemExit(3)"))) < 1100


def test_a_server_that_is_killed_is_told_as_killed():
    message = failure(started("import os, signal; os.kill(os.getpid(), signal.SIGKILL)"))
    assert "was killed (SIGKILL) before it answered on port 5151: it said nothing; the system kills where" in message


def of_ours(port: int) -> SimpleNamespace:
    return SimpleNamespace(port=port, child=None)


def test_an_import_that_fails_is_quoted_with_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "hypercorn.py").write_text("import there_is_no_such_module\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *_pythonpath()]))
    with pytest.raises(SightlineError) as raised:
        start_server(of_ours(free_port()))
    assert re.search(
        rf'File "{re.escape(str(tmp_path))}/hypercorn.py", line 1, in <module> \| import there_is_no_such_module \| '
        r"ModuleNotFoundError: No module named 'there_is_no_such_module'; install it for .* or mend PYTHONPATH",
        str(raised.value),
    )


def test_a_port_that_is_taken_meanwhile_is_told():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SightlineError, match=f"on port {port}: .*; another program took the port meanwhile"):
            start_server(of_ours(port))


def test_a_relative_pythonpath_holds_for_the_server_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    # Code that is found by the relative path alone, in a working folder that also has a module called as ours.
    root = Path(process.__file__).parents[3]
    (tmp_path / "code").mkdir()
    for package in ("pipeline", "stages", "storage"):
        (tmp_path / "code" / package).symlink_to(root / package, target_is_directory=True)
    (tmp_path / "code" / "sitecustomize.py").write_text("import pathlib; pathlib.Path('was-here').touch()\n")
    (tmp_path / "stages.py").write_text("raise SystemExit('not this one')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", "code")
    service = of_ours(free_port())
    start_server(service)
    try:
        assert (tmp_path / "was-here").exists()
        with socket.create_connection(("127.0.0.1", service.port), timeout=5):
            pass
    finally:
        service.child.stdin.close()
        # Its input has ended, as when the process that started it is killed: so does the server.
        assert service.child.wait(timeout=30) == 0


def _pythonpath() -> Sequence[str]:
    return [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
