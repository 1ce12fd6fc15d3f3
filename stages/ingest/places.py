"""Paths and URLs of datasets: absolute, joined, relative to a root; and what lies there."""

from __future__ import annotations

import os
import posixpath
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote

from stages.ingest.settings import FIFTYONE, DatasetSettings
from storage.errors import UserError
from storage.files import file_system, is_url
from storage.media.containers import Member
from storage.media.images import ImageError, local_path, read_bytes, read_ends

T = TypeVar("T")


def absolute(path: str) -> str:
    """A local path of the settings made absolute, so that workers elsewhere find it too; a URL as it is.

    Raises UserError for ``~name`` without such a user.
    """
    if is_url(path):
        return path
    try:
        return str(Path(path).expanduser().absolute())
    except RuntimeError as error:
        raise UserError(f"{path}: {error}; write the whole path") from None


def parent(path: str) -> str:
    """The folder of a file."""
    return posixpath.dirname(path) if is_url(path) else str(Path(path).parent)


def join(folder: str, path: str) -> str:
    """``path``, as a dataset says it, taken from ``folder``, unless it is absolute or a URL itself.

    A name that begins with ``~`` is a name: only the user's settings mean a home by it.
    """
    if is_url(path):
        return path
    if is_url(folder):
        return f"{folder.rstrip('/')}/{path.lstrip('/')}"
    return str(Path(folder) / path)


def relative(path: str, folder: str) -> str:
    """``path`` as seen from ``folder``, POSIX; ``path`` itself where it lies outside."""
    root = folder.rstrip("/") + "/"
    if is_url(path):
        return path.removeprefix(root)
    return posixpath.normpath(path).removeprefix(posixpath.normpath(folder).rstrip("/") + "/")


def root_of(path: str) -> str:
    """The folder of the dataset that ``path``, its folder or one of its files, stands for.

    A file in a folder ``annotations`` belongs to the folder above, where the images lie.
    """
    if is_folder(path):
        return path
    folder = parent(path)
    return parent(folder) if posixpath.basename(folder) == "annotations" else folder


@dataclass(frozen=True)
class Bounds:
    """The folders within which a dataset's relative paths and links are followed. Nothing bounds its absolute paths."""

    folders: tuple[str, ...]

    @classmethod
    def of(cls, settings: DatasetSettings) -> Bounds:
        """The dataset's folder and ``dataset.images``; no bounds with ``dataset.allow_outside``."""
        if settings.allow_outside or settings.path.startswith(FIFTYONE):
            return cls(())
        images = [absolute(settings.images)] if settings.images else []
        return cls((root_of(absolute(settings.path)), *images))

    def problem(self, path: str) -> str | None:
        """Why ``path``, a path or URL as a reader joined it, is not opened; None where it stays within the folders.

        A path that does not begin with one of the folders is one that the dataset says whole.
        """
        member = Member.parse(path)
        path = member.archive if member else path
        if not any(path.startswith(folder.rstrip("/") + "/") for folder in self.folders):
            return None
        place = _real(path)
        if any(f"{place}/".startswith(_real_folder(folder).rstrip("/") + "/") for folder in self.folders):
            return None
        return f"leads out of the dataset's folder, which needs dataset.allow_outside: true: {path} is {place}"


def _real(path: str) -> str:
    """Where a path leads, without ``..`` and links. The folder's links are resolved once for all files in it."""
    folder, name = posixpath.split(path)
    if is_url(path) or name in ("", ".", ".."):
        return _real_folder(path)
    whole = posixpath.join(_real_folder(folder), name)
    return os.path.realpath(whole) if os.path.islink(whole) else whole


@lru_cache(maxsize=65_536)
def _real_folder(path: str) -> str:
    if (local := local_path(path)) is not None:
        return os.path.realpath(local)
    scheme, _, rest = path.rpartition("://")
    return f"{scheme}://{posixpath.normpath(unquote(rest))}"  # a server may read %2e as a dot


def exists(path: str) -> bool:
    """Whether there is a file or folder."""
    return _ask(path, lambda fs, bare: bool(fs.exists(bare)))


def as_stored(path: str) -> str:
    """The spelling of ``path`` under which there is a file, else ``path`` itself.

    Windows writes backslashes, and macOS decomposes accents: the same name to a person, another to the file system.
    Only paths with one of the two are looked for.
    """
    if path.isascii() and "\\" not in path:
        return path
    slashed = path.replace("\\", "/")
    spellings = [path, slashed, *(unicodedata.normalize(form, slashed) for form in ("NFC", "NFD"))]
    return next((spelling for spelling in dict.fromkeys(spellings) if exists(spelling)), path)


def is_folder(path: str) -> bool:
    """Whether ``path`` is a folder."""
    return _ask(path, lambda fs, bare: bool(fs.isdir(bare)))


def names_in(folder: str) -> list[str]:
    """Sorted names of what lies directly in a folder."""
    return _ask(folder, lambda fs, bare: sorted(_base(path) for path in fs.ls(bare, detail=False)))


def files_below(folder: str) -> list[str]:
    """Sorted paths of all files below a folder, relative to it.

    Raises UserError for a name that is no text, as old archives hold: no table and no config could keep it.
    """
    found = _ask(folder, lambda fs, bare: sorted(posixpath.relpath(path, bare) for path in fs.find(bare)))
    for path in found:
        if not path.isascii() and any("\ud800" <= letter <= "\udfff" for letter in path):
            raise UserError(
                f"the name of a file below {folder} is not UTF-8: {os.fsencode(path)!r}; rename it, "
                "`convmv -r -f latin1 -t utf8 --notest` does so for a whole folder"
            )
    return found


def head_of(path: str) -> str:
    """The first 4096 bytes of a file as text; empty if it cannot be read."""
    try:
        return read_ends(path, 4096)[0].decode(errors="replace")
    except ImageError:
        return ""


def read_text(path: str, remedy: str) -> str:
    """A text file of a dataset, UTF-8 or marked UTF-16; raises UserError with ``remedy`` if it cannot be read."""
    try:
        content = read_bytes(path)
    except ImageError as error:
        raise UserError(f"dataset.path: cannot read {path} ({error.reason}); {remedy}") from None
    return decode_text(content, path, remedy)


def decode_text(content: bytes, path: str, remedy: str) -> str:
    """The text in ``content``, without a byte order mark; raises UserError with ``remedy`` if it is no text."""
    try:
        return content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 (byte {error.start}); {remedy}") from None


def _base(path: str) -> str:
    return posixpath.basename(path.rstrip("/"))


def _ask(path: str, question: Callable[[Any, str], T]) -> T:
    """The answer of the file system of ``path``; UserError if it has none to give (credentials, network)."""
    try:
        return question(*file_system(path))
    except UserError:  # no package opens the URL
        raise
    except Exception as error:  # each file system raises types of its own
        told = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"cannot look into {path}: {told}; check the address and your access to it") from error
