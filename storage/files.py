"""One small view of fsspec: a directory on any file system, with atomic writes."""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from storage.errors import UserError

STORAGE_OPTIONS = {"use_listings_cache": False}
"""Options of every fsspec file system that a run is opened with."""


@dataclass(frozen=True)
class Directory:
    """A directory, local or on an object store, addressed by a path or an fsspec URL."""

    url: str

    def __post_init__(self) -> None:
        try:
            self._resolve()
        except (ValueError, ImportError) as error:
            raise UserError(
                f"cannot open {self.url!r}: {error}; use a local path or an fsspec URL whose package is installed "
                "(s3:// needs the extra `s3`: pip install -e '.[s3]')"
            ) from None

    def _resolve(self) -> tuple[Any, str]:
        # Other processes write here too, so a listing that was true a moment ago must not be believed.
        fs, root = fsspec.core.url_to_fs(self.url, **STORAGE_OPTIONS)
        return fs, str(root)

    @property
    def fs(self) -> Any:
        """The fsspec file system."""
        return self._resolve()[0]

    @property
    def root(self) -> str:
        """The path of the directory on its file system."""
        return self._resolve()[1].rstrip("/")

    @property
    def is_local(self) -> bool:
        """Whether the directory lies on a local disk."""
        return isinstance(self.fs, LocalFileSystem)

    def path(self, relative: str) -> str:
        """Path of ``relative`` on the file system."""
        return f"{self.root}/{relative}" if relative else self.root

    def url_of(self, relative: str) -> str:
        """URL of ``relative``."""
        return f"{self.url.rstrip('/')}/{relative}"

    def local_path(self, relative: str = "") -> Path:
        """Path of ``relative`` on the local disk; raises UserError for a remote directory."""
        if not self.is_local:
            raise UserError(f"{self.url} is not on a local disk; copy the run to a local folder first")
        return Path(self.path(relative))

    def exists(self, relative: str = "") -> bool:
        """Whether a file or directory is there."""
        return bool(self.fs.exists(self.path(relative)))

    def names(self, relative: str) -> list[str]:
        """Sorted names in a sub-directory; empty if it is not there."""
        if not self.exists(relative):
            return []
        listing = self.fs.ls(self.path(relative), detail=False, refresh=True)
        return sorted(PurePosixPath(entry).name for entry in listing)

    def read(self, relative: str) -> bytes:
        """The whole file."""
        return bytes(self.fs.cat_file(self.path(relative)))

    def write(self, relative: str, content: bytes) -> None:
        """Write a whole file so that a reader sees the old content or the new, never a part.

        On a local disk: a temporary name in the same directory, flushed to disk, then renamed. On an object store a
        PUT is atomic already.
        """
        path = self.path(relative)
        if not self.is_local:
            self.fs.pipe_file(path, content)
            return
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
        try:
            with open(temporary, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)

    def remove(self, relative: str) -> None:
        """Remove a file if it is there."""
        if self.exists(relative):
            self.fs.rm_file(self.path(relative))
