"""Which commit the code comes from: real repositories, made by git."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from pipeline.workers import environment
from pipeline.workers.environment import Checkout, checkout_of

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", "-C", folder, *who, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with three packages of these names, in no repository."""
    # Of whatever repository the temporary folder may lie in.
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    folder = tmp_path / "checkout"
    for name in ("pipeline", "stages", "storage"):
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text("")
    return folder


@pytest.fixture
def committed(packages: Path) -> tuple[Path, str]:
    git(packages, "init", "--quiet")
    git(packages, "add", ".")
    git(packages, "commit", "--quiet", "--message", "first")
    return packages, git(packages, "rev-parse", "HEAD")


def test_the_commit_is_that_of_the_checkout(committed: tuple[Path, str]) -> None:
    folder, commit = committed
    assert checkout_of(folder) == Checkout(commit, changed=False)
    assert len(commit) == 40


@pytest.mark.parametrize("path", ["stages/__init__.py", "storage/new.py"])
def test_a_changed_and_a_new_file_of_the_code_are_changes(committed: tuple[Path, str], path: str) -> None:
    folder, commit = committed
    (folder / path).write_text("x = 1\n")
    assert checkout_of(folder) == Checkout(commit, changed=True)


def test_files_beside_the_code_are_no_changes(committed: tuple[Path, str]) -> None:
    folder, commit = committed
    (folder / "pipeline.yaml").write_text("run: x\n")
    assert checkout_of(folder) == Checkout(commit, changed=False)


def test_a_folder_in_no_repository_has_no_commit(packages: Path) -> None:
    assert checkout_of(packages) is None


def test_a_repository_around_an_installed_copy_is_not_its_checkout(packages: Path) -> None:
    git(packages.parent, "init", "--quiet")
    (packages.parent / "own.txt").write_text("the user's own file")
    git(packages.parent, "add", "own.txt")
    git(packages.parent, "commit", "--quiet", "--message", "theirs")
    assert checkout_of(packages) is None


def test_a_repository_without_a_commit_has_none(packages: Path) -> None:
    git(packages, "init", "--quiet")
    git(packages, "add", ".")
    assert checkout_of(packages) is None


def test_without_git_there_is_no_commit(committed: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(committed[0]))
    assert checkout_of(committed[0]) is None


def test_a_git_that_hangs_is_as_good_as_none(
    committed: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = tmp_path / "bin" / "git"
    slow.parent.mkdir()
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{slow.parent}:/usr/bin:/bin")
    monkeypatch.setattr(environment, "_GIT_WITHIN_S", 0.2)
    assert checkout_of(committed[0]) is None


def test_a_hook_s_variables_name_no_other_repository(
    committed: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, commit = committed
    git(tmp_path, "init", "--quiet", "other")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))
    assert checkout_of(folder) == Checkout(commit, changed=False)
