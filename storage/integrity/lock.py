"""One writer a run: who changes a run's tables or maps holds its lock, which ends with the process that holds it.

On a local disk this is ``flock`` on the file ``.lock``: the kernel frees it when the process ends, however it ends. An
object store has no such lock. There ``.lock`` is a lease that its holder writes anew every ``BEAT`` seconds; a lease
that stays the same for ``EXPIRES`` seconds, by the clock of whoever waits for it, belongs to nobody.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from threading import Event, Thread

from storage.errors import SightlineError, UserError
from storage.files import Directory

NAME = ".lock"
"""Path of the lock, relative to the run."""

BEAT = 15.0
"""Seconds after which the holder of a lease writes it anew."""

EXPIRES = 60.0
"""Seconds without a beat after which a lease is free."""


@contextmanager
def only_writer(directory: Directory, tell: Callable[[str], object] = lambda line: None) -> Iterator[None]:
    """Hold the lock of a run; raises UserError that names the holder if another process does.

    ``tell`` takes a line before a wait of ``EXPIRES`` for a lease whose holder may be gone.

    Raises SightlineError at the end if a lease was lost: this process stood still for longer than ``EXPIRES``, and
    another one has written into the run since.
    """
    with _flock(directory) if directory.is_local else _lease(directory, tell):
        yield


@contextmanager
def writer_if_writable(directory: Directory, tell: Callable[[str], object] = lambda line: None) -> Iterator[bool]:
    """:func:`only_writer` of a run, and True; False and no lock where the run cannot be written, as an archive."""
    with ExitStack() as stack:
        try:
            stack.enter_context(only_writer(directory, tell))
            writable = True
        except OSError as error:
            if error.errno not in (errno.EROFS, errno.EACCES):
                raise
            writable = False
        yield writable


@contextmanager
def _flock(directory: Directory) -> Iterator[None]:
    path = directory.local_path(NAME)
    with open(path, "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise _refused(directory, file.read()) from None
        except OSError as error:
            raise UserError(f"cannot lock {path}: {error.strerror}; put the run on a disk with file locks") from None
        file.truncate(0)
        file.write(_holder(_now()))
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)  # not removed: who has opened the file already would lock a file without a name


@contextmanager
def _lease(directory: Directory, tell: Callable[[str], object]) -> Iterator[None]:
    _await_expiry(directory, tell)
    since = _now()
    mine = _holder(since)
    try:
        directory.create(NAME, mine.encode())
    except FileExistsError:
        raise _refused(directory, _read(directory)) from None
    ended, lost = Event(), Event()

    def beat() -> None:
        nonlocal mine
        while not ended.wait(BEAT):
            try:
                if _read(directory) != mine:
                    lost.set()
                    return
                written = _holder(since, json.loads(mine)["beat"] + 1)
                directory.write(NAME, written.encode())
                mine = written
            except Exception:  # each file system raises types of its own; the next beat may reach it again
                continue

    thread = Thread(target=beat, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        found = _read(directory)
        if found == mine and not lost.is_set():
            directory.remove(NAME)
    if lost.is_set() or found != mine:
        raise SightlineError(
            f"{directory.url} was written by {_named(found)} while this process stood still for more than "
            f"{EXPIRES:.0f} s; run again"
        )


def _await_expiry(directory: Directory, tell: Callable[[str], object]) -> None:
    """Wait until the lease, if there is one, has stayed the same for ``EXPIRES``; raises UserError when it beats."""
    first = _read(directory)
    if not first:
        return
    tell(f"waiting {EXPIRES:.0f} s to see whether {_named(first)} still writes {directory.url}")
    until = time.monotonic() + EXPIRES
    while time.monotonic() < until:
        time.sleep(min(1.0, EXPIRES / 10))
        if (now := _read(directory)) not in ("", first):
            raise _refused(directory, now)
    directory.remove(NAME)


def _read(directory: Directory) -> str:
    try:
        return directory.read(NAME).decode()
    except FileNotFoundError:
        return ""


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _holder(since: str, beat: int = 0) -> str:
    return json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": since, "beat": beat})


def _named(holder: str) -> str:
    try:
        who = json.loads(holder)
        return f"process {who['pid']} on {who['host']} since {who['since']}"
    except (ValueError, KeyError, TypeError):
        return "another process"  # it has the lock, and has not written its name yet


def _refused(directory: Directory, holder: str) -> UserError:
    return UserError(f"{directory.url} is written by {_named(holder)}; wait until it ends, or end it")
