"""One writer a run. The processes are real; the object store is fsspec's in memory."""

import json
import subprocess
import sys
import uuid
from threading import Event, Thread

import pytest

from storage.errors import SightlineError, UserError
from storage.files import Directory
from storage.integrity import lock
from storage.integrity.lock import NAME, only_writer

HOLD = """
import sys
from storage.files import Directory
from storage.integrity.lock import only_writer
with only_writer(Directory(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of ``tmp_path`` until its input is closed."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], text=True, **pipes) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


@pytest.fixture
def store(monkeypatch):
    """A directory on an object store, with leases that beat and expire within a moment."""
    monkeypatch.setattr(lock, "BEAT", 0.02)
    monkeypatch.setattr(lock, "EXPIRES", 0.5)
    return Directory(f"memory://{uuid.uuid4().hex}")


def test_the_second_writer_is_refused_naming_the_first(tmp_path, holder):
    named = rf"{tmp_path} is written by process {holder.pid} on \S+ since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d UTC; wait"
    with pytest.raises(UserError, match=named), only_writer(Directory(str(tmp_path))):
        pass


@pytest.mark.parametrize("end", ["kill", "leave"])
def test_the_lock_ends_with_its_process_however_that_ends(tmp_path, holder, end):
    holder.kill() if end == "kill" else holder.stdin.close()
    holder.wait()
    for _ in range(2):
        with only_writer(Directory(str(tmp_path))):
            pass


def test_a_lease_that_beats_is_held_and_is_gone_when_its_holder_ends(store):
    with only_writer(store):
        with pytest.raises(UserError, match=r"memory://\w+ is written by process \d+ on "), only_writer(store):
            pass
        assert json.loads(store.read(NAME))["pid"]
    assert not store.exists(NAME)


def test_a_lease_that_does_not_beat_is_taken_over_whatever_the_clocks_say(store):
    store.write(NAME, b'{"pid": 1, "host": "gone", "since": "2036-01-01 00:00:00 UTC", "beat": 7}')
    told = []
    with only_writer(store, told.append):
        assert json.loads(store.read(NAME))["host"] != "gone"
    assert told == [
        f"waiting 0 s to see whether process 1 on gone since 2036-01-01 00:00:00 UTC still writes {store.url}"
    ]


def test_a_writer_that_lost_its_lease_says_so(store):
    other = '{"pid": 2, "host": "other", "since": "2026-11-26 12:00:00 UTC", "beat": 0}'
    lost = pytest.raises(SightlineError, match=r"was written by process 2 on other since .*; run again")
    with lost, only_writer(store):
        store.write(NAME, other.encode())
    assert store.read(NAME).decode() == other


def test_of_two_that_find_no_lease_one_gets_it(store, monkeypatch):
    monkeypatch.setattr(lock, "_await_expiry", lambda *_: None)  # both have looked, neither has written
    held, over, outcomes = Event(), Event(), []

    def first():
        with only_writer(store):
            held.set()
            over.wait()

    thread = Thread(target=first)
    thread.start()
    held.wait()
    with pytest.raises(UserError, match="is written by"), only_writer(store):
        outcomes.append("both")
    over.set()
    thread.join()
    assert outcomes == []
