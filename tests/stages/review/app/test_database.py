from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pymongo
import pytest

from stages.review.app import database as module
from stages.review.app.database import database, find_mongod, free_port
from storage.errors import UserError

HOLD = """
import sys
from pathlib import Path
from stages.review.app.database import database

with database(Path(sys.argv[1])) as uri:
    print(uri, flush=True)
    sys.stdin.readline()
"""


@pytest.fixture(autouse=True)
def no_server_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FIFTYONE_DATABASE_URI", raising=False)


def hold(directory: Path) -> tuple[subprocess.Popen[str], str]:
    """Another process that uses the database of ``directory``, and the URI it got."""
    # While we use a database of our own, its URI is in the environment; the other process shall find its own way.
    environment = {name: value for name, value in os.environ.items() if name != "FIFTYONE_DATABASE_URI"}
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def let_go(process: subprocess.Popen[str]) -> None:
    process.communicate("\n", timeout=60)


def answers(uri: str) -> bool:
    try:
        with pymongo.MongoClient(uri, serverSelectionTimeoutMS=300) as client:
            client.admin.command("ping")
    except pymongo.errors.PyMongoError:
        return False
    return True


def test_the_server_lives_as_long_as_somebody_uses_it(tmp_path: Path):
    with database(tmp_path) as uri:
        assert os.environ["FIFTYONE_DATABASE_URI"] == uri
        assert answers(uri)
        other, their_uri = hold(tmp_path)
        assert their_uri == uri
    assert "FIFTYONE_DATABASE_URI" not in os.environ
    assert answers(uri), "the other process still uses it"
    let_go(other)
    assert not answers(uri)


def test_a_fiftyone_that_was_imported_before_is_told_not_to_track_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fiftyone as fo

    monkeypatch.setattr(fo.config, "do_not_track", False)
    monkeypatch.delenv("FIFTYONE_DO_NOT_TRACK", raising=False)
    with database(tmp_path):
        assert fo.config.do_not_track
    monkeypatch.setenv("FIFTYONE_DO_NOT_TRACK", "0")
    with database(tmp_path):
        assert not fo.config.do_not_track, "what the user has set stays"


def test_fiftyone_uses_again_what_it_used_before_whatever_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fiftyone as fo

    monkeypatch.setattr(fo.config, "database_uri", "mongodb://127.0.0.1:9/")
    with database(tmp_path) as uri:
        assert fo.config.database_uri == uri
    assert fo.config.database_uri == "mongodb://127.0.0.1:9/"
    assert "FIFTYONE_DATABASE_URI" not in os.environ


def test_fiftyone_does_not_go_on_to_a_server_that_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fiftyone as fo
    from fiftyone.core.odm import database as connection

    monkeypatch.setattr(fo.config, "database_uri", None)
    with database(tmp_path):
        assert fo.list_datasets() == []
    assert "host" not in connection._connection_kwargs


def test_an_empty_database_takes_little_of_the_disk(tmp_path: Path):
    with database(tmp_path) as uri:
        assert answers(uri)
        files = [path.stat() for path in tmp_path.rglob("*") if path.is_file()]
    # MongoDB's own default makes three journal files of 100 MB each before the first record.
    assert sum(file.st_blocks * 512 for file in files) < 50e6


def test_two_directories_are_two_databases(tmp_path: Path):
    with database(tmp_path / "a") as first:
        other, second = hold(tmp_path / "b")
        assert first != second
        let_go(other)
        assert answers(first)


def test_a_server_left_behind_by_a_killed_process_is_used_and_then_stopped(tmp_path: Path):
    killed, uri = hold(tmp_path)
    killed.kill()
    killed.communicate()
    assert answers(uri)
    with database(tmp_path) as again:
        assert again == uri
    assert not answers(uri)


def test_a_port_file_that_points_at_another_directorys_server_is_not_believed(tmp_path: Path):
    with database(tmp_path / "a") as theirs:
        ours = tmp_path / "b"
        ours.mkdir()
        (ours / "server.json").write_text((tmp_path / "a" / "server.json").read_text())
        other, uri = hold(ours)
        assert uri != theirs
        let_go(other)
        assert answers(theirs), "only the server of one's own directory is stopped"


