"""FiftyOne's server finds Sightline's plugin and the user's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from stages.review.app.serve import PLUGIN, plugins

LIST = """
import json, fiftyone.plugins as plugins
print(json.dumps({plugin.name: plugin.has_js for plugin in plugins.list_plugins()}))
"""


def users_plugins(folder: Path) -> Path:
    (folder / "theirs").mkdir(parents=True)
    (folder / "theirs" / "fiftyone.yml").write_text("name: '@user/theirs'\n")
    return folder


def test_a_process_of_the_context_finds_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    # Listing needs no database; this one is never there, and so none is started.
    monkeypatch.setenv("FIFTYONE_DATABASE_URI", "mongodb://127.0.0.1:9/?serverSelectionTimeoutMS=1")
    with plugins(users_plugins(tmp_path / "plugins")):
        done = subprocess.run([sys.executable, "-c", LIST], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {"@sightline/review": True, "@user/theirs": False}


def test_the_context_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIFTYONE_PLUGINS_DIR", "mine")
    monkeypatch.delenv("FIFTYONE_PLUGINS_CACHE_ENABLED", raising=False)
    users = users_plugins(tmp_path / "plugins")
    with plugins(users) as folder:
        assert os.environ["FIFTYONE_PLUGINS_DIR"] == str(folder)
    assert os.environ["FIFTYONE_PLUGINS_DIR"] == "mine"
    assert "FIFTYONE_PLUGINS_CACHE_ENABLED" not in os.environ
    assert not folder.exists()
    assert (users / "theirs" / "fiftyone.yml").exists()
    assert (PLUGIN / "fiftyone.yml").exists()


@pytest.mark.parametrize("users", [None, "nowhere"])
def test_a_user_without_plugins_has_ours(users: str | None) -> None:
    with plugins(users) as folder:
        assert [entry.name for entry in folder.iterdir()] == ["sightline"]


def test_the_operators_that_the_plugin_declares_are_those_that_it_has() -> None:
    from stages.review.plugin import operators, runs

    declared = yaml.safe_load((PLUGIN / "fiftyone.yml").read_text())
    assert declared["operators"] == [operator().config.name for operator in (*operators.OPERATORS, *runs.OPERATORS)]
    assert (PLUGIN / declared["js_bundle"]).is_file()
