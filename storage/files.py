"""A directory on any file system, with atomic writes: a thin layer over fsspec's ``DirFileSystem``."""

from __future__ import annotations

import math
import os
import re
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.fs as pafs
import yaml
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem

from storage.errors import NoAnswer, SightlineError, UserError, said, shortened

STORAGE_OPTIONS = {"use_listings_cache": False}
"""Options of every fsspec file system that a run is opened with: other processes write there too, so a listing of a
moment ago is not believed."""


_S3_OPTIONS = {"max_concurrency": 1}
"""Otherwise s3fs asks for the size of an object before it reads it, in case it is worth several requests at a time."""

MOST_NODES = 1_000_000
"""Values of a YAML file, its aliases written out, at most: as many as a long list of classes has, and far more."""

_PASSWORD = re.compile(r"://[^/@\s]*:[^/@\s]+@")

_NO_FILES = {
    stat.S_ISFIFO: "named pipe",
    stat.S_ISSOCK: "socket",
    stat.S_ISCHR: "device",
    stat.S_ISBLK: "device",
}

_URL = re.compile(r"(?:[A-Za-z][\w+.-]*::)*[A-Za-z][\w+.-]*://")


def is_url(path: str) -> bool:
    """Whether ``path`` is an fsspec URL, chained ones included; ``std::vector.jpg`` is the name of a file."""
    return _URL.match(path) is not None


def file_system(path: str, **options: Any) -> tuple[Any, str]:
    """The fsspec file system of a local path or URL, and the path on it. fsspec itself takes any ``::`` for a chain.

    Raises UserError for a URL that no installed package opens, with the package that does, and for one that holds a
    password: a URL is written into tables and messages.
    """
    if not is_url(path):
        return LocalFileSystem(), path
    if path.startswith("s3://"):
        options = {**_S3_OPTIONS, **options}
    if _PASSWORD.search(path):
        raise UserError(
            f"{shortened(_PASSWORD.sub('://...@', path))} holds credentials; leave them out, and give them to the file "
            "system by its environment variables (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) or configuration files"
        )
    try:
        fs, bare = fsspec.core.url_to_fs(path, **options)
    except (ValueError, ImportError) as error:
        # fsspec names the package that it lacks, and the protocols that nobody knows.
        scheme = path.partition("://")[0].rpartition("::")[2]
        how = "pip install -e '.[s3]'" if scheme == "s3" else "use a local path, or a URL whose package is installed"
        raise UserError(f"cannot open {shortened(path)}: {' '.join(str(error).split())}; {how}") from None
    return fs, str(bare)


def kind_of_no_file(found: os.stat_result) -> str | None:
    """What a local path leads to that is neither file nor folder, in words. Reading a pipe would wait for a writer for
    ever, and a device has no end."""
    return next((kind for is_kind, kind in _NO_FILES.items() if is_kind(found.st_mode)), None)


@contextmanager
def writing(path: str) -> Iterator[None]:
    """Give what fails in the context the ``path`` that is written, as a write to a full disk names none."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, path) from error


@contextmanager
def answering(url: str) -> Iterator[None]:
    """Raise NoAnswer, which names ``url``, for what a remote file system raises in the context when it does not answer.

    A file that is missing, or that was read and is damaged, stays the error that it is.
    """
    try:
        yield
    except Exception as error:
        if not is_of_the_way(url, error):
            raise
        raise not_given(url, error) from error


def not_given(url: str, error: Exception) -> NoAnswer:
    """What to say of a remote file that was not given because of ``error``."""
    return NoAnswer(
        f"{url} was not given: {type(error).__name__}: {said(error)}; check the network, the address and your "
        "credentials, then give the same command again: nothing is damaged by this"
    )


def is_of_the_way(url: str, error: Exception) -> bool:
    """Whether an error is of the way to a remote file and not of its content: of a driver of its own, or the system."""
    if not is_url(url) or url.startswith("file://"):
        return False
    if isinstance(error, FileNotFoundError | FileExistsError | ValueError | TypeError | LookupError):
        return False
    if type(error).__module__ in ("builtins", "pyarrow.lib"):
        # Arrow's own, of a damaged page, has no number.
        numbered = isinstance(error, OSError) and error.errno is not None
        return numbered or isinstance(error, ConnectionError | TimeoutError | PermissionError)
    return not isinstance(error, SightlineError) and not type(error).__module__.startswith(("zarr", "numcodecs"))


class _Remote(pafs.FSSpecHandler):  # type: ignore[misc]
    """pyarrow's handler, which takes a store that does not answer for one that lacks the file."""

    def __init__(self, files: DirFileSystem, url: str) -> None:
        super().__init__(files)
        self.url = url
        self.lost: list[str] = []
        """What was not given. DuckDB, which reads through pyarrow, passes on no exception, but a text of its own."""

    def open_input_file(self, path: str) -> pa.NativeFile:
        """The file; raises FileNotFoundError where it is missing, NoAnswer where all or a part of it is not given."""
        with self.answering(path):
            return pa.PythonFile(_RemoteFile(self.fs.open(path, mode="rb"), self, path), mode="r")

    @contextmanager
    def answering(self, path: str) -> Iterator[None]:
        """:func:`answering` of a file of the directory; what it raises is kept."""
        try:
            with answering(f"{self.url}/{path}"):
                yield
        except NoAnswer as error:
            self.lost.append(str(error))
            raise