def test_a_server_that_was_killed_is_started_again(tmp_path: Path):
    with database(tmp_path):
        pid = json.loads((tmp_path / "server.json").read_text())["pid"]
        os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + 10
        while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        other, uri = hold(tmp_path)
        assert answers(uri)
        let_go(other)
    assert not answers(uri), "the last one out stops the one that is there"


def test_a_server_that_dies_while_it_is_used_is_back_at_the_same_place_with_what_it_acknowledged(tmp_path: Path):
    with database(tmp_path) as uri, pymongo.MongoClient(uri) as client:
        notes = client["test"].get_collection("notes", write_concern=pymongo.WriteConcern(w=1, j=True))
        notes.insert_one({"said": "acknowledged"})
        os.kill(json.loads((tmp_path / "server.json").read_text())["pid"], signal.SIGKILL)
        deadline = time.monotonic() + 60
        while not answers(uri):
            assert time.monotonic() < deadline, "nobody started it again"
        assert notes.find_one({}, {"_id": 0}) == {"said": "acknowledged"}, "the same client goes on"
    assert not answers(uri)


def test_only_who_can_read_the_key_has_the_database(tmp_path: Path):
    with database(tmp_path / "mongo") as uri:
        key = tmp_path / "mongo" / "key"
        assert key.stat().st_mode & 0o777 == 0o600
        assert (tmp_path / "mongo").stat().st_mode & 0o777 == 0o700
        assert key.read_text() in uri
        server = uri.partition("@")[2]
        for stranger in (f"mongodb://{server}".replace("authSource=local&", ""), f"mongodb://__system:guess@{server}"):
            with pymongo.MongoClient(stranger) as client, pytest.raises(pymongo.errors.OperationFailure):
                client["fiftyone"]["datasets"].find_one()
        # The first user of a server without any could be anybody on this machine.
        nobody = pymongo.MongoClient(f"mongodb://{server}".replace("authSource=local&", ""))
        with nobody, pytest.raises(pymongo.errors.OperationFailure):
            nobody["admin"].command("createUser", "me", pwd="mine", roles=["root"])
        command = psutil.Process(json.loads((tmp_path / "mongo" / "server.json").read_text())["pid"]).cmdline()
        assert key.read_text() not in " ".join(command)


def test_a_given_server_is_used_and_left_running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with database(tmp_path) as uri:
        monkeypatch.setenv("FIFTYONE_DATABASE_URI", uri)
        with database(tmp_path / "unused") as given:
            assert given == uri
        assert answers(uri)
        assert not (tmp_path / "unused").exists()


@pytest.mark.parametrize(
    "uri",
    [f"mongodb://127.0.0.1:{free_port()}", "mongodb://", "no such scheme"],
    ids=["a port of nobody", "no host", "no such scheme"],  # two processes collect the same names
)
def test_a_given_server_that_does_not_answer_is_the_users_mistake(uri: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FIFTYONE_DATABASE_URI", uri)
    with (
        pytest.raises(UserError, match=r"FIFTYONE_DATABASE_URI is set, but no MongoDB answers there: .*unset it"),
        database(Path("/nowhere")),
    ):
        pass


def test_without_mongod_the_error_names_both_remedies(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda _name: None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match=r"extra `demo`.*FIFTYONE_DATABASE_URI"):
        find_mongod()


def test_a_server_that_does_not_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    broken = tmp_path / "mongod"
    broken.write_text("#!/bin/sh\necho 'libcrypto.so.3: cannot open shared object file' >&2\nexit 127\n")
    broken.chmod(0o755)
    monkeypatch.setattr(module, "find_mongod", lambda: broken)
    with pytest.raises(UserError, match=r"does not start in .*libcrypto\.so\.3"), database(tmp_path / "db"):
        pass


def test_a_database_folder_that_cannot_be_made_is_the_users_mistake(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UserError, match=r"cannot keep the database in .*review\.database"),
        database(tmp_path / "file" / "x"),
    ):
        pass
