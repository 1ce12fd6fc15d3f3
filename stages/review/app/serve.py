"""The FiftyOne App on a run."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from pymongo.errors import PyMongoError

from stages.review.app import server
from stages.review.app.collect import collect_from
from stages.review.app.database import database, free_port
from stages.review.app.door import TOKEN
from stages.review.app.process import ADDRESS, start_server
from stages.review.settings import ReviewSettings, RuleText, Selection
from storage.errors import SightlineError, UserError
from storage.run import Run

if TYPE_CHECKING:
    from stages.review.review import LoadReport

PLUGIN = Path(__file__).parents[1] / "plugin"

GRACE_S = 4.0
"""Seconds in which FiftyOne's server ends by itself where it can: it gives its connections three."""

QUIET = {
    # It explains port forwarding at each launch.
    "fiftyone.core.session.session": logging.WARNING,
    # It warns of retired options that its own browser client sends.
    "fiftyone.core.config": logging.ERROR,
}
"""Loggers of FiftyOne whose messages tell a reviewer nothing, and from where on they are heard."""


@dataclass(frozen=True)
class App:
    """A running App: where it is, the dataset that it shows, and what loading did."""

    url: str
    """With the token that lets a browser in: whoever has it has the App."""
    dataset: Any
    report: LoadReport


@contextmanager
def open_app(
    run: Run,
    settings: ReviewSettings | None = None,
    port: int | None = None,
    *,
    rules: Mapping[str, RuleText] | None = None,
    selection: Selection | None = None,
) -> Iterator[App]:
    """Load a run, or a selection of it, and serve the App on 127.0.0.1 while the context lasts.

    ``port`` None takes a free one. When the context ends, new verdicts are stored in the run. Raises UserError for a
    port in use, a run that cannot be shown, or no MongoDB, and SightlineError for a server that ends before it answers.
    """
    settings = settings or ReviewSettings()
    # FiftyOne attaches to any App that answers on its port, of whatever database: so never to a port in use.
    port = _checked(port) if port is not None else free_port()
    with database(settings.database_directory):
        # Imported here, when the database is known: FiftyOne takes seconds to import and reads its environment then.
        import fiftyone as fo

        from stages.review.dataset.views import WORKSPACE, first_view
        from stages.review.review import load

        reports: list[LoadReport] = []
        dataset = load(run, settings, rules=rules, selection=selection, tell=reports.append)
        for name, level in QUIET.items():
            logging.getLogger(name).setLevel(level)
        token = secrets.token_urlsafe(32)
        with plugins(fo.config.plugins_dir), _behind_the_door(token):
            # Both: the colours are the dataset's, the order is the view's.
            session = fo.launch_app(
                dataset,
                view=first_view(dataset),
                spaces=dataset.load_workspace(WORKSPACE),
                port=port,
                address=ADDRESS,
                remote=True,
                auto=False,
            )
            # Found now, so that on Ctrl-C the session closes before it notices that its server, told too, is ending.
            processes = _server_of(port)
            try:
                yield App(f"http://{ADDRESS}:{port}/?{TOKEN}={token}", dataset, reports[0])
            finally:
                with _killed_if_late(processes):
                    session.close()
                try:
                    collect_from(dataset, run)
                except PyMongoError as error:
                    raise SightlineError(
                        f"the database does not answer ({type(error).__name__}): verdicts are in the run as they were "
                        f"given, and `sightline reviews {run.url}` stores the rest once it does"
                    ) from None


def serve(
    run: Run,
    settings: ReviewSettings | None = None,
    port: int | None = None,
    wait: bool = True,
    *,
    rules: Mapping[str, RuleText] | None = None,
    selection: Selection | None = None,
    tell: Callable[[str], None] = print,
) -> None:
    """Load a run, serve the App and wait for Ctrl-C; with ``wait`` false, stop as soon as it is up.

    ``tell`` gets the lines that a person should see. Raises as :func:`open_app` does.
    """
    tell(f"Loading {run.url} into FiftyOne ...")
    with _terminated_as_interrupted():
        try:
            with open_app(run, settings, port, rules=rules, selection=selection) as app:
                tell(str(app.report))
                tell(f"The App is at {app.url}")
                tell("Only that link opens it: whoever has it can judge in your name. It changes each time.")
                tell("Stop it with Ctrl-C here; verdicts are then stored in the run, the rest stays in the database.")
                if wait:
                    threading.Event().wait()
        except KeyboardInterrupt:
            tell("Stopped.")


@contextmanager
def _behind_the_door(token: str) -> Iterator[None]:
    """Let FiftyOne start its server behind the door, and its client in this process know the token, in the context."""
    from fiftyone.core.service import ServerService
    from fiftyone.core.session import client

    start = ServerService.start
    with client.requests.Session() as session, _environment({server.TOKEN_VARIABLE: token}):
        session.headers["Authorization"] = f"Bearer {token}"
        # Its functions get and post are all that the client calls, by the module's name.
        client.requests, plain = session, client.requests
        ServerService.start = start_server
        try:
            yield
        finally:
            client.requests, ServerService.start = plain, start


def _server_of(port: int) -> list[psutil.Process]:
    """The processes of FiftyOne's server on a port: they are told the port."""
    told = []
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if str(port) in child.cmdline():
                told.append(child)
    return told


@contextmanager
def _killed_if_late(server: Iterable[psutil.Process]) -> Iterator[None]:
    """Kill FiftyOne's server ``GRACE_S`` from now, if what is done in the context has not ended it by then.

    From Python 3.12.1 on its own shutdown waits for every open connection, which a page in a browser keeps as long as
    it is open, and closing the session waits for that shutdown.
    """
    timer = threading.Timer(GRACE_S, _kill, [server])
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _kill(processes: Iterable[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM ends the context as Ctrl-C does, so that the App and then the database are closed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _checked(port: int) -> int:
    if not 0 < port < 65536:
        raise UserError(f"port {port} does not exist; take one from 1024 to 65535, or none for a free one")
    with socket.socket() as probe:
        # As servers do: a port that was just given up may be taken again.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ADDRESS, port))
        except PermissionError:
            raise UserError(f"port {port} is reserved by the system; take one from 1024 to 65535") from None
        except OSError:
            raise UserError(
                f"port {port} is in use; take another with --port, or leave --port out for a free one"
            ) from None
    return port


@contextmanager
def plugins(users: str | Path | None) -> Iterator[Path]:
    """A folder of links to Sightline's plugin and to the user's plugin folder, named to FiftyOne's server that starts
    within the context.

    FiftyOne knows one folder of plugins. Links keep the user's where it is, so what is installed there appears at once.
    """
    with tempfile.TemporaryDirectory(prefix="sightline-plugins-") as name:
        folder = Path(name)
        (folder / "sightline").symlink_to(PLUGIN, target_is_directory=True)
        if users is not None and Path(users).is_dir():
            (folder / "own").symlink_to(Path(users).resolve(), target_is_directory=True)
        # Plugins are loaded again for every call otherwise, which takes longer than most calls.
        cached = os.environ.get("FIFTYONE_PLUGINS_CACHE_ENABLED", "true")
        with _environment({"FIFTYONE_PLUGINS_DIR": str(folder), "FIFTYONE_PLUGINS_CACHE_ENABLED": cached}):
            yield folder


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
