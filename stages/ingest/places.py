"""Paths and URLs of datasets: absolute, joined, relative to a root."""

from __future__ import annotations

import posixpath
from pathlib import Path


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
