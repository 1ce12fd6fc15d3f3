"""Paths and URLs of datasets: absolute, joined, relative to a root; and what lies there."""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import fsspec

from storage.errors import UserError

T = TypeVar("T")


def is_url(path: str) -> bool:
    """Whether ``path`` is an fsspec URL, chained ones included."""
    return "://" in path or "::" in path


def absolute(path: str) -> str:
    """A local path made absolute, so that workers elsewhere find it too; a URL as it is."""
    return path if is_url(path) else str(Path(path).expanduser().absolute())


def parent(path: str) -> str:
    """The folder of a file."""
    return posixpath.dirname(path) if is_url(path) else str(Path(path).parent)


def join(folder: str, path: str) -> str:
    """``path`` taken from ``folder``, unless it is absolute or a URL itself."""
    if is_url(path):
        return path
    if is_url(folder):
        return f"{folder.rstrip('/')}/{path.lstrip('/')}"
    return str(Path(folder) / Path(path).expanduser())


def relative(path: str, folder: str) -> str:
    """``path`` as seen from ``folder``, POSIX; ``path`` itself where it lies outside."""
    root = folder.rstrip("/") + "/"
    if is_url(path):
        return path.removeprefix(root)
    return posixpath.normpath(path).removeprefix(posixpath.normpath(folder).rstrip("/") + "/")


def exists(path: str) -> bool:
    """Whether there is a file or folder."""
    return _ask(path, lambda fs, bare: bool(fs.exists(bare)))


def is_folder(path: str) -> bool:
    """Whether ``path`` is a folder."""
    return _ask(path, lambda fs, bare: bool(fs.isdir(bare)))


def names_in(folder: str) -> list[str]:
    """Sorted names of what lies directly in a folder."""
    return _ask(folder, lambda fs, bare: sorted(_base(path) for path in fs.ls(bare, detail=False)))


def files_below(folder: str) -> list[str]:
    """Sorted paths of all files below a folder, relative to it."""
    return _ask(folder, lambda fs, bare: sorted(posixpath.relpath(path, bare) for path in fs.find(bare)))


def _base(path: str) -> str:
    return posixpath.basename(path.rstrip("/"))


def _ask(path: str, question: Callable[[Any, str], T]) -> T:
    """The answer of the file system of ``path``; UserError if it has none to give (credentials, network, package)."""
    try:
        fs, bare = fsspec.core.url_to_fs(path) if is_url(path) else (fsspec.filesystem("file"), path)
        return question(fs, str(bare))
    except Exception as error:  # each file system raises types of its own
        told = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"cannot look into {path}: {told}; check the address and your access to it (s3:// needs the extra `s3`)"
        ) from error