class _RemoteFile:
    """An open file of a remote file system, as pyarrow reads it."""

    def __init__(self, file: Any, remote: _Remote, path: str) -> None:
        self._file, self._remote, self._path = file, remote, path

    def read(self, count: int = -1) -> bytes:
        """The next bytes."""
        with self._remote.answering(self._path):
            return bytes(self._file.read(count))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@dataclass(frozen=True)
class Directory:
    """A directory, local or on an object store, addressed by a path or an fsspec URL.

    Raises UserError for a URL that fsspec cannot open.
    """

    url: str

    def __post_init__(self) -> None:
        self._whole  # noqa: B018  resolved now, so that a mistake in the URL is told where it is given

    @cached_property
    def _whole(self) -> tuple[Any, str]:
        fs, root = file_system(self.url, **STORAGE_OPTIONS)
        absolute = root if is_url(self.url) else os.path.abspath(os.path.expanduser(root))
        return fs, absolute.rstrip("/")

    @cached_property
    def _files(self) -> DirFileSystem:
        fs, root = self._whole
        return DirFileSystem(root, fs)

    @property
    def root(self) -> str:
        """The path of the directory on its file system."""
        return self._whole[1]

    @property
    def is_local(self) -> bool:
        """Whether the directory lies on a local disk."""
        return isinstance(self._whole[0], LocalFileSystem)

    @cached_property
    def arrow(self) -> pafs.FileSystem:
        """The directory as a file system of pyarrow, with paths relative to it."""
        if self.is_local:
            return pafs.SubTreeFileSystem(self.root, pafs.LocalFileSystem())
        return pafs.PyFileSystem(self._remote)

    @cached_property
    def _remote(self) -> _Remote:
        return _Remote(self._files, self.url.rstrip("/"))

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Raise NoAnswer for what fails in the context because a file of the directory is not given to pyarrow."""
        before = 0 if self.is_local else len(self._remote.lost)
        try:
            yield
        except Exception as error:
            lost = [] if self.is_local else self._remote.lost[before:]
            if not lost:
                raise
            raise NoAnswer(lost[0]) from error

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
        with answering(self.url_of(relative)):
            return bool(self._files.exists(relative))

    def names(self, relative: str) -> list[str]:
        """Sorted names in a sub-directory; empty if it is not there."""
        try:
            with answering(self.url_of(relative)):
                listing = self._files.ls(relative, detail=False, refresh=True)
        except FileNotFoundError:
            return []
        return sorted(PurePosixPath(entry).name for entry in listing)

    def read(self, relative: str) -> bytes:
        """The whole file."""
        with answering(self.url_of(relative)):
            return bytes(self._files.cat_file(relative))

    def write(self, relative: str, content: bytes) -> None:
        """Write a whole file so that a reader sees the old content or the new, never a part.

        On a local disk: a temporary name in the same directory, flushed to disk, then renamed. On an object store a
        PUT is atomic already.
        """
        if not self.is_local:
            with answering(self.url_of(relative)):
                self._files.pipe_file(relative, content)
            return
        target = Path(self.path(relative))
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
        try:
            with writing(str(target)):
                with open(temporary, "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)

    def create(self, relative: str, content: bytes) -> None:
        """Write a whole file that is not there; raises FileExistsError if it is."""
        self._files.pipe_file(relative, content, mode="create")

    def remove(self, relative: str) -> None:
        """Remove a file if it is there."""
        with suppress(FileNotFoundError):
            self._files.rm_file(relative)


def parse_yaml(text: str) -> Any:
    """The content of a YAML file. Raises ValueError where it is no YAML, or repeats itself by aliases without end."""
    try:
        loader = yaml.SafeLoader(text)
    except yaml.YAMLError as error:  # of a character that no YAML may hold
        raise ValueError(" ".join(str(error).split())) from None
    try:
        node = loader.get_single_node()
        if _nodes(node, {}) > MOST_NODES:
            raise ValueError(f"its aliases stand for more than {MOST_NODES} values; write out what they repeat")
        return None if node is None else loader.construct_document(node)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(" ".join(str(error).split())) from None
    finally:
        loader.dispose()


def _nodes(node: Any, known: dict[int, float]) -> float:
    """Values that a node of YAML stands for, its aliases written out; one within itself stands for endless ones."""
    if not isinstance(node, yaml.CollectionNode):
        return 1
    if id(node) not in known:
        known[id(node)] = math.inf
        inner = [part for pair in node.value for part in (pair if isinstance(pair, tuple) else (pair,))]
        known[id(node)] = 1 + sum(_nodes(part, known) for part in inner)
    return known[id(node)]
